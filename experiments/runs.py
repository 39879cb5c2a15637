"""What the experiments share: their options, commands and trainings as processes, results as small JSON files."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.checkpoint import CHECKPOINTS
from common.config import UserError, option
from common.files import atomic_write, read_text, sha256

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results"
METHODS = ("dcgan", "wgan")  # of problem 1

Options = tuple[object, ...]


@dataclass(frozen=True)
class Config:
    """What `python3 -m experiments` is asked for."""

    part: str = option("headline", "what to measure, and the name of the result file")
    data: Path = option(Path("hw2_data"), "the course's tree")
    classifier: Path = option(Path("hw2_data/Classifier.pth"), "the course's digit classifier")
    runs: Path = option(Path("runs"), "folder of the trainings and of what is drawn to be scored")
    results: Path = option(RESULTS, "folder of the result files and pictures")
    images: int = option(64_000, "length of problem 1's short trainings in images", low=12)
    jobs: int = option(1, "trainings of problem 3 at a time", low=1, high=64)

    @property
    def file(self) -> Path:
        """The part's result file, results/p3_bounds.json."""
        return self.results / f"{self.part}.json"

    @property
    def folder(self) -> Path:
        """The folder of the part's trainings, runs/p3/bounds."""
        return self.runs.joinpath(*self.part.split("_"))


def run(script: str, *arguments: object) -> str:
    """What a script of the repository prints; stderr shows its command and progress.  Raises UserError if it fails."""
    name, program = ("bash", "bash") if script.endswith(".sh") else ("python3", sys.executable)
    words = [str(argument) for argument in arguments]
    command = shlex.join([name, script, *(word.replace(f"{ROOT}{os.sep}", "") for word in words)])
    print(f"== {command}\n", end="", file=sys.stderr, flush=True)  # in one piece: several may run at once
    result = subprocess.run([program, ROOT / script, *words], check=False, stdout=subprocess.PIPE, text=True)
    if result.returncode:
        raise UserError(f"{command} failed with exit code {result.returncode}")
    return result.stdout


def evaluate(kind: str, *arguments: object) -> dict[str, Any]:
    """The JSON object that a command of evaluate.py prints."""
    return json.loads(run("evaluate.py", kind, *arguments, "--json"))


def train(script: str, run_dir: Path, *options: object) -> Path:
    """Run a training script to its end, or on from where it was cut off (of a finished one, nothing); its folder."""
    run(script, "--run-dir", run_dir, "--resume", *options)
    return run_dir


def metrics(run_dir: Path, name: str) -> list[float]:
    """The logged values of a training's metric, in the order of the steps."""
    lines = map(json.loads, read_text(run_dir / "metrics.jsonl").splitlines())
    return [line[name] for line in lines if name in line]


def measure_rows(
    config: Config,
    content: dict[str, Any],
    held: dict[str, Any],
    rows: dict[str, Options],
    seeds: int,
    train_row: Callable[[str, int], Path],
    measure: Callable[[list[Path]], dict[str, Any]],
) -> None:
    """Train each row by the seeds 0, 1, ..., measure what was trained, and write the result file after each.

    `held` is what the file's content has of these rows: what it holds by the same options is left as it is.
    `train_row(name, seed)` returns a folder, `measure(folders)` what the file keeps of a row beside its options, "runs"
    with an entry for each seed.
    """
    for name, options in rows.items():
        row, wanted = held.pop(name, {}), [str(part) for part in options]
        if row.get("options") != wanted or len(row["runs"]) < seeds:
            with ThreadPoolExecutor(config.jobs) as pool:  # a thread waits for a training, which is a process
                run_dirs = list(pool.map(train_row, [name] * seeds, range(seeds)))
            row = {"options": wanted} | measure(run_dirs)
        held[name] = row  # behind the rows before it
        write_results(config.file, content)


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
    return json.loads(read_text(file)) if file.is_file() else {}
