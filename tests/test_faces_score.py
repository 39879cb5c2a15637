"""A folder of faces: which files are scored, and in which of them dlib finds a face."""

import importlib.util
import sys
import types

import numpy as np
import pytest
import torch
from conftest import random_images
from PIL import Image

from common.config import UserError
from evaluation.faces import face_counts, read_faces, scored_images

needs_dlib = pytest.mark.skipif(importlib.util.find_spec("dlib") is None, reason="dlib-bin is not installed")


def test_face_counts_follow_the_homework_rule(monkeypatch):
    """The frontal detector, upsampling once, on RGB uint8 arrays; one image with k faces counts k."""
    found = iter([0, 1, 2, 1])

    def detector(picture: np.ndarray, upsample: int) -> list[int]:
        assert picture.shape == (64, 48, 3) and picture.dtype == np.uint8 and upsample == 1
        assert picture[..., 2].min() == 9 and picture[..., 0].max() == 0
        return list(range(next(found)))

    fake = types.SimpleNamespace(get_frontal_face_detector=lambda: detector)
    monkeypatch.setitem(sys.modules, "dlib", fake)
    images = torch.zeros(4, 3, 64, 48, dtype=torch.uint8)
    images[:, 2] = 9
    assert face_counts(images) == [0, 1, 2, 1]

    def complains(picture: np.ndarray, upsample: int) -> list[int]:
        raise RuntimeError("Unsupported image type, must be 8bit gray or RGB image.")

    monkeypatch.setattr(fake, "get_frontal_face_detector", lambda: complains)
    with pytest.raises(RuntimeError, match="Unsupported image type"):  # never a score over the images that are left
        face_counts(images)
    monkeypatch.setitem(sys.modules, "dlib", None)
    with pytest.raises(UserError, match="pip install dlib-bin"):
        face_counts(images)


@needs_dlib
def test_faces_of_every_mode_are_found(inside, tmp_path):
    """dlib refuses all but grey and RGB: whatever a file's mode, it is shown an RGB image, and none is left out."""
    assert inside("p1_inference.py", tmp_path / "RGB", "--count", 12)[0] == 0
    found = {}
    for mode in ("RGB", "RGBA", "P", "L", "LA", "I;16"):
        (tmp_path / mode).mkdir(exist_ok=True)
        for path in sorted((tmp_path / "RGB").iterdir()):
            image = Image.open(path).convert("L" if mode == "I;16" else mode, palette=Image.Palette.ADAPTIVE)
            if mode == "I;16":
                image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
            image.save(tmp_path / mode / path.name)
        found[mode], problems = read_faces(sorted((tmp_path / mode).iterdir()))
        assert not problems and found[mode].shape == (12, 3, 64, 64)
    assert found["RGB"].equal(found["RGBA"]) and found["L"].equal(found["LA"]) and found["L"].equal(found["I;16"])
    for mode in ("RGB", "P", "L"):
        assert face_counts(found[mode]).count(1) >= 8


def test_unreadable_images_are_named(tmp_path):
    paths = random_images(tmp_path, 3)
    paths[1].write_bytes(b"")
    (broken := tmp_path / "broken.png").write_bytes(paths[0].read_bytes()[:60])
    images, problems = read_faces([*paths, broken])
    assert images.shape == (2, 3, 64, 64)
    assert len(problems) == 2 and "0001.png cannot be decoded" in problems[0] and "broken.png" in problems[1]
    with pytest.raises(UserError, match="none of 2 images can be read: .*0001.png cannot be decoded"):
        read_faces([paths[1], broken])


def test_scored_images_are_pytorch_fids(tmp_path, capsys):
    random_images(tmp_path, 2)
    random_images(tmp_path / "sub.png", 1)
    for name in (".hidden.png", "c.jpeg", "grid.gif", "UPPER.PNG", "notes.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in scored_images(tmp_path)] == [".hidden.png", "0000.png", "0001.png", "c.jpeg"]
    hidden, others = capsys.readouterr().err.splitlines()
    assert hidden.endswith(": .hidden.png") and others.endswith(": UPPER.PNG, grid.gif, notes.txt, sub.png/")
