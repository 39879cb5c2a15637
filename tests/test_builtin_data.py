"""The built-in images are recognisable and varied, labelled right, and the seed's."""

import numpy as np
import pytest
from small_originals import contents, images_of

import prepare_data
from data.tree import COURSE, SPLITS, split_sizes

COUNT = 60  # of each set of the tree that conftest's `builtin` makes


@pytest.mark.parametrize("name", COURSE)
def test_no_image_is_blank_or_there_twice(name, builtin):
    images = [image for split in SPLITS for image, _ in images_of(builtin, name, split).values()]
    assert len({image.tobytes() for image in images}) == len(images) == COUNT
    assert min(np.ptp(image) for image in images) > 25


def test_labels_are_right(builtin):
    """The mean digit of each class among the USPS-like training images classifies most of the others."""
    train, others = (list(images_of(builtin, "usps", split).values()) for split in ("train", "test"))
    means = [np.mean([image for image, label in train if label == digit], 0) for digit in range(10)]
    found = [np.square(image - means).sum((1, 2)).argmin() for image, _ in others]
    assert np.mean([digit == label for digit, (_, label) in zip(found, others, strict=True)]) >= 0.6


def test_faces_are_found_by_the_face_detector(builtin):
    dlib = pytest.importorskip("dlib")
    detector = dlib.get_frontal_face_detector()
    faces = images_of(builtin, "face", "train").values()
    assert np.mean([len(detector(face, 1)) == 1 for face, _ in faces]) >= 0.8


def test_the_seed_decides(prepare, builtin, tmp_path, capsys):
    """Every set by itself, in another folder too; a set of another --count is refused."""
    assert prepare("--builtin", tmp_path, "--count", COUNT, "--only", "usps,face") == 0
    first, there = contents(tmp_path), contents(builtin)
    assert first == {name: there[name] for name in there if "usps" in name or "face" in name}
    assert prepare("--builtin", tmp_path / "other", "--count", COUNT, "--seed", 1) == 0
    second = contents(tmp_path / "other")
    assert there.keys() == second.keys() and not set(there.values()) & set(second.values())
    assert prepare("--builtin", tmp_path, "--count", COUNT + 1) == 2
    assert "is there already, made of other images or labels" in capsys.readouterr().err


def test_every_split_of_the_fewest_has_two_faces():
    """As many as FID needs."""
    lowest = prepare_data.Config.__dataclass_fields__["count"].metadata["low"]
    assert min(split_sizes("face", lowest).values()) == 2


def test_what_is_missing_is_named(prepare, refused, environment, tmp_path, monkeypatch, capsys):
    options = ("--builtin", tmp_path / "tree", "--only")
    sentence = refused("prepare_data.py", *options, "usps", PYTHONPATH=environment["WITHOUT_PACKAGES"])
    assert sentence.startswith("prepare_data.py: error: sklearn is not installed, run: ")
    monkeypatch.setattr(prepare_data, "CHECKPOINTS", tmp_path)
    assert prepare(*options, "face") == 2
    assert capsys.readouterr().err == f"prepare_data.py: error: {tmp_path / 'p1_dcgan.safetensors'} is missing\n"
    assert not (tmp_path / "tree").exists()
