"""The trainings that tests run, what each logs, and how two runs are compared; `start` and others are in conftest."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from smaller import Training

STEPS = 6
GAN = ["--data", "face/train", "--batch-size", 4, "--images", 4 * STEPS, "--sample-every", 12, "--held-out", 3]
DIGITS = ["--batch-size", 8, "--images", 8 * STEPS, "--sample-every", 24]
DANN = [*DIGITS, "--source", "digits/mnistm", "--target", "digits/usps"]
TRAININGS = {
    "dcgan": ["p1_dcgan_train.py", *GAN, "--regularizer", 0.1],
    "wgan": ["p1_wgan_train.py", *GAN, "--critic-steps", 2],
    "clip": ["p1_wgan_train.py", *GAN, "--recipe", "original", "--critic-steps", 2],
    "ddpm": ["p2_ddpm_train.py", *DIGITS, "--data", "digits/mnistm", "--warmup-images", 16],
    "source": ["p3_dann_train.py", *DANN, "--method", "source", "--oracle"],
    "dann": ["p3_dann_train.py", *DANN, "--recipe", "usps", "--oracle"],
    "target": ["p3_dann_train.py", *DANN, "--method", "target", "--recipe", "original"],
}
SCRIPTS = sorted({str(arguments[0]) for arguments in TRAININGS.values()})
JUDGES = {"dcgan": "discriminator", "wgan": "critic", "clip": "critic"}
IMAGES = {name: 4 if name in JUDGES else 8 for name in TRAININGS}  # of a step
OVERFITTING = {"score_train", "score_held_out"}
CRITIC = OVERFITTING | {"distance", "penalty", "loss_g", "score_real", "score_fake", "learning_rate"}
ADAPTATION = {"loss_task", "loss_domain", "alpha", "loss_teacher", "teacher_confidence", "commonest_class"}
METRICS = {
    "dcgan": OVERFITTING | {"loss_d", "loss_g", "logit_real", "logit_fake", "accuracy_d", "learning_rate"},
    "wgan": CRITIC,
    "clip": CRITIC,
    "ddpm": {"loss", "learning_rate", *(f"loss_t{quarter}of4" for quarter in range(1, 5))},
    "source": {"loss", "learning_rate", "val_accuracy", "oracle_target_accuracy"},
    "dann": ADAPTATION | {"loss", "learning_rate", "val_accuracy", "oracle_target_accuracy"},
    "target": {"loss", "learning_rate", "val_accuracy"},
}


def command(name: str, builtin: Path, run_dir: Path, *options: object) -> tuple[str, list[str]]:
    """The script and the options of a training, with the built-in data, on the CPU in float32, each step logged."""
    script, *arguments = [*TRAININGS[name], "--device", "cpu", "--precision", "fp32", "--log-every", 1, *options]
    arguments = [builtin / item if str(item).startswith(("face/", "digits/")) else item for item in arguments]
    return script, [*map(str, arguments), "--run-dir", str(run_dir)]


def finish(process: Training, timeout: float = 120) -> str:
    """What a process that ends well said on stderr."""
    output, errors = process.communicate(timeout)
    assert process.returncode == 0 and output == "", errors
    return errors


def refusal(process: Training) -> str:
    """The one sentence with which a process leaves; notes of the log and progress bars are passed over."""
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 2 and output == "" and "Traceback" not in errors, errors
    lines = [line for line in errors.splitlines() if ": error: " in line]
    assert len(lines) == 1 and errors.splitlines()[-1] == lines[0], errors
    return lines[0]


def wait_until(happened: Callable[[], bool], process: Training) -> None:
    deadline = time.monotonic() + 100
    while not happened():
        assert process.returncode is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.002)


def wait_for_lines(run: Path, count: int, process: Training) -> None:
    """Wait until a training has logged `count` lines."""
    file = run / "metrics.jsonl"
    wait_until(lambda: file.exists() and file.read_bytes().count(b"\n") >= count, process)


def checkpoint(run: Path) -> dict[str, object]:
    return torch.load(run / "checkpoint.pt", weights_only=True)


def metrics(run: Path) -> list[dict[str, float]]:
    """The lines of a run's log, but for its speed."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "images_per_second"} for line in lines]


def tensors(state: object, path: str = "") -> dict[str, object]:
    """A checkpoint's leaves by their place in it."""
    if isinstance(state, dict):
        items = state.items()
    elif isinstance(state, (list, tuple)):
        items = enumerate(state)
    else:
        return {path: state}
    return {name: leaf for key, value in items for name, leaf in tensors(value, f"{path}/{key}").items()}


def assert_close(first: Path, second: Path, metric: float, weight: float) -> None:
    """Two runs logged the same curves, within `metric`, and ended in the same state, within `weight`."""
    assert len(metrics(first)) == len(metrics(second))
    for lines in zip(metrics(first), metrics(second), strict=True):
        assert lines[0] == pytest.approx(lines[1], rel=metric, abs=metric)
    states = [tensors(checkpoint(run)) for run in (first, second)]
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        if isinstance(value, torch.Tensor):
            assert torch.allclose(value, states[1][name], rtol=weight, atol=weight), name
        else:
            assert value == states[1][name], name


def assert_same(first: Path, second: Path) -> None:
    """Two runs ended in the same state to the last bit: checkpoint, released weights, metrics but the speed."""
    assert metrics(first) == metrics(second)
    assert_close(first, second, 0, 0)
    for weights in first.glob("*.safetensors"):
        assert weights.read_bytes() == (second / weights.name).read_bytes(), weights.name
        assert all(weight.isfinite().all() for weight in load_file(weights).values())
