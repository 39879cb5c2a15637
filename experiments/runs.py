"""What the experiments share: trainings as processes, each done once, and results as small JSON files."""

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


def read_of_run(run_dir: Path, name: str) -> str:
    """The text of a file in a training's folder.  Raises UserError if it is not there."""
    try:
        return (run_dir / name).read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{run_dir} is not the folder of a training: {error.strerror} ({name})") from None


def logged(run_dir: Path) -> list[dict[str, Any]]:
    """The lines of a training's metrics, in the order of the steps.  Raises UserError if they are not there."""
    return list(map(json.loads, read_of_run(run_dir, "metrics.jsonl").splitlines()))


def metrics(run_dir: Path, name: str) -> list[float]:
    """The logged values of a metric, in the order of the steps."""
    return [line[name] for line in logged(run_dir) if name in line]


def write_results(file: Path, content: dict[str, Any]) -> None:
    """Write a result file, one list item a line so that changes are read easily."""
    atomic_write(file, (json.dumps(content, indent=1) + "\n").encode())


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
