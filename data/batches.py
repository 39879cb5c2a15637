"""Images in the device's memory, the batches that training takes of them, and faces, of which some are held out."""

import functools
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.config import UserError
from common.device import generator
from common.streams import ALL
from data.reading import fingerprint, load_folder, to_unit_range

FACE_SIZE = 64


@functools.lru_cache(4)  # this epoch's and the last one's, of two domains
def permutation(count: int, *key: Any) -> Tensor:
    """The order (count,) of the stream `key`, on the CPU."""
    return torch.randperm(count, generator=generator(*key))


class Images:
    """uint8 images (n, c, h, w), with labels (n,) if any, on `device`, where all fit: no step waits for a copy."""

    def __init__(self, images: Tensor, labels: Tensor | None = None, device: torch.device | str = "cpu"):
        self.fingerprint = fingerprint(images, *([] if labels is None else [labels]))
        self.images = images.to(device)
        self.labels = None if labels is None else labels.to(device)

    def __len__(self) -> int:
        return len(self.images)

    def order(self, step: Any, stream: str = "order") -> Tensor:
        """The indices (batch_size,) that a step visits, on the CPU, of one endless stream of permutations.

        So every image is visited equally often, and a batch depends on nothing but its number and the seed.
        """
        position, rest, pieces = step.number * step.batch_size, step.batch_size, []
        while rest:
            epoch, start = divmod(position, len(self))
            pieces.append(permutation(len(self), step.seed, stream, epoch)[start : start + rest])
            position, rest = position + len(pieces[-1]), rest - len(pieces[-1])
        return pieces[0] if len(pieces) == 1 else torch.cat(pieces)

    def batch(self, step: Any, stream: str = "order") -> tuple[Tensor, Tensor | None]:
        """This process's images (rows, c, h, w) of a step's batch in [-1, 1], and their labels."""
        order = self.order(step, stream)
        chosen = (order if step.rows == ALL else order[step.rows]).to(self.images.device)
        return to_unit_range(self.images[chosen]), None if self.labels is None else self.labels[chosen]


def held_out_indices(count: int, held_out: int) -> tuple[Tensor, Tensor]:
    """Indices of training and `held_out` images of `count`, in order, always the same; UserError if all are held."""
    if held_out >= count:
        raise UserError(f"--held-out {held_out} leaves none of {count} images for training")
    order = permutation(count, "held out")
    return order[held_out:].sort().values, order[:held_out].sort().values


class Faces:
    """The faces of a folder, 64 x 64, on `device`: what a training sees, and the others, `held_out`."""

    def __init__(self, folder: Path, held_out: int, device: torch.device | str = "cpu"):
        faces = load_folder(folder, FACE_SIZE)
        seen, kept = held_out_indices(len(faces), held_out)
        self._seen = Images(faces[seen], device=device)
        self.held_out = faces[kept].to(device)
        self.fingerprint = self._seen.fingerprint

    def __len__(self) -> int:
        return len(self._seen)

    def batch(self, step: Any) -> Tensor:
        """This process's faces (rows, 3, 64, 64) of a step's batch, in [-1, 1], channels last."""
        return _channels_last(self._seen.batch(step)[0])

    def examples(self, count: int) -> list[Tensor]:
        """The first `count` faces that the training sees, and of those that it does not, as `batch` returns them."""
        return [_channels_last(to_unit_range(faces[:count])) for faces in (self._seen.images, self.held_out)]


def _channels_last(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last)
