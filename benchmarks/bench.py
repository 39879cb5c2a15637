"""How fast: each path beside a plain reference of it, measured in turn on this machine.

    python3 -m benchmarks.bench                          # what `make bench` runs
    python3 -m benchmarks.bench --only dcgan,fid         # some of the rows
    python3 -m benchmarks.bench --repeats 1 --images 256

Every measurement is a process of its own: the plain reference, ours, the plain reference, and so on, --repeats
times.  "Plain" is the method as tutorials have it (benchmarks/plain_*.py): float32, channels first, a DataLoader of
PNG files, the batch doubled for guidance, 600 ancestral steps, scipy's matrix square root.  "Ours" are the scripts
of this repository as they are.  "Released recipe" is the default of a training script, in its own batches: it
does more for an image, with augmentation, penalties, averaged weights, a teacher.  The rows `changes` compare ours
with ours in which one of the things that made it faster is undone; the rows `processes`, one process with two.  The
rows `profile` say what the time of a training goes into.

A value is the median, ± half the distance of the largest from the smallest; the digits, which take minutes, are drawn
twice at most.  The limit is the best matrix product of the same type on the same machine; the FLOPs of ours are
counted in the scripts themselves.  The cache for images is an empty one of this run's own.  Prints a Markdown table
and writes results/bench.json after each row; rows that are not measured again stay in it if they were measured with
the same options on a machine described alike.
"""

import json
import math
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from benchmarks.measure import KINDS
from common.config import UserError, option, parse_config, run_script, to_json
from common.device import has_fast_bf16, pick_device
from common.files import refuse_others
from data.reading import list_images
from experiments.runs import ROOT, read_results, table, write_results
from models.diffusion import TIMESTEPS

Values = dict[str, float]
DEFAULT_DATA = Path("hw2_data")
DIGITS_AT_ONCE = 100  # of the plain sampler, doubled for guidance
NEVER = ("--sample-every", 10**9, "--save-minutes", 1e6)
FEATURES = ("avx2", "avx512_f", "avx512_bf16", "avx512_fp16", "amx_bf16", "sve", "bf16")  # that decide the speed


@dataclass(frozen=True)
class Config:
    data: Path = option(DEFAULT_DATA, "the data tree; without hw2_data the built-in data")
    results: Path = option(ROOT / "results" / "bench.json", "file to write")
    only: str = option("", "some of the rows, for example dcgan,fid; without it all")
    repeats: int = option(3, "measurements of each side", low=1, high=100)
    images: int = option(0, "training images measured in a process, 0 = as many as each trainer needs", low=0)
    faces: int = option(1000, "faces to draw", low=1)
    per_class: int = option(100, "digits of each class to draw", low=1)
    labels: int = option(2000, "images to label", low=1)
    fid_images: int = option(200, "generated images to score, against half as many again", low=2)
    sampler_steps: int = option(20, "of the 600 plain steps, those that are taken by the clock", low=1, high=500)
    loading_images: int = option(200, "smallest number of images to load; the others are 10 and 100 times it", low=1)
    peak_seconds: float = option(1.0, "for the matrix products of each size", low=0)


class Bench(NamedTuple):
    """What every measurement knows: options, data, a scratch folder and the environment of its processes."""

    config: Config
    data: Path
    scratch: Path  # of one row
    environment: dict[str, str]


class Line(NamedTuple):
    """A line of the table: `key` of the values of `arm` beside those of the plain reference, or of another arm."""

    title: str
    key: str
    arm: str = "ours"
    beside: str = "plain"


class Row(NamedTuple):
    """What is measured in turn.  `flops` gives an arm's FLOPs an image, `count` is how many images an `s` is for."""

    arms: dict[str, Callable[[], Values]]
    lines: list[Line]
    flops: dict[str, Callable[[], float]]
    dtype: str = "float32"
    count: int = 1
    repeats: int = 100  # at most: of what takes minutes


