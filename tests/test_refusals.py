"""What is refused, in one sentence and before anything is written; and the trainings' command lines."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from PIL import Image
from safetensors.torch import load_file
from small_originals import contents
from trainings import JUDGES, SCRIPTS, assert_same, checkpoint, finish, metrics, refusal, wait_for_lines

from common import checkpoint as checkpoints
from common.checkpoint import load_checkpoint, load_weights, save_checkpoint
from common.config import UserError, to_json
from models.dcgan import Generator

# Another training


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("ddpm", ("--learning-rate", 0.5), "learning_rate 0.0003 and cannot continue with --learning-rate 0.5"),
        ("dann", ("--no-invert", "--alpha", 0.2), "and cannot continue with --alpha 0.2"),
        ("source", ("--images", 80), "images 48 and cannot continue with --images 80"),
        ("ddpm", ("--data", "digits/svhn"), "cannot continue with other training data"),
    ],
)
def test_what_changed_is_refused(name, options, reason, start, whole):
    before = contents(whole(name))
    assert reason in refusal(start(name, whole(name), "--resume", *options))
    assert contents(whole(name)) == before


def test_the_state_of_another_training_is_refused(start, whole, scratch):
    run = shutil.copytree(whole("dcgan"), scratch / "run")
    assert "checkpoint.pt is of another training: this one has no option " in refusal(start("wgan", run, "--resume"))
    state = checkpoint(run)
    torch.save({name: part for name, part in state.items() if name != "d"}, run / "checkpoint.pt")
    assert "checkpoint.pt is of another training: it holds no 'd'" in refusal(start("dcgan", run, "--resume"))
    state["g"]["main.0.weight"] = torch.zeros(3, 3)
    torch.save(state, run / "checkpoint.pt")
    assert "checkpoint.pt is of another network: 'g' does not fit (" in refusal(start("dcgan", run, "--resume"))
    for other in ({"state_dict": {}}, {"step": "1", "fixed": {}}):
        torch.save(other, run / "checkpoint.pt")
        assert "checkpoint.pt is not the state of a training" in refusal(start("dcgan", run, "--resume"))


def test_a_start_that_does_not_fit_is_refused(start, whole, scratch):
    """And leaves its folder free."""
    other = scratch / "other.safetensors"
    shutil.copy(whole("dann") / "weights.safetensors", other)
    assert f"{other} holds another network" in refusal(start("ddpm", scratch / "ddpm", "--start", other))
    finish(start("ddpm", scratch / "ddpm", "--images", 8))
    state = whole("clip") / "checkpoint.pt"
    reason = refusal(start("wgan", scratch / "wgan", "--start", state))
    # The clipped critic has BatchNorm, which the penalised one lacks.
    assert "checkpoint.pt is of another network: 'critic' does not fit" in reason
    assert "holds no 'd'" in refusal(start("dcgan", scratch / "dcgan", "--start", state))


@pytest.mark.parametrize(("name", "options"), [("dcgan", ()), ("wgan", ("--start", "checkpoint.pt"))])
def test_a_released_judge_alone_is_refused(name, options, start, whole, scratch):
    judge, generator = (whole(name) / f"{network}.safetensors" for network in (JUDGES[name], "weights"))
    option = f"--start-{JUDGES[name]}"
    options = [whole(name) / item if item.endswith(".pt") else item for item in options]
    reason = refusal(start(name, scratch / "run", option, judge, *options))
    assert f"{judge} goes with released weights, so --start must name these" in reason
    reason = refusal(start(name, scratch / "run", option, generator, "--start", generator))
    assert f"{generator} holds another network than {JUDGES[name].capitalize()}" in reason


# Folders and files


def test_an_existing_folder_is_refused(start, whole, scratch):
    """Without --resume nothing is overwritten, also while there are metrics but no checkpoint yet."""
    assert "already holds a training: add --resume" in refusal(start("source", whole("source")))
    (scratch / "metrics.jsonl").write_text('{"step": 1}\n')
    assert "already holds a training: add --resume" in refusal(start("source", scratch))
    finish(start("source", scratch, "--resume"))  # nothing was saved: from the start
    assert_same(scratch, whole("source"))
    assert "log.txt cannot be written: File exists" in refusal(start("source", scratch / "log.txt"))


def test_a_folder_in_use_is_refused(start, scratch):
    process = start("source", scratch / "run", "--images", 8_000_000)
    try:
        wait_for_lines(scratch / "run", 1, process)
        assert "run is in use by p3_dann_train.py, process " in refusal(start("source", scratch / "run", "--resume"))
        assert process.returncode is None
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("damage", ["empty", "text", "half", "bit", "code"])
def test_a_broken_checkpoint_is_refused(damage, tmp_path):
    """Also one whose checksum fails, and code in a checkpoint is not run."""
    file = tmp_path / "checkpoint.pt"
    save_checkpoint(file, {"weight": torch.zeros(1000)})
    bits = bytearray(file.read_bytes())
    if damage == "code":
        torch.save({"path": Path("/")}, file)  # pickled as a call
    else:
        bits[len(bits) // 2] ^= 1
        file.write_bytes({"empty": b"", "text": b"half a file", "half": bits[: len(bits) // 2], "bit": bits}[damage])
    whole_file = "" if damage in ("bit", "code") else "it is not a whole checkpoint"
    with pytest.raises(UserError, match=rf"checkpoint\.pt cannot be loaded: {whole_file}"):
        load_checkpoint(file)


# Divergence


def diverge() -> None:
    """A weight becomes NaN by each optimizer's third step."""

    def patched(original):
        def step(self):
            original(self)
            self.steps = getattr(self, "steps", 0) + 1
            if self.steps == 3:
                self.param_groups[0]["params"][0].data.fill_(float("nan"))

        return step

    for kind in (torch.optim.Adam, torch.optim.AdamW):
        kind.step = patched(kind.step)


