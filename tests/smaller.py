"""Trainings that tests can afford: the real scripts, their networks an eighth as wide, each a process of its own.

The process is forked from one that has imported PyTorch already, which would cost more than the training itself.
"""

import contextlib
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch.utils.tensorboard  # noqa: F401, what a training takes long to import
from torch import nn

import evaluation.inception
import models.dann
import models.dcgan
import models.ddpm
import sampling.digits
import sampling.faces
import sampling.labels

ROOT = Path(__file__).resolve().parent.parent
# Fewer images behind re-estimated BatchNorm statistics, sheets and labels; fewer at once.
FEWER = {
    sampling.faces: {"STATISTICS": (1, 8), "SHEET": 8, "BATCH": 8},
    sampling.digits: {"SHEET_STEPS": 2, "BATCH": 20},
    sampling.labels: {"BATCH": 20},
}
NARROW = {models.dcgan: {"WIDTH": 8}, models.ddpm: {"N_FEAT": 16}}


def set_constants(patch: pytest.MonkeyPatch, constants: dict[object, dict[str, object]]) -> None:
    for module, values in constants.items():
        for name, value in values.items():
            patch.setattr(module, name, value)  # an error if there is none


def small_inception() -> None:
    """In Inception's place: features of an image are its pixels, shrunk to 32x32, of two colours."""

    def network(images):
        return nn.functional.adaptive_avg_pool2d(images, 32)[:, :2].flatten(1)

    evaluation.inception.inception_network = lambda device: network


def run(
    script: str, arguments: list[str], prelude: Callable[[], None] | None, environment: dict[str, str], output: Path
) -> None:
    """What a new process does: a test's `prelude`, then the script."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(output / name, os.O_CREAT | os.O_WRONLY | os.O_APPEND), number)
    os.environ.update(environment)
    set_constants(pytest.MonkeyPatch(), FEWER | NARROW)
    if prelude:
        prelude()
    sys.argv = [script, *arguments]
    runpy.run_path(str(ROOT / script), run_name="__main__")


class Training:
    """A script that runs as a process, used as subprocess.Popen is; `prelude` is a function of a module."""

    context = multiprocessing.get_context("forkserver")

    def __init__(
        self,
        script: str,
        arguments: list[str],
        prelude: Callable[[], None] | None,
        environment: dict[str, str],
        output: Path,
    ):
        self.output = output
        for name in ("stdout", "stderr"):
            (output / name).touch()
        here = {"PYTHONPATH": f"{ROOT}{os.pathsep}{Path(__file__).parent}", "OMP_NUM_THREADS": "1"}
        before = {name: os.environ.get(name) for name in here}
        os.environ.update(here)  # of the process that all are forked from, which the first one starts
        try:
            self.context.set_forkserver_preload(["smaller", "pytest"])
            self.process = self.context.Process(target=run, args=(script, arguments, prelude, environment, output))
            self.process.start()
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})

    @property
    def returncode(self) -> int | None:
        return self.process.exitcode

    def errors(self) -> str:
        """What it has said so far."""
        return (self.output / "stderr").read_text()

    def send_signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            os.kill(self.process.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float = 120) -> tuple[str, str]:
        self.process.join(timeout)
        if self.process.exitcode is None:
            self.kill()
            raise subprocess.TimeoutExpired(f"{self.process}", timeout)
        return (self.output / "stdout").read_text(), self.errors()
