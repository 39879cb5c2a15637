"""The folder of one training: configuration, log, metrics, samples and the checkpoint it continues from."""

import contextlib
import fcntl
import json
import math
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from common.checkpoint import load_checkpoint, load_weights, save_checkpoint
from common.config import UserError, to_json
from common.files import atomic_write, remove_parts
from common.images import save_image
from training.processes import ALONE, Part


class Run:
    """A training's folder, opened once per training: of several processes (`part`) the first one writes.

    Holds `config.json`, `metrics.jsonl` (one object a line), `tensorboard/`, `samples/`, `log.txt` and
    `checkpoint.pt`.  `steps` is the training's length; `state` the checkpoint's content until `restore` has read it,
    None in a new run; `seen_before` the images that another training had seen whose state this one started from.
    SIGTERM and Ctrl-C make `save_due` set `stopping`, so that the loop saves and leaves after its current step.
    """

    def __init__(self, config: Any, data_fingerprint: str, part: Part = ALONE):
        self.folder: Path = config.run_dir
        self.checkpoint = self.folder / "checkpoint.pt"
        self.fixed = {name: to_json(config)[name] for name in _fixed_names(config)} | {"data": data_fingerprint}
        self.defaults = to_json(type(config)())
        self.images, self.steps = config.images, max(1, config.images // config.batch_size)
        self.save_seconds = 60 * config.save_minutes
        self.sample_every, self.batch_size = config.sample_every, config.batch_size
        self.part = part
        self.asked = self.stopping = 0  # the number of the signal that asked this process, and that all obey
        self.state: dict[str, Any] | None = None
        if part.first:
            self._open(config)
        if part.of_first(self.fixed) != self.fixed:
            raise UserError("this process was started with other options or training data than the first")
        self.state = part.of_first(self.state)
        step = self.state["step"] if self.state else 0
        self.seen_before: int = self.state.get("seen_before", 0) if self.state else 0
        self._saved_at = self._logged_at = time.monotonic()
        self._logged_step, self._logged_images = step, self.seen_before + step * config.batch_size
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        self.note(f"{'continuing at' if self.state else 'starting at'} step {step}: {' '.join(sys.argv)}")

    def _open(self, config: Any) -> None:
        self._lock()
        if config.resume and self.checkpoint.exists():
            self.state = _load_state(self.checkpoint)
            self._refuse_differences(self.state["fixed"])
        elif self.checkpoint.exists() or (self._has_metrics() and not config.resume):
            raise UserError(f"{self.folder} already holds a training: add --resume, or choose another --run-dir")
        step = self.state["step"] if self.state else 0
        if step > self.steps:
            raise UserError(f"{self.checkpoint} is at step {step} already, beyond --images {self.images}: give more")
        if self.state and (before := self.state.get("images", self.images)) != self.images:
            self.note(f"--images {self.images} in place of {before}: from here on the learning rate falls by that")
        self._drop_metrics_after(step)
        atomic_write(self.folder / "config.json", json.dumps(to_json(config), indent=2).encode() + b"\n")
        threading.excepthook = _quiet_on_full_disks
        with self._writing():
            self._metrics = open(self.folder / "metrics.jsonl", "a", encoding="utf-8")
            self._writer = SummaryWriter(self.folder / "tensorboard", purge_step=step + 1)

    def _has_metrics(self) -> bool:
        """An empty file was left by a start that failed, and is nothing that could be lost."""
        file = self.folder / "metrics.jsonl"
        return file.exists() and file.stat().st_size > 0

    def _lock(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock_file = open(self.folder / "lock", "w")
        except OSError as error:
            raise UserError(f"{self.folder} cannot be used as a run folder: {error.strerror}") from None
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{self.folder} is in use by another running training") from None
        except OSError:
            pass  # a file system without locks: nothing can be known
        remove_parts(self.folder)

    def _refuse_differences(self, earlier: dict[str, Any]) -> None:
        names = self.fixed.keys() | earlier.keys()
        for name in sorted(names, key=lambda name: (name in self.fixed, name)):  # first what tells of another script
            # A checkpoint from before an option existed was trained as the option's default says.
            if name not in self.fixed:
                raise UserError(f"{self.checkpoint} is of another training: this one has no option {name}")
            before, now = earlier.get(name, self.defaults.get(name)), self.fixed.get(name)
            if before != now:
                what = "other training data" if name == "data" else f"--{name.replace('_', '-')} {now}"
                raise UserError(f"{self.checkpoint} was trained with {name} {before} and cannot continue with {what}")

    def _drop_metrics_after(self, step: int) -> None:
        """Lines that a killed process wrote after its last checkpoint are computed again."""
        file = self.folder / "metrics.jsonl"
        if not file.exists():
            return
        kept = []
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError):  # a line cut off in the middle, or damaged
                if json.loads(line)["step"] <= step:
                    kept.append(line + "\n")
        atomic_write(file, "".join(kept).encode())

    def _stop(self, number: int, frame: Any) -> None:
        if self.asked and self.part.alone:  # torchrun may send several
            raise KeyboardInterrupt
        self.asked = number

    def note(self, text: str) -> None:
        """Add a line with the time to `log.txt` and show it."""
        if not self.part.first:
            return
        tqdm.write(text, file=sys.stderr)
        with self._writing(), open(self.folder / "log.txt", "a", encoding="utf-8", errors="backslashreplace") as handle:
            handle.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")

    def log(self, step: int, images: int, metrics: dict[str, Tensor | float]) -> dict[str, float]:
        """Append metrics to `metrics.jsonl` and TensorBoard; `step` is their axis, `images` is recorded beside it.

        Of several processes each gives the means over its part of the batch.  Adds `images_per_second` since the
        last call, if images were seen since.  Raises UserError if a value is not finite, so that a diverged training
        stops with its last good checkpoint in place.
        """
        values = {name: float(torch.as_tensor(value).detach()) for name, value in metrics.items()}
        if not self.part.alone:
            means = self.part.mean(torch.tensor(list(values.values()), dtype=torch.float64))
            values = dict(zip(values, means.tolist(), strict=True))
        if images > self._logged_images:
            now = time.monotonic()
            values["images_per_second"] = (images - self._logged_images) / max(now - self._logged_at, 1e-9)
            self._logged_at, self._logged_images = now, images
        for name, value in values.items():
            if not math.isfinite(value):
                raise UserError(f"{name} is {value} at step {step}: {self._diverged()}")
        self._logged_step = step
        if not self.part.first:
            return values
        rounded = {name: float(f"{value:.6g}") for name, value in values.items()}
        with self._writing():
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)
            self._metrics.write(json.dumps({"step": step, "images": images, **rounded}) + "\n")
            self._metrics.flush()
        return values

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Turn a failed write, on a full disk for example, into a sentence."""
        try:
            yield
        except OSError as error:
            raise UserError(f"{self.folder} cannot be written: {error.strerror or error}") from None

    def _diverged(self) -> str:
        return f"the training diverged after step {self._logged_step}; the last good state is in {self.checkpoint}"

    def sample(self, step: int, images: int, sheet: Tensor) -> None:
        """Save a uint8 (3, h, w) sheet as `samples/<images seen>.png` and show it in TensorBoard."""
        if not self.part.first:
            return
        save_image(self.folder / "samples" / f"{images:09d}.png", sheet)
        with self._writing():
            self._writer.add_image("samples", sheet, step)

    @property
    def seed(self) -> int | tuple[int, int]:
        """What the random numbers of a training's steps hang on: --seed, and what had been seen before --start.

        Without the latter a training that goes on from another would draw the other's numbers again, step by step.
        """
        seed = self.fixed["seed"]
        return (seed, self.seen_before) if self.seen_before else seed

    def save_due(self) -> bool:
        """Whether it is time for a checkpoint: `save_minutes` have passed, or a process was asked to stop."""
        self.stopping = self.part.largest(self.asked)
        return bool(self.stopping) or time.monotonic() - self._saved_at >= self.save_seconds

    def sample_due(self, images: int) -> bool:
        """Whether the step that ended at `images` seen passed a multiple of `sample_every`."""
        return self.passed(images, self.sample_every)

    def passed(self, images: int, every: int) -> bool:
        """Whether the step that ended at `images` seen passed a multiple of `every`."""
        return images // every > (images - self.batch_size) // every

    def restore(
        self,
        parts: dict[str, Any],
        start: str = "",
        released: tuple[nn.Module, ...] = (),
        start_judge: str = "",
        judge: tuple[nn.Module, ...] = (),
    ) -> int:
        """Load the checkpoint into networks and optimizers; returns the step to continue at, 0 for a new run.

        A new run begins, if `start` is given, with what another training left, and `seen_before` becomes its images:
        with the networks and optimizers of its checkpoint, of which the optimizers keep this run's options (learning
        rates, betas), or with its released weights (*.safetensors), which go into each of `released`.  Beside such
        weights of a GAN's generator those of `start_judge` go into `judge`.  A run that continues reads neither again.
        """
        if self.state:
            state, self.state = self.state, None  # its memory is free from here on
            _fill(parts, state, self.checkpoint)
            return state["step"]
        if start_judge and not is_released(start):
            raise UserError(f"{start_judge} goes with released weights, so --start must name these (*.safetensors)")
        if start:
            seen = _start_released(released, Path(start)) if is_released(start) else _start(parts, Path(start))
            self.seen_before = seen
            self._logged_images += seen
            self.note(f"with what {start} holds, after {seen} images")
        if start_judge:
            _start_released(judge, Path(start_judge))
            self.note(f"with what {start_judge} holds")
        return 0

    def save(self, step: int, parts: dict[str, Any]) -> None:
        """Write the checkpoint that `--resume` continues from exactly: the state of networks and optimizers.

        Raises UserError, the earlier checkpoint kept, if a weight is not finite.
        """
        states = {name: part.state_dict() for name, part in parts.items()}
        for part in parts.values():
            if isinstance(part, nn.Module) and not all(weight.isfinite().all() for weight in part.parameters()):
                raise UserError(f"the weights are not finite at step {step}: {self._diverged()}")
        about = {"step": step, "images": self.images, "seen_before": self.seen_before, "fixed": self.fixed}
        save_checkpoint(self.checkpoint, about | states)
        self._saved_at = time.monotonic()

    def close(self, step: int) -> None:
        """Finish the logs; exits with code 143 (SIGTERM) or 130 (Ctrl-C) if the process was asked to stop."""
        if self.part.first:
            with self._writing():
                self._metrics.close()
                self._writer.close()
        self.part.leave()
        if self.stopping:
            self.note(f"stopped at step {step}, state saved; continue with --resume")
            sys.exit(128 + self.stopping)


def _load_state(checkpoint: Path) -> dict[str, Any]:
    state = load_checkpoint(checkpoint)
    if not isinstance(state.get("step"), int) or not isinstance(state.get("fixed"), dict):
        raise UserError(f"{checkpoint} is not the state of a training")
    return state


def _fill(parts: dict[str, Any], state: dict[str, Any], checkpoint: Path) -> None:
    for name, part in parts.items():
        if name not in state:
            raise UserError(f"{checkpoint} is of another training: it holds no '{name}'")
        try:
            part.load_state_dict(state[name])
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            reason = str(error).splitlines()[-1].strip()
            raise UserError(f"{checkpoint} is of another network: '{name}' does not fit ({reason})") from None


def _start(parts: dict[str, Any], checkpoint: Path) -> int:
    """Networks and optimizers of another training's checkpoint, without its options; returns the images it saw."""
    state = _load_state(checkpoint)
    optimizers = {name: part for name, part in parts.items() if isinstance(part, torch.optim.Optimizer)}
    own = {name: optimizer.state_dict()["param_groups"] for name, optimizer in optimizers.items()}
    _fill(parts, state, checkpoint)
    for name, optimizer in optimizers.items():
        loaded = optimizer.state_dict()
        if [group.keys() for group in loaded["param_groups"]] != [group.keys() for group in own[name]]:
            raise UserError(f"{checkpoint} is of a training with another optimizer: '{name}' does not fit")
        optimizer.load_state_dict(loaded | {"param_groups": own[name]})
    return state.get("seen_before", 0) + state["step"] * state["fixed"]["batch_size"]


def is_released(file: str) -> bool:
    """Whether a file's name is that of released weights, which have no optimizer and no log beside them."""
    return file.endswith(".safetensors")


def _start_released(networks: tuple[nn.Module, ...], weights: Path) -> int:
    """Released weights into each network; returns the images they saw."""
    first, *others = networks
    about = load_weights(first, weights)
    for network in others:
        network.load_state_dict(first.state_dict())
    return int(about.get("images", 0))


def _fixed_names(config: Any) -> list[str]:
    return [field.name for field in fields(config) if not field.metadata["free"]]


def _quiet_on_full_disks(failure: threading.ExceptHookArgs) -> None:
    """TensorBoard writes in a thread of its own; what fails there is raised again by our next call of the writer."""
    if not isinstance(failure.exc_value, OSError):
        threading.__excepthook__(failure)
