"""One training from its start, or from where it was interrupted, to its end: everything around the method."""

import contextlib
import dataclasses
import json
import math
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from common.checkpoint import export_weights, load_checkpoint, load_weights, save_checkpoint
from common.config import UserError, first_sentence, option, to_json
from common.device import autocast, generator, pick_device
from common.files import atomic_write, locked, remove_parts
from common.images import save_image
from common.streams import Stream
from training.processes import join

ESTIMATE_AFTER = 20  # seconds of training, after which it is said how long the rest takes

Schedule = Callable[[int, int], float]  # step, steps: the learning rate's factor


@dataclasses.dataclass(frozen=True)
class Options:
    """What every training's options end with; its own are `data`, `run_dir`, `images`, `batch_size` and others."""

    seed: int = option(0, "of initial weights, order and all that is drawn", low=0)
    device: str = option("auto", "auto, cpu, cuda, mps ...", free=True)
    precision: str = option("auto", "auto = bf16 where it is fast", choices=("auto", "bf16", "fp32"))
    compile: bool = option(False, "torch.compile the networks, for GPUs", free=True)
    save_minutes: float = option(3.0, "minutes between checkpoints", low=0, free=True)
    resume: bool = option(False, "continue the run in --run-dir exactly where its checkpoint is", free=True)


