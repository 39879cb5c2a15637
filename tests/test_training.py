"""The four trainings as processes: what they leave behind, and that any interruption changes nothing.

Each is the real script; only its networks are an eighth as wide and fewer latents stand behind re-estimated
BatchNorm statistics and sheets (tests/smaller.py), so that a step takes a fraction of a second.
"""

import json
import math
import re
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from smaller import Training

ROOT = Path(__file__).resolve().parent.parent
STEPS = 6
DIVERGES = """
import torch
for kind in (torch.optim.Adam, torch.optim.AdamW):
    def step(self, original=kind.step):
        original(self)
        self.steps = getattr(self, "steps", 0) + 1
        if self.steps == 3:
            self.param_groups[0]["params"][0].data.fill_(float("nan"))
    kind.step = step
"""
LOGITS = ([3.0, 1.0, 0.0, -2.0], [1.0, 1.0, -1.0, 0.0])  # of real and generated images
SAID = f"""
import sampling.faces, torch
def judge_both(score, real, fake, joint):
    nothing = 0 * (score(real).sum() + score(fake).sum())
    return [torch.tensor(logits) + nothing for logits in {LOGITS}]
sampling.faces.judge_both = judge_both
"""
GAN = ["--data", "face/train", "--batch-size", 4, "--images", 4 * STEPS, "--sample-every", 12, "--held-out", 3]
P3 = ["--source", "digits/mnistm", "--target", "digits/usps", "--batch-size", 8, "--images", 8 * STEPS]
P3 += ["--sample-every", 24]
TRAININGS = {
    "dcgan": ["p1_dcgan_train.py", *GAN, "--r1-weight", 0.1, "--r1-every", 2, "--discriminator-steps", 2],
    "wgan": ["p1_wgan_train.py", *GAN, "--critic-steps", 2],
    "clip": ["p1_wgan_train.py", *GAN, "--recipe", "original", "--critic-steps", 2],
    "ddpm": [
        *("p2_ddpm_train.py", "--data", "digits/mnistm", "--batch-size", 8, "--images", 8 * STEPS),
        *("--sample-every", 24, "--warmup-images", 16),
    ],
    "source": ["p3_dann_train.py", *P3, "--method", "source", "--oracle"],
    "dann": ["p3_dann_train.py", *P3, "--recipe", "usps", "--oracle"],
    "target": ["p3_dann_train.py", *P3, "--method", "target", "--recipe", "original"],
}
CRITIC = {"distance", "penalty", "loss_g", "score_real", "score_fake", "scores_train", "scores_held_out"}
METRICS = {
    "dcgan": {
        *("loss_d", "loss_g", "logit_real", "logit_fake", "accuracy_d", "learning_rate"),
        *("logits_train", "logits_held_out"),
    },
    "wgan": CRITIC,
    "clip": CRITIC,
    "ddpm": {"loss", "learning_rate", *(f"loss_t{quarter}of4" for quarter in range(1, 5))},
    "source": {"loss", "val_accuracy", "oracle_target_accuracy"},
    "dann": {
        *("loss", "loss_task", "loss_domain", "alpha", "loss_teacher", "teacher_confidence", "commonest_class"),
        *("val_accuracy", "oracle_target_accuracy"),
    },
    "target": {"loss", "val_accuracy"},
}
JUDGES = {"dcgan": "discriminator", "wgan": "critic", "clip": "critic"}
IMAGES = {name: 8 if name in ("ddpm", "source", "dann", "target") else 4 for name in TRAININGS}


@pytest.fixture(scope="session")
def start(builtin, environment, tmp_path_factory):
    """A function that starts a training of TRAININGS, further options last, in a process of its own."""

    def run(name: str, run_dir: Path, *options: object, prelude: str = "") -> Training:
        script, *arguments = [*TRAININGS[name], "--device", "cpu", "--precision", "fp32", "--log-every", 1, *options]
        arguments = [builtin / item if str(item).startswith(("face/", "digits/")) else item for item in arguments]
        arguments = [*map(str, arguments), "--run-dir", str(run_dir)]
        return Training(script, arguments, prelude, environment, tmp_path_factory.mktemp("output"))

    return run


