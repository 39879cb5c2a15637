"""How fast: each path beside a plain reference of it, measured in turn on this machine.

    python3 -m benchmarks.bench                      # what `make bench` runs: an hour on two cores
    python3 -m benchmarks.bench --only dcgan,fid     # some of the rows

Every measurement is a process of its own: the plain reference (benchmarks/plain.py), the same with images decoded once
("in memory"), ours, and so on, --repeats times.  A value is the median ± half the range; docs/benchmarks.md says what
the columns are.  A trainer's rate is that of its metrics.jsonl without the first line, its operations and FLOPs are
those of eight steps less four.  Prints a Markdown table, and writes results/bench.json after each row; the other rows
stay if machine and options are the same.
"""

from common.start import run_script

import itertools
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import harmonic_mean, median
from typing import Any

import torch

from benchmarks.plain import FACES, MNISTM, SVHN, Values, seconds_of
from common.config import UserError, option, parse_config
from common.device import has_fast_bf16, pick_device
from data.reading import list_images
from experiments.runs import RESULTS, ROOT, metrics, read_results, write_results
from experiments.tables import benchmark

ORIGINAL = ("--recipe", "original")
# Script, its data, options of the plain recipe, its batches and steps by the clock, those of the released recipe.
TRAININGS: dict[str, tuple[str, dict[str, str], tuple[str, ...], tuple[int, int], tuple[int, int] | None]] = {
    "dcgan": ("p1_dcgan_train.py", {"--data": FACES}, ORIGINAL, (64, 8), (256, 2)),
    "wgan": ("p1_wgan_train.py", {"--data": FACES}, ORIGINAL, (64, 4), (256, 2)),
    "ddpm": ("p2_ddpm_train.py", {"--data": MNISTM}, (), (128, 4), None),
    "dann": ("p3_dann_train.py", {"--source": MNISTM, "--target": SVHN}, ORIGINAL, (128, 40), (128, 40)),
}
ROWS = [*TRAININGS, "faces", "digits", "labels", "fid", "start-1", "start-2", "start-3"]
FID_IMAGES = 200  # generated ones, and as many real ones


@dataclass(frozen=True)
class Config:
    data: Path = option(Path("hw2_data"), "the data tree, for example prepare_data.py's --builtin")
    results: Path = option(RESULTS, "folder of bench.json, the file to write")
    only: str = option("", "some of the rows, for example dcgan,fid; without it all")
    repeats: int = option(3, "measurements of each side", low=1, high=100)
    count: int = option(1000, "faces, digits and labels", low=10)


def new(name: str) -> Path:
    """A path in tempfile's folder where there is nothing yet."""
    return Path(tempfile.mkdtemp()) / name


def links(source: Path, count: int) -> Path:
    """A folder of links to `count` images of another, again from the first if it has fewer."""
    (folder := new("images")).mkdir()
    for number, file in zip(range(count), itertools.cycle(list_images(source)), strict=False):
        (folder / f"{number:05d}{file.suffix}").symlink_to(file.resolve())
    return folder


def run(*command: object, cache: Path | None = None) -> Values:
    """Seconds of a process, and the JSON object it prints last.  Raises UserError, with its last line, if it fails."""
    words, env = [str(word) for word in command], dict(os.environ)
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
    env["TORCH_HOME"] = str(Path(torch.hub.get_dir()).parent)
    env["XDG_CACHE_HOME"] = str(cache or Path(tempfile.gettempdir()) / "cache")
    start = time.perf_counter()
    done = subprocess.run(words, check=False, capture_output=True, text=True, cwd=ROOT, env=env)
    seconds = time.perf_counter() - start
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        raise UserError(f"{' '.join(words)} failed with exit code {done.returncode}: {last}")
    last = done.stdout.strip().rpartition("\n")[2]
    return {"s": seconds} | (json.loads(last) if last.startswith("{") else {})


def plain(task: str, data: Path, *options: object) -> Values:
    return run(sys.executable, "-m", "benchmarks.plain", "--task", task, "--data", data, *options)


def measure(title: str, unit: str, sides: dict[str, Callable[[], Values]], repeats: int) -> dict[str, Any]:
    """A row: the sides one after the other, `repeats` times; of each value the median and half its range."""
    measured: dict[str, list[Values]] = {side: [] for side in sides}
    for turn in range(1, repeats + 1):
        for side, values in measured.items():
            values.append(sides[side]())
            print(f"{side}, {turn} of {repeats}: {values[-1]}", file=sys.stderr, flush=True)

    def summary(values: list[float]) -> dict[str, Any]:
        return {"values": values, "median": median(values), "spread": (max(values) - min(values)) / 2}

    found = {side: {key: summary([run[key] for run in runs]) for key in runs[0]} for side, runs in measured.items()}
    return {"title": title, "unit": unit, "sides": found}


