"""The training faces, some of them held out."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.config import UserError
from common.device import generator
from data.batches import Images
from data.reading import list_images, load_folder, to_unit_range

SIZE = 64


def held_out_indices(count: int, held_out: int) -> tuple[Tensor, Tensor]:
    """Indices of training and `held_out` images of `count`, in order, always the same; UserError if all are held."""
    if held_out >= count:
        raise UserError(f"--held-out {held_out} leaves none of {count} images for training")
    order = torch.randperm(count, generator=generator("held out"))
    return order[held_out:].sort().values, order[:held_out].sort().values


class Faces:
    """The faces of a folder, 64 x 64, on `device`: what a training sees, and `held_out` others, of `held_out_paths`."""

    def __init__(self, folder: Path, held_out: int, device: torch.device | str = "cpu"):
        faces, paths = load_folder(folder, SIZE), list_images(folder)
        seen, kept = held_out_indices(len(faces), held_out)
        self._seen = Images(faces[seen], device=device)
        self._held_out = faces[kept].to(device)
        self.held_out_paths = [paths[index] for index in kept]
        self.fingerprint = self._seen.fingerprint

    def __len__(self) -> int:
        return len(self._seen)

    def batch(self, step: Any) -> Tensor:
        """This process's faces (rows, 3, 64, 64) of a step's batch, in [-1, 1], channels last."""
        return _channels_last(self._seen.batch(step)[0])

    def examples(self, count: int) -> list[Tensor]:
        """The first `count` faces that the training sees, and of those that it does not, as `batch` returns them."""
        return [_channels_last(to_unit_range(faces[:count])) for faces in (self._seen.images, self._held_out)]


def _channels_last(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last)