def finish(process: Training) -> str:
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0 and output == "", errors
    return errors


def refusal(process: Training) -> str:
    """The one sentence with which a process leaves; notes of the log and progress bars are passed over."""
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 2 and output == "" and "Traceback" not in errors, errors
    lines = [line for line in errors.splitlines() if ": error: " in line]
    assert len(lines) == 1 and errors.splitlines()[-1] == lines[0], errors
    return lines[0]


def lines_logged(run_dir: Path) -> int:
    file = run_dir / "metrics.jsonl"
    return file.read_bytes().count(b"\n") if file.exists() else 0


def metrics(run_dir: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


def tensors(state: object, path: str = "") -> dict[str, object]:
    """A checkpoint's leaves by their place in it."""
    if isinstance(state, dict):
        items = state.items()
    elif isinstance(state, (list, tuple)):
        items = enumerate(state)
    else:
        return {path: state}
    return {name: leaf for key, value in items for name, leaf in tensors(value, f"{path}/{key}").items()}


def assert_same(first: Path, second: Path) -> None:
    """Two runs ended in the same state to the last bit: checkpoint, released weights, metrics but the speed."""
    for weights in first.glob("*.safetensors"):
        assert weights.read_bytes() == (second / weights.name).read_bytes(), weights.name
    states = [
        tensors(torch.load(run / "checkpoint.pt", weights_only=True)) | load_file(run / "weights.safetensors")
        for run in (first, second)
    ]
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        same = torch.equal(value, states[1][name]) if isinstance(value, torch.Tensor) else value == states[1][name]
        assert same, name
    logs = [
        [{k: v for k, v in line.items() if k != "images_per_second"} for line in metrics(run)]
        for run in (first, second)
    ]
    assert logs[0] == logs[1]


@pytest.fixture(scope="session")
def whole(start, made_once):
    """A function that returns the folder of an uninterrupted run, made once."""
    return lambda name: made_once(f"whole {name}", lambda folder: finish(start(name, folder)))


@pytest.fixture
def scratch(tmp_path):
    """A folder that does not stay: checkpoints are large."""
    yield tmp_path
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize("name", TRAININGS)
def test_run_folder(name, whole):
    run, images = whole(name), IMAGES[name]
    expected = ["checkpoint.pt", "config.json", "lock", "log.txt", "metrics.jsonl", "samples", "tensorboard"]
    judge = [f"{JUDGES[name]}.safetensors"] if name in JUDGES else []
    assert sorted(path.name for path in run.iterdir()) == sorted([*expected, *judge, "weights.safetensors"])
    sheets = sorted((run / "samples").iterdir())
    assert [path.name for path in sheets] == [f"{images * step:09d}.png" for step in (3, 6)]
    for sheet in sheets:
        with Image.open(sheet) as image:
            assert image.mode == "RGB" and len(image.getcolors(1 << 20)) > 20
    assert any(path.stat().st_size > 100 for path in (run / "tensorboard").iterdir())
    assert "starting at step 0: " in (run / "log.txt").read_text()
    config = json.loads((run / "config.json").read_text())
    assert config["images"] == images * STEPS and config["precision"] == "fp32"

    lines = metrics(run)
    assert {line["step"] for line in lines} == set(range(1, STEPS + 1))
    assert all(line["images"] == images * line["step"] for line in lines)
    names = set().union(*lines) - {"step", "images", "images_per_second"}
    assert names == METRICS[name]
    assert all(abs(value) < 1e6 for line in lines for key, value in line.items() if key != "images_per_second")

    state = torch.load(run / "checkpoint.pt", weights_only=True)
    assert state["step"] == STEPS
    weights = load_file(run / "weights.safetensors")
    assert all(weight.isfinite().all() for weight in weights.values())
    assert {weight.dtype for weight in weights.values() if weight.is_floating_point()} == {torch.float16}
    averaged = state["ema"]
    assert averaged.keys() == weights.keys()
    for key, weight in weights.items():
        if "running_" not in key and "num_batches" not in key:
            assert torch.equal(averaged[key].half(), weight)


def test_fid_along_the_way(start, scratch):
    """FID and KID against held-out faces; watching changes nothing of the training."""
    finish(start("dcgan", scratch / "run", "--score-every", 12, "--score-count", 4))
    scores = [line for line in metrics(scratch / "run") if "fid" in line]
    assert [line["step"] for line in scores] == [3, 6] and all(line["fid"] > 0 for line in scores)
    assert all(("images_per_second" in line) == ("loss_g" in line) for line in metrics(scratch / "run"))
    finish(start("dcgan", scratch / "plain", "--sample-every", 1000))
    assert not any("logits_held_out" in line for line in metrics(scratch / "plain"))
    states = [torch.load(scratch / name / "checkpoint.pt", weights_only=True) for name in ("run", "plain")]
    for network in ("g", "d", "ema"):
        found, plain = (state[network] for state in states)
        assert all(torch.equal(found[key], plain[key]) for key in plain)


@pytest.mark.parametrize(("name", "judge"), [("dcgan", "d"), ("wgan", "c")])
def test_the_judge_learns_twice_a_step(name, judge, whole):
    state = torch.load(whole(name) / "checkpoint.pt", weights_only=True)
    steps = [state[f"optimizer_{network}"]["state"][0]["step"] for network in ("g", judge)]
    assert steps == [STEPS, 2 * STEPS]


def test_dcgan_losses(start, scratch):
    """Of known logits: Goodfellow et al. 2014, non-saturating, with one-sided labels; RpGAN on pairs of images."""
    expected = {"standard": [0.0, 0.0, 0.0], "relativistic": [0.0, 0.0, 0.0]}
    for real, fake in zip(*LOGITS, strict=True):
        sigmoids = [1 / (1 + math.exp(-value)) for value in (real, fake, real - fake)]
        cross_entropy = -0.9 * math.log(sigmoids[0]) - 0.1 * math.log(1 - sigmoids[0]) - math.log(1 - sigmoids[1])
        one = (cross_entropy, -math.log(sigmoids[1]), ((real > 0) + (fake < 0)) / 2)
        pair = (-math.log(sigmoids[2]), -math.log(1 - sigmoids[2]), float(real > fake))
        for name, values in (("standard", one), ("relativistic", pair)):
            expected[name] = [total + value / 4 for total, value in zip(expected[name], values, strict=True)]
    for name, values in expected.items():
        options = ("--images", 4, "--joint-batches", "--r1-weight", 0, "--loss", name)
        finish(start("dcgan", scratch / name, *options, prelude=SAID))
        logged = metrics(scratch / name)[0]
        assert [logged[key] for key in ("loss_d", "loss_g", "accuracy_d")] == pytest.approx(values, rel=1e-4), name


def test_clipped_weights(whole):
    state = torch.load(whole("clip") / "checkpoint.pt", weights_only=True)
    largest = max(tensor.abs().max().item() for name, tensor in state["critic"].items() if name.endswith("weight"))
    assert largest == pytest.approx(0.01)  # DCGAN's own initial weights reach far above


@pytest.mark.parametrize("name", TRAININGS)
def test_a_killed_run_continues_exactly(name, start, whole, scratch):
    """kill -9 between two steps or in the midst of one, a checkpoint after every step."""
    run = scratch / "run"
    process = start(name, run, "--save-minutes", 0)
    deadline = time.monotonic() + 100
    while lines_logged(run) < 3:
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    (run / ".checkpoint.pt.01234567.part").touch()  # what a kill amid a write leaves
    with open(run / "metrics.jsonl", "a") as handle:
        handle.write('{"step": 99, "images": 1}\n{"st')
    step = torch.load(run / "checkpoint.pt", weights_only=True)["step"]
    assert 2 <= step < STEPS
    assert f"continuing at step {step}: " in finish(start(name, run, "--save-minutes", 0, "--resume"))
    assert not list(run.glob(".*.part"))
    assert_same(run, whole(name))


KILLED_AMID_A_WRITE = """
import os, signal
def fsync(handle, original=os.fsync, count=[0]):
    if b".checkpoint.pt." in os.readlink(f"/proc/self/fd/{handle}").encode():
        count[0] += 1
        if count[0] == 3:
            os.ftruncate(handle, os.fstat(handle).st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
    original(handle)
os.fsync = fsync
"""


@pytest.mark.parametrize("name", ["dcgan", "dann"])
def test_a_run_killed_amid_a_checkpoint_continues_exactly(name, start, whole, scratch):
    """The third checkpoint is half written when kill -9 comes: the second is whole, and the half goes."""
    run = scratch / "run"
    process = start(name, run, "--save-minutes", 0, prelude=KILLED_AMID_A_WRITE)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL and len(list(run.glob(".checkpoint.pt.*.part"))) == 1
    assert torch.load(run / "checkpoint.pt", weights_only=True)["step"] == 2
    finish(start(name, run, "--resume"))
    assert not list(run.glob(".*.part"))
    assert_same(run, whole(name))


def test_a_full_disk_keeps_the_last_checkpoint(start, whole, disk):
    """One sentence; with more room the run goes on as if nothing had been."""
    size = (whole("dann") / "checkpoint.pt").stat().st_size
    run = disk(f"size={int(1.5 * size) + 500_000}") / "run"  # room for one checkpoint, not for two at once
    reason = refusal(start("dann", run, "--save-minutes", 0))
    assert "cannot be written" in reason
    step = torch.load(run / "checkpoint.pt", weights_only=True)["step"]
    assert 1 <= step < STEPS and not list(run.glob(".*.part"))
    disk(f"size={20 * size}")
    finish(start("dann", run, "--resume"))
    assert_same(run, whole("dann"))


def test_a_disk_that_is_full_from_the_start(start, disk):
    """Whichever of the first files fails, it is one sentence."""
    page, pages = 4096, 16
    disk = disk(f"size={page * pages}")
    for free in range(4):
        (disk / "filler").write_bytes(bytes(page * (pages - free)))
        reason = refusal(start("source", disk / "run"))
        assert f"{disk / 'run'}" in reason and "No space left on device" in reason
        assert not list((disk / "run").glob(".*.part"))
        (disk / "filler").unlink()
        shutil.rmtree(disk / "run")


@pytest.mark.parametrize(
    ("name", "number"),
    [("dcgan", signal.SIGTERM), ("wgan", signal.SIGINT), ("ddpm", signal.SIGINT), ("dann", signal.SIGTERM)],
)
def test_a_stopped_run_saves_and_continues(name, number, start, whole, scratch):
    """SIGTERM and Ctrl-C: exit code 143 or 130 after the current step, its state saved."""
    run = scratch / "run"
    process = start(name, run)
    while not lines_logged(run):
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number, errors
    step = torch.load(run / "checkpoint.pt", weights_only=True)["step"]
    assert 1 <= step < STEPS and f"stopped at step {step}, state saved; continue with --resume" in errors
    assert (run / "weights.safetensors").exists() and metrics(run)[-1]["step"] == step
    finish(start(name, run, "--resume"))
    assert_same(run, whole(name))


def test_a_longer_run_is_a_free_option(start, whole, scratch):
    """--images may grow where it is free; the finished steps stay."""
    run = shutil.copytree(whole("ddpm"), scratch / "run")
    finish(start("ddpm", run, "--images", 8 * STEPS + 8, "--resume"))
    assert torch.load(run / "checkpoint.pt", weights_only=True)["step"] == STEPS + 1
    assert [line["step"] for line in metrics(run)] == list(range(1, STEPS + 2))
    images = 8 * STEPS
    assert f"--images {images + 8} in place of {images}: from here on" in (run / "log.txt").read_text()


@pytest.mark.parametrize("name", ["ddpm", "dcgan", "wgan"])
def test_a_training_is_not_cut_short(name, start, whole, scratch):
    """Its state is that of its last step, so it cannot go on, or end, at an earlier one."""
    run = shutil.copytree(whole(name), scratch / "run")
    reason = refusal(start(name, run, "--images", IMAGES[name] * (STEPS - 1), "--resume"))
    assert f"checkpoint.pt is at step {STEPS} already, beyond --images {IMAGES[name] * (STEPS - 1)}" in reason
    assert_same(run, whole(name))


def released(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """A file's learnt weights, without BatchNorm's statistics, and what it says of itself."""
    with safe_open(path, framework="pt") as file:
        about = json.loads(file.metadata()["about"])
        names = [name for name in file.keys() if "running_" not in name and "num_batches" not in name]  # noqa: SIM118
        return {name: file.get_tensor(name) for name in names}, about


STILL = {"ddpm": ("--learning-rate", 0), "dcgan": ("--learning-rate-g", 0, "--learning-rate-d", 0)}
STILL["wgan"] = ("--learning-rate-g", 0, "--learning-rate-c", 0)


@pytest.mark.parametrize("name", STILL)
def test_released_weights_are_trained_on(name, start, whole, scratch):
    """What does not learn stays, but for BatchNorm's statistics; the images before are counted.

    The next training from there draws other random numbers, so that it is no repetition.
    """
    files = {"--start": "weights.safetensors"}
    if name in JUDGES:
        files[f"--start-{JUDGES[name]}"] = f"{JUDGES[name]}.safetensors"
    options = [item for option, file in files.items() for item in (option, whole(name) / file)]
    finish(start(name, scratch / "run", *options, *STILL[name]))
    seen = [line["images"] for line in metrics(whole(name))]
    assert [line["images"] for line in metrics(scratch / "run")] == [seen[-1] + images for images in seen]
    for file in files.values():
        (kept, about_kept), (found, about) = released(whole(name) / file), released(scratch / "run" / file)
        assert [int(notes["images"]) for notes in (about_kept, about)] == [seen[-1], 2 * seen[-1]]
        assert kept.keys() == found.keys() and all(torch.equal(kept[key], found[key]) for key in kept)
    options = [item for option, file in files.items() for item in (option, scratch / "run" / file)]
    finish(start(name, scratch / "next", *options, *STILL[name]))
    loss = "loss" if name == "ddpm" else "loss_g"
    losses = [[line[loss] for line in metrics(scratch / run) if loss in line] for run in ("run", "next")]
    assert len(losses[0]) == STEPS and not set(losses[0]) & set(losses[1])


@pytest.mark.parametrize("name", ("dcgan", "wgan"))
def test_a_released_judge_alone_is_refused(name, start, whole, scratch):
    judge = whole(name) / f"{JUDGES[name]}.safetensors"
    for options in ((), ("--start", whole(name) / "checkpoint.pt")):
        reason = refusal(start(name, scratch / "run", f"--start-{JUDGES[name]}", judge, *options))
        assert f"{judge} goes with released weights, so --start must name these" in reason
    generator = whole(name) / "weights.safetensors"
    reason = refusal(start(name, scratch / "run", f"--start-{JUDGES[name]}", generator, "--start", generator))
    assert f"{generator} holds another network than {JUDGES[name].capitalize()}" in reason


def test_a_start_that_is_refused_leaves_its_folder_free(start, whole, scratch):
    other = scratch / "other.safetensors"
    shutil.copy(whole("dann") / "weights.safetensors", other)
    assert f"{other} holds another network" in refusal(start("ddpm", scratch / "run", "--start", other))
    assert f"{other} holds another network" in refusal(start("dcgan", scratch / "run", "--start", other))
    finish(start("ddpm", scratch / "run"))


def test_a_finished_run_resumes_to_itself(start, whole, scratch):
    run = shutil.copytree(whole("source"), scratch / "run")
    finish(start("source", run, "--resume"))
    assert_same(run, whole("source"))


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("ddpm", ("--learning-rate", 0.5), "learning_rate 0.0003 and cannot continue with --learning-rate 0.5"),
        ("ddpm", ("--seed", 1), "seed 0 and cannot continue with --seed 1"),
        ("dann", ("--no-invert", "--alpha", 0.2), "and cannot continue with --alpha 0.2"),
        ("source", ("--images", 80), "images 48 and cannot continue with --images 80"),
        ("source", ("--method", "target"), "and cannot continue with "),
    ],
)
def test_a_changed_option_is_refused(name, options, reason, start, whole):
    before = {path: path.read_bytes() for path in whole(name).rglob("*") if path.is_file()}
    assert reason in refusal(start(name, whole(name), "--resume", *options))
    assert before == {path: path.read_bytes() for path in whole(name).rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["dcgan", "wgan"])
