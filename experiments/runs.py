"""What the experiments share: trainings as processes, each done once, and results as small JSON files."""

import hashlib
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from common.config import UserError
from common.files import atomic_write

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results"
CHECKPOINTS = ROOT / "checkpoints"
METHODS = {"dcgan": "A, DCGAN", "wgan": "B, WGAN"}  # of problem 1


def train(script: str, run_dir: Path, *options: object) -> Path:
    """Run a training script to its end, or on from where it was cut off; returns its folder.

    A finished run is left as it is: training it on from its last step is nothing.
    """
    command = [sys.executable, ROOT / script, "--run-dir", run_dir, "--resume", *options]
    print(f"== {run_dir}: {script} {' '.join(map(str, options))}", file=sys.stderr)
    result = subprocess.run([str(part) for part in command], check=False)
    if result.returncode:
        raise UserError(f"{script} in {run_dir} failed with exit code {result.returncode}")
    return run_dir


def metrics(run_dir: Path, name: str) -> list[float]:
    """The logged values of a metric, in the order of the steps.  Raises UserError if the training is not there."""
    try:
        lines = (run_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UserError(f"{run_dir} is not the folder of a training: {error.strerror}") from None
    return [line[name] for line in map(json.loads, lines) if name in line]


def digests(*names: str) -> dict[str, str]:
    """The SHA-256 of released networks by name: a result file keeps them under "weights", for `stale`."""
    files = {name: CHECKPOINTS / f"{name}.safetensors" for name in names}
    return {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in files.items()}


def stale(content: dict[str, Any]) -> list[str]:
    """Names of the released networks that a result file's scores are not of."""
    weights = content.get("weights", {})
    return [name for name, digest in digests(*weights).items() if digest != weights[name]]


def write_results(file: Path, content: dict[str, Any]) -> None:
    """Write a result file; a list of numbers, or of such lists, is one line."""

    def text(value: Any, indent: str) -> str:
        flat = isinstance(value, list | tuple) and not any(isinstance(item, dict) for item in value)
        if flat or not isinstance(value, dict | list | tuple):
            return json.dumps(value, ensure_ascii=False)
        deeper = indent + " "
        if isinstance(value, dict):
            items = [f"{json.dumps(key, ensure_ascii=False)}: {text(item, deeper)}" for key, item in value.items()]
        else:
            items = [text(item, deeper) for item in value]
        left, right = "{}" if isinstance(value, dict) else "[]"
        return f"{left}\n{deeper}" + f",\n{deeper}".join(items) + f"\n{indent}{right}" if items else left + right

    atomic_write(file, (text(content, "") + "\n").encode())


def read_results(file: Path) -> dict[str, Any]:
    """The content of a result file, {} if it is not there yet."""
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def mean_and_spread(values: list[float]) -> tuple[float, float]:
    """The mean and the sample standard deviation (0 of one value)."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def percent(values: list[float]) -> str:
    """Shares as "75.1 ± 0.4", in per cent."""
    mean, spread = mean_and_spread(values)
    return f"{100 * mean:.1f} ± {100 * spread:.1f}" if len(values) > 1 else f"{100 * mean:.1f}"


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
