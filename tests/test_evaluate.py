"""evaluate.py as it is called, and its errors."""

import functools
import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import random_images
from PIL import Image

import evaluate
from data.batches import held_out_indices
from data.reading import list_images, read_labels
from evaluation import inception
from models.classifier import Classifier


@pytest.fixture
def refused(refused_inside):
    return functools.partial(refused_inside, "evaluate.py")


@pytest.fixture
def scored(inside):
    """A function that runs evaluate.py --json within this process and returns its result and its warnings."""

    def run(*arguments: object) -> tuple[dict, str]:
        code, output, errors = inside("evaluate.py", *arguments, "--json")
        assert code == 0, errors
        return json.loads(output), errors

    return run


@pytest.fixture
def shown(monkeypatch, inside, tmp_path) -> list[int]:
    """A small network in place of Inception, features not yet in any cache; how many images it was shown at once."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    seen: list[int] = []

    def network(images: torch.Tensor) -> torch.Tensor:
        seen.append(len(images))
        return torch.nn.functional.adaptive_avg_pool2d(images, 32)[:, :2].flatten(1)

    monkeypatch.setattr(inception, "inception_network", lambda device: network)
    monkeypatch.setattr(evaluate, "face_counts", lambda images: [0] * len(images))
    return seen


def random_classifier(path: Path) -> Classifier:
    """Saved in the course's format."""
    torch.manual_seed(0)
    classifier = Classifier().eval()
    for parameter in classifier.parameters():
        parameter.data.mul_(3 if parameter.dim() > 1 else 0)  # so that images and not biases decide
    torch.save({"state_dict": classifier.state_dict(), "optimizer": {"state": {}}}, path)
    return classifier


def test_digits_command(scored, tmp_path):
    classifier = random_classifier(tmp_path / "c.pth")
    paths = random_images(tmp_path / "out", 30, size=28, name="{:03d}.png")
    pixels = np.stack([np.asarray(Image.open(path)) for path in paths]).transpose(0, 3, 1, 2)
    predicted = classifier((torch.tensor(pixels).float() / 255 - 0.5) / 0.5).argmax(1).tolist()
    assert len(set(predicted)) > 1
    labels = [label if index % 3 == 0 else (label + 1) % 10 for index, label in enumerate(predicted)]
    for path, label in zip(paths, labels, strict=True):  # every third is right
        path.rename(path.with_name(f"{label}_{path.name}"))
    values, _ = scored("digits", tmp_path / "out", "--classifier", tmp_path / "c.pth", "--classifier", "judge")
    assert list(values["classifiers"]) == [str(tmp_path / "c.pth"), "judge"]
    assert values["classifiers"]["judge"]["accuracy"] != values["accuracy"]
    assert (values["images"], values["accuracy"]) == (30, pytest.approx(1 / 3))
    pairs = list(zip(labels, predicted, strict=True))
    assert values["confusion"] == [[pairs.count((digit, found)) for found in range(10)] for digit in range(10)]


def test_digits_errors(tmp_path, refused):
    random_classifier(tmp_path / "c.pth")
    torch.save({"state_dict": torch.nn.Linear(2, 2).state_dict()}, tmp_path / "other.pth")
    folder = tmp_path / "out"
    call = ["digits", folder, "--classifier", tmp_path / "c.pth"]
    assert "out is missing" in refused(*call)
    folder.mkdir()
    assert "holds no image" in refused(*call)
    random_images(folder, 2, size=28, name="{}_1.png")
    assert "none.pth is missing" in refused("digits", folder, "--classifier", tmp_path / "none.pth")
    assert "another network" in refused("digits", folder, "--classifier", tmp_path / "other.pth")
    for name in ("grid.png", "٣_1.png"):  # a digit, not an ASCII one
        (path,) = random_images(folder, 1, size=28, name=name)
        assert f"{name} does not begin with its label" in refused(*call)
        path.unlink()
    random_images(folder, 1, size=32, name="3_1.png")
    assert "3_1.png is 32x32, expected 28x28" in refused(*call)


