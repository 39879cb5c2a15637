"""How fast: each path beside a plain reference of it, measured in turn on this machine.

    python3 -m benchmarks.bench                      # what `make bench` runs: an hour on two cores
    python3 -m benchmarks.bench --only dcgan,fid     # some of the rows

Every measurement is a process of its own: the plain reference (benchmarks/plain.py), ours, and so on, --repeats times.
"In memory" is the plain reference with images that are decoded once.  The plain recipe computes what the plain
reference does; the released one is the default of a trainer, in its own batches, and does more for an image.  A value
is the median ± half the range.  A trainer's rate is that of its metrics.jsonl without the first line; its operations
and FLOPs are those of eight steps less four.  The peak is the best matrix product of the same type.  Prints a Markdown
table, and writes results/bench.json after each row; its other rows stay if machine and options are the same.
"""

from common.start import run_script

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
from typing import Any

import torch

from benchmarks.measure import Values, in_turn
from benchmarks.plain import TIMESTEPS, WARMUP
from common.config import UserError, option, parse_config, to_json
from common.device import has_fast_bf16, pick_device
from data.reading import list_images
from experiments.runs import ROOT, read_results, table, write_results

ORIGINAL = ("--recipe", "original")
# Script, options of the plain recipe, its batches and steps by the clock, those of the released recipe.
TRAININGS: dict[str, tuple[str, tuple[str, ...], tuple[int, int], tuple[int, int] | None]] = {
    "dcgan": ("p1_dcgan_train.py", ORIGINAL, (64, 8), (256, 2)),
    "wgan": ("p1_wgan_train.py", ORIGINAL, (64, 4), (256, 2)),
    "ddpm": ("p2_ddpm_train.py", (), (128, 4), None),
    "dann": ("p3_dann_train.py", ORIGINAL, (128, 40), (128, 40)),
}
ROWS = [*TRAININGS, "faces", "digits", "labels", "fid", "start-1", "start-2", "start-3"]
PLAIN = ("plain", "in memory")


@dataclass(frozen=True)
class Config:
    data: Path = option(Path("hw2_data"), "the data tree, for example prepare_data.py's --builtin")
    results: Path = option(ROOT / "results" / "bench.json", "file to write")
    only: str = option("", "some of the rows, for example dcgan,fid; without it all")
    repeats: int = option(3, "measurements of each side", low=1, high=100)
    steps: int = option(0, "training steps by the clock, 0 = as many as each trainer needs", low=0)
    count: int = option(1000, "faces, digits and labels", low=10)
    fid_images: int = option(200, "generated images to score, against as many", low=3)


@dataclass(frozen=True)
class Bench:
    config: Config
    scratch: Path

    def new(self, name: str) -> Path:
        """A path in the scratch folder where there is nothing yet."""
        return Path(tempfile.mkdtemp(dir=self.scratch)) / name

    def links(self, source: Path, count: int) -> Path:
        """A folder of links to `count` images of another, again from the first if it has fewer."""
        (folder := self.new("images")).mkdir()
        images = list_images(source)
        for number in range(count):
            file = images[number % len(images)].resolve()
            (folder / f"{number:05d}{file.suffix}").symlink_to(file)
        return folder

    def run(self, *command: object, cache: str = "cache") -> Values:
        """Seconds of a process, and the JSON object it prints.  Raises UserError, with its last line, if it fails."""
        words, env = [str(word) for word in command], dict(os.environ)
        env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
        env |= {"XDG_CACHE_HOME": str(self.scratch / cache), "TORCH_HOME": str(Path(torch.hub.get_dir()).parent)}
        start = time.perf_counter()
        done = subprocess.run(words, check=False, capture_output=True, text=True, cwd=ROOT, env=env)
        seconds = time.perf_counter() - start
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
            raise UserError(f"{' '.join(words)} failed with exit code {done.returncode}: {last}")
        last = done.stdout.strip().rpartition("\n")[2]
        return {"s": seconds} | (json.loads(last) if last.startswith("{") else {})

    def module(self, name: str, *arguments: object) -> Values:
        return self.run(sys.executable, "-m", f"benchmarks.{name}", *arguments)

    def plain(self, task: str, data: Path, *options: object) -> Values:
        return self.module("plain", "--task", task, "--data", data, *options)


