"""The timer and the counters: seconds, operations, FLOPs, and what the machine can do at most.

    python3 -m benchmarks.measure p1_dcgan_train.py --images 512 ...      # the operations and FLOPs of a script
    python3 -m benchmarks.measure peak bfloat16                           # FLOP/s of the best matrix product

An operation is one that PyTorch's dispatcher sees: on a GPU about one kernel each.  FLOPs are those of matrix products
and convolutions, a multiplication and an addition counted as two.  Prints one JSON object.
"""

from common.start import run_script

import contextlib
import json
import runpy
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils import benchmark
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from common.device import pick_device

ROOT = Path(__file__).resolve().parent.parent
SIZES = (512, 1024, 2048, 4096)

Values = dict[str, float]


def seconds_of(function: Callable[[], object], device: torch.device) -> float:
    """Seconds by the clock until all that `function` does is done, on a GPU too."""

    def wait() -> None:
        if device.type != "cpu":
            torch.accelerator.synchronize(device)

    wait()
    start = time.perf_counter()
    function()
    wait()
    return time.perf_counter() - start


def in_turn(sides: dict[str, Callable[[], Values]], repeats: int) -> dict[str, dict[str, Any]]:
    """Measure the sides one after the other, `repeats` times: of each value the median and half its range."""
    found: dict[str, list[Values]] = {side: [] for side in sides}
    for turn in range(1, repeats + 1):
        for side, measure in sides.items():
            found[side].append(measure())
            print(f"{side}, {turn} of {repeats}: {found[side][-1]}", file=sys.stderr, flush=True)
    return {side: {key: summary([run[key] for run in runs]) for key in runs[0]} for side, runs in found.items()}


def summary(values: list[float]) -> dict[str, Any]:
    return {"values": values, "median": statistics.median(values), "spread": (max(values) - min(values)) / 2}


class _Operations(TorchDispatchMode):
    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += 1
        return func(*args, **(kwargs or {}))


class _NoModules(contextlib.nullcontext):
    """Takes the place of FlopCounterMode's module hooks, which fail within torch.autograd.grad (gradient penalties)."""

    parents = frozenset({"Global"})


def count_work(function: Callable[[], object]) -> Values:
    """Operations, and FLOPs of matrix products and convolutions, forward and backward, that `function` calls."""
    flops = FlopCounterMode(display=False)
    flops.mod_tracker = _NoModules()
    with _Operations() as operations, flops:
        function()
    return {"operations": operations.count, "FLOPs": flops.get_total_flops()}


def matrix_peak(
    dtype: torch.dtype, device: torch.device, seconds: float = 1.0, sizes: tuple[int, ...] = SIZES
) -> float:
    """FLOP/s of the fastest product of square matrices, each size tried for `seconds`; one is 2 n^3 FLOPs."""
    best = 0.0
    for size in sizes:
        values = {name: torch.randn(size, size, device=device).to(dtype) for name in "ab"}
        timer = benchmark.Timer("a @ b", globals=values, num_threads=torch.get_num_threads())
        best = max(best, 2 * size**3 / min(timer.blocked_autorange(min_run_time=seconds).times))
    return best


def main() -> None:
    script, *arguments = sys.argv[1:]
    if script == "peak":
        print(json.dumps({"FLOP/s": matrix_peak(getattr(torch, arguments[0]), pick_device("auto"))}))
        return
    sys.argv = [str(ROOT / script), *arguments]
    with contextlib.redirect_stdout(sys.stderr):
        found = count_work(lambda: runpy.run_path(sys.argv[0], run_name="__main__"))
    print(json.dumps(found))


if __name__ == "__main__":
    run_script(main)