class Training(NamedTuple):
    """A trainer, its plain reference, and how long to measure: batch size, steps between lines of metrics, lines."""

    title: str
    script: str
    plain: str
    batch_size: int
    log_every: int
    lines: int
    plain_steps: int
    released: tuple[int, int, int] | None  # the same three numbers of the default recipe


TRAININGS = {
    "dcgan": Training("DCGAN training", "p1_dcgan_train.py", "plain_p1", 64, 4, 2, 6, (256, 1, 2)),
    "wgan": Training("WGAN training", "p1_wgan_train.py", "plain_p1", 64, 1, 3, 3, (64, 3, 3)),
    "ddpm": Training("diffusion training", "p2_ddpm_train.py", "plain_p2", 128, 2, 2, 3, None),
    "dann": Training("DANN training", "p3_dann_train.py", "plain_p3", 128, 20, 3, 60, (128, 20, 3)),
}


# What each of measure.py's CHANGES is called in the table: with it, in place of without it.
BFLOAT16 = "bfloat16 in place of float32"
CHANNELS_LAST = "channels last"
MEMORY = "freed memory kept for the next array"
CHANGES = {
    "dcgan": {
        "bfloat16": BFLOAT16,
        "channels last": CHANNELS_LAST,
        "products": "small maps' weight gradients as matrix products",
        "fused Adam": "fused Adam",
        "memory": MEMORY,
    },
    "ddpm": {"bfloat16": BFLOAT16, "channels last": CHANNELS_LAST, "memory": MEMORY},
    "digits": {
        "bfloat16": BFLOAT16,
        "channels last": CHANNELS_LAST,
        "folded": "BatchNorm folded into convolutions",
        "shared": "one encoder for both predictions of guidance",
        "memory": MEMORY,
    },
}
CHANGED_DIGITS = 10  # of each class


