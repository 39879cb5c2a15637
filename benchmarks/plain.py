"""What the plain references share: images decoded anew for every batch, and training steps by the clock."""

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from common.config import UserError
from data.reading import read_labels

WORKERS = 2  # processes of a DataLoader, as most tutorials have
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Images(Dataset):
    """Image files as float32 (3, h, w) in [-1, 1] with their labels, 0 where there are none."""

    def __init__(self, paths: list[Path], labels: list[int] | None = None):
        self.paths, self.labels = paths, labels

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        with Image.open(self.paths[index]) as image:
            pixels = np.asarray(image.convert("RGB"), dtype=np.float32) / 255
        image = torch.from_numpy(pixels).permute(2, 0, 1).contiguous()
        return (image - 0.5) / 0.5, self.labels[index] if self.labels else 0


def loader(paths: list[Path], batch_size: int, labels: list[int] | None = None, train: bool = True) -> DataLoader:
    """Batches of images and labels, shuffled and whole ones only for training.  Raises UserError if there is none."""
    if train and len(paths) < batch_size:
        raise UserError(f"{paths[0].parent} holds {len(paths)} training images, fewer than a batch of {batch_size}")
    return DataLoader(Images(paths, labels), batch_size, shuffle=train, num_workers=WORKERS, drop_last=train)


def endless(batches: Iterable[Any]) -> Iterator[Any]:
    """The batches, epoch after epoch."""
    while True:
        yield from batches


def training_digits(domain: Path, batch_size: int) -> Iterator[Any]:
    """Endless batches of the training digits of a folder with data/ and train.csv."""
    labels = read_labels(domain / "train.csv")
    return endless(loader([domain / "data" / name for name in labels], batch_size, list(labels.values())))


def images_per_second(step: Callable[[], None], batch_size: int, warmup: int, steps: int) -> float:
    """The rate of `steps` calls after `warmup` others; a step ends when its losses are known to the host."""
    for _ in range(warmup):
        step()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    return batch_size * steps / (time.perf_counter() - start)


def save_images(folder: Path, names: list[str], images: Tensor) -> None:
    """Write float images (n, 3, h, w) in [-1, 1] as PNG files, one after the other."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, image in zip(names, images, strict=True):
        pixels = image.cpu().add(1).mul(127.5).add(0.5).clamp(0, 255).to(torch.uint8).permute(1, 2, 0)
        Image.fromarray(pixels.numpy()).save(folder / name)
