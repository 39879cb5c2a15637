"""Images in the device's memory and the batches that training takes of them."""

from typing import Any

import torch
from torch import Tensor

from common.device import generator
from common.streams import ALL
from data.reading import fingerprint, to_unit_range


class Images:
    """uint8 images (n, c, h, w), with labels (n,) if any, on `device`, where all fit: no step waits for a copy."""

    def __init__(self, images: Tensor, labels: Tensor | None = None, device: torch.device | str = "cpu"):
        self.fingerprint = fingerprint(images, *([] if labels is None else [labels]))
        self.images = images.to(device)
        self.labels = None if labels is None else labels.to(device)
        self._orders: dict[tuple, Tensor] = {}  # the last epoch of each stream

    def __len__(self) -> int:
        return len(self.images)

    def order(self, step: Any, stream: str = "order") -> Tensor:
        """The indices (batch_size,) that a step visits, on the CPU, of one endless stream of permutations.

        So every image is visited equally often, and a batch depends on nothing but its number and the seed.
        """
        position, rest, pieces = step.number * step.batch_size, step.batch_size, []
        while rest:
            epoch, start = divmod(position, len(self))
            key = (step.seed, stream, epoch)
            if key not in self._orders:
                self._orders = {known: order for known, order in self._orders.items() if known[1] != stream}
                self._orders[key] = torch.randperm(len(self), generator=generator(*key))
            pieces.append(self._orders[key][start : start + rest])
            position, rest = position + len(pieces[-1]), rest - len(pieces[-1])
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)

    def batch(self, step: Any, stream: str = "order") -> tuple[Tensor, Tensor | None]:
        """This process's images (rows, c, h, w) of a step's batch in [-1, 1], and their labels."""
        order = self.order(step, stream)
        chosen = (order if step.rows == ALL else order[step.rows]).to(self.images.device)
        return to_unit_range(self.images[chosen]), None if self.labels is None else self.labels[chosen]
