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
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch.utils import benchmark
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from common.device import pick_device

ROOT = Path(__file__).resolve().parent.parent
SIZES = (512, 1024, 2048, 4096)

Values = dict[str, float]


def seconds_of(function: Callable[[], object], device: torch.device) -> float:
    """Seconds by the clock until all that `function` does is done, on a GPU too."""

    def now() -> float:
        if device.type != "cpu":
            torch.accelerator.synchronize(device)
        return time.perf_counter()

    start = now()
    function()
    return now() - start


class Work(TorchDispatchMode):
    """Counts operations, and FLOPs of matrix products and convolutions, forward and backward."""

    operations = flops = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        self.operations += 1
        if formula := flop_registry.get(function.overloadpacket):
            self.flops += formula(*args, **(kwargs or {}), out_val=result)
        return result


def count_work(function: Callable[[], object]) -> Values:
    with Work() as work:
        function()
    return {"operations": work.operations, "FLOPs": work.flops}


def matrix_peak(dtype: torch.dtype, device: torch.device, seconds: float = 1, sizes: tuple[int, ...] = SIZES) -> float:
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
        work = count_work(lambda: runpy.run_path(sys.argv[0], run_name="__main__"))
    print(json.dumps(work))


if __name__ == "__main__":
    run_script(main)
