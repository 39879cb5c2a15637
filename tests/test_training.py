"""The trainings as processes: what they leave behind, where they start from, and who teaches them.

Each is the real script; only its networks are an eighth as wide and fewer latents stand behind re-estimated
BatchNorm statistics and sheets (tests/smaller.py), so that a step takes a fraction of a second.
"""

import functools
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from smaller import small_inception
from trainings import IMAGES, JUDGES, METRICS, STEPS, TRAININGS, assert_same, checkpoint, finish, metrics, refusal

import training.run
from data.batches import Images
from data.reading import load_digits
from sampling.labels import load_dann, mean_probabilities

GANS = ("dcgan", "wgan")
STILL = {
    "dcgan": ("--learning-rate-g", 0, "--learning-rate-d", 0),
    "wgan": ("--learning-rate-g", 0, "--learning-rate-c", 0),
    "ddpm": ("--learning-rate", 0),
}


@pytest.mark.parametrize("name", TRAININGS)
def test_run_folder(name, whole):
    run, images = whole(name), IMAGES[name]
    expected = ["checkpoint.pt", "config.json", "log.txt", "metrics.jsonl", "samples", "tensorboard"]
    judge = [f"{JUDGES[name]}.safetensors"] if name in JUDGES else []
    assert sorted(path.name for path in run.iterdir()) == sorted([*expected, *judge, "weights.safetensors"])
    sheets = sorted((run / "samples").iterdir())
    assert [path.name for path in sheets] == [f"{images * step:09d}.png" for step in (3, 6)]
    for sheet in sheets:
        with Image.open(sheet) as image:
            assert image.mode == "RGB" and len(image.getcolors(1 << 20)) > 20
    assert any(path.stat().st_size > 100 for path in (run / "tensorboard").iterdir())
    config = json.loads((run / "config.json").read_text())
    assert config["images"] == images * STEPS and config["precision"] == "fp32"

    lines = metrics(run)
    assert {line["step"] for line in lines} == set(range(1, STEPS + 1))
    assert all(line["images"] == images * line["step"] for line in lines)
    assert set().union(*lines) == METRICS[name] | {"step", "images"}
    assert all(abs(value) < 1e6 for line in lines for value in line.values())
    rates = [line["learning_rate"] for line in lines if "learning_rate" in line]
    assert len(rates) == STEPS and (len(set(rates)) > 1) == (name not in ("clip", "target"))  # the original recipes'

    state = checkpoint(run)
    assert state["step"] == STEPS
    weights = load_file(run / "weights.safetensors")
    assert all(weight.isfinite().all() for weight in weights.values())
    assert {weight.dtype for weight in weights.values() if weight.is_floating_point()} == {torch.float16}
    averaged = state["ema"]
    assert averaged.keys() == weights.keys()
    for key, weight in weights.items():
        if "running_" not in key and "num_batches" not in key:
            assert torch.equal(averaged[key].half(), weight)


def estimate_at_once() -> None:
    training.run.ESTIMATE_AFTER = 0


def test_notes(start, scratch):
    """log.txt says what a run will do, how to stop it, how long it takes, what it has written, and what to do next."""
    finish(start("source", scratch, prelude=estimate_at_once))
    begin, plan, estimate, end, use = (scratch / "log.txt").read_text().splitlines()
    assert "starting at step 0: " in begin and "p3_dann_train.py --batch-size 8 " in begin
    assert f" {STEPS} steps of 8 images to go on cpu, in " in plan and plan.endswith("; Ctrl-C saves and stops")
    assert re.search(r" [\d,]+ images/s: about \d min to go$", estimate)
    assert re.search(r" finished: weights in .*/weights.safetensors, samples in .*/samples$", end)
    assert re.search(r" next: python3 p3_inference.py .*--weights .*/weights.safetensors'?$", use)