def training(config: Config, name: str) -> dict[str, Any]:
    script, data, recipe, (batch, steps), released = TRAININGS[name]
    folders = [part for option, place in data.items() for part in (option, config.data / place)]
    never = ("--sample-every", 10**9, "--save-minutes", 1e6)

    def options(recipe: tuple[str, ...], batch: int, steps: int, every: int) -> list[object]:
        length = ("--batch-size", batch, "--images", batch * steps, "--log-every", every)
        return [script, *folders, *recipe, *never, *length, "--run-dir", new("run")]

    def ours(recipe: tuple[str, ...], batch: int, steps: int) -> Values:
        run(sys.executable, *(words := options(recipe, batch, steps // 2 * 3, steps // 2)))
        return {"images/s": harmonic_mean(metrics(words[-1], "images_per_second")[1:])}

    def work(recipe: tuple[str, ...]) -> Values:
        """Operations of a step and FLOPs of an image, which do not depend on the batch of 2."""
        count = (sys.executable, "-c", "from benchmarks.plain import count_script; count_script()")
        four, eight = (run(*count, *options(recipe, 2, steps, 10**6)) for steps in (4, 8))
        return {key: (eight[key] - four[key]) / n for key, n in (("operations", 4), ("FLOPs", 8))}

    same = ("--batch-size", batch, "--steps", steps)
    sides = {
        "plain": lambda: plain(name, config.data, *same),
        "in memory": lambda: plain(name, config.data, *same, "--in-memory"),
        "ours": lambda: ours(recipe, batch, steps),
    }
    counts = {"ours": work(recipe)}
    if released:
        sides["released recipe"], counts["released recipe"] = lambda: ours((), *released), work(())
    return measure(f"{name} training", "images/s", sides, config.repeats) | {"work": counts}


def drawing(config: Config, name: str) -> dict[str, Any]:
    """A wrapper to its end, or, of the rows `start`, asked for the least, beside `import torch`."""
    count = config.count
    title, problem, options = {
        "faces": (f"{count:,} faces", 1, ("--count", count)),
        "digits": (f"{count:,} digits (plain: extrapolated)", 2, ("--per-class", count // 10)),
        "labels": (f"{count:,} labels (plain: one view, ours 18)", 3, ()),
        "start-1": ("one face (plain: import torch)", 1, ("--count", 1)),
        "start-2": ("ten digits, two calls (plain: import torch)", 2, ("--per-class", 1, "--steps", 2)),
        "start-3": ("one label (plain: import torch)", 3, ()),
    }[name]
    images = links(config.data / SVHN / "data", count if name == "labels" else 1)
    read = [images] if problem == 3 else []
    sides = {
        "plain": lambda: plain(name, images, "--count", count, "--out", new("out"), "--batch-size", 100, "--steps", 20),
        "ours": lambda: run("bash", f"hw2_{problem}.sh", *read, new("out"), *options),
    }
    if name.startswith("start"):
        sides["plain"] = lambda: run(sys.executable, "-c", "import torch")
    return measure(title, "s", sides, config.repeats)


def fid(config: Config, _: str) -> dict[str, Any]:
    """Ours also counts the faces that dlib finds; `again` is with a filled cache."""
    generated, real = (links(config.data / "face" / split, FID_IMAGES) for split in ("train", "val"))

    def ours(cache: Path | None = None) -> Values:
        result = run(sys.executable, "evaluate.py", "faces", generated, "--reference", real, "--json", cache=cache)
        return {"s": result["s"], "fid": result["fid"]}

    sides = {
        "plain": lambda: plain("fid", generated, "--out", real),
        "ours": lambda: ours(new("cache")),
        "again": ours,
    }
    ours()
    return measure(f"FID of {FID_IMAGES} against {FID_IMAGES} images", "s", sides, config.repeats)


def matrix_peak(dtype: torch.dtype, sizes: tuple[int, ...] = (512, 1024, 2048, 4096)) -> float:
    """FLOP/s of the fastest product of square matrices, the means of 20; one is 2 n^3 FLOPs."""
    matrices = [torch.randn(size, size, device=pick_device("auto")).to(dtype) for size in sizes]
    return max(2 * len(matrix) ** 3 / seconds_of(lambda matrix=matrix: matrix @ matrix, 20) for matrix in matrices)


def machine() -> dict[str, Any]:
    """What the numbers depend on."""
    device, cpuinfo = pick_device("auto"), Path("/proc/cpuinfo")
    name = re.search(r"model name\s*: (.*)", cpuinfo.read_text() if cpuinfo.is_file() else "")
    return {
        "cpu": name[1] if name else platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "dtype": "bfloat16" if has_fast_bf16(device) else "float32",
        "torch": torch.__version__,
    }


def main() -> None:
    config = parse_config(Config, __doc__)
    names = config.only.replace(" ", "").split(",") if config.only else ROWS
    if unknown := [name for name in names if name not in ROWS]:
        raise UserError(f"--only: {unknown[0]!r} is not one of {', '.join(ROWS)}")
    list_images(config.data / FACES)
    options = {"data": str(config.data), "repeats": config.repeats, "count": config.count}
    file, here = config.results / "bench.json", machine()
    content = read_results(file)
    with tempfile.TemporaryDirectory(prefix="bench-") as tempfile.tempdir:  # where `new` makes its folders
        if content.get("machine") != here or not options.items() <= content["options"].items():
            peak = matrix_peak(getattr(torch, here["dtype"]))
            content = {"machine": here, "options": options, "peak": peak, "rows": {}}
        for name in names:
            print(f"== {name}", file=sys.stderr, flush=True)
            row = (training if name in TRAININGS else fid if name == "fid" else drawing)(config, name)
            rows = content["rows"] | {name: row}
            content["rows"] = {name: rows[name] for name in ROWS if name in rows}
            write_results(file, content)
    tempfile.tempdir = None
    print(benchmark(config.results))


if __name__ == "__main__":
    run_script(main)