def run(bench: Bench, *command: object, environment: dict[str, str] | None = None) -> tuple[str, Values]:
    """Run a process to its end: its stdout, and {"s": seconds, "MB": peak memory of its largest process}.

    Raises UserError, with the last line of stderr, if it fails.
    """
    words, result = [str(word) for word in command], fresh(bench, "result.json")
    launched = subprocess.Popen(
        [sys.executable, ROOT / "benchmarks" / "launch.py", result, *words],
        cwd=ROOT,
        env=environment or bench.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        output, errors = launched.communicate()
    except BaseException:  # Ctrl-C: what it started must not go on
        os.killpg(launched.pid, signal.SIGKILL)
        raise
    if launched.returncode:
        said = errors.strip().splitlines() or ["it said nothing"]
        raise UserError(f"{' '.join(words)} failed with exit code {launched.returncode}: {said[-1]}")
    return output, json.loads(result.read_text())


def run_module(bench: Bench, module: str, *arguments: object, environment: dict[str, str] | None = None) -> Values:
    """Run a module of this folder: what it measured itself (the JSON it prints), beside what `run` measures."""
    output, found = run(bench, sys.executable, "-m", f"benchmarks.{module}", *arguments, environment=environment)
    return found | json.loads(output.splitlines()[-1])


def fresh(bench: Bench, name: str) -> Path:
    """A path in the scratch folder where there is nothing yet."""
    return Path(tempfile.mkdtemp(dir=bench.scratch)) / name


def logged_rate(file: Path, skipped: int = 1) -> float:
    """Images a second of a training, from the lines of its metrics.jsonl after the first `skipped` ones.

    Lines of scores, between which no images are seen, do not count.
    """
    seen, images, seconds = 0, 0, 0.0
    for line in map(json.loads, file.read_text(encoding="utf-8").splitlines()):
        since, seen = line["images"] - seen, line["images"]
        if since == 0:
            continue
        if skipped:
            skipped -= 1
            continue
        images += since
        seconds += since / line["images_per_second"]
    return images / seconds


def extrapolated(seconds: float, step: float, steps: int, save: float, batches: float) -> float:
    """Seconds of `batches` batches of 600 steps each, from a process that took `steps` of the first one.

    `seconds` is what the process took in all, `step` a step of it, `save` the writing of the batch.
    """
    return seconds + (batches * TIMESTEPS - steps) * step + (batches - 1) * save


def data_options(bench: Bench, name: str) -> tuple[object, ...]:
    digits = bench.data / "digits"
    if name == "dann":
        return "--source", digits / "mnistm", "--target", digits / "svhn"
    return "--data", digits / "mnistm" if name == "ddpm" else bench.data / "face" / "train"


def recipes(name: str) -> dict[str, tuple[object, ...]]:
    """The options of the recipe that computes what the plain reference does, and of the released one."""
    return {"ours": ()} if TRAININGS[name].released is None else {"ours": ("--recipe", "original"), "released": ()}


def training_command(bench: Bench, name: str, arm: str) -> tuple[object, ...]:
    """A trainer's script and options: some lines of metrics, of which the first are not measured."""
    spec, budget = TRAININGS[name], bench.config.images
    batch_size, log_every, lines = spec.released if arm == "released" else (spec.batch_size, spec.log_every, spec.lines)
    if budget:
        log_every = max(1, min(log_every, budget // batch_size))
        lines = max(1, budget // (batch_size * log_every))
    options = ("--batch-size", batch_size, "--images", batch_size * log_every * (1 + lines), "--log-every", log_every)
    return (spec.script, *options, *NEVER, *recipes(name)[arm], *data_options(bench, name))


def train(bench: Bench, name: str, arm: str, change: str = "", processes: int = 1) -> Values:
    """Images a second of a trainer, after its first lines of metrics, and the memory of its largest process.

    With a change undone if one is named.  Several processes compute on the CPU and share its threads.
    """
    run_dir = fresh(bench, "run")
    command = (*training_command(bench, name, arm), "--run-dir", run_dir)
    if change:
        found = without(bench, change, command)
    elif processes > 1:
        torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}")
        threads = {"OMP_NUM_THREADS": str(max(1, torch.get_num_threads() // processes))}
        _, found = run(bench, *torchrun, *command, "--device", "cpu", environment=bench.environment | threads)
    else:
        _, found = run(bench, sys.executable, *command)
    rate = logged_rate(run_dir / "metrics.jsonl")
    shutil.rmtree(run_dir)  # hundreds of megabytes
    return {"images/s": rate, "MB": found["MB"]}


def training_row(bench: Bench, name: str) -> Row:
    """The recipe that computes what the plain reference does, beside it, and the default one."""
    spec, budget = TRAININGS[name], bench.config.images

    def plain() -> Values:
        steps = max(1, budget // spec.batch_size) if budget else spec.plain_steps
        options = ("--part", name, "--batch-size", spec.batch_size, "--steps", steps)
        found = run_module(bench, spec.plain, *options, *data_options(bench, name))
        return {"images/s": found["images/s"], "MB": found["MB"]}

    def flops(arm: str) -> float:
        # Of small batches: the FLOPs of an image do not depend on them.  The difference is of steps alone, without
        # what a script does once.
        options = (spec.script, "--batch-size", 2, *NEVER, *recipes(name)[arm], *data_options(bench, name))
        few, more = script_flops(bench, *((*options, "--run-dir", fresh(bench, "run"), "--images", n) for n in (2, 4)))
        return (more - few) / 2

    lines = [Line(f"{spec.title}, plain recipe" if spec.released else spec.title, "images/s")]
    if spec.released:
        lines.append(Line(f"{spec.title}, released recipe", "images/s", "released"))
    return Row(
        {"plain": plain} | {arm: lambda arm=arm: train(bench, name, arm) for arm in recipes(name)},
        lines,
        {arm: lambda arm=arm: flops(arm) for arm in recipes(name)},
        fast_dtype(),
    )


def run_scripts(bench: Bench, *options: object, commands: tuple[tuple[object, ...], ...]) -> Values:
    """What measure.py finds when it runs scripts of the repository, each with its arguments, within its process."""
    words = json.dumps([[str(word) for word in command] for command in commands])
    return run_module(bench, "measure", *options, "--commands", words)


def without(bench: Bench, change: str, command: tuple[object, ...]) -> Values:
    """What `run` measures of a script of the repository in which one of measure.py's CHANGES is undone."""
    return run_scripts(bench, "--part", "without", "--change", change, commands=(command,))


def changes_row(bench: Bench, name: str) -> Row:
    """What was made faster, each undone by itself, beside nothing undone."""
    digits = min(bench.config.per_class, CHANGED_DIGITS)

    def measure(change: str) -> Values:
        if name in TRAININGS:
            return train(bench, name, list(recipes(name))[-1], change)
        return without(bench, change, ("p2_inference.py", fresh(bench, "digits"), "--per-class", digits))

    title, key = (TRAININGS[name].title, "images/s") if name in TRAININGS else (f"{10 * digits:,} digits", "s")
    lines = [Line(f"{title}: {said}", key, "nothing", change) for change, said in CHANGES[name].items()]
    return Row({change: lambda change=change: measure(change) for change in ("nothing", *CHANGES[name])}, lines, {})


def script_flops(bench: Bench, *commands: tuple[object, ...]) -> list[int]:
    """FLOPs of each command, a script of the repository with its arguments."""
    return run_scripts(bench, "--part", "flops", commands=commands)["FLOPs"]


def fast_dtype() -> str:
    """The type in which ours computes where `--precision auto` decides."""
    return "bfloat16" if has_fast_bf16(pick_device("auto")) else "float32"


def faces_row(bench: Bench, count: int) -> Row:
    def ours() -> Values:
        return run(bench, "bash", "hw2_1.sh", fresh(bench, "faces"), "--count", count)[1]

    def plain() -> Values:
        return run_module(bench, "plain_p1", "--part", "faces", "--count", count, "--out-dir", fresh(bench, "faces"))

    def flops() -> float:
        # 50 at once, the last ones padded to as many.
        flops = script_flops(bench, ("p1_inference.py", fresh(bench, "faces"), "--count", 50))[0]
        return flops * math.ceil(count / 50) / count

    return Row({"plain": plain, "ours": ours}, [Line(f"{count:,} faces", "s")], {"ours": flops}, "float32", count)


def digits_row(bench: Bench, per_class: int) -> Row:
    count = 10 * per_class

    def ours() -> Values:
        return run(bench, "bash", "hw2_2.sh", fresh(bench, "digits"), "--per-class", per_class)[1]

    def plain() -> Values:
        batch_size = min(DIGITS_AT_ONCE, count)
        options = ("--batch-size", batch_size, "--steps", bench.config.sampler_steps)
        found = run_module(bench, "plain_p2", "--part", "digits", "--out-dir", fresh(bench, "digits"), *options)
        total = extrapolated(found["s"], found["step"], found["steps"], found["save"], count / batch_size)
        return found | {"s": total, "measured_s": found["s"]}

    def flops() -> float:
        # 100 at once, the last ones padded to as many.
        flops = script_flops(bench, ("p2_inference.py", fresh(bench, "digits"), "--per-class", 10))[0]
        return flops * math.ceil(count / 100) / count

    title = f"{count:,} digits (plain: extrapolated from {bench.config.sampler_steps} steps)"
    return Row({"plain": plain, "ours": ours}, [Line(title, "s")], {"ours": flops}, fast_dtype(), count, 2)


def linked(bench: Bench, folder: str, sources: list[Path], count: int) -> Path:
    """A folder of `count` links to images, the first ones again if there are too few of them."""
    target = fresh(bench, folder)
    target.mkdir()
    for number in range(count):
        source = sources[number % len(sources)]
        (target / f"{number:05d}{source.suffix}").symlink_to(source)
    return target


def labels_row(bench: Bench, count: int) -> Row:
    images = linked(bench, "svhn", list_images(bench.data / "digits" / "svhn" / "data"), count)

    def ours() -> Values:
        return run(bench, "bash", "hw2_3.sh", images, fresh(bench, "labels.csv"))[1]

    def plain() -> Values:
        out = fresh(bench, "labels.csv")
        return run_module(bench, "plain_p3", "--part", "labels", "--image-dir", images, "--out-csv", out)

    def flops() -> float:
        return script_flops(bench, ("p3_inference.py", images, fresh(bench, "labels.csv")))[0] / count

    title = f"{count:,} labels (plain: one view of an image, ours 18)" if count > 1 else "1 label"
    return Row({"plain": plain, "ours": ours}, [Line(title, "s")], {"ours": flops}, "float32", count)


def fid_row(bench: Bench) -> Row:
    """Ours has met the reference before: the first time, which fills the cache, is measured once and kept beside."""
    count = bench.config.fid_images
    generated = fresh(bench, "generated")
    run(bench, "bash", "hw2_1.sh", generated, "--count", count)
    reference = count + count // 2
    real = linked(bench, "real", list_images(bench.data / "face" / "val"), reference)
    first = None

    def score(change: str = "nothing") -> Values:
        folders = ("--folder", generated, "--real", real)
        return run_module(bench, "measure", "--part", "fid", "--change", change, *folders)

    def ours() -> Values:
        nonlocal first
        first = first or score()
        return score() | {"first_s": first["s"]}

    def plain() -> Values:
        return run_module(bench, "plain_fid", generated, real)

    title = f"FID of {count:,} against {reference:,} images"
    lines = [
        Line(f"{title}, reference cached", "s"),
        Line(f"{title}, peak memory", "MB"),
        Line(f"{title}, value", "FID"),
        Line(f"FID: {MEMORY}", "s", "ours", "memory"),
    ]
    return Row({"plain": plain, "ours": ours, "memory": lambda: score("memory")}, lines, {})


def start_row(bench: Bench, problem: int) -> Row:
    """Seconds until the first output: a wrapper asked for the least, beside the time that PyTorch takes to import."""

    def floor() -> Values:
        return run(bench, sys.executable, "-c", "import torch")[1]

    least, first = {
        1: (faces_row, "the first face"),
        2: (digits_row, "the first digit of each class (plain: extrapolated)"),
        3: (labels_row, "the first label"),
    }[problem]
    arms = least(bench, 1).arms | {"import torch": floor}
    return Row(arms, [Line(f"hw2_{problem}.sh, until {first}", "s")], {})


def write_synthetic(folder: Path, count: int, size: int = 64) -> None:
    """`count` PNG files of smooth noise, about as large as those of photographs."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for number in range(count):
        coarse = Image.fromarray(random.integers(0, 256, (size // 8, size // 8, 3), dtype=np.uint8))
        pixels = np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC)).astype(np.int16)
        noisy = (pixels + random.integers(-3, 4, pixels.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / f"{number:06d}.png", compress_level=1)


def loading_row(bench: Bench, scale: int) -> Row:
    """Ours decodes into an empty cache, and reads it in another process; the files may be in the system's memory."""
    count = scale * bench.config.loading_images
    folder = fresh(bench, "synthetic")
    write_synthetic(folder, count)
    cache = bench.scratch / f"cache of {count}"

    def load() -> Values:
        environment = bench.environment | {"XDG_CACHE_HOME": str(cache)}
        return run_module(bench, "measure", "--folder", folder, environment=environment)

    def cold() -> Values:
        shutil.rmtree(cache, ignore_errors=True)
        return load()

    def plain() -> Values:
        return run_module(bench, "measure", "--part", "plain-load", "--folder", folder)

    title = f"loading {count:,} images"
    lines = [Line(f"{title}, empty cache", "s", "cold"), Line(f"{title}, from the cache", "s", "warm")]
    lines.append(Line(f"{title}, peak memory", "MB", "cold"))
    return Row({"plain": plain, "cold": cold, "warm": load}, lines, {})


def growth(small: dict[str, Any], large: dict[str, Any], ratio: float, images: int, arm: str) -> dict[str, float]:
    """How loading grows between two rows of which one has `ratio` times the images, `images` more.

    `exponent` is 1 if the seconds are in proportion; `bytes_per_image` is the memory that each further image takes.
    """
    seconds, memory = ([row["arms"][arm][key]["median"] for row in (small, large)] for key in ("s", "MB"))
    exponent = math.log(seconds[1] / seconds[0]) / math.log(ratio)
    return {"exponent": exponent, "bytes_per_image": 1e6 * (memory[1] - memory[0]) / images}


def profile_row(bench: Bench, name: str) -> Row:
    """What a training's time goes into, of the recipe that computes what the plain reference does."""

    def profile() -> Values:
        run_dir = fresh(bench, "run")
        command = (*training_command(bench, name, "ours"), "--run-dir", run_dir)
        found = run_scripts(bench, "--part", "profile", commands=(command,))
        shutil.rmtree(run_dir)
        return {kind: found[kind] for kind in (*KINDS, "other")}

    return Row({"ours": profile}, [], {}, repeats=1)


def processes_row(bench: Bench, name: str) -> Row:
    """One process beside two that have half of the batch and half of the threads each."""
    arm = list(recipes(name))[-1]
    title = f"{TRAININGS[name].title}: two processes of half the threads each"
    arms = {str(count): lambda count=count: train(bench, name, arm, processes=count) for count in (1, 2)}
    return Row(arms, [Line(title, "images/s", "2", "1")], {})


def make_row(bench: Bench, name: str) -> Row:
    """The row of that name, one of ROWS, and the images that it needs."""
    config = bench.config
    if name in TRAININGS:
        return training_row(bench, name)
    if name == "faces":
        return faces_row(bench, config.faces)
    if name == "digits":
        return digits_row(bench, config.per_class)
    if name == "labels":
        return labels_row(bench, config.labels)
    if name == "fid":
        return fid_row(bench)
    kind, which = name.split("-")
    of_trainings = {"changes": changes_row, "profile": profile_row, "processes": processes_row}
    if kind in of_trainings:
        return of_trainings[kind](bench, which)
    return start_row(bench, int(which)) if kind == "start" else loading_row(bench, int(which))


ROWS = [*TRAININGS, "faces", "digits", "labels", "fid", "start-1", "start-2", "start-3"]
ROWS += [
    "loading-1",
    "loading-10",
    "loading-100",
    *(f"changes-{name}" for name in CHANGES),
    *(f"profile-{name}" for name in TRAININGS),
    "processes-dcgan",
    "processes-ddpm",
]


def chosen_rows(only: str) -> list[str]:
    """The names that --only means; `loading` means all three of its rows, so do `start` and the others."""
    if not only:
        return ROWS
    chosen = []
    for wanted in (part.strip() for part in only.split(",")):
        found = [name for name in ROWS if wanted in (name, name.split("-")[0])]
        if not found:
            raise UserError(f"--only: {wanted!r} is not one of {', '.join(ROWS)}")
        chosen += found
    return [name for name in ROWS if name in chosen]


def summary(values: list[float]) -> dict[str, Any]:
    """The median, and half the distance of the largest value from the smallest."""
    return {"values": values, "median": statistics.median(values), "spread": (max(values) - min(values)) / 2}


def alternate(arms: dict[str, Callable[[], Values]], repeats: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Measure the arms in turn, `repeats` times: the order, and a `summary` of each value of each arm."""
    found: dict[str, list[Values]] = {arm: [] for arm in arms}
    order = []
    for turn in range(1, repeats + 1):
        for arm, measure in arms.items():
            values = measure()
            say(f"{arm}, {turn} of {repeats}: " + ", ".join(f"{name} {value:.6g}" for name, value in values.items()))
            found[arm].append(values)
            order.append(arm)
    summaries = {
        arm: {name: summary([values[name] for values in runs]) for name in runs[0]} for arm, runs in found.items()
    }
    return {"order": order, "arms": summaries}


def times_better(plain: float, ours: float, key: str) -> float | None:
    """How many times faster or smaller ours is; None for a value that is only to be equal."""
    if key == "FID":
        return None
    return ours / plain if key == "images/s" else plain / ours


def finished(row: Row, measured: dict[str, Any], peaks: Callable[[str], float]) -> dict[str, Any]:
    """The row as it is written: what was measured, and its lines with ratio and limit."""
    arms = measured["arms"]
    lines = []
    for title, key, arm, beside in row.lines:
        plain, ours = (arms[name][key]["median"] for name in (beside, arm))
        line = {"title": title, "key": key, "arm": arm, "beside": beside, "plain": plain, "ours": ours}
        line["ratio"] = times_better(plain, ours, key)
        if key == "FID":
            line["difference"] = abs(plain - ours)
        if arm in row.flops:
            per_image = row.flops[arm]()
            rate = ours if key == "images/s" else row.count / ours
            peak = peaks(row.dtype)
            line["limit"] = {"dtype": row.dtype, "flops_per_image": per_image, "flops_per_second": per_image * rate}
            line["limit"] |= {"peak_flops_per_second": peak, "share": per_image * rate / peak}
        elif "import torch" in arms:
            line["limit"] = {"import_torch_seconds": arms["import torch"]["s"]["median"]}
        lines.append(line)
    return measured | {"lines": lines}


def machine() -> dict[str, Any]:
    """What the numbers depend on.  `load` is how many processes wanted to run in the last minute."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    capabilities = torch.cpu.get_capabilities()
    device = pick_device("auto")
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "instruction_sets": [name for name in FEATURES if capabilities.get(name)],
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "load": round(os.getloadavg()[0], 2),
    }


def kept_rows(earlier: dict[str, Any], content: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """The rows of an earlier result that can stand beside those now measured, which are `names`."""
    before, now = ({**found.get("machine", {}), "load": None} for found in (earlier, content))
    if before != now or any(earlier.get(name) != content[name] for name in ("data", "config")):
        return {}
    return {name: row for name, row in earlier["rows"].items() if name not in names}


def described(content: dict[str, Any]) -> str:
    """The machine and the data in two sentences."""
    found = content["machine"]
    sets = ", ".join(found["instruction_sets"]) or "none of those looked for"
    text = f"{found['cpu']}, {found['cores']} cores, {found['threads']} threads, {sets}; device {found['device']};"
    text += f" torch {found['torch']}, Python {found['python']}. Data: {content['data']}."
    return text + f" {content['config']['repeats']} measurements of each side, in turn (digits: at most 2)."


def number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def cells(row: dict[str, Any], line: dict[str, Any]) -> list[str]:
    """A line of the table: title, what it is compared with, ours, and how many times better that is."""
    found = [row["arms"][arm][line["key"]] for arm in (line["beside"], line["arm"])]
    values = [f"{number(one['median'])} ± {number(one['spread'])} {line['key']}" for one in found]
    better = f"differs by {line['difference']:.2g}" if line["ratio"] is None else f"{number(line['ratio'])} ×"
    return [line["title"], *values, better]


def of_the_limit(limit: dict[str, Any]) -> str:
    if "share" in limit:
        achieved, peak = (limit[name] / 1e9 for name in ("flops_per_second", "peak_flops_per_second"))
        return f"{limit['share']:.0%}: {number(achieved)} of {number(peak)} GFLOP/s, {limit['dtype']}"
    return f"import torch: {number(limit['import_torch_seconds'])} s" if limit else ""


def show(content: dict[str, Any]) -> str:
    """All lines as two Markdown tables: beside the plain reference, and beside ours with a change undone."""
    found = [(row, line) for row in content["rows"].values() for line in row["lines"]]
    plain = [
        [*cells(row, line), of_the_limit(line.get("limit", {}))] for row, line in found if line["beside"] == "plain"
    ]
    changes = [cells(row, line) for row, line in found if line["beside"] != "plain"]
    lines = [described(content)]
    if plain:
        lines += ["", table(["what", "plain", "ours", "better", "of the limit"], plain)]
    if changes:
        lines += ["", table(["what was changed", "without", "with", "better"], changes)]
    profiles = {name: row["arms"]["ours"] for name, row in content["rows"].items() if name.startswith("profile-")}
    if profiles:
        header = ["share of the time of PyTorch's operations", *next(iter(profiles.values()))]
        rows = [
            [TRAININGS[name.partition("-")[2]].title, *(f"{share['median']:.0%}" for share in found.values())]
            for name, found in profiles.items()
        ]
        lines += ["", table(header, rows)]
    for arm, rate in content.get("growth", {}).items():
        lines.append(
            f"\nLoading with {'an empty' if arm == 'cold' else 'a filled'} cache: seconds grow with the number of"
            f" images to the power {rate['exponent']:.2f}, memory by {number(rate['bytes_per_image'])} bytes an image"
            " (64 x 64 x 3 = 12,288)."
        )
    return "\n".join(lines)


def find_data(bench: Bench) -> tuple[Path, str]:
    """The data tree and what it is in words; the built-in data if --data is not given and hw2_data is missing."""
    given = bench.config.data
    if given.is_dir():
        return given.resolve(), str(given)
    if given != DEFAULT_DATA:
        raise UserError(f"{given} is {'not a folder' if given.exists() else 'missing'}")
    made = bench.scratch / "data"
    run(bench, sys.executable, "prepare_data.py", "--builtin", made)
    return made, f"built-in ({given} is missing)"


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    config = parse_config(Config, __doc__)
    names = chosen_rows(config.only)
    refuse_others(config.results)
    found = machine()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        scratch = Path(folder)
        path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
        torch_home = str(Path(torch.hub.get_dir()).parent)  # Inception's weights stay where they are
        environment = os.environ | {"PATH": path, "XDG_CACHE_HOME": str(scratch / "cache"), "TORCH_HOME": torch_home}
        bench = Bench(config, config.data, scratch, environment)
        data, described_data = find_data(bench)
        bench = bench._replace(data=data)
        if found["load"] > 0.5:
            say(f"warning: the machine is busy (load {found['load']}), so these timings are not to be relied upon")
        budgets = {name: value for name, value in to_json(config).items() if name not in ("data", "only", "results")}
        content = {"machine": found, "data": described_data, "config": budgets, "rows": {}}
        rows = kept_rows(read_results(config.results), content, names)

        @cache
        def peak(dtype: str) -> float:
            options = ("--part", "peak", "--dtype", dtype, "--seconds", config.peak_seconds)
            return max(run_module(bench, "measure", *options)["FLOP/s"] for _ in range(config.repeats))

        for name in names:
            say(f"== {name}")
            here = bench._replace(scratch=scratch / name)
            here.scratch.mkdir()
            row = make_row(here, name)
            rows[name] = finished(row, alternate(row.arms, min(config.repeats, row.repeats), say), peak)
            shutil.rmtree(here.scratch)
            content["rows"] = {name: rows[name] for name in ROWS if name in rows}
            small, large = (rows.get(f"loading-{scale}") for scale in (10, 100))
            if small and large:
                further = 90 * config.loading_images
                content["growth"] = {arm: growth(small, large, 10, further, arm) for arm in ("cold", "warm")}
            write_results(config.results, content)
    print(show(content))


if __name__ == "__main__":
    run_script(main)