def test_a_critics_steps(whole):
    """It learns twice as often as the generator, by Adam or RMSprop; clipping bounds weights that began far above."""
    for name, moments in (("wgan", {"exp_avg", "exp_avg_sq"}), ("clip", {"square_avg"})):
        for part, steps in (("g", STEPS), ("c", 2 * STEPS)):
            moment = checkpoint(whole(name))[f"optimizer_{part}"]["state"][0]
            assert moment.keys() == moments | {"step"} and moment["step"] == steps
    weights = [
        tensor for name, tensor in checkpoint(whole("clip"))["critic"].items() if name.endswith(("weight", "bias"))
    ]
    assert max(weight.abs().max().item() for weight in weights) == pytest.approx(0.01)


def test_scores_along_the_way(start, scratch):
    """FID and KID against held-out faces; watching changes nothing of the training."""
    finish(start("dcgan", scratch / "run", "--score-every", 12, "--score-count", 4, prelude=small_inception))
    lines = metrics(scratch / "run")
    assert [line["step"] for line in lines if line.get("fid", 0) > 0 and "kid_x1000" in line] == [3, 6]
    assert all(("learning_rate" in line) == ("loss_g" in line) for line in lines)
    finish(start("dcgan", scratch / "plain", "--sample-every", 1000))
    assert [line["step"] for line in metrics(scratch / "plain") if "score_held_out" in line] == [STEPS]
    for network in ("g", "d", "ema"):
        found, plain = (checkpoint(scratch / run)[network] for run in ("run", "plain"))
        assert all(torch.equal(found[key], plain[key]) for key in plain)


# Where a training starts from


def released(path: Path) -> tuple[dict[str, torch.Tensor], int]:
    """A file's learnt weights, without BatchNorm's statistics, and the images behind them."""
    with safe_open(path, framework="pt") as file:
        names = [name for name in file.keys() if "running_" not in name and "num_batches" not in name]  # noqa: SIM118
        return {name: file.get_tensor(name) for name in names}, int(json.loads(file.metadata()["about"])["images"])


@pytest.mark.parametrize("name", STILL)
def test_released_weights_are_trained_on(name, start, whole, scratch):
    """What does not learn stays, but for BatchNorm's statistics; the images before are counted.

    The next training from there draws other random numbers, so that it is no repetition.
    """
    files = {"--start": "weights.safetensors"}
    if name in JUDGES:
        files[f"--start-{JUDGES[name]}"] = f"{JUDGES[name]}.safetensors"

    def options(run: Path) -> list[object]:
        return [item for option, file in files.items() for item in (option, run / file)]

    finish(start(name, scratch / "run", *options(whole(name)), *STILL[name]))
    seen = [line["images"] for line in metrics(whole(name))]
    assert [line["images"] for line in metrics(scratch / "run")] == [seen[-1] + images for images in seen]
    for file in files.values():
        (kept, before), (found, after) = released(whole(name) / file), released(scratch / "run" / file)
        assert (before, after) == (seen[-1], 2 * seen[-1])
        assert kept.keys() == found.keys() and all(torch.equal(kept[key], found[key]) for key in kept)
    finish(start(name, scratch / "next", *options(scratch / "run"), *STILL[name]))
    loss = "loss" if name == "ddpm" else "loss_g"
    losses = [[line[loss] for line in metrics(scratch / run) if loss in line] for run in ("run", "next")]
    assert len(losses[0]) == STEPS and not set(losses[0]) & set(losses[1])


