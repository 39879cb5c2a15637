"""Each script once on the accelerator, if this machine has one that computes; tests/test_cuda.py goes without."""

import json

import pytest
import torch
from small_originals import contents

from common.device import generator
from common.streams import Stream

ACCELERATOR = torch.accelerator.current_accelerator(check_available=True)
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(ACCELERATOR is None, reason="this machine has no accelerator that PyTorch can use"),
]
FACES = ("--data", "face/train", "--batch-size", 4, "--images", 8, "--sample-every", 4, "--log-every", 1)
DIGITS = ("--batch-size", 8, "--images", 16, "--sample-every", 8, "--log-every", 1)
DANN = (*DIGITS, "--source", "digits/mnistm", "--target", "digits/usps")


@pytest.mark.parametrize(
    ("script", "options"),
    [
        ("p1_dcgan_train.py", (*FACES, "--regularizer", 0.1)),
        ("p1_dcgan_train.py", (*FACES, "--compile")),
        ("p1_wgan_train.py", FACES),
        ("p1_wgan_train.py", (*FACES, "--recipe", "original")),
        ("p2_ddpm_train.py", (*DIGITS, "--data", "digits/mnistm")),
        ("p3_dann_train.py", DANN),
    ],
)
def test_training(script, options, call, builtin, tmp_path):
    """Two steps, and as many more after --resume."""
    options = [builtin / item if str(item).startswith(("face/", "digits/")) else item for item in options]
    result = call(script, *options, "--run-dir", tmp_path)
    assert result.returncode == 0 and f" to go on {ACCELERATOR.type}" in result.stderr, result.stderr
    if script != "p3_dann_train.py":  # whose length is no free option
        images = 2 * options[options.index("--images") + 1]
        result = call(script, "--run-dir", tmp_path, "--resume", "--images", images)
        assert result.returncode == 0, result.stderr
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert {json.loads(line)["step"] for line in lines} >= {1, 2}


def test_inference(call, weights, builtin, tmp_path):
    """Faces are to the bit the same twice."""
    digits = builtin / "digits" / "usps" / "data"
    for script, network, arguments in (
        ("p1_inference.py", "generator", ("first", "--count", 3)),
        ("p1_inference.py", "generator", ("second", "--count", 3)),
        ("p2_inference.py", "unet", ("digits", "--per-class", 1, "--steps", 2)),
        ("p3_inference.py", "dann", (digits, "labels.csv")),
    ):
        result = call(script, *arguments, "--weights", weights[network], cwd=tmp_path)
        assert result.returncode == 0, result.stderr
    first, second = (contents(tmp_path / folder) for folder in ("first", "second"))
    assert len(first) == 3 and first == second and len(contents(tmp_path / "digits")) == 10
    assert len((tmp_path / "labels.csv").read_text().splitlines()) == 1 + len(contents(digits))


def test_random_numbers_are_those_of_the_cpu():
    here, there = (Stream(generator(0), 5, device=device) for device in ("cpu", ACCELERATOR))
    for draw in (lambda random: random.randn(3), lambda random: random.randint(0, 9), Stream.stratified):
        assert torch.equal(draw(there).cpu(), draw(here))
