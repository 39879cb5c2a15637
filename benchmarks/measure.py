"""What is measured within a process of its own: our loading and FID, plain loading, matrix products, FLOPs.

    python3 -m benchmarks.measure --part load --folder DIR        # data.reading.load_folder; plain-load: a DataLoader
    python3 -m benchmarks.measure --part fid --folder DIR --real DIR
    python3 -m benchmarks.measure --part peak --dtype bfloat16    # the best matrix product in FLOP/s
    python3 -m benchmarks.measure --part flops --commands '[["p1_inference.py", "OUT_DIR", "--count", "50"]]'
    python3 -m benchmarks.measure --part profile --commands ...    # the shares of PyTorch's operations in its time
    python3 -m benchmarks.measure --part without --change folded --commands ...    # one of CHANGES undone

FLOPs are those of matrix products and convolutions, a multiplication and an addition counted as two, as
torch.utils.flop_counter.FlopCounterMode counts them in a script that runs as it is.  Prints one JSON object.
"""

import contextlib
import json
import runpy
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch.utils.flop_counter import FlopCounterMode

import common.device
import common.small_maps
import models.diffusion
import sampling.digits
from benchmarks.plain import loader
from common.config import option, parse_config, run_script
from common.device import pick_device
from data.reading import list_images, load_folder

ROOT = Path(__file__).resolve().parent.parent
SIZES = (512, 1024, 2048, 4096)
PARTS = ("load", "plain-load", "fid", "peak", "flops", "profile", "without")
# Kinds of work by parts of the names that PyTorch's operations have.
KINDS = {
    "convolutions and products": ("convolution", "::mm", "::bmm", "::addmm", "::linear", "::matmul"),
    "copies and casts": ("::copy_", "::_to_copy", "::contiguous", "::clone"),
    "BatchNorm": ("batch_norm",),
    "optimiser and averaging": ("adam", "Optimizer", "rmsprop", "::lerp", "_foreach"),
}


def loop_adam(*settings: Any, fused: bool, kind: type = torch.optim.Adam) -> torch.optim.Adam:
    """Adam without its fused kernel: PyTorch's default on CPUs, a loop over the tensors."""
    return kind(*settings)


def denoiser_of_two_passes(
    network: Any, labels: Any, guidance_scale: float, interval: Any, timesteps: int = models.diffusion.TIMESTEPS
) -> Any:
    """`models.diffusion.guided_denoiser` with an encoder for each of the two predictions."""
    parts = [models.diffusion.guided_denoiser(network, given, 0.0) for given in (labels, torch.full_like(labels, -1))]

    def denoise(x: Any, step: float) -> Any:
        conditional = parts[0](x, step)
        if guidance_scale == 0 or not interval[0] <= step / timesteps <= interval[1]:
            return conditional
        return (1 + guidance_scale) * conditional - guidance_scale * parts[1](x, step)

    return denoise


# What was made faster, each with what stands in its place when it is undone: (object, its attribute, the other).
CHANGES: dict[str, tuple[Any, str, Any]] = {
    "nothing": (common.small_maps, "LARGEST", common.small_maps.LARGEST),
    "bfloat16": (common.device, "has_fast_bf16", lambda device: False),
    "channels last": (torch, "channels_last", torch.contiguous_format),
    "products": (common.small_maps, "LARGEST", 0),
    "fused Adam": (torch.optim, "Adam", loop_adam),
    "memory": (common.device, "keep_freed_memory", lambda: False),
    "shared": (sampling.digits, "guided_denoiser", denoiser_of_two_passes),
}


@dataclass(frozen=True)
class Config:
    part: str = option("load", "what to measure", choices=PARTS)
    folder: Path = option(Path("hw2_data/face/train"), "images to load, or generated images of --part fid")
    real: Path = option(Path("hw2_data/face/val"), "real images of --part fid")
    size: int = option(64, "height and width of the images to load", low=1)
    dtype: str = option("float32", "of --part peak", choices=("float32", "bfloat16"))
    seconds: float = option(1.0, "for each matrix size of --part peak", low=0)
    commands: str = option("[]", "JSON list of what to run, each a list of script and arguments")
    change: str = option("nothing", "what --part without and fid undo", choices=tuple(CHANGES))