@pytest.mark.parametrize("name", GANS)
def test_another_trainings_state_is_a_start(name, start, whole, scratch):
    """Networks and optimizers go on with options of the new run, which continues without the file it began with."""
    before = shutil.copytree(whole(name), scratch / "before")
    options = ("--start", before / "checkpoint.pt", "--batch-size", 3, "--decay-from", 1, "--held-out", 0)
    finish(start(name, scratch / "still", *options, *STILL[name], "--images", 3))
    first, state = checkpoint(before), checkpoint(scratch / "still")
    assert state["seen_before"] == 4 * STEPS and state["step"] == 1
    for key, weight in first["g"].items():
        assert torch.equal(weight, state["g"][key]) or "running_" in key or "num_batches" in key
    moments = [found["optimizer_g"]["state"][0] for found in (first, state)]
    assert moments[1]["step"] == moments[0]["step"] + 1 and state["optimizer_g"]["param_groups"][0]["lr"] == 0
    assert released(scratch / "still" / "weights.safetensors")[1] == 4 * STEPS + 3
    assert {line["images"] for line in metrics(scratch / "still")} == {4 * STEPS + 3}

    finish(start(name, scratch / "whole", *options, "--images", 12))
    finish(start(name, scratch / "parts", *options, "--images", 6))
    before.rename(scratch / "gone")
    finish(start(name, scratch / "parts", *options, "--images", 12, "--resume"))
    assert_same(scratch / "parts", scratch / "whole")
    assert "checkpoint.pt is missing" in refusal(start(name, scratch / "new", *options))


# The second round of adaptation


def test_teachers(start, whole, builtin, scratch):
    """The labels of earlier networks teach from the first step on; a changed network is other training data."""
    files = [scratch / f"{number}.safetensors" for number in (1, 2)]
    for file, name in zip(files, ("dann", "source"), strict=True):
        shutil.copy(whole(name) / "weights.safetensors", file)
    teachers = ("--teachers", f"{files[0]},{files[1]}")
    finish(start("dann", scratch / "run", *teachers))
    first, second = (metrics(run)[0] for run in (whole("dann"), scratch / "run"))
    rest = [line["loss"] - line["loss_task"] - line["loss_domain"] for line in (first, second)]
    assert rest[0] == pytest.approx(0, abs=0.03)  # the balance; a first round's own teacher has no say yet
    assert rest[1] == pytest.approx(second["loss_teacher"], abs=0.03) and rest[1] > 0.1

    digits, _ = load_digits(builtin / "digits" / "usps", "train")
    labels = [mean_probabilities(network, digits, *how) for network, *how in map(load_dann, files)]
    place = SimpleNamespace(number=0, batch_size=8, rows=slice(None), seed=0)
    _, soft = Images(digits, torch.stack(labels).mean(0)).batch(place, "target order")
    assert second["teacher_confidence"] == pytest.approx(soft.max(1).values.mean().item(), rel=1e-4)

    finish(start("dann", scratch / "run", *teachers, "--resume"))
    files[1].write_bytes(files[0].read_bytes())
    assert "cannot continue with other training data" in refusal(start("dann", scratch / "run", *teachers, "--resume"))
    shutil.copy(whole("ddpm") / "weights.safetensors", files[0])
    assert "1.safetensors holds another network than DANN" in refusal(start("dann", scratch / "new", *teachers))


# Compiled networks


def cannot_compile() -> None:
    def fail(*arguments, **options):
        raise RuntimeError("no compiler\nand a page of what was tried")

    torch.compile = fail


def test_what_cannot_be_compiled_is_refused(start, scratch):
    reason = refusal(start("ddpm", scratch / "run", "--compile", prelude=cannot_compile))
    assert reason.endswith("error: --compile cannot be used here (no compiler), leave it out")
    finish(start("ddpm", scratch / "run", "--images", 8))  # its folder is free


def compile_without_a_compiler() -> None:
    """The graphs are captured and differentiated as always, and then run by PyTorch's own operations."""
    torch.compile = functools.partial(torch.compile, backend="aot_eager")


def test_compiled_networks_learn_the_same(start, whole, scratch):
    finish(start("source", scratch / "run", "--compile", prelude=compile_without_a_compiler), timeout=300)
    for compiled, plain in zip(metrics(scratch / "run"), metrics(whole("source")), strict=True):
        assert compiled == pytest.approx(plain, rel=1e-3)