def test_another_trainings_state_is_a_start(name, start, whole, scratch):
    """Networks and optimizers go on with options of the new run, which continues without the file it began with."""
    before = shutil.copytree(whole(name), scratch / "before") / "checkpoint.pt"
    options = ("--start", before, "--batch-size", 3, "--decay-from", 1)
    still = scratch / "still"
    rates = ("--learning-rate-g", 0, "--learning-rate-d" if name == "dcgan" else "--learning-rate-c", 0)
    finish(start(name, still, *options, *rates, "--images", 3))
    first, state = (torch.load(path, weights_only=True) for path in (before, still / "checkpoint.pt"))
    assert state["seen_before"] == 4 * STEPS and state["step"] == 1
    for key, weight in first["g"].items():
        assert torch.equal(weight, state["g"][key]) or "running_" in key or "num_batches" in key
    moments = [found["optimizer_g"]["state"][0] for found in (first, state)]
    assert moments[1]["step"] == moments[0]["step"] + 1 and state["optimizer_g"]["param_groups"][0]["lr"] == 0
    with safe_open(still / "weights.safetensors", "pt") as file:
        assert int(json.loads(file.metadata()["about"])["images"]) == 4 * STEPS + 3
    assert {line["images"] for line in metrics(still)} == {4 * STEPS + 3}

    finish(start(name, scratch / "whole", *options, "--images", 12))
    finish(start(name, scratch / "parts", *options, "--images", 6))
    (scratch / "before").rename(scratch / "gone")
    finish(start(name, scratch / "parts", *options, "--images", 12, "--resume"))
    assert_same(scratch / "parts", scratch / "whole")
    assert f"{before} is missing" in refusal(start(name, scratch / "new", *options))


