"""Several processes train as one does: the same numbers, one run folder, and no process that waits for a dead one.

Most processes here are those of tests/smaller.py with the variables that torchrun gives; one test is torchrun's own.
"""

import datetime
import hashlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from small_originals import contents
from smaller import ROOT, Training
from trainings import SCRIPTS, assert_close, checkpoint, command, finish, metrics, refusal, wait_for_lines

import training.average
import training.processes
from common.config import UserError
from common.device import pick_device
from training.processes import Share, join


def in_float64() -> None:
    torch.set_default_dtype(torch.float64)
    torch.Tensor.float = torch.Tensor.double


def in_float64_with_digests() -> None:
    """Each process prints a checksum of its networks after every step."""
    in_float64()
    original = training.average.Average.update

    def update(self, step):
        original(self, step)
        averages, values = zip(*self._floats, strict=True)
        print(hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in averages + values)).hexdigest())

    training.average.Average.update = update


def impatient() -> None:
    training.processes.TIMEOUT = datetime.timedelta(seconds=2)


def variables(rank: int, count: int, port: int = 0) -> dict[str, str]:
    """What torchrun tells a process."""
    names = {"RANK": rank, "WORLD_SIZE": count, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": count, "MASTER_PORT": port}
    return {name: str(value) for name, value in names.items()} | {
        "MASTER_ADDR": "127.0.0.1",
        "TORCHELASTIC_RUN_ID": "1",
    }


@pytest.fixture(scope="session")
def together(builtin, environment, tmp_path_factory):
    """A function that starts a training in `count` processes; `last` are options of the last one only."""

    def run(name: str, run_dir: Path, *options: object, count: int = 2, prelude=None, last=()) -> list[Training]:
        script, arguments = command(name, builtin, run_dir, *options)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        return [
            Training(
                script,
                [*arguments, *map(str, last if rank == count - 1 else ())],
                prelude,
                environment | variables(rank, count, port),
                tmp_path_factory.mktemp("output"),
            )
            for rank in range(count)
        ]

    return run


@pytest.mark.parametrize(
    ("name", "count", "batch_size", "steps", "options"),
    [
        ("dcgan", 3, 4, 3, ("--loss", "standard", "--no-joint-batches")),
        ("dcgan", 2, 5, 2, ("--regularizer", 1, "--no-batch-norm")),
        ("dcgan", 2, 5, 2, ()),
        ("wgan", 2, 5, 3, ("--augment", "color,translation")),
        ("clip", 2, 5, 2, ()),
        ("ddpm", 2, 7, 2, ()),
        ("dann", 2, 7, 2, ()),
    ],
)
def test_the_same_training(name, count, batch_size, steps, options, start, together, scratch):
    """Shares of unequal size, in float64, so that rounding hides nothing: BatchNorm, penalties, nonlinear losses."""
    options = (*options, "--batch-size", batch_size, "--images", steps * batch_size)
    finish(start(name, scratch / "one", *options, prelude=in_float64))
    processes = together(name, scratch / "several", *options, count=count, prelude=in_float64_with_digests)
    outputs = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0] * count, outputs
    assert_close(scratch / "one", scratch / "several", 2e-6, 1e-9)  # metrics have six digits
    digests = [output.split() for output, _ in outputs]
    assert len(set(digests[0])) == steps
    assert all(others == digests[0] for others in digests)  # the processes never drift apart
    # Everything once, of the first process; the others say nothing.
    assert [errors for _, errors in outputs[1:]] == [""] * (count - 1)
    names = [sorted(path.name for path in (scratch / run).iterdir()) for run in ("one", "several")]
    assert names[0] == names[1] and len(list((scratch / "several" / "tensorboard").iterdir())) == 1
    assert (scratch / "several" / "log.txt").read_text().count("starting at step 0") == 1


