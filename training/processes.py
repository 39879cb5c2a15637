"""Training by several processes, as torchrun starts them: each computes its share of every batch.

Every process draws the random numbers of the whole batch and keeps its rows.  Gradients, BatchNorm's statistics and
metrics are summed over the processes: the result is that of one process, but for rounding.  A process that was started
without torchrun has the whole batch and computes as if this file were not there.
"""

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from common.config import UserError, first_sentence
from common.device import processes
from common.streams import ALL

TIMEOUT = timedelta(minutes=10)  # of a process that waits for the others, for example while the first one saves


class Sum(torch.autograd.Function):
    """The sum of a tensor over the processes; its gradient is that of the sum of all processes' losses."""

    @staticmethod
    def forward(ctx, values: Tensor) -> Tensor:
        return _collect(dist.all_reduce, values.clone(memory_format=torch.contiguous_format))

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return Sum.apply(gradient)  # and so differentiable again, as gradient penalties need it


def _collect(function: Callable, values: Any, *arguments: Any) -> Any:
    try:
        function(values, *arguments)
    except RuntimeError as error:  # its connection is closed, or TIMEOUT has passed
        reason = first_sentence(error).split("] ", 1)[-1]
        raise UserError(f"another process of this training ended or hangs, continue with --resume ({reason})") from None
    return values


@dataclass(frozen=True)
class Share:
    """This process's `rows` of every batch, a `weight` of its images; the `first` process writes."""

    rows: slice
    weight: float = 1.0
    first: bool = True

    @property
    def alone(self) -> bool:
        return self.weight == 1

    def mean(self, values: Tensor) -> Tensor:
        """The batch's mean from the means over this process's rows; differentiable."""
        return values if self.alone else Sum.apply(values * self.weight)

    def backward(self, loss: Tensor, weights: list[nn.Parameter]) -> None:
        """The gradients of `weights` from the batch's loss, whose mean over this process's rows is `loss`."""
        if self.alone:
            return loss.backward()
        (loss * self.weight).backward()
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        total = Sum.apply(torch.cat([gradient.reshape(-1) for gradient in gradients]))
        for gradient, summed in zip(gradients, total.split([gradient.numel() for gradient in gradients]), strict=True):
            gradient.copy_(summed.view_as(gradient))

    def synchronize(self, *networks: nn.Module) -> None:
        """From now on BatchNorm in train mode has the statistics of the whole batch; copies of a network keep this."""
        for module in [] if self.alone else [module for network in networks for module in network.modules()]:
            if isinstance(module, nn.BatchNorm2d):
                module.forward = functools.partial(_batch_norm, module, self)

    def of_first(self, value: Any) -> Any:
        """What the first process has."""
        return value if self.alone else _collect(dist.broadcast_object_list, [value], 0)[0]

    def largest(self, value: int) -> int:
        return value if self.alone else int(_collect(dist.all_reduce, torch.tensor(value), dist.ReduceOp.MAX))

    def leave(self) -> None:
        if not self.alone:
            dist.destroy_process_group()


def _batch_norm(norm: nn.BatchNorm2d, share: Share, x: Tensor) -> Tensor:
    """What nn.SyncBatchNorm is, but on every device and twice differentiable."""
    if not norm.training:
        return type(norm).forward(norm, x)
    variance, mean = (moment.double() for moment in torch.var_mean(x.float(), (0, 2, 3), correction=0))
    mean, square = share.mean(torch.stack((mean, variance + mean.square())))  # in float64 nothing is lost by this
    variance = square - mean.square()
    with torch.no_grad():
        count = round(x.numel() / x.shape[1] / share.weight)
        norm.running_mean.lerp_(mean.to(norm.running_mean), norm.momentum)
        norm.running_var.lerp_((variance * count / (count - 1)).to(norm.running_var), norm.momentum)
        norm.num_batches_tracked += 1
    scale = norm.weight * (variance + norm.eps).rsqrt().to(norm.weight)
    shift = norm.bias - mean.to(norm.bias) * scale
    return (x * scale[:, None, None] + shift[:, None, None]).to(x.dtype)


def join(device: torch.device, batch_size: int) -> Share:
    """This process's share of batches of `batch_size` images; waits for the other processes if torchrun started it."""
    count = processes()
    if count == 1:
        return Share(ALL)
    if batch_size < count:
        raise UserError(f"--batch-size {batch_size} is smaller than the number of processes, {count}")
    backends = {"cpu": "gloo", device.type: dist.get_default_backend_for_device(device)}  # nccl for CUDA
    _collect(dist.init_process_group, ",".join(map(":".join, backends.items())), None, TIMEOUT)
    rank = int(os.environ["RANK"])
    rows = slice(rank * batch_size // count, (rank + 1) * batch_size // count)
    return Share(rows, (rows.stop - rows.start) / batch_size, rank == 0)
