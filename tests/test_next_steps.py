"""Refusals that say what to do next: the folder that was meant, the weights beside a training's state."""

import shutil

import pytest
import torch
from PIL import Image

from common import checkpoint
from common.checkpoint import load_weights
from common.config import UserError
from models.dcgan import Generator

OTHER_DATA = "give another folder by --data, --source or --target, or make one: python3 prepare_data.py hw2_data"


def test_a_folder_that_is_not_the_data(builtin, refused_inside, tmp_path):
    run = ("--run-dir", tmp_path / "run")
    for script, given, meant in (
        ("p1_dcgan_train.py", "face", "face/train"),
        ("p2_ddpm_train.py", "digits", "digits/mnistm"),
        ("p2_ddpm_train.py", "digits/mnistm/data", "digits/mnistm"),
        ("p2_ddpm_train.py", ".", "digits/mnistm"),
    ):
        sentence = refused_inside(script, "--data", builtin / given, *run)
        assert sentence.endswith(f"; did you mean {builtin / meant}?")
    sentence = refused_inside("p3_inference.py", builtin / "digits" / "svhn", tmp_path / "out.csv")
    assert sentence.endswith(f"holds no image; did you mean {builtin / 'digits' / 'svhn' / 'data'}?")
    for script, file in (("p1_wgan_train.py", "none"), ("p2_ddpm_train.py", "none/train.csv")):
        sentence = refused_inside(script, "--data", tmp_path / "none", *run)
        assert sentence.endswith(f"{tmp_path / file} is missing: {OTHER_DATA}")
    assert not (tmp_path / "run").exists()


def test_a_trainings_state_is_not_its_weights(weights, refused_inside, tmp_path):
    state, beside = tmp_path / "checkpoint.pt", tmp_path / "weights.safetensors"
    torch.save({"step": 1}, state)
    shutil.copy(weights["generator"], beside)
    sentence = refused_inside("p1_inference.py", tmp_path / "out", "--weights", state)
    assert sentence.endswith(f"{state} is the state of a training, give the weights beside it: {beside}")


@pytest.mark.parametrize("clone", [True, False])
def test_released_weights_that_are_missing(clone, tmp_path, monkeypatch):
    """In a clone Git has them; a file elsewhere is nothing that hw2_download.sh could bring."""
    monkeypatch.setattr(checkpoint, "CHECKPOINTS", tmp_path / "checkpoints")
    if clone:
        (tmp_path / ".git").mkdir()
    first = "git checkout -- checkpoints, or else " if clone else ""
    for path, remedy in (
        (tmp_path / "checkpoints" / "a.safetensors", f", run: {first}bash hw2_download.sh"),
        (tmp_path / "a.safetensors", ""),
    ):
        with pytest.raises(UserError) as caught:
            load_weights(Generator(), path)
        assert str(caught.value) == f"{path} is missing{remedy}"


def test_images_that_are_no_digits(weights, inside, tmp_path):
    """A photograph is labelled as the grader wants it, and stderr tells of its size; digits go without a word."""
    folder = tmp_path / "images"
    folder.mkdir()
    Image.effect_noise((640, 480), 50).save(folder / "a.png")
    options = (tmp_path / "out.csv", "--target", "usps", "--weights", weights["dann"])
    code, _, errors = inside("p3_inference.py", folder, *options)
    assert code == 0
    assert errors == "warning: 1 of the first 1 images are far from a digit's 28x28, one has 640x480\n"
    Image.effect_noise((32, 30), 50).save(folder / "a.png")
    assert inside("p3_inference.py", folder, *options)[2] == ""