def test_labels_command(tmp_path, scored, inside, refused):
    truth, predicted = tmp_path / "truth.csv", tmp_path / "predicted.csv"
    truth.write_text("image_name,label\na.png,0\nb.png,1\nc.png,1\nd.png,7\n")
    predicted.write_bytes(b"image_name,label\r\nd.png,7\r\nc.png,2\r\nb.png,1\r\na.png,0\r\n")
    values, _ = scored("labels", predicted, truth)
    assert (values["images"], values["accuracy"]) == (4, 0.75)
    assert values["confusion"][1] == [0, 1, 1, *[0] * 7]  # of two ones, c.png was called a two
    _, *rows = inside("evaluate.py", "labels", predicted, truth)[1].splitlines()
    assert [row.split() for row in rows] == [
        ["accuracy", "75.00%", "of", "4", "images"],
        *(
            ["digit", str(digit), share, "of", str(count)]
            for digit, share, count in ((0, "100.00%", 1), (1, "50.00%", 2))
        ),
        ["digit", "7", "100.00%", "of", "1"],
    ]
    predicted.write_text("image_name,label\na.png,0\nc.png,1\n")
    assert "predicted.csv lacks b.png, d.png of" in refused("labels", predicted, truth)
    surplus, _ = scored("labels", truth, predicted)
    assert surplus["images"] == surplus["not_scored"] == 2


def test_sheet_command(tmp_path, inside):
    random_images(tmp_path / "a", 5, size=12)
    code, output, _ = inside("evaluate.py", "sheet", tmp_path / "a", tmp_path / "new" / "sheet.png", "--columns", 3)
    assert code == 0 and "5 images" in output
    with Image.open(tmp_path / "new" / "sheet.png") as sheet, Image.open(tmp_path / "a" / "0004.png") as image:
        assert sheet.size == (3 * 12 + 2 * 2, 2 * 12 + 2)
        assert sheet.crop((14, 14, 26, 26)).tobytes() == image.tobytes()


def test_a_sheet_of_labels(tmp_path, inside, refused):
    """Only the images of --truth, each above its label, which is vermilion where it is wrong."""
    random_images(tmp_path / "a", 3, size=28)
    first = list_images(tmp_path / "a")[0]
    first.rename(first.with_name("e\N{COMBINING ACUTE ACCENT}.png"))  # a table may say so or otherwise
    names = [unicodedata.normalize("NFC", path.name) for path in list_images(tmp_path / "a")]
    predicted, truth, sheet = (tmp_path / name for name in ("predicted.csv", "truth.csv", "sheet.png"))
    predicted.write_text("image_name,label\n" + "".join(f"{name},1\n" for name in names))
    truth.write_text(f"image_name,label\n{names[0]},1\n{names[2]},7\n")
    options = ("--labels", predicted, "--truth", truth, "--columns", 2)
    assert inside("evaluate.py", "sheet", tmp_path / "a", sheet, *options)[0] == 0
    with Image.open(sheet) as image:
        assert image.size == (2 * 56 + 4, 56 + 22)
        labels = [image.crop((60 * index, 56, 60 * index + 56, 78)) for index in (0, 1)]
    assert [(0xD5, 0x5E, 0x00) in {color for _, color in label.getcolors(2000)} for label in labels] == [False, True]
    assert "--labels too" in refused("sheet", tmp_path / "a", sheet, "--truth", truth)
    truth.write_text("image_name,label\nnone.png,1\n")
    assert "has no label for an image of" in refused("sheet", tmp_path / "a", sheet, *options)


