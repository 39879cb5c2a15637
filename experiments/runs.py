"""What the experiments share: commands and trainings as processes, and results as small JSON files."""

import json
import re
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from common.checkpoint import CHECKPOINTS
from common.config import UserError
from common.files import atomic_write, sha256

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results"
METHODS = {"dcgan": "A, DCGAN", "wgan": "B, WGAN"}  # of problem 1

Options = tuple[object, ...]


def run(*command: object) -> str:
    """The output of a command, which shows its progress on stderr.  Raises UserError if it fails."""
    words = [str(word) for word in command]
    print("==", *words, file=sys.stderr)
    result = subprocess.run(words, check=False, stdout=subprocess.PIPE, text=True)
    if result.returncode:
        raise UserError(f"{' '.join(words)} failed with exit code {result.returncode}")
    return result.stdout


def train(script: str, run_dir: Path, *options: object) -> Path:
    """Run a training script to its end, or on from where it was cut off; returns its folder.

    A finished run is left as it is: training it on from its last step is nothing.
    """
    run(sys.executable, ROOT / script, "--run-dir", run_dir, "--resume", *options)
    return run_dir


def metrics(run_dir: Path, name: str) -> list[float]:
    """The logged values of a metric, in the order of the steps.  Raises UserError if the training is not there."""
    try:
        lines = (run_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise UserError(f"{run_dir} is not the folder of a training: {error.strerror}") from None
    return [line[name] for line in map(json.loads, lines) if name in line]


def measure_rows(
    file: Path,
    content: dict[str, Any],
    held: dict[str, Any],
    rows: dict[str, Options],
    seeds: int,
    train_row: Callable[[str, int], Path],
    measure: Callable[[list[Path]], dict[str, Any]],
    jobs: int = 1,
) -> None:
    """Train each row by the seeds 0, 1, ..., measure what was trained, and write the result file after each.

    `held` is the part of the file's content that is of these rows: what it holds by the same options is left as it is.
    `train_row(name, seed)` returns a folder, `jobs` of them are trained at a time; `measure(folders)` returns what the
    file keeps of a row beside its options, "runs" with an entry for each seed.
    """
    for name, options in rows.items():
        row, wanted = held.pop(name, {}), [str(part) for part in options]
        if row.get("options") != wanted or len(row["runs"]) < seeds:
            with ThreadPoolExecutor(jobs) as pool:  # a thread waits for a training, which is a process
                run_dirs = list(pool.map(train_row, [name] * seeds, range(seeds)))
            row = {"options": wanted} | measure(run_dirs)
        held[name] = row  # behind the rows before it
        write_results(file, content)


def digests(*names: str) -> dict[str, str]:
    """The SHA-256 of released networks by name: a result file keeps them under "weights", for `stale`."""
    return {name: sha256(CHECKPOINTS / f"{name}.safetensors") for name in names}


def stale(content: dict[str, Any]) -> list[str]:
    """Names of the released networks that a result file's scores are not of."""
    weights = content.get("weights", {})
    return [name for name, digest in digests(*weights).items() if digest != weights[name]]


def write_results(file: Path, content: dict[str, Any]) -> None:
    """Write a result file; a list of numbers is one line."""
    text = json.dumps(content, ensure_ascii=False, indent=1)
    text = re.sub(r"\[\s*([^\[\]{}]*?)\s*\]", lambda found: f"[{' '.join(found[1].split())}]", text)
    atomic_write(file, f"{text}\n".encode())


def read_results(file: Path) -> dict[str, Any]:
    """The content of a result file, {} if it is not there yet."""
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def percent(values: Iterable[float]) -> str:
    """Shares as "75.1 ± 0.4", mean and sample standard deviation in per cent; of one value as "75.1"."""
    shares = [100 * value for value in values]
    spread = f" ± {statistics.stdev(shares):.1f}" if len(shares) > 1 else ""
    return f"{statistics.fmean(shares):.1f}{spread}"
