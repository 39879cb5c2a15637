"""Random numbers of a training step: drawn on the CPU for the whole batch, the same on all devices and processes."""

import torch
from torch import Tensor

ALL = slice(None)


class Stream:
    """Numbers of a batch from one generator; what is drawn has this process's `rows` of it, on `device`.

    Every process draws for all `batch_size` images: an image's numbers depend on neither processes nor device.
    """

    def __init__(
        self, generator: torch.Generator, batch_size: int, rows: slice = ALL, device: torch.device | str = "cpu"
    ):
        self.generator, self.batch_size, self.rows, self.device = generator, batch_size, rows, torch.device(device)

    def whole(self) -> "Stream":
        """The same stream for all rows: what follows is drawn for, and done to, the whole batch in every process."""
        return Stream(self.generator, self.batch_size, device=self.device)

    def own(self, values: Tensor) -> Tensor:
        """This process's rows of values (batch_size, ...) on the CPU, on the device."""
        values = values if self.rows == ALL else values[self.rows]
        if self.device.type == "cpu":
            return values
        pinned = values.pin_memory() if torch.cuda.is_available() else values
        return pinned.to(self.device, non_blocking=True)

    def randn(self, *shape: int) -> Tensor:
        """Standard normal numbers (rows, *shape)."""
        return self.own(torch.randn(self.batch_size, *shape, generator=self.generator))

    def rand(self, *shape: int) -> Tensor:
        """Numbers (rows, *shape), uniform in [0, 1)."""
        return self.own(torch.rand(self.batch_size, *shape, generator=self.generator))

    def rands(self, low: Tensor, span: Tensor) -> Tensor:
        """Numbers (k, rows), row j uniform in [low_j, low_j + span_j), both (k, 1): k for each image in one copy."""
        numbers = torch.rand(len(low), self.batch_size, generator=self.generator) * span + low
        return self.own(numbers) if self.rows == ALL else self.own(numbers.t()).t()

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Numbers (rows, *shape), uniform in [low, high)."""
        return self.own(torch.rand(self.batch_size, *shape, generator=self.generator) * (high - low) + low)

    def randint(self, low: int, high: int, *shape: int) -> Tensor:
        """Whole numbers (rows, *shape) from `low` to `high` - 1."""
        return self.own(torch.randint(low, high, (self.batch_size, *shape), generator=self.generator))

    def permutation(self) -> Tensor:
        """An order (batch_size,) of the whole batch, on the CPU."""
        return torch.randperm(self.batch_size, generator=self.generator)

    def stratified(self) -> Tensor:
        """Numbers (rows,), each uniform in [0, 1), one of the batch in each of `batch_size` equal slices.

        To cover the range evenly lowers a loss's variance (Kingma et al. 2021, arXiv:2107.00630, appendix I.1).
        """
        uniform = torch.rand(self.batch_size, generator=self.generator)
        return self.own(((torch.arange(self.batch_size) + uniform) / self.batch_size)[self.permutation()])