def seconds_to_load(config: Config) -> float:
    """Seconds to have every image once; decoded ones that stay, or batch by batch from a DataLoader."""
    start = time.perf_counter()
    if config.part == "load":
        load_folder(config.folder, config.size)
    else:
        for _ in loader(list_images(config.folder), 64, train=False):
            pass
    return time.perf_counter() - start


def fid(config: Config) -> float:
    from evaluation.distances import distances
    from evaluation.faces import read_faces  # needs the packages for scores

    images, _ = read_faces(list_images(config.folder))
    return distances(images, list_images(config.real), device=pick_device("auto"))["fid"]


def synchronize(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def matrix_peak(dtype: torch.dtype, device: torch.device, seconds: float, sizes: tuple[int, ...] = SIZES) -> float:
    """FLOP/s of the fastest single product of square matrices; each size is tried for `seconds`, at least once.

    Of n x n matrices a product is 2 n^3 FLOPs.
    """
    best = 0.0
    for size in sizes:
        first, second = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        end, products = time.perf_counter() + seconds, 0
        while not products or time.perf_counter() < end:
            synchronize(device)
            start = time.perf_counter()
            torch.mm(first, second if products % 2 else second.T)
            synchronize(device)
            best = max(best, 2 * size**3 / (time.perf_counter() - start))
            products += 1
    return best


class NoModules(contextlib.nullcontext):
    """Takes the place of FlopCounterMode's module hooks, which fail within torch.autograd.grad (gradient penalties)."""

    parents = frozenset({"Global"})


def count_flops(function: Callable[[], Any]) -> int:
    """FLOPs of the matrix products and convolutions, forward and backward, that `function` calls."""
    counter = FlopCounterMode(display=False)
    counter.mod_tracker = NoModules()
    with counter:
        function()
    return counter.get_total_flops()


def shares_of_time(function: Callable[[], Any]) -> dict[str, float]:
    """What share of the time of PyTorch's operations, without what each calls itself, KINDS and the others take."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        function()
    seconds = dict.fromkeys((*KINDS, "other"), 0.0)
    for event in profiler.key_averages():
        kind = next((kind for kind, parts in KINDS.items() if any(part in event.key for part in parts)), "other")
        seconds[kind] += event.self_cpu_time_total
    return {kind: value / sum(seconds.values()) for kind, value in seconds.items()}


def run_here(command: list[str]) -> None:
    """Run a script of the repository within this process as `python3 SCRIPT ARGUMENTS` would."""
    sys.argv = [str(ROOT / command[0]), *command[1:]]
    with contextlib.redirect_stdout(sys.stderr):
        runpy.run_path(sys.argv[0], run_name="__main__")


def main() -> None:
    config = parse_config(Config, __doc__)
    if config.part == "fid":
        with mock.patch.object(*CHANGES[config.change]):
            found = {"FID": fid(config)}
    elif config.part == "peak":
        found = {"FLOP/s": matrix_peak(getattr(torch, config.dtype), pick_device("auto"), config.seconds)}
    elif config.part == "flops":
        found = {"FLOPs": [count_flops(partial(run_here, command)) for command in json.loads(config.commands)]}
    elif config.part == "profile":
        (command,) = json.loads(config.commands)
        found = shares_of_time(partial(run_here, command))
    elif config.part == "without":
        with mock.patch.object(*CHANGES[config.change]):
            for command in json.loads(config.commands):
                run_here(command)
        found = {}
    else:
        found = {"s": seconds_to_load(config)}
    print(json.dumps(found))


if __name__ == "__main__":
    run_script(main)
