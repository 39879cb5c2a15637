"""The built-in tree has the course's layout, is labelled right, and replaces nothing but itself."""

import re
import sys

import numpy as np
import pytest
from PIL import Image
from small_originals import contents

from data import builtin as builtin_data
from data.reading import load_digits, load_folder, read_labels

COUNT, VAL = 30, 10  # training and validation digits of the tree that conftest's `builtin` makes
SETS = {"mnistm": "RGB", "svhn": "RGB", "usps": "L"}


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """Decoded images are cached in a folder of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def test_faces(builtin):
    assert sorted(path.name for path in builtin.iterdir()) == ["README.txt", "digits", "face"]
    for split, count in (("train", COUNT // 2), ("val", COUNT // 6)):
        files = sorted((builtin / "face" / split).iterdir())
        assert [path.name for path in files] == [f"{index:05d}.png" for index in range(count)]
        assert {(Image.open(path).format, Image.open(path).mode) for path in files} == {("PNG", "RGB")}
        assert len(load_folder(builtin / "face" / split, 64).flatten(1).unique(dim=0)) == count


@pytest.mark.parametrize("name", SETS)
def test_digits(name, builtin):
    """Three csv files and one folder of images, in which the two splits are mixed."""
    domain, names = builtin / "digits" / name, {}
    assert sorted(path.name for path in domain.iterdir()) == ["data", "test.csv", "train.csv", "val.csv"]
    for split, count in (("train", COUNT), ("val", VAL), ("test", 3)):
        text = (domain / f"{split}.csv").read_bytes().decode()
        assert re.fullmatch(rf"image_name,label\n(\d{{5}}\.png,\d\n){{{count}}}", text)
        rows = read_labels(domain / f"{split}.csv")
        names[split] = sorted(rows)
        if split != "test":
            assert set(rows.values()) == set(range(10)) and names[split] == list(rows)
            images, _ = load_digits(domain, split)
            assert images.shape == (count, 3, 28, 28) and len(images.flatten(1).unique(dim=0)) == count
            assert images.amax((1, 2, 3)).sub(images.amin((1, 2, 3))).min() > 25  # none is blank
    assert names["val"][0] < names["train"][-1]
    files = sorted((domain / "data").iterdir())
    assert [path.name for path in files] == sorted(names["train"] + names["val"])
    assert {(Image.open(path).format, Image.open(path).mode) for path in files} == {("PNG", SETS[name])}


def test_labels_are_right(builtin):
    """The mean digit of each class among the USPS-like training images classifies most of the others."""
    images, labels = load_digits(builtin / "digits" / "usps", "train")
    others, truth = load_digits(builtin / "digits" / "usps", "val")
    means = np.stack([images[labels == label, 0].double().mean(0).flatten() for label in range(10)])
    distances = ((others[:, 0].double().flatten(1).numpy()[:, None] - means) ** 2).sum(2)
    assert (distances.argmin(1) == truth.numpy()).mean() >= 0.6


def test_the_seed_decides(prepare, builtin, tmp_path, monkeypatch):
    """The same bytes from another folder, whose name has a space and a letter beyond ASCII."""
    monkeypatch.chdir(tmp_path)
    assert prepare("--builtin", "small datä", "--count", COUNT) == 0
    first = contents(tmp_path / "small datä")
    assert first == contents(builtin)
    assert prepare("--builtin", "other", "--count", COUNT, "--seed", 1) == 0
    second = contents(tmp_path / "other")
    assert first.keys() == second.keys() and sum(first[name] != second[name] for name in first) > 0.9 * len(first)


def test_a_tree_appears_whole_or_not_at_all(prepare, builtin, tmp_path, monkeypatch, capsys):
    """Ctrl-C amid an image; then the same call makes it, again it is there already, another is refused."""
    folder, save, calls = tmp_path / "tree", Image.Image.save, []

    def interrupted(image, file, *arguments, **options):
        calls.append(file)
        if len(calls) == 7:
            raise KeyboardInterrupt
        save(image, file, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", interrupted)
        assert prepare("--builtin", folder, "--count", COUNT) == 130
    assert [path.name for path in folder.iterdir()] == [".builtin.part"]
    for said in ("30 + 10 digits", "there already"):
        assert prepare("--builtin", folder, "--count", COUNT) == 0
        assert said in capsys.readouterr().out
    assert contents(folder) == contents(builtin)
    assert prepare("--builtin", folder, "--count", 40) == 2
    assert "is not empty, or of another --count or --seed" in capsys.readouterr().err


def test_without_scikit_learn(prepare, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    assert prepare("--builtin", tmp_path / "tree") == 2
    sentence = "prepare_data.py: error: the built-in data need scikit-learn, run: pip install -r requirements.txt\n"
    assert capsys.readouterr().err == sentence
    assert not (tmp_path / "tree").exists()


def test_no_digit_is_in_both_splits(prepare, tmp_path, monkeypatch):
    pools = {COUNT: set(), VAL: set()}

    def draw(digit, others, photos, random):
        pools[len(others)].update(other.tobytes() for other in (digit, *others))
        return np.zeros((28, 28), np.uint8)

    for name in SETS:
        monkeypatch.setattr(builtin_data, f"draw_{name}", draw)
    assert prepare("--builtin", tmp_path / "tree", "--count", COUNT) == 0
    assert [len(pool) for pool in pools.values()] == [COUNT, VAL] and not pools[COUNT] & pools[VAL]


def test_faces_are_found_by_the_face_detector(builtin):
    dlib = pytest.importorskip("dlib")
    detector = dlib.get_frontal_face_detector()
    faces = load_folder(builtin / "face" / "train", 64).permute(0, 2, 3, 1).contiguous().numpy()
    assert np.mean([len(detector(face, 1)) == 1 for face in faces]) >= 0.6


def test_folders_of_others_are_refused(prepare, tmp_path, capsys):
    (tmp_path / "holiday.png").write_bytes(b"mine")
    for name, reason in ((".", "is not empty, or of another"), ("holiday.png", "cannot be written")):
        assert prepare("--builtin", tmp_path / name) == 2
        assert reason in capsys.readouterr().err
    assert contents(tmp_path) == {"holiday.png": b"mine"}