def test_a_start_with_another_optimizer_is_refused(start, whole, scratch):
    reason = refusal(start("wgan", scratch / "run", "--start", whole("clip") / "checkpoint.pt"))
    assert "checkpoint.pt is of a training with another optimizer: 'optimizer_g' does not fit" in reason
    assert "holds no 'd'" in refusal(start("dcgan", scratch / "other", "--start", whole("clip") / "checkpoint.pt"))


def test_other_data_is_refused(start, whole, builtin, scratch):
    run = shutil.copytree(whole("ddpm"), scratch / "run")
    reason = refusal(start("ddpm", run, "--resume", "--data", builtin / "digits" / "svhn"))
    assert "cannot continue with other training data" in reason and "--data " not in reason


def test_a_flipped_bit_in_a_checkpoint_is_refused(start, whole, scratch):
    run = shutil.copytree(whole("source"), scratch / "run")
    content = bytearray((run / "checkpoint.pt").read_bytes())
    content[len(content) // 2] ^= 1
    (run / "checkpoint.pt").write_bytes(content)
    assert "checkpoint.pt cannot be loaded: " in refusal(start("source", run, "--resume"))


def test_the_state_of_another_training_is_refused(start, whole, scratch):
    run = shutil.copytree(whole("dcgan"), scratch / "run")
    assert "checkpoint.pt is of another training: this one has no option " in refusal(start("wgan", run, "--resume"))
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    torch.save({name: part for name, part in state.items() if name != "d"}, run / "checkpoint.pt")
    assert "checkpoint.pt is of another training: it holds no 'd'" in refusal(start("dcgan", run, "--resume"))
    state["g"]["main.0.weight"] = torch.zeros(3, 3)
    torch.save(state, run / "checkpoint.pt")
    assert "checkpoint.pt is of another network: 'g' does not fit (" in refusal(start("dcgan", run, "--resume"))
    for other in ({}, {"state_dict": {}}, {"step": "1", "fixed": {}}, {"step": 1, "fixed": None}):
        torch.save(other, run / "checkpoint.pt")
        assert "checkpoint.pt is not the state of a training" in refusal(start("dcgan", run, "--resume"))


def test_code_in_a_checkpoint_is_not_run(start, whole, scratch):
    run = shutil.copytree(whole("source"), scratch / "run")
    state = torch.load(run / "checkpoint.pt", weights_only=True) | {"path": Path("/")}  # pickled as a call
    torch.save(state, run / "checkpoint.pt")
    assert "checkpoint.pt cannot be loaded: " in refusal(start("source", run, "--resume"))


def test_an_existing_folder_is_refused(start, whole, scratch):
    """Without --resume nothing is overwritten, also while there are metrics but no checkpoint yet."""
    assert "already holds a training: add --resume" in refusal(start("source", whole("source")))
    (scratch / "metrics.jsonl").write_text('{"step": 1}\n')
    assert "already holds a training: add --resume" in refusal(start("source", scratch))
    finish(start("source", scratch, "--resume"))  # nothing was saved: from the start
    assert_same(scratch, whole("source"))


def test_a_file_as_run_folder_is_refused(start, scratch):
    (scratch / "file").touch()
    assert "file cannot be used as a run folder" in refusal(start("source", scratch / "file"))


def test_a_folder_in_use_is_refused(start, scratch):
    run = scratch / "run"
    process = start("source", run, "--images", 8_000_000)
    try:
        while not lines_logged(run):
            assert process.poll() is None, process.communicate()
            time.sleep(0.002)
        assert "is in use by another running training" in refusal(start("source", run, "--resume"))
        assert process.poll() is None
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("content", [b"", b"half a file", None])
def test_a_broken_checkpoint_is_refused(content, start, whole, scratch):
    run = shutil.copytree(whole("source"), scratch / "run")
    whole_file = (run / "checkpoint.pt").read_bytes()
    (run / "checkpoint.pt").write_bytes(whole_file[: len(whole_file) // 2] if content is None else content)
    assert "checkpoint.pt cannot be loaded: it is not a whole checkpoint" in refusal(start("source", run, "--resume"))


@pytest.mark.parametrize("log_every", [1, 1000])
@pytest.mark.parametrize("name", ["dcgan", "wgan", "ddpm", "dann"])
def test_a_diverged_run_stops(name, log_every, start, scratch):
    """A weight becomes NaN; the run stops at that step or the next and keeps the last state that was good."""
    run = scratch / "run"
    reason = refusal(start(name, run, "--save-minutes", 0, "--log-every", log_every, prelude=DIVERGES))
    step, logged = map(int, re.search(r"at step (\d): the training diverged after step (\d);", reason).groups())
    assert 2 <= step <= 3 and logged == (0 if log_every > 1 else len(metrics(run)))
    assert reason.endswith(f"; the last good state is in {run / 'checkpoint.pt'}")
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    assert state["step"] == step - 1 and all(leaf.isfinite().all() for leaf in state["ema"].values())
    assert all(weight.isfinite().all() for weight in load_file(run / "weights.safetensors").values())


# The command line


SCRIPTS = sorted({str(arguments[0]) for arguments in TRAININGS.values()})


@pytest.mark.parametrize("script", SCRIPTS)
def test_dry_run(script, call, inside, tmp_path):
    """Every option as JSON, presets below explicit values, and nothing written."""
    module = __import__(script.removesuffix(".py"))
    fields = set(module.Config.__dataclass_fields__)
    result = call(script, "--dry-run", "--seed", 7, cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    values = json.loads(result.stdout)
    assert set(values) == fields and values["seed"] == 7
    assert {name: values[name] for name in fields - {"seed"}} == {
        name: str(value) if isinstance(value, Path) else value
        for name, value in vars(module.Config()).items()
        if name != "seed"
    }
    presets = getattr(module, "RECIPES", None) or {"original": getattr(module, "ORIGINAL", None)}
    for recipe, preset in presets.items():
        if preset:
            values = json.loads(inside(script, "--dry-run", "--recipe", recipe, cwd=tmp_path)[1])
            assert {name: values[name] for name in preset} == preset and values["recipe"] == recipe
    assert list(tmp_path.iterdir()) == []


def test_explicit_options_override_the_recipe(inside, tmp_path):
    options = ("--alpha", 0.3, "--recipe", "original", "--invert")
    values = json.loads(inside("p3_dann_train.py", "--dry-run", *options, cwd=tmp_path)[1])
    assert (values["alpha"], values["invert"], values["augment"]) == (0.3, True, False)


@pytest.mark.parametrize("script", SCRIPTS)
def test_wrong_options(script, refused_inside, tmp_path):
    """One sentence each, and nothing written."""
    for options, reason in [
        (("--batch-size", 0), "0 is out of range, must be at least 2"),
        (("--images", "many"), "'many' is not an integer"),
        (("--decay-from", "nan"), "nan is not a finite number"),
        (("--decay-from", 1.5), "1.5 is out of range, must be from 0 to 1"),
        (("--precision", "fp8"), "invalid choice: 'fp8'"),
        (("--batch", 8), "unrecognized arguments: --batch 8"),
        (("positional",), "unrecognized arguments: positional"),
        (("--device", "warp"), "device 'warp' is not available here"),
        (("--run-dir", ""), "a path is empty"),
    ]:
        assert reason in refused_inside(script, *options, cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_wrong_data(refused, refused_inside, builtin, tmp_path):
    run = ("--run-dir", tmp_path / "run")
    assert "none is missing" in refused("p1_dcgan_train.py", "--data", tmp_path / "none", *run)
    assert "none/train.csv cannot be read" in refused_inside("p2_ddpm_train.py", "--data", tmp_path / "none", *run)
    assert "digits holds no image" in refused_inside("p1_wgan_train.py", "--data", builtin / "digits", *run)
    digits = builtin / "digits" / "usps" / "data"
    assert "00000.png is 28x28, expected 64x64" in refused_inside("p1_wgan_train.py", "--data", digits, *run)
    gan = ("p1_dcgan_train.py", "--data", builtin / "face" / "train")
    assert "--held-out 15 leaves none of 15 images" in refused_inside(*gan, "--held-out", 15, *run)
    assert "--score-every needs faces" in refused_inside(*gan, "--score-every", 100, *run)
    crossed = ("--zoom-low", 2, "--zoom-high", 1)
    assert "--zoom-low 2.0 is above --zoom-high 1.0" in refused_inside("p3_dann_train.py", *crossed, *run)
    assert list(tmp_path.iterdir()) == []