def test_any_process_can_stop_all(start, together, scratch):
    """SIGTERM to the second: all leave after the same step.  One process goes on, then three."""
    run = scratch / "run"
    processes = together("dcgan", run)
    wait_for_lines(run, 1, processes[0])
    processes[1].send_signal(signal.SIGTERM)
    outputs = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [128 + signal.SIGTERM] * 2, outputs
    step = checkpoint(run)["step"]
    assert 1 <= step < 5 and f"stopped at step {step}, state saved" in outputs[0][1]
    finish(start("dcgan", run, "--resume", "--images", 4 * (step + 1)))
    for process in together("dcgan", run, "--resume", count=3):
        finish(process)
    assert f"continuing at step {step + 1}" in (run / "log.txt").read_text()
    assert [line["step"] for line in metrics(run) if "loss_g" in line] == list(range(1, 7))


def test_torchrun(start, builtin, environment, scratch):
    """torchrun itself: one process is killed and all stop with an error.  One process goes on and ends as if alone."""
    run, images = scratch / "run", ("--images", 96)
    script, arguments = command("dann", builtin, run, *images, "--save-minutes", 0)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", str(ROOT / script), *arguments]
    process = subprocess.Popen(torchrun, env=environment, stderr=subprocess.PIPE, text=True)
    wait_for_lines(run, 3, process)
    workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    (second,) = (pid for pid in workers if b"\0RANK=1\0" in Path(f"/proc/{pid}/environ").read_bytes())
    os.kill(int(second), signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0 and not Path(f"/proc/{workers[0]}").exists()
    step = checkpoint(run)["step"]
    assert 2 <= step < 12, errors
    assert f"continuing at step {step}: " in finish(start("dann", run, *images, "--resume"))
    finish(start("dann", scratch / "one", *images))
    assert_close(scratch / "one", run, 1e-4, 1e-3)


def test_a_process_that_hangs(together, scratch):
    """The others do not wait for ever."""
    processes = together("source", scratch, "--images", 8_000_000, "--save-minutes", 0, prelude=impatient)
    try:
        wait_for_lines(scratch, 3, processes[0])
        processes[1].send_signal(signal.SIGSTOP)
        reason = refusal(processes[0])
        assert "another process of this training ended or hangs, continue with --resume (" in reason
        assert checkpoint(scratch)["step"] >= 2
    finally:
        for process in processes:
            if process.returncode is None:
                process.kill()
            process.communicate()


def test_processes_that_disagree(together, whole, scratch):
    """The one that differs says why, and none goes on; a folder that is not ours is left as it is."""
    first, second = together("source", scratch / "run", last=("--seed", 1))
    assert "this process was started with other options or training data than the first" in refusal(second)
    assert "another process of this training ended or hangs" in refusal(first)
    before = contents(whole("source"))
    first, second = together("source", whole("source"))
    assert "already holds a training: add --resume" in refusal(first)
    assert "another process of this training ended or hangs" in refusal(second)
    assert contents(whole("source")) == before


def test_too_small_a_batch(refused_inside, monkeypatch, tmp_path):
    for name, value in variables(1, 9).items():
        monkeypatch.setenv(name, value)
    for script in SCRIPTS:
        reason = refused_inside(script, "--batch-size", 8, "--device", "cpu", cwd=tmp_path)
        assert reason.endswith("--batch-size 8 is smaller than the number of processes, 9")
    assert list(tmp_path.iterdir()) == []


def test_one_process_of_torchrun_is_alone(monkeypatch):
    for name, value in variables(0, 1).items():
        monkeypatch.setenv(name, value)
    assert join(torch.device("cpu"), 8) == Share(slice(None)) and Share(slice(None)).alone


def test_each_process_has_a_device_of_its_own(monkeypatch):
    chosen = []
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda **_: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 4)
    monkeypatch.setattr(torch.accelerator, "set_device_index", chosen.append)
    monkeypatch.setattr(torch, "empty", lambda *shape, device: None)
    assert pick_device("auto") == pick_device("cuda") == torch.device("cuda") and pick_device("cuda:2").index == 2
    for name, value in variables(3, 4).items():
        monkeypatch.setenv(name, value)
    assert pick_device("auto") == pick_device("cuda") == torch.device("cuda", 3) and chosen == [3, 3]
    assert pick_device("cpu") == torch.device("cpu")
    with pytest.raises(UserError, match="device 'cuda:2' cannot serve several processes"):
        pick_device("cuda:2")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "5")
    with pytest.raises(UserError, match="--nproc-per-node 5 is more than the 4 devices here"):
        pick_device("auto")
