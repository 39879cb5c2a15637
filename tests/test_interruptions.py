"""Whatever interrupts a training, it continues exactly: kill -9, signals, full disks; and it says how."""

import os
import shlex
import shutil
import signal

import pytest
from smaller import Training
from trainings import (
    IMAGES,
    STEPS,
    TRAININGS,
    assert_same,
    checkpoint,
    finish,
    metrics,
    refusal,
    wait_for_lines,
    wait_until,
)


@pytest.mark.parametrize("name", TRAININGS)
def test_a_killed_run_continues_exactly(name, start, whole, scratch):
    """kill -9 between two steps or in the midst of one, a checkpoint after every step."""
    run = scratch / "run"
    process = start(name, run, "--save-minutes", 0)
    wait_for_lines(run, 3, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    (run / ".checkpoint.pt.01234567.part").touch()  # what a kill amid a write leaves
    with open(run / "metrics.jsonl", "a") as handle:
        handle.write('{"step": 99, "images": 1}\n{"st')
    step = checkpoint(run)["step"]
    assert 2 <= step < STEPS
    assert f"continuing at step {step}: " in finish(start(name, run, "--save-minutes", 0, "--resume"))
    assert not list(run.glob(".*.part"))
    assert_same(run, whole(name))


def kill_amid_the_third_checkpoint() -> None:
    original, writes = os.fsync, []

    def fsync(handle: int) -> None:
        if ".checkpoint.pt." in os.readlink(f"/proc/self/fd/{handle}"):
            writes.append(handle)
            if len(writes) == 3:
                os.ftruncate(handle, os.fstat(handle).st_size // 2)
                os.kill(os.getpid(), signal.SIGKILL)
        original(handle)

    os.fsync = fsync


@pytest.mark.parametrize("name", ["dcgan", "dann"])
def test_a_run_killed_amid_a_checkpoint_continues_exactly(name, start, whole, scratch):
    """The third checkpoint is half written when kill -9 comes: the second is whole, and the half goes."""
    run = scratch / "run"
    process = start(name, run, "--save-minutes", 0, prelude=kill_amid_the_third_checkpoint)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL and len(list(run.glob(".checkpoint.pt.*.part"))) == 1
    assert checkpoint(run)["step"] == 2
    finish(start(name, run, "--resume"))
    assert not list(run.glob(".*.part"))
    assert_same(run, whole(name))


@pytest.mark.parametrize(
    ("name", "number"),
    [("dcgan", signal.SIGTERM), ("wgan", signal.SIGINT), ("ddpm", signal.SIGINT), ("dann", signal.SIGTERM)],
)
def test_a_stopped_run_saves_and_continues(name, number, start, whole, scratch, environment):
    """SIGTERM and Ctrl-C: it says so at once, saves after the current step, and names the command that goes on."""
    run = scratch / "run"
    process = start(name, run)
    wait_for_lines(run, 1, process)
    process.send_signal(number)
    wait_until(lambda: "\nstopping after this step; once more stops at once\n" in process.errors(), process)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number, errors
    step = checkpoint(run)["step"]
    said, going_on = errors.splitlines()[-1].split("; continue with: ")
    assert 1 <= step < STEPS and said == f"stopped at step {step}, state saved"
    assert (run / "weights.safetensors").exists() and metrics(run)[-1]["step"] == step

    python, script, *arguments = shlex.split(going_on)  # every other option is in the run's config.json
    assert (python, arguments) == ("python3", ["--run-dir", str(run), "--resume"])
    (scratch / "output").mkdir()
    finish(Training(script, arguments, None, environment, scratch / "output"))
    assert_same(run, whole(name))


def test_a_second_signal_stops_at_once(start, scratch):
    process = start("source", scratch, "--images", 8_000_000)
    wait_for_lines(scratch, 1, process)
    process.send_signal(signal.SIGSTOP)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCONT):
        process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "\np3_dann_train.py: interrupted\n" in errors


@pytest.mark.parametrize("name", ["ddpm", "wgan"])
def test_the_length_of_a_run(name, start, whole, scratch):
    """A finished run resumes to itself or goes on; its state is that of its last step, so it cannot end earlier."""
    images, step = IMAGES[name] * STEPS, IMAGES[name]
    run = shutil.copytree(whole(name), scratch / "run")
    reason = refusal(start(name, run, "--images", images - step, "--resume"))
    assert f"checkpoint.pt is at step {STEPS} already, beyond --images {images - step}" in reason
    finish(start(name, run, "--resume"))
    assert_same(run, whole(name))
    finish(start(name, run, "--images", images + step, "--resume"))
    assert checkpoint(run)["step"] == STEPS + 1 and {line["step"] for line in metrics(run)} == set(range(1, STEPS + 2))
    assert f"--images {images + step} in place of {images}: from here on" in (run / "log.txt").read_text()


# Full disks


def test_a_full_disk_keeps_the_last_checkpoint(start, whole, disk):
    """One sentence; with more room the run goes on as if nothing had been."""
    size = (whole("dann") / "checkpoint.pt").stat().st_size
    run = disk(f"size={int(1.5 * size) + 500_000}") / "run"  # room for one checkpoint, not for two at once
    assert "cannot be written" in refusal(start("dann", run, "--save-minutes", 0))
    assert 1 <= checkpoint(run)["step"] < STEPS and not list(run.glob(".*.part"))
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
        shutil.rmtree(disk / "run", ignore_errors=True)
