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
import types
from pathlib import Path

import torch.utils.tensorboard  # noqa: F401, what a training takes long to import
from torch import nn

import evaluation.inception
import models.dann
import models.dcgan
import models.ddpm
import sampling.digits
import sampling.faces

ROOT = Path(__file__).resolve().parent.parent


def narrow(channels: int) -> int:
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


def inception(weights, device):
    """Stands for Inception: features of an image are its pixels, shrunk to 32x32, of two colours."""
    return lambda images: nn.functional.adaptive_avg_pool2d(images, 32)[:, :2].flatten(1), "smaller"


def fewer_images() -> None:
    """Fewer images behind re-estimated BatchNorm statistics, sheets and batches, and a small Inception."""
    # Under @torch.no_grad() the function itself is __wrapped__.
    sampling.faces.with_fresh_batch_norm.__wrapped__.__defaults__ = (1, 8)
    sampling.faces.sample_images.__wrapped__.__defaults__ = (8,)
    sampling.faces.sample_sheet.__defaults__ = (8,)
    sampling.digits.digit_sheet.__defaults__ = (1.0, 2)
    sampling.digits.draw_digits.__wrapped__.__defaults__ = (20, sampling.digits.SAMPLE_SEED, None)
    evaluation.inception.inception_network = inception
    evaluation.inception.inception_file = lambda weights: (None, "smaller")


def narrow_networks() -> None:
    layers = {"Conv2d": Conv2d, "ConvTranspose2d": ConvTranspose2d, "BatchNorm2d": BatchNorm2d}
    models.dcgan.nn = types.SimpleNamespace(**(vars(nn) | layers))
    models.ddpm.ContextUnet.__init__.__defaults__ = (3, 16, 10)


def run(script: str, arguments: list[str], prelude: str, environment: dict[str, str], output: Path) -> None:
    """What a new process does: `prelude`, Python code of a test, then the script."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(output / name, os.O_CREAT | os.O_WRONLY | os.O_APPEND), number)
    os.environ.update(environment)
    fewer_images()
    narrow_networks()
    exec(prelude, {})
    sys.argv = [script, *arguments]
    runpy.run_path(str(ROOT / script), run_name="__main__")


class Training:
    """A script that runs as a process, used as subprocess.Popen is."""

    context = multiprocessing.get_context("forkserver")

    def __init__(self, script: str, arguments: list[str], prelude: str, environment: dict[str, str], output: Path):
        self.output = output
        for name in ("stdout", "stderr"):
            (output / name).touch()
        here = {"PYTHONPATH": f"{ROOT}{os.pathsep}{Path(__file__).parent}", "OMP_NUM_THREADS": "1"}
        before = {name: os.environ.get(name) for name in here}
        os.environ.update(here)  # of the process that all are forked from, which the first one starts
        try:
            self.context.set_forkserver_preload(["smaller"])
            self.process = self.context.Process(target=run, args=(script, arguments, prelude, environment, output))
            self.process.start()
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})

    @property
    def returncode(self) -> int | None:
        return self.process.exitcode

    def poll(self) -> int | None:
        return self.process.exitcode

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
        return (self.output / "stdout").read_text(), (self.output / "stderr").read_text()
