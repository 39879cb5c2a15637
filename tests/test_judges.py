"""The judges of digits, and what density, coverage and recall in our judge's features say of known cases."""

from pathlib import Path

import numpy as np
import pytest
import torch

from common.checkpoint import load_state_dict_file
from data.reading import load_digits
from evaluation.distances import density_coverage_recall
from evaluation.judges import classify, judge_features, load_judge, nearest_distance, real_digits
from models.classifier import Classifier

ROOT = Path(__file__).resolve().parent.parent
COURSE_CLASSIFIER = ROOT.parent / "shared" / "data" / "Classifier.pth"
MNISTM = ROOT / "hw2_data" / "digits" / "mnistm"
CPU = torch.device("cpu")

needs_digits = pytest.mark.skipif(not MNISTM.is_dir(), reason="needs hw2_data")


@needs_digits
@pytest.mark.skipif(not COURSE_CLASSIFIER.is_file(), reason="needs the course's classifier")
def test_course_classifier_on_real_digits():
    images, labels = load_digits(MNISTM, "val")
    right = classify(load_judge(str(COURSE_CLASSIFIER), CPU), images[:1000], CPU) == labels[:1000]
    assert 0.93 < right.float().mean() < 0.98 and all(right[labels[:1000] == n].float().mean() > 0.8 for n in range(10))


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
    """Reference, floor and training images of the train split, which has 38 different ones here."""

    def rows(images: torch.Tensor) -> set[bytes]:
        return {image.numpy().tobytes() for image in images}

    mnistm = builtin / "digits" / "mnistm"
    reference, labels, floor, train = real_digits(mnistm, "train", 12)
    assert [len(part) for part in (reference, labels, floor, train)] == [19, 19, 12, 19]
    assert rows(floor) < rows(train) and not rows(train) & rows(reference)
    assert rows(train) | rows(reference) == rows(load_digits(mnistm, "train")[0])
    reference, labels, floor, train = real_digits(mnistm, "val", 12)
    assert rows(reference) == rows(load_digits(mnistm, "val")[0]) and len(train) == 38 and rows(floor) < rows(train)


@needs_digits
def test_known_cases():
    """500 real digits against 1,000 others: alone, copied, with classes left out, and too noisy."""
    images, labels = load_digits(MNISTM, "val")
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:2000]
    points, labels = judge_features(images[order], CPU), labels[order].numpy()
    reference, others, labels = points[:1000], points[1000:], labels[1000:]
    noise = torch.randn(images[order[1000:1500]].shape, generator=torch.Generator().manual_seed(0))
    noisy = (images[order[1000:1500]] + 20 * noise).clamp(0, 255).to(torch.uint8)

    real = density_coverage_recall(others[:500], reference)
    expected = 1 - np.prod([(1000 - i) / (1500 - i) for i in range(1, 6)])
    assert real["coverage"] == pytest.approx(expected, abs=0.04) and real["density"] == pytest.approx(1, abs=0.1)
    assert real["recall"] > 0.85
    copies = density_coverage_recall(np.repeat(others[:50], 10, 0), reference)
    assert copies["coverage"] < 0.4 and copies["recall"] == 0 and copies["density"] == pytest.approx(1, abs=0.3)
    few = density_coverage_recall(others[labels >= 3][:500], reference)  # seven tenths of the reference are of these
    assert few["recall"] < 0.8 * real["recall"] and few["density"] == pytest.approx(1, abs=0.1)
    rough = density_coverage_recall(judge_features(noisy, CPU), reference)
    assert rough["density"] < 0.8 and rough["coverage"] < real["coverage"] - 0.1
