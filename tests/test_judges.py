"""The judges of digits, and the real digits that generated ones are compared with."""

from pathlib import Path

import pytest
import torch

from common.checkpoint import load_state_dict_file
from data.reading import load_digits
from evaluation.judges import class_accuracies, classify, load_judge, nearest_distance, real_digits
from models.classifier import Classifier

ROOT = Path(__file__).resolve().parent.parent
COURSE_CLASSIFIER = ROOT.parent / "shared" / "data" / "Classifier.pth"
MNISTM = ROOT / "hw2_data" / "digits" / "mnistm"
CPU = torch.device("cpu")


@pytest.mark.skipif(not (MNISTM.is_dir() and COURSE_CLASSIFIER.is_file()), reason="needs the course's files")
def test_course_classifier_on_real_digits():
    images, labels = load_digits(MNISTM, "val")
    predicted = classify(load_judge(COURSE_CLASSIFIER, CPU), images[:1000], CPU)
    accuracy, per_class = class_accuracies(predicted, labels[:1000])
    assert 0.93 < accuracy < 0.98 and all(share > 0.8 for share in per_class)


def test_a_classifier_saved_on_a_second_gpu(tmp_path, monkeypatch):
    """A state dict whose tensors are tagged cuda:1 is loaded onto the CPU."""
    monkeypatch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:1")
    saved, loaded = Classifier(), Classifier()
    torch.save({"state_dict": saved.state_dict()}, tmp_path / "c.pth")
    with pytest.raises(RuntimeError, match="CUDA"):
        torch.load(tmp_path / "c.pth", weights_only=True)
    load_state_dict_file(loaded, tmp_path / "c.pth")
    assert all(map(torch.equal, loaded.state_dict().values(), saved.state_dict().values()))


def test_nearest_distance():
    def grey(*levels: int) -> torch.Tensor:
        return torch.tensor(levels, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 2, 2)

    assert nearest_distance(grey(0, 100, 255), grey(10, 90, 100)).tolist() == pytest.approx([10, 0, 155], abs=1e-3)


def test_the_real_digits_are_apart(builtin):
    """Reference, floor and training images of the train split, which has 30 different ones here."""

    def rows(images: torch.Tensor) -> set[bytes]:
        return {image.numpy().tobytes() for image in images}

    mnistm = builtin / "digits" / "mnistm"
    reference, labels, floor, train = real_digits(mnistm, "train", 12)
    assert [len(part) for part in (reference, labels, floor, train)] == [15, 15, 12, 15]
    assert rows(floor) < rows(train) and not rows(train) & rows(reference)
    assert rows(train) | rows(reference) == rows(load_digits(mnistm, "train")[0])
    reference, labels, floor, train = real_digits(mnistm, "val", 12)
    assert rows(reference) == rows(load_digits(mnistm, "val")[0]) and len(train) == 30 and rows(floor) < rows(train)
