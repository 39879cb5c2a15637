"""What the tests of prepare_data.py share: small originals, and trees read without the code under test."""

import functools
import io
from pathlib import Path

import numpy as np
from PIL import Image

from data.reading import read_labels
from data.tree import COURSE, SPLITS

COUNTS = {"face": 60, "mnistm": 70, "svhn": 50, "usps": 40}  # originals; the first two thirds are the training set
TRAIN = {name: count * 2 // 3 for name, count in COUNTS.items()}
LABELS = {name: np.random.default_rng(1).integers(0, 10, count) for name, count in COUNTS.items() if name != "face"}


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@functools.cache
def pixels(name: str) -> np.ndarray:
    """The originals' pixels, training set first: digits, and for faces smooth 178x218 photographs."""
    count = COUNTS[name]
    if name == "mnistm":
        return np.where(np.random.default_rng(2).random((count, 28, 28)) < 0.2, noise(count, 28, 28), 0).astype(
            np.uint8
        )
    if name == "face":
        coarse = noise(count, 6, 5, 3)
        return np.stack([np.asarray(Image.fromarray(image).resize((178, 218), 3)) for image in coarse])
    return noise(count, 32, 32, 3) if name == "svhn" else noise(count, 16, 16)


def jpeg(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def halves(name: str) -> list[slice]:
    return [slice(0, TRAIN[name]), slice(TRAIN[name], None)]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def images_of(root: Path, name: str, split: str) -> dict[str, tuple[np.ndarray, int | None]]:
    """Every image of a split as its file has it, with its label."""
    domain = root / COURSE[name].folder
    if name == "face":
        labels = {path.name: None for path in sorted((domain / split).iterdir())}
    else:
        labels = read_labels(domain / f"{split}.csv")
    folder = domain / ("data" if name != "face" and split != "test" else split)
    found = {}
    for file, label in labels.items():
        with Image.open(folder / file) as image:
            assert (image.format, image.mode, image.size) == ("PNG", COURSE[name].mode, (COURSE[name].size,) * 2)
            found[file] = np.asarray(image), label
    return found


def pairs(root: Path, name: str) -> list[tuple[bytes, int | None]]:
    """Pixels and label of every image of all splits, sorted."""
    return sorted(
        (image.tobytes(), label) for split in SPLITS for image, label in images_of(root, name, split).values()
    )


def as_course(name: str, image: np.ndarray) -> np.ndarray:
    """What the course made of an original, written independently."""
    if name == "face":
        half = image.reshape(109, 2, 89, 2, 3).mean((1, 3))
        return np.floor(half + 0.5).astype(np.uint8)[30:94, 12:76]
    if name == "mnistm":
        return image[2:-2, 2:-2]
    return np.asarray(Image.fromarray(image).resize((28, 28), Image.Resampling.BILINEAR))