@pytest.mark.parametrize(("name", "log_every"), [("dcgan", 1000), ("wgan", 1), ("ddpm", 1000), ("dann", 1)])
def test_a_diverged_run_stops(name, log_every, start, scratch):
    """At that step or the next; it keeps the last state that was good."""
    run = scratch / "run"
    reason = refusal(start(name, run, "--save-minutes", 0, "--log-every", log_every, prelude=diverge))
    step, logged = map(int, re.search(r"at step (\d): the training diverged after step (\d);", reason).groups())
    assert 2 <= step <= 3 and logged == (0 if log_every > 1 else len(metrics(run)))
    assert reason.endswith(f"; the last good state is in {run / 'checkpoint.pt'}")
    state = checkpoint(run)
    assert state["step"] == step - 1 and all(leaf.isfinite().all() for leaf in state["ema"].values())
    assert all(weight.isfinite().all() for weight in load_file(run / "weights.safetensors").values())


# The command line


@pytest.mark.parametrize("script", SCRIPTS)
def test_dry_run(script, inside, tmp_path):
    """Every option as JSON, presets below explicit values, and nothing written."""

    def options(*given: object) -> dict[str, object]:
        code, output, errors = inside(script, "--dry-run", *given, cwd=tmp_path)
        assert (code, errors) == (0, "")
        return json.loads(output)

    module = __import__(script.removesuffix(".py"))
    defaults = to_json(module.Config())
    assert options("--seed", 7) == defaults | {"seed": 7}
    presets = getattr(module, "RECIPES", None) or {"original": getattr(module, "ORIGINAL", None)}
    for recipe, preset in presets.items():
        if preset:
            assert options("--recipe", recipe) == defaults | preset | {"recipe": recipe}
    assert list(tmp_path.iterdir()) == []


def test_options_of_a_recipe_and_of_a_run(inside, whole, tmp_path):
    """What is given goes before the recipe, or with --resume before the run's; a new run begins with the defaults."""

    def options(*given: object) -> dict[str, object]:
        return json.loads(inside("p3_dann_train.py", "--dry-run", *given, cwd=tmp_path)[1])

    values = options("--alpha", 0.3, "--recipe", "original", "--invert")
    assert (values["alpha"], values["invert"], values["augment"]) == (0.3, True, False)
    run = whole("dann")
    given = {"log_every": 9, "resume": True, "run_dir": str(run)}
    before = json.loads((run / "config.json").read_text())
    assert options("--run-dir", run, "--resume", "--log-every", 9) == before | given
    assert before["recipe"] == "usps"
    for new in (("--run-dir", run), ("--run-dir", tmp_path / "new", "--resume")):
        assert options(*new)["recipe"] == "svhn"


@pytest.mark.parametrize("content", ["", "[]", '{"batch_size": "many"}'])
def test_resume_with_unreadable_options(content, refused_inside, tmp_path):
    (tmp_path / "config.json").write_text(content)
    sentence = refused_inside("p3_dann_train.py", "--run-dir", tmp_path, "--resume")
    assert "config.json cannot be read (" in sentence and sentence.endswith(": give all options anew")


@pytest.mark.parametrize("script", SCRIPTS)
def test_wrong_options(script, refused_inside, tmp_path):
    """One sentence each, and nothing written."""
    for options, reason in [
        (("--batch-size", 0), "0 is out of range, must be at least 2"),
        (("--images", "many"), "'many' is not an integer"),
        (("--decay-from", "nan"), "nan is not a finite number"),
        (("--decay-from", 1.5), "1.5 is out of range, must be at most 1"),
        (("--precision", "fp8"), "invalid choice: 'fp8'"),
        (("--batch", 8), "unrecognized arguments: --batch 8"),
        (("positional",), "unrecognized arguments: positional"),
        (("--device", "warp"), "device 'warp' is not available here"),
        (("--run-dir", ""), "a path is empty"),
    ]:
        assert reason in refused_inside(script, *options, cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_wrong_data(refused_inside, builtin, tmp_path):
    run = ("--run-dir", tmp_path / "run")
    assert "digits holds no image" in refused_inside("p1_wgan_train.py", "--data", builtin / "digits", *run)
    digits = builtin / "digits" / "usps" / "data"
    assert "00000.png is 28x28, expected 64x64" in refused_inside("p1_wgan_train.py", "--data", digits, *run)
    gan = ("p1_dcgan_train.py", "--data", builtin / "face" / "train")
    assert "--held-out 54 leaves none of 54 images" in refused_inside(*gan, "--held-out", 54, *run)
    for held_out in (0, 1):  # a distance needs two
        reason = refused_inside(*gan, "--score-every", 100, "--held-out", held_out, *run)
        assert "--score-every compares samples with held-out faces, give --held-out 2 or more" in reason
    crossed = ("--zoom-low", 2, "--zoom-high", 1)
    assert "--zoom-low 2.0 is above --zoom-high 1.0" in refused_inside("p3_dann_train.py", *crossed, *run)
    assert list(tmp_path.iterdir()) == []


# What to do next

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
    monkeypatch.setattr(checkpoints, "CHECKPOINTS", tmp_path / "checkpoints")
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


def test_a_library_that_is_missing_is_one_sentence():
    """Without site-packages (-S), as Python is outside of the environment."""
    done = subprocess.run(
        [sys.executable, "-S", ROOT / "p3_dann_train.py"], check=False, capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 2 and done.stdout == ""
    assert re.fullmatch(r"p3_dann_train.py: error: \w+ is not installed, run: .*requirements.txt\n", done.stderr)
