"""The four trainings as processes: what they leave behind, and that any interruption changes nothing.

Each is the real script; only its networks are an eighth as wide and fewer latents stand behind re-estimated
BatchNorm statistics and sheets, so that a step takes a fraction of a second.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parent.parent
STEPS = 6
SMALLER = f"""
import runpy, sys, types
sys.path.insert(0, {str(ROOT)!r})
from torch import nn
import common.digits, common.gan, models.dcgan, models.ddpm

def narrow(channels):
    return channels // 8 if channels > 100 or channels == 64 else channels

class Conv2d(nn.Conv2d):
    def __init__(self, i, o, *arguments, **options):
        super().__init__(narrow(i), narrow(o), *arguments, **options)

class ConvTranspose2d(nn.ConvTranspose2d):
    def __init__(self, i, o, *arguments, **options):
        super().__init__(narrow(i), narrow(o), *arguments, **options)

class BatchNorm2d(nn.BatchNorm2d):
    def __init__(self, channels):
        super().__init__(narrow(channels))

layers = dict(Conv2d=Conv2d, ConvTranspose2d=ConvTranspose2d, BatchNorm2d=BatchNorm2d)
models.dcgan.nn = types.SimpleNamespace(**(vars(nn) | layers))
models.ddpm.ContextUnet.__init__.__defaults__ = (3, 16, 10)
common.gan.with_fresh_batch_norm.__defaults__ = (1, 8)
common.gan.sample_images.__defaults__ = (8,)
common.gan.sample_sheet.__defaults__ = (8,)
sys.argv = sys.argv[1:]
runpy.run_path({str(ROOT)!r} + "/" + sys.argv[0], run_name="__main__")
"""
GAN = ["--data", "face/train", "--batch-size", 4, "--images", 4 * STEPS, "--sample-every", 12]
P3 = ["--source", "digits/mnistm", "--target", "digits/usps", "--batch-size", 8, "--images", 8 * STEPS]
P3 += ["--sample-every", 24]
TRAININGS = {
    "dcgan": ["p1_dcgan_train.py", *GAN, "--r1-every", 2],
    "wgan": ["p1_wgan_train.py", *GAN, "--critic-steps", 2],
    "clip": ["p1_wgan_train.py", *GAN, "--recipe", "original", "--critic-steps", 2],
    "ddpm": [
        *("p2_ddpm_train.py", "--data", "digits/mnistm", "--batch-size", 8, "--images", 8 * STEPS),
        *("--sample-every", 24, "--warmup-images", 16),
    ],
    "source": ["p3_dann_train.py", *P3, "--method", "source", "--oracle"],
    "dann": ["p3_dann_train.py", *P3, "--recipe", "usps", "--oracle", "--teacher-threshold", 0.1],
    "target": ["p3_dann_train.py", *P3, "--method", "target", "--recipe", "original"],
}
METRICS = {
    "dcgan": {"loss_d", "loss_g", "logit_real", "logit_fake", "accuracy_d", "learning_rate"},
    "wgan": {"distance", "penalty", "loss_g", "score_real", "score_fake"},
    "clip": {"distance", "penalty", "loss_g", "score_real", "score_fake"},
    "ddpm": {"loss", "learning_rate", *(f"loss_t{quarter}of4" for quarter in range(1, 5))},
    "source": {"loss", "val_accuracy", "oracle_target_accuracy"},
    "dann": {
        *("loss", "loss_task", "loss_domain", "alpha", "loss_teacher", "teacher_sure", "commonest_class"),
        *("val_accuracy", "oracle_target_accuracy"),
    },
    "target": {"loss", "val_accuracy"},
}
IMAGES = {name: 8 if name in ("ddpm", "source", "dann", "target") else 4 for name in TRAININGS}


@pytest.fixture(scope="module")
def start(builtin, environment):
    """A function that starts a training of TRAININGS, further options last, in a process of its own."""

    def run(name: str, run_dir: Path, *options: object) -> subprocess.Popen[str]:
        arguments = [*TRAININGS[name], "--device", "cpu", "--precision", "fp32", "--log-every", 1, *options]
        arguments = [builtin / item if str(item).startswith(("face/", "digits/")) else item for item in arguments]
        command = [sys.executable, "-c", SMALLER, *map(str, arguments), "--run-dir", str(run_dir)]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return run


def finish(process: subprocess.Popen[str]) -> str:
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0 and output == "", errors
    return errors


def refusal(process: subprocess.Popen[str]) -> str:
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
    states = [
        tensors(torch.load(run / "checkpoint.pt", weights_only=True)) | load_file(run / "weights.safetensors")
        for run in (first, second)
    ]
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        same = torch.equal(value, states[1][name]) if isinstance(value, torch.Tensor) else value == states[1][name]
        assert same, name
    logs = [[{k: v for k, v in line.items() if k != "images_per_second"} for line in metrics(run)] for run in (first, second)]
    assert logs[0] == logs[1]


@pytest.fixture(scope="module")
def whole(start, tmp_path_factory):
    """A function that returns the folder of an uninterrupted run, made once."""
    root, made = tmp_path_factory.mktemp("whole"), {}

    def run(name: str) -> Path:
        if name not in made:
            finish(start(name, root / name))
            made[name] = root / name
        return made[name]

    yield run
    shutil.rmtree(root)


@pytest.fixture
def scratch(tmp_path):
    """A folder that does not stay: checkpoints are large."""
    yield tmp_path
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize("name", TRAININGS)
def test_run_folder(name, whole):
    run, images = whole(name), IMAGES[name]
    expected = ["checkpoint.pt", "config.json", "lock", "log.txt", "metrics.jsonl", "samples", "tensorboard"]
    assert sorted(path.name for path in run.iterdir()) == [*expected, "weights.safetensors"]
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


@pytest.mark.parametrize("name", ["dcgan", "wgan", "ddpm", "dann"])
def test_a_stopped_run_saves_and_continues(name, start, whole, scratch):
    """SIGTERM: exit code 143 after the current step, its state saved."""
    run = scratch / "run"
    process = start(name, run)
    while not lines_logged(run):
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)
    process.terminate()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143, errors
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


def test_other_data_is_refused(start, whole, builtin, scratch):
    run = shutil.copytree(whole("ddpm"), scratch / "run")
    reason = refusal(start("ddpm", run, "--resume", "--data", builtin / "digits" / "svhn"))
    assert "cannot continue with other training data" in reason and "--data " not in reason


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


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("dcgan", ("--learning-rate-g", 1, "--learning-rate-d", 1, "--r1-weight", 1e38)),
        ("wgan", ("--penalty-weight", 3e38, "--learning-rate-c", 1)),
        ("ddpm", ("--learning-rate", 1, "--warmup-images", 0, "--beta", 0)),
        ("source", ("--learning-rate", 1, "--images", 80_000)),
    ],
)
def test_a_diverged_run_stops(name, options, start, scratch):
    """One sentence that names the value and the step; no checkpoint is written from then on."""
    if name == "ddpm":
        options = options[:4]
    reason = refusal(start(name, scratch / "run", *options))
    assert "the training diverged since the last logged step" in reason and " at step " in reason
    assert not (scratch / "run" / "checkpoint.pt").exists()


# The command line


SCRIPTS = sorted({str(arguments[0]) for arguments in TRAININGS.values()})


@pytest.mark.parametrize("script", SCRIPTS)
def test_dry_run(script, call, tmp_path):
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
            values = json.loads(call(script, "--dry-run", "--recipe", recipe, cwd=tmp_path).stdout)
            assert {name: values[name] for name in preset} == preset and values["recipe"] == recipe
    assert list(tmp_path.iterdir()) == []


def test_explicit_options_override_the_recipe(call, tmp_path):
    result = call("p3_dann_train.py", "--dry-run", "--alpha", 0.3, "--recipe", "original", "--invert", cwd=tmp_path)
    values = json.loads(result.stdout)
    assert (values["alpha"], values["invert"], values["augment"]) == (0.3, True, False)


@pytest.mark.parametrize("script", SCRIPTS)
def test_wrong_options(script, refused, tmp_path):
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
    ]:
        sentence = refused(script, *options, "--run-dir", tmp_path / "run", cwd=tmp_path)
        assert reason in sentence and sentence.startswith(f"{script}: error: ")
    assert list(tmp_path.iterdir()) == []


def test_wrong_data(refused, builtin, tmp_path):
    run = ("--run-dir", tmp_path / "run")
    assert "none is missing" in refused("p1_dcgan_train.py", "--data", tmp_path / "none", *run)
    assert "none/train.csv cannot be read" in refused("p2_ddpm_train.py", "--data", tmp_path / "none", *run)
    assert "digits holds no image" in refused("p1_wgan_train.py", "--data", builtin / "digits", *run)
    digits = builtin / "digits" / "usps" / "data"
    assert "00000.png is 28x28, expected 64x64" in refused("p1_wgan_train.py", "--data", digits, *run)
    crossed = ("--zoom-low", 2, "--zoom-high", 1)
    assert "--zoom-low 2.0 is above --zoom-high 1.0" in refused("p3_dann_train.py", *crossed, *run)
    assert list(tmp_path.iterdir()) == []
