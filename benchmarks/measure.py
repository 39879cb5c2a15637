"""The timer and the counters: seconds, operations, FLOPs, and what the machine can do at most.

    python3 -m benchmarks.measure p1_dcgan_train.py --images 512 ...      # the operations and FLOPs of a script

An operation is one that PyTorch's dispatcher sees: on a GPU about one kernel each.  FLOPs are those of matrix products
and convolutions, a multiplication and an addition counted as two.  Prints one JSON object.
"""

from common.start import run_script

import contextlib
import json
import runpy
import sys
from collections.abc import Callable

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.benchmark import Timer
from torch.utils.flop_counter import flop_registry

WARMUP = 2  # calls before the clock starts: Timer.timeit's
SIZES = (512, 1024, 2048, 4096)

Values = dict[str, float]


def seconds_of(step: Callable[[], object], steps: int) -> float:
    """Seconds of a step by the clock, the mean of `steps` after WARMUP others, on a GPU until all is done."""
    return Timer("step()", globals={"step": step}, num_threads=torch.get_num_threads()).timeit(steps).mean


def matrix_peak(dtype: torch.dtype, device: torch.device, sizes: tuple[int, ...] = SIZES, seconds: float = 1) -> float:
    """FLOP/s of the fastest product of square matrices, each size tried for `seconds`; one is 2 n^3 FLOPs."""
    rates = []
    for size in sizes:
        values = {name: torch.randn(size, size, device=device).to(dtype) for name in "ab"}
        timer = Timer("a @ b", globals=values, num_threads=torch.get_num_threads())
        rates.append(2 * size**3 / min(timer.blocked_autorange(min_run_time=seconds).times))
    return max(rates)


class Work(TorchDispatchMode):
    operations = flops = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        self.operations += 1
        if formula := flop_registry.get(function.overloadpacket):
            self.flops += formula(*args, **(kwargs or {}), out_val=result)
        return result


def count_work(function: Callable[[], object]) -> Values:
    """Operations, and FLOPs of matrix products and convolutions, forward and backward, that `function` calls."""
    with Work() as work:
        function()
    return {"operations": work.operations, "FLOPs": work.flops}


def main() -> None:
    del sys.argv[0]
    with contextlib.redirect_stdout(sys.stderr):
        work = count_work(lambda: runpy.run_path(sys.argv[0], run_name="__main__"))
    print(json.dumps(work))


if __name__ == "__main__":
    run_script(main)