def logged_rate(file: Path) -> float:
    """Images a second from a metrics.jsonl without its first line; lines of scores see no images and do not count."""
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    pairs = [(now["images"] - before["images"], now) for before, now in zip(lines, lines[1:], strict=False)]
    return sum(seen for seen, _ in pairs) / sum(seen / line["images_per_second"] for seen, line in pairs if seen)


def command(data: Path, name: str, recipe: tuple[str, ...], batch: int, steps: int, every: int) -> tuple[object, ...]:
    """A trainer's script and options: `steps` of a batch, a line of metrics after `every`."""
    digits, never = data / "digits", ("--sample-every", 10**9, "--save-minutes", 1e6)
    where: tuple[object, ...] = ("--data", digits / "mnistm" if name == "ddpm" else data / "face" / "train")
    if name == "dann":
        where = ("--source", digits / "mnistm", "--target", digits / "svhn")
    length = ("--batch-size", batch, "--images", batch * steps, "--log-every", every)
    return (TRAININGS[name][0], *where, *recipe, *never, *length)


def training(bench: Bench, name: str) -> dict[str, Any]:
    _, recipe, (batch, steps), released = TRAININGS[name]
    data = bench.config.data

    def ours(recipe: tuple[str, ...], batch: int, steps: int) -> Values:
        every, run_dir = max(1, (bench.config.steps or steps) // 2), bench.new("run")
        bench.run(sys.executable, *command(data, name, recipe, batch, 3 * every, every), "--run-dir", run_dir)
        return {"images/s": logged_rate(run_dir / "metrics.jsonl")}

    def work(recipe: tuple[str, ...]) -> Values:
        """Operations of a step and FLOPs of an image, which do not depend on the batch."""
        runs = [(*command(data, name, recipe, 2, n, 10**6), "--run-dir", bench.new("run")) for n in (4, 8)]
        four, eight = (bench.module("measure", *run) for run in runs)
        return {key: (eight[key] - four[key]) / n for key, n in (("operations", 4), ("FLOPs", 8))}

    options = ("--batch-size", batch, "--steps", bench.config.steps or steps)
    sides = {
        "plain": lambda: bench.plain(name, data, *options),
        "in memory": lambda: bench.plain(name, data, *options, "--in-memory"),
        "ours": lambda: ours(recipe, batch, steps),
    }
    counts = {"ours": work(recipe)}
    if released:
        sides["released recipe"], counts["released recipe"] = lambda: ours((), *released), work(())
    return row(f"{name} training", "images/s", sides, bench) | {"work": counts}


def row(title: str, unit: str, sides: dict[str, Callable[[], Values]], bench: Bench) -> dict[str, Any]:
    return {"title": title, "unit": unit, "sides": in_turn(sides, bench.config.repeats)}


def drawing(bench: Bench, name: str) -> dict[str, Any]:
    """A wrapper to its end, or, of the rows `start`, asked for the least, beside `import torch`."""
    config, steps = bench.config, bench.config.steps or 20
    images = bench.links(config.data / "digits" / "svhn" / "data", config.count if name == "labels" else 1)
    at_once, count = min(100, config.count), config.count

    def digits() -> Values:
        options = ("--batch-size", at_once, "--steps", steps, "--out", bench.new("digits"))
        found = bench.plain("digits", config.data, *options)
        return {"s": found["s"] + (count / at_once * TIMESTEPS - WARMUP - steps) * found["step"]}

    def torch_alone() -> Values:
        return bench.run(sys.executable, "-c", "import torch")

    def faces() -> Values:
        return bench.plain("faces", config.data, "--count", count, "--out", bench.new("faces"))

    def labels() -> Values:
        return bench.plain("labels", images, "--out", bench.new("labels.csv"))

    title, plain, problem, options = {
        "faces": (f"{count:,} faces", faces, 1, ("--count", count)),
        "digits": (f"{count:,} digits (plain: extrapolated)", digits, 2, ("--per-class", count // 10)),
        "labels": (f"{count:,} labels (plain: one view, ours 18)", labels, 3, ()),
        "start-1": ("one face (plain: import torch)", torch_alone, 1, ("--count", 1)),
        "start-2": ("ten digits, two calls (plain: import torch)", torch_alone, 2, ("--per-class", 1, "--steps", 2)),
        "start-3": ("one label (plain: import torch)", torch_alone, 3, ()),
    }[name]

    def ours() -> Values:
        where = (images, bench.new("labels.csv")) if problem == 3 else (bench.new("images"),)
        return bench.run("bash", f"hw2_{problem}.sh", *where, *options)

    return row(title, "s", {"plain": plain, "ours": ours}, bench)


def fid(bench: Bench, name: str) -> dict[str, Any]:
    """Ours also counts the faces that dlib finds; `again` is with a filled cache."""
    count = bench.config.fid_images
    generated, real = (bench.links(bench.config.data / "face" / split, count) for split in ("train", "val"))
    evaluate = (sys.executable, "evaluate.py", "faces", generated, "--reference", real, "--json")

    def ours(cache: str) -> Values:
        found = bench.run(*evaluate, cache=cache)
        return {"s": found["s"], "fid": found["fid"]}

    sides = {
        "plain": lambda: bench.plain("fid", generated, "--out", real),
        "ours": lambda: ours(str(bench.new("cache"))),
        "again": lambda: ours("filled"),
    }
    ours("filled")
    return row(f"FID of {count:,} against {count:,} images", "s", sides, bench)


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


def number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def cells(found: dict[str, Any], side: str, peak: float) -> list[str]:
    """A line of the table: one of our sides of a row."""
    unit, sides = found["unit"], found["sides"]
    values = [sides.get(name, {}).get(unit) for name in (*PLAIN, side)]
    medians = [value and value["median"] for value in values]
    shown = [f"{number(value['median'])} ± {number(value['spread'])} {unit}" if value else "" for value in values]
    for other in medians[:2]:
        ratio = other and (medians[2] / other if unit == "images/s" else other / medians[2])
        shown.append(f"{number(ratio)} ×" if ratio else "")
    if work := found.get("work", {}).get(side):
        shown.append(f"{number(sides['plain']['operations']['median'])} / {number(work['operations'])}")
        shown.append(f"{work['FLOPs'] * medians[2] / peak:.0%}")
    return [found["title"] + ("" if side == "ours" else f", {side}"), *shown, *[""] * (7 - len(shown))]


def show(content: dict[str, Any]) -> str:
    """The machine in a sentence, and a Markdown table."""
    rows, peak = content["rows"].values(), content["peak"]
    lines = [cells(found, side, peak) for found in rows for side in found["sides"] if side not in PLAIN]
    header = ["what", *PLAIN, "ours", "to plain", "to in memory", "operations a step", "of the peak"]
    about = ", ".join(str(value) for value in content["machine"].values())
    about += f", peak {number(content['peak'] / 1e9)} GFLOP/s; {content['options']['repeats']} measurements"
    return f"{about}\n\n{table(header, lines)}"


def main() -> None:
    config = parse_config(Config, __doc__)
    names = config.only.replace(" ", "").split(",") if config.only else ROWS
    if unknown := [name for name in names if name not in ROWS]:
        raise UserError(f"--only: {unknown[0]!r} is not one of {', '.join(ROWS)}")
    list_images(config.data / "face" / "train")
    options = {name: value for name, value in to_json(config).items() if name not in ("results", "only")}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        bench = Bench(config, Path(folder))
        content: dict[str, Any] = {"machine": machine(), "options": options}
        earlier = read_results(config.results)
        if all(earlier.get(name) == content[name] for name in content):
            content = earlier
        else:
            content |= {"peak": bench.module("measure", "peak", content["machine"]["dtype"])["FLOP/s"], "rows": {}}
        for name in names:
            print(f"== {name}", file=sys.stderr, flush=True)
            measure = training if name in TRAININGS else fid if name == "fid" else drawing
            rows = content["rows"] | {name: measure(bench, name)}
            content["rows"] = {name: rows[name] for name in ROWS if name in rows}
            write_results(config.results, content)
    print(show(content))


if __name__ == "__main__":
    run_script(main)
