"""The folder of one training: configuration, log, metrics, samples, and the lock that keeps a second training out."""

import contextlib
import json
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from common.config import UserError
from common.files import atomic_write, locked, remove_parts
from common.images import save_image


def has_metrics(path: Path) -> bool:
    file = path / "metrics.jsonl"
    return file.exists() and file.stat().st_size > 0  # an empty one was left by a start that failed


class RunFolder:
    """`config.json`, `metrics.jsonl`, `log.txt`, `samples/` and `tensorboard/` below `path`, which it locks."""

    def __init__(self, path: Path):
        self.path = path
        self._lock = contextlib.ExitStack()
        self._lock.enter_context(locked(path))
        remove_parts(path)

    def begin(self, config: dict[str, Any], step: int) -> None:
        """Write the configuration and open the logs, of which lines after `step` are dropped: they come again."""
        file = self.path / "metrics.jsonl"
        if file.exists():
            kept = []
            for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
                with contextlib.suppress(ValueError, KeyError, TypeError):  # a line cut off in the middle, or damaged
                    if json.loads(line)["step"] <= step:
                        kept.append(line + "\n")
            atomic_write(file, "".join(kept).encode())
        atomic_write(self.path / "config.json", json.dumps(config, indent=2).encode() + b"\n")
        threading.excepthook = _quiet_on_full_disks
        with self._writing():
            self._metrics = open(file, "a", encoding="utf-8")
            self._writer = SummaryWriter(self.path / "tensorboard", purge_step=step + 1)

    def note(self, text: str) -> None:
        """Add a line with the time to `log.txt` and show it."""
        tqdm.write(text, file=sys.stderr)
        with self._writing(), open(self.path / "log.txt", "a", encoding="utf-8", errors="backslashreplace") as handle:
            handle.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")

    def log(self, step: int, images: int, values: dict[str, float]) -> None:
        """Append values to `metrics.jsonl` and TensorBoard; `step` is their axis."""
        rounded = {name: float(f"{value:.6g}") for name, value in values.items()}
        with self._writing():
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)
            self._metrics.write(json.dumps({"step": step, "images": images, **rounded}) + "\n")
            self._metrics.flush()

    def sample(self, step: int, images: int, sheet: Tensor) -> None:
        """Save a uint8 (3, h, w) sheet as `samples/<images seen>.png` and show it in TensorBoard."""
        save_image(self.path / "samples" / f"{images:09d}.png", sheet)
        with self._writing():
            self._writer.add_image("samples", sheet, step)

    def close(self) -> None:
        with self._writing():
            self._metrics.close()
            self._writer.close()
        self._lock.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Turn a failed write, on a full disk for example, into a sentence."""
        try:
            yield
        except OSError as error:
            raise UserError(f"{self.path} cannot be written: {error.strerror or error}") from None


def _quiet_on_full_disks(failure: threading.ExceptHookArgs) -> None:
    """TensorBoard writes in a thread of its own; what fails there is raised again by our next call of the writer."""
    if not isinstance(failure.exc_value, OSError):
        threading.__excepthook__(failure)