@dataclasses.dataclass(frozen=True)
class Step:
    """Step `number` = 0 ... of a training: which rows of which batch this process computes, and with which numbers.

    `images` counts what is seen after it, `done` is the share done before it, `is_logged` asks for its metrics.
    """

    number: int
    batch_size: int
    rows: slice
    seed: int | tuple[int, int]
    random: Stream
    images: int
    done: float
    is_last: bool
    is_logged: bool

    def due(self, every: int) -> bool:
        """Whether the step passed a multiple of `every` images, 0 for never, or is the last."""
        return every > 0 and (self.is_last or self.images // every > (self.images - self.batch_size) // every)

    def turns(self, count: int) -> Iterator["Step"]:
        """`count` steps of one network within a step of the other, each with a batch of its own."""
        return (dataclasses.replace(self, number=self.number * count + turn) for turn in range(count))

    def whole(self) -> "Step":
        """The same step for all rows, for what is done to the whole batch in every process."""
        return dataclasses.replace(self, rows=slice(None), random=self.random.whole())


class Run:
    """A training by the options `config`: device, processes, random seed, signals, folder, checkpoints.

    `steps` is the training's loop; what it needs before is said by `restore`.  SIGTERM and Ctrl-C let the loop save
    and leave after its current step.  `use` is the command that shows what the weights can do.
    """

    def __init__(self, config: Any, use: str = ""):
        self.config, self.use = config, use
        self.device = pick_device(config.device)
        self.share = join(self.device, config.batch_size)
        self.length = max(1, config.images // config.batch_size)
        self.step = 0  # as many steps are done
        self.seen_before = 0  # images that another training had seen, whose state this one started from
        self.asked = 0  # the number of the signal that asked this process to stop
        self.folder: Path = config.run_dir
        self.checkpoint, self.metrics = self.folder / "checkpoint.pt", self.folder / "metrics.jsonl"
        self._lock = contextlib.ExitStack()
        self._releases: dict[str, tuple[Callable[[], nn.Module], dict[str, Any]]] = {}
        if self.share.first:
            self._refuse_used()  # here, before the data are read, and once more when the folder is locked
        torch.manual_seed(config.seed)

    def network(self, network: nn.Module) -> nn.Module:
        """The network on the device, in the layout that convolutions are fastest in."""
        return network.to(device=self.device, memory_format=torch.channels_last)

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function of a network, by torch.compile if --compile asks for it; UserError if that cannot be here."""
        if not self.config.compile:
            return function
        try:
            torch.compile(lambda x: x.sin() + 1)(torch.zeros(2, device=self.device))
        except Exception as error:  # no C++ compiler, no Triton, a GPU too old for it: the library has a kind for each
            raise UserError(f"--compile cannot be used here ({first_sentence(error)}), leave it out") from None
        return torch.compile(function)

    def autocast(self) -> contextlib.AbstractContextManager[None]:
        return autocast(self.device, self.config.precision)

    def minimize(self, loss: Tensor, optimizer: Optimizer) -> None:
        """One step of the optimizer down the gradient of the batch's loss, the mean over all processes' rows."""
        optimizer.zero_grad()
        self.share.backward(loss, [weight for group in optimizer.param_groups for weight in group["params"]])
        optimizer.step()

    # Before the first step

    def restore(self, data: str, **state: nn.Module | Optimizer) -> None:
        """Open the folder and, with --resume, load its checkpoint into the networks and optimizers `state`.

        `data` is the data's fingerprint.  Raises UserError for a folder of another training, of other options or data.
        """
        free = {field.name for field in dataclasses.fields(self.config) if field.metadata["free"]}
        options = to_json(self.config).items()
        self._fixed = {name: value for name, value in options if name not in free} | {"data": data}
        self._state = state
        self._rates = {part: part.param_groups[0]["lr"] for part in state.values() if isinstance(part, Optimizer)}
        saved = self._open() if self.share.first else None
        if self.share.of_first(self._fixed) != self._fixed:
            raise UserError("this process was started with other options or training data than the first")
        saved = self.share.of_first(saved)
        self._continues = saved is not None
        if saved:
            fill(state, saved, self.checkpoint)
            self.step, self.seen_before = saved["step"], saved.get("seen_before", 0)
        self.share.synchronize(*(part for part in state.values() if isinstance(part, nn.Module) and part.training))
        self._saved_at = self._logged_at = time.monotonic()
        self._logged_step, self._logged_images = self.step, self.images_after(self.step)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask_to_stop)
        self.note(f"{'continuing' if saved else 'starting'} at step {self.step}: {shlex.join(sys.argv)}")

    def _open(self) -> dict[str, Any] | None:
        config, saved = self.config, None
        self._lock.enter_context(locked(self.folder))
        self._refuse_used()
        remove_parts(self.folder)
        if self.checkpoint.exists():
            saved = load_state(self.checkpoint)
            self._refuse_differences(saved["fixed"])
        step = saved["step"] if saved else 0
        if step > self.length:
            raise UserError(f"{self.checkpoint} is at step {step} already, beyond --images {config.images}: give more")
        self._open_logs(step)
        if saved and (before := saved.get("images", config.images)) != config.images:
            self.note(f"--images {config.images} in place of {before}: from here on the learning rate falls by that")
        return saved

    def _refuse_used(self) -> None:
        used = os.path.exists(self.checkpoint) or (os.path.exists(self.metrics) and os.path.getsize(self.metrics) > 0)
        if used and not self.config.resume:  # metrics that are empty were left by a start that failed
            raise UserError(f"{self.folder} already holds a training: add --resume, or choose another --run-dir")

    def _refuse_differences(self, earlier: dict[str, Any]) -> None:
        if unknown := sorted(earlier.keys() - self._fixed.keys()):
            raise UserError(f"{self.checkpoint} is of another training: this one has no option {unknown[0]}")
        # A checkpoint from before an option existed was trained as the option's default says.
        earlier = to_json(type(self.config)()) | earlier
        for name, now in self._fixed.items():
            if earlier.get(name) != now:
                what = "other training data" if name == "data" else f"--{name.replace('_', '-')} {now}"
                before = f"{self.checkpoint} was trained with {name} {earlier.get(name)}"
                raise UserError(f"{before} and cannot continue with {what}")

    def start(self, file: str, networks: list[nn.Module], judge_file: str = "", judge: nn.Module | None = None) -> None:
        """Let a new run begin with what another training left; one that continues ignores it.

        `file` is the other's checkpoint, or released weights (*.safetensors) for each of `networks`; then `judge_file`
        holds those of a GAN's discriminator or critic, `judge`.
        """
        if self._continues or not (file or judge_file):
            return
        if file.endswith(".safetensors"):
            for network in networks:
                seen = int(load_weights(network, Path(file)).get("images", 0))
            if judge_file:
                load_weights(judge, Path(judge_file))
        elif judge_file:
            raise UserError(f"{judge_file} goes with released weights, so --start must name these (*.safetensors)")
        else:
            saved = load_state(Path(file))
            fill(self._state, saved, Path(file))  # the learning rates, too, which `steps` sets anew
            seen = saved.get("seen_before", 0) + saved["step"] * saved["fixed"]["batch_size"]
        self.seen_before = seen
        self._logged_images += seen
        self.note(f"beginning with {file}{f' and {judge_file}' if judge_file else ''}, after {seen} images")

    def release(self, name: str, network: Callable[[], nn.Module], **about: Any) -> None:
        """Write the weights of `network()` as the file `name` at every checkpoint, with `about` as its metadata."""
        self._releases[name] = network, about

    # The loop

    def steps(self, schedule: Schedule) -> Iterator[Step]:
        """The training's steps, at each of which every learning rate is its option's times `schedule`'s factor.

        After each it does what is due: once an estimate of the time, checkpoints with the released weights, the end.
        """
        config, stopping, first, begun, estimated = self.config, 0, self.step, time.monotonic(), False
        to_go = f"{self.length - self.step:,} steps of {config.batch_size} images to go"
        self.note(f"{to_go} on {self.device}, in {self.folder}; Ctrl-C saves and stops")
        bar = {"total": self.length, "initial": self.step, "unit": "step", "smoothing": 0}  # sheets would shake it
        with tqdm(**bar, disable=not self.share.first) as self.progress:
            while self.step < self.length and not stopping:
                for optimizer, rate in self._rates.items():
                    for group in optimizer.param_groups:
                        group["lr"] = rate * schedule(self.step, self.length)
                yield self._make_step(self.step)
                self.step += 1
                self.progress.update()
                if not estimated and (seconds := time.monotonic() - begun) >= ESTIMATE_AFTER:
                    estimated, rate = True, (self.step - first) / seconds
                    hours, minutes = divmod(math.ceil((self.length - self.step) / rate / 60), 60)
                    time_left = f"{hours} h {minutes:02d} min" if hours else f"{minutes} min"
                    self.note(f"{rate * config.batch_size:,.0f} images/s: about {time_left} to go")
                stopping = self.share.largest(self.asked)
                minutes = (time.monotonic() - self._saved_at) / 60
                if stopping or self.step == self.length or minutes >= config.save_minutes:
                    self._save()
        self._close(stopping)

    def images_after(self, steps: int) -> int:
        """The images seen after so many steps, those of the training before this one included."""
        return self.seen_before + steps * self.config.batch_size

    def _make_step(self, number: int) -> Step:
        # Without the images seen before, a training that goes on from another would draw the other's numbers again.
        seed = (self.config.seed, self.seen_before) if self.seen_before else self.config.seed
        rows, batch_size, after = self.share.rows, self.config.batch_size, number + 1
        random = Stream(generator(seed, "step", number), batch_size, rows, self.device)
        is_last, is_logged = after == self.length, after % self.config.log_every == 0
        done, images = number / self.length, self.images_after(after)
        return Step(number, batch_size, rows, seed, random, images, done, is_last, is_logged)

    def log(self, step: Step, **metrics: Tensor | float) -> None:
        """Write a step's metrics to `metrics.jsonl` and TensorBoard; the first two stand beside the progress bar.

        Of several processes each gives the means over its rows.  Adds `images_per_second` since the last call and the
        first `learning_rate`, if images were seen since.  Raises UserError if a value is not finite: the training
        diverged.
        """
        values = {name: float(torch.as_tensor(value).detach()) for name, value in metrics.items()}
        if not self.share.alone:
            means = self.share.mean(torch.tensor(list(values.values()), dtype=torch.float64))
            values = dict(zip(values, means.tolist(), strict=True))
        if step.images > self._logged_images:
            now = time.monotonic()
            values["images_per_second"] = (step.images - self._logged_images) / max(now - self._logged_at, 1e-9)
            values["learning_rate"] = next(iter(self._rates)).param_groups[0]["lr"]
            self._logged_at, self._logged_images = now, step.images
        for name, value in values.items():
            if not math.isfinite(value):
                raise UserError(f"{name} is {value} at step {step.number + 1}: {self._diverged()}")
        self._logged_step = step.number + 1
        self.progress.set_postfix({name: f"{values[name]:.3g}" for name in list(metrics)[:2]})
        if self.share.first:
            rounded = {name: float(f"{value:.6g}") for name, value in values.items()}
            with self._writing():
                for name, value in values.items():
                    self._writer.add_scalar(name, value, step.number + 1)
                self._lines.write(json.dumps({"step": step.number + 1, "images": step.images, **rounded}) + "\n")
                self._lines.flush()

    def sample(self, step: Step, sheet: Tensor) -> None:
        """Save a uint8 (3, h, w) sheet as `samples/<images seen>.png` and show it in TensorBoard."""
        if self.share.first:
            save_image(self.folder / "samples" / f"{step.images:09d}.png", sheet)
            with self._writing():
                self._writer.add_image("samples", sheet, step.number + 1)

    def note(self, text: str) -> None:
        """Add a line with the time to `log.txt` and show it."""
        if self.share.first:
            tqdm.write(text, file=sys.stderr)
            with self._writing(), open(self.folder / "log.txt", "a", encoding="utf-8", errors="backslashreplace") as f:
                f.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")

    def _open_logs(self, step: int) -> None:
        """Write the configuration and open the logs, of which lines after `step` are dropped: they come again."""
        if self.metrics.exists():
            kept = []
            for line in self.metrics.read_text(encoding="utf-8", errors="replace").splitlines():
                with contextlib.suppress(ValueError, KeyError, TypeError):  # a line cut off in the middle, or damaged
                    if json.loads(line)["step"] <= step:
                        kept.append(line + "\n")
            atomic_write(self.metrics, "".join(kept).encode())
        atomic_write(self.folder / "config.json", json.dumps(to_json(self.config), indent=2).encode() + b"\n")
        threading.excepthook = _quiet_on_full_disks
        with self._writing():
            self._lines = open(self.metrics, "a", encoding="utf-8")
            self._writer = SummaryWriter(self.folder / "tensorboard", purge_step=step + 1)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Turn a failed write, on a full disk for example, into a sentence."""
        try:
            yield
        except OSError as error:
            raise UserError(f"{self.folder} cannot be written: {error.strerror or error}") from None

    def _diverged(self) -> str:
        return f"the training diverged after step {self._logged_step}; the last good state is in {self.checkpoint}"

    def _save(self) -> None:
        """Write what --resume continues from, and the released weights; if one is not finite, UserError and no file."""
        if self.share.first:
            for part in self._state.values():
                if isinstance(part, nn.Module) and not all(weight.isfinite().all() for weight in part.parameters()):
                    raise UserError(f"the weights are not finite at step {self.step}: {self._diverged()}")
            about = {"step": self.step, "images": self.config.images, "seen_before": self.seen_before}
            states = {name: part.state_dict() for name, part in self._state.items()}
            save_checkpoint(self.checkpoint, about | {"fixed": self._fixed} | states)
            images = self.images_after(self.step)
            for name, (network, notes) in self._releases.items():
                export_weights(self.folder / name, network(), images=images, seed=self.config.seed, **notes)
        self._saved_at = time.monotonic()

    def _ask_to_stop(self, number: int, frame: Any) -> None:
        if self.asked and self.share.alone:  # torchrun may send several
            raise KeyboardInterrupt
        self.asked = number
        if self.share.first:  # not by print: the signal may have interrupted one
            os.write(2, b"\nstopping after this step; once more stops at once\n")

    def _close(self, stopping: int) -> None:
        """Finish the logs and say what comes next; exits with 143 (SIGTERM) or 130 (Ctrl-C) if asked to stop."""
        if self.share.first:
            with self._writing():
                self._lines.close()
                self._writer.close()
        self._lock.close()
        self.share.leave()
        if stopping:
            command = shlex.join(["python3", sys.argv[0], "--run-dir", str(self.folder), "--resume"])
            self.note(f"stopped at step {self.step}, state saved; continue with: {command}")
            sys.exit(128 + stopping)
        written = ", ".join(str(self.folder / name) for name in self._releases)
        self.note(f"finished: weights in {written}, samples in {self.folder / 'samples'}")
        if self.use:
            self.note(f"next: {self.use} --weights {shlex.quote(str(self.folder / 'weights.safetensors'))}")


@contextlib.contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Within it the network's weights need no gradients, and its input's gradients cost less."""
    network.requires_grad_(False)
    try:
        yield
    finally:
        network.requires_grad_(True)


def load_state(checkpoint: Path) -> dict[str, Any]:
    saved = load_checkpoint(checkpoint)
    if not isinstance(saved.get("step"), int) or not isinstance(saved.get("fixed"), dict):
        raise UserError(f"{checkpoint} is not the state of a training")
    return saved


def fill(state: dict[str, nn.Module | Optimizer], saved: dict[str, Any], checkpoint: Path) -> None:
    """Load what a checkpoint holds into networks and optimizers; raises UserError if it does not fit."""
    for name, part in state.items():
        if name not in saved:
            raise UserError(f"{checkpoint} is of another training: it holds no '{name}'")
        try:
            part.load_state_dict(saved[name])
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            reason = str(error).splitlines()[-1].strip()
            raise UserError(f"{checkpoint} is of another network: '{name}' does not fit ({reason})") from None


def _quiet_on_full_disks(failure: threading.ExceptHookArgs) -> None:
    """TensorBoard writes in a thread of its own; what fails there is raised again by our next call of the writer."""
    if not isinstance(failure.exc_value, OSError):
        threading.__excepthook__(failure)