def test_digits_beside_real_ones(builtin, scored, inside, shown, tmp_path):
    """Generated digits that are val's own, and the table."""
    mnistm = builtin / "digits" / "mnistm"
    (tmp_path / "out").mkdir()
    for name, label in read_labels(mnistm / "val.csv").items():
        (tmp_path / "out" / f"{label}_{name}").write_bytes((mnistm / "data" / name).read_bytes())
    values, _ = scored("digits", tmp_path / "out", "--reference", mnistm)
    count = values["images"]
    assert list(values["classifiers"]) == ["judge"] and values["real_accuracy"] == {"judge": values["accuracy"]}
    assert (values["reference_images"], values["split"], values["floor"]["images"]) == (count, "val", count)
    assert values["fid"] == pytest.approx(0, abs=1e-6) and values["floor"]["fid"] > 0
    assert values["density"] == values["coverage"] == values["recall"] == 1
    assert values["nearest_training_image"]["generated"] == values["nearest_training_image"]["real"] > 0
    assert shown == [count] * 3
    table = inside("evaluate.py", "digits", tmp_path / "out", "--reference", mnistm)[1]
    assert f"FID             0.00   floor {values['floor']['fid']:.2f}: {count} training digits" in table
    other, _ = scored("digits", tmp_path / "out", "--reference", mnistm, "--split", "train")
    assert other["fid"] > 0 and other["accuracy"] == values["accuracy"]


def test_faces_command(scored, inside, shown, tmp_path):
    """Foreign things in the folder are warned of, an unreadable image is reported, features are computed once."""
    folder = tmp_path / "out é x"
    random_images(folder, 3, seed=1)
    random_images(folder / "sub", 1)
    (folder / "0003.png").write_bytes(b"")
    random_images(folder, 1, seed=7, name=".hidden.png")
    (folder / ".DS_Store").touch()
    random_images(tmp_path / "reference", 3, seed=2)
    random_images(tmp_path / "floor", 2, seed=3)
    arguments = ["faces", folder, "--reference", tmp_path / "reference", "--floor", tmp_path / "floor"]
    values, errors = scored(*arguments)
    assert (values["images"], values["reference_images"], values["unreadable"]) == (4, 3, 1)
    assert values["faces_found"] == {"none": 4, "one": 0, "several": 0} and values["face_rate"] == 0
    assert values["fid"] > 0 and values["floor"]["images"] == 2 and values["floor"]["fid"] > 0
    for name in (".DS_Store", "sub/", ".hidden.png", "0003.png cannot be decoded", "the floor is of 2 images"):
        assert name in errors
    assert sorted(shown) == [2, 3, 4]
    assert scored(*arguments)[0] == values and len(shown) == 3
    assert "face rate       0.0%   4 with none, 0 with one" in inside("evaluate.py", *arguments)[1]


def test_held_out_faces(scored, shown, tmp_path):
    """The reference are the faces that a training with --held-out leaves out, the floor is of the others."""
    paths = random_images(tmp_path / "train", 7, seed=2)
    random_images(tmp_path / "out", 3, seed=1)
    kept = [paths[index] for index in held_out_indices(7, 2)[1]]
    values, _ = scored("faces", tmp_path / "out", "--reference", tmp_path / "train", "--held-out", 2)
    assert values["reference_images"] == 2 and values["floor"]["images"] == 3
    for path in paths:
        if path not in kept:
            path.unlink()
    same, _ = scored("faces", tmp_path / "out", "--reference", tmp_path / "train")
    assert same["fid"] == values["fid"] and same["floor"] is None


def test_faces_errors(tmp_path, refused):
    a, b, none = (tmp_path / name for name in ("a", "b", "none"))
    random_images(a, 2)
    random_images(b, 2)
    pair = ["faces", a, "--reference", b]
    for arguments, reason in (
        ([], "COMMAND"),
        (["faces", a], "--reference"),
        (["faces", a, "--refer", b], "--refer"),
        (["faces", none, "--reference", b], "none is missing"),
        (["faces", a, "--reference", none], "none is missing"),
        ([*pair, "--floor", none], "none is missing"),
        ([*pair, "--floor", b], "same folder"),
        ([*pair, "--device", "warp"], "warp"),
    ):
        assert reason in refused(*arguments)
    for path in a.iterdir():
        path.write_bytes(b"")
    assert "none of 2 images can be read" in refused(*pair)
