"""The course's layout: how a set is split, written, described and looked at."""

import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from PIL import Image
from tqdm import tqdm

from common.config import UserError
from common.files import atomic_write, read_text
from common.images import make_grid, save_image
from data.reading import NUM_CLASSES, decode_image, decode_images, find_files, list_images, read_labels, warn

T = TypeVar("T")

DIGIT_SETS = ("mnistm", "svhn", "usps")
SPLITS = ("train", "val", "test")
MANIFEST = "MANIFEST"  # in the folder of every set that prepare_data.py makes of originals: JSON
PREVIEW = "preview"  # folder of the contact sheets


class CourseSet(NamedTuple):
    """A set as the course gave it: folder, images of train and val, side in pixels, Pillow's mode.

    `means` and `deviations` are of the channels in [0, 1]: the course's own for the faces; for the digits what
    `prepare_data.py --verify` prints for training images of the originals, of MNIST-M and USPS as many as the
    course's, of SVHN 6,400 from the first 10,000 of its test set.
    """

    folder: str
    train: int
    val: int
    size: int
    mode: str
    means: tuple[float, ...]
    deviations: tuple[float, ...] | None


COURSE = {
    "face": CourseSet("face", 38464, 2025, 64, "RGB", (0.570, 0.432, 0.359), None),
    "mnistm": CourseSet("digits/mnistm", 44800, 11200, 28, "RGB", (0.464, 0.467, 0.420), (0.253, 0.238, 0.263)),
    "svhn": CourseSet("digits/svhn", 63544, 15887, 28, "RGB", (0.453, 0.453, 0.470), (0.218, 0.224, 0.226)),
    "usps": CourseSet("digits/usps", 5950, 1488, 28, "L", (0.259,), (0.355,)),
}


class Originals(NamedTuple):
    """What a set is made of: `image(i)` is uint8 (size, size, 3), or (size, size) if grey, in the course's form.

    `source` says in words what it is, `checksum` is of every image and label, `labels` is (n,) or None.
    """

    source: str
    checksum: str
    count: int
    labels: np.ndarray | None
    image: Callable[[int], np.ndarray]


class Statistics(NamedTuple):
    """What MANIFEST keeps of a split: the channels' means and deviations are in [0, 1], `classes` is None for faces."""

    images: int
    modes: list[str]
    means: list[float]
    deviations: list[float]
    classes: list[int] | None
    sha256: str


def stream(seed: int, *key: str) -> np.random.Generator:
    """The random numbers of one part of the tree, whatever else is drawn."""
    return np.random.default_rng([seed, zlib.crc32("/".join(key).encode())])


def to_bytes(values: np.ndarray) -> np.ndarray:
    """Float [0, 1] to uint8 [0, 255], rounded and clamped."""
    return np.rint(values * 255).clip(0, 255).astype(np.uint8)


def in_threads(function: Callable[[Any], T], items: Iterable[Any], total: int, title: str) -> Iterable[T]:
    """function(item) of every item in order, by four threads, with a progress bar on a terminal."""
    with ThreadPoolExecutor(4) as pool:
        try:
            yield from tqdm(pool.map(function, items), total=total, desc=title, unit="img", disable=None)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def split_sizes(name: str, count: int) -> dict[str, int]:
    """How many of `count` originals each split gets.

    Digits: 80 % of 80 % for train, 20 % of 80 % for val, the rest for test, which are the course's numbers for
    the complete originals.  Faces: 5 % each for val and test.  A larger pool gives the course's numbers, and the
    rest is the test split, of which faces keep no more than of val.  Raises UserError if a split would be empty.
    """
    course = COURSE[name]
    if count > course.train + course.val:
        train, val = course.train, course.val
    elif name == "face":
        val = count // 20
        train = count - 2 * val
    else:
        used = count * 4 // 5
        train = used * 4 // 5
        val = used - train
    test = count - train - val
    if min(train, val, test) < 1:
        raise UserError(f"{count} images are too few for {name} to be split into train, val and test")
    return {"train": train, "val": val, "test": min(test, val) if name == "face" else test}


def split_originals(name: str, count: int, seed: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """For each split the numbers in its file names, ascending, and the indices of the originals, both (n,).

    Of digits, train and val lie mixed in one folder and are numbered together, as in the course.
    """
    sizes = split_sizes(name, count)
    order = stream(seed, name, "order").permutation(count)
    both = sizes["train"] + sizes["val"]
    if name == "face":
        numbers = {split: np.arange(size) for split, size in sizes.items()}
        starts = {"train": 0, "val": sizes["train"], "test": both}
        return {split: (numbers[split], order[starts[split] :][: sizes[split]]) for split in SPLITS}
    mixed = stream(seed, name, "names").permutation(both)
    train, val = np.sort(mixed[: sizes["train"]]), np.sort(mixed[sizes["train"] :])
    return {"train": (train, order[train]), "val": (val, order[val]), "test": (np.arange(count - both), order[both:])}


def image_folder(domain: Path, name: str, split: str) -> Path:
    """Where the images of a split lie: digits of train and val together in data/."""
    return domain / ("data" if name != "face" and split != "test" else split)


def write_csv(file: Path, numbers: np.ndarray, labels: np.ndarray) -> None:
    """Write `image_name,label` rows, the names five digits and .png."""
    rows = [f"{number:05d}.png,{label}\n" for number, label in zip(numbers, labels, strict=True)]
    atomic_write(file, ("image_name,label\n" + "".join(rows)).encode())


def read_manifest(domain: Path) -> dict[str, Any] | None:
    """The MANIFEST of a set's folder, None if there is none.  Raises UserError if it cannot be read."""
    file = domain / MANIFEST
    if not file.exists():
        return None
    try:
        manifest = json.loads(read_text(file))
        if dict(manifest["splits"]).keys() != set(SPLITS) or not isinstance(manifest["source"], str):
            raise KeyError("splits")
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} cannot be read ({error})") from None
    return manifest


def recipe_of(name: str, originals: Originals, seed: int) -> dict[str, Any]:
    """What decides every byte of a set: a MANIFEST without its splits."""
    return {"set": name, "source": originals.source, "originals": originals.checksum, "seed": seed}


def write_set(root: Path, name: str, originals: Originals, seed: int) -> None:
    """Make the set `name` below `root`: in a hidden folder beside its place, which gets its name when all is there.

    What an interrupted run left is begun again.  Raises UserError if an original cannot be read, or if what was
    written does not read back.  The caller holds the lock of `root`.
    """
    final = Path(os.path.realpath(root / COURSE[name].folder))  # a link stays, and its target comes into being
    part = final.with_name(f".{final.name}.part")
    splits = split_originals(name, originals.count, seed)
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    tasks = []
    for split, (numbers, indices) in splits.items():
        folder = image_folder(part, name, split)
        folder.mkdir(exist_ok=True)
        tasks += [(folder / f"{number:05d}.png", int(index)) for number, index in zip(numbers, indices, strict=True)]
        if originals.labels is not None:
            write_csv(part / f"{split}.csv", numbers, originals.labels[indices])

    def write(task: tuple[Path, int]) -> None:
        path, index = task
        Image.fromarray(originals.image(index)).save(path, "PNG")

    for _ in in_threads(write, tasks, len(tasks), f"{name}: writing"):
        pass
    seen: dict[bytes, str] = {}
    described = {split: describe(part, name, split, seen)._asdict() for split in SPLITS}
    recipe = recipe_of(name, originals, seed) | {"splits": described}
    atomic_write(part / MANIFEST, (json.dumps(recipe, indent=1) + "\n").encode())
    os.sync()  # a power cut after the renaming finds every image on the disk
    os.rename(part, final)


def describe(domain: Path, name: str, split: str, seen: dict[bytes, str]) -> Statistics:
    """Read every image of a split anew.  Raises UserError, in one sentence, if it cannot be used.

    The SHA-256 is of names, labels, modes and pixels in the order of names, whatever the files' compression.
    `seen` is the split of every image's pixels so far: stderr tells how many are in another split too.
    """
    folder = image_folder(domain, name, split)
    labels: dict[str, int] = {}
    if name == "face":
        paths = list_images(folder)
    else:
        labels = read_labels(domain / f"{split}.csv")
        if split == "val" and (domain / "train.csv").exists():
            shared = sorted(labels.keys() & read_labels(domain / "train.csv").keys())
            if shared:
                raise UserError(f"{domain / 'val.csv'} names {len(shared)} images of train.csv, {shared[0]} first")
        paths = find_files(folder, sorted(labels))
    names = [path.name for path in paths] if name == "face" else sorted(labels)

    def decode(path: Path) -> tuple[str, np.ndarray]:
        pixels = decode_image(path, COURSE[name].size)
        with Image.open(path) as image:
            return image.mode, pixels

    digest, modes, counts = hashlib.sha256(), set(), np.zeros((3, 256), np.int64)
    copies: list[tuple[str, str]] = []
    decoded = in_threads(decode, paths, len(paths), f"{name} {split}: reading")
    for file, (mode, pixels) in zip(names, decoded, strict=True):
        digest.update(f"{file} {labels.get(file, '-')} {mode}\n".encode("utf-8", "surrogateescape"))
        digest.update(np.ascontiguousarray(pixels))
        other = seen.setdefault(hashlib.sha256(np.ascontiguousarray(pixels)).digest(), split)
        if other != split:
            copies.append((file, other))
        modes.add(mode)
        values = pixels.reshape(-1, 3) + np.array([0, 256, 512])
        counts += np.bincount(values.ravel(), minlength=768).reshape(3, 256)
    if copies:
        warn(f"{domain}: {len(copies)} images of {split} are in {copies[0][1]} too, {copies[0][0]} first")
    levels = np.arange(256) / 255
    shares = counts / counts.sum(1, keepdims=True)
    means = shares @ levels
    deviations = np.sqrt((shares * (levels - means[:, None]) ** 2).sum(1))
    channels = 1 if modes == {"L"} else 3
    classes = np.bincount(list(labels.values()), minlength=NUM_CLASSES).tolist() if labels else None
    statistics = (np.round(values[:channels], 6).tolist() for values in (means, deviations))
    return Statistics(len(paths), sorted(modes), *statistics, classes, digest.hexdigest())


def present_splits(domain: Path, name: str) -> list[str]:
    """train, val, and test if it has images: the course's test.csv is a format sample without any."""
    return [split for split in SPLITS if split != "test" or image_folder(domain, name, split).exists()]


def preview(root: Path, name: str, columns: int = 20) -> Path:
    """Write a contact sheet of training images, of digits a row for each class, and return its path."""
    course = COURSE[name]
    domain = root / course.folder
    folder = image_folder(domain, name, "train")
    if name == "face":
        paths = list_images(folder)[: 8 * columns]
        columns = min(columns, len(paths))
    else:
        labels = read_labels(domain / "train.csv")
        rows = [sorted(file for file, label in labels.items() if label == digit) for digit in range(NUM_CLASSES)]
        columns = min(columns, *map(len, rows)) or 1
        paths = find_files(folder, [file for row in rows for file in row[:columns]])
    images = decode_images(paths, course.size)
    path = root / PREVIEW / f"{name}.png"
    save_image(path, make_grid(images, columns, scale=64 // course.size))
    return path


def row_of(name: str, split: str, found: Statistics) -> str:
    """A line of the table of `--verify`, see `HEADER`."""
    course = COURSE[name]

    def cells(values: Iterable[float] | None) -> str:
        return "-" if values is None else " ".join(f"{value:.3f}" for value in values)

    expected = {"train": f"{course.train:,}", "val": f"{course.val:,}"}.get(split, "-")
    shares = [count / found.images * 100 for count in found.classes or ()]
    classes = f"{min(shares):.1f}-{max(shares):.1f}" if shares else "-"
    kind = "+".join({"L": "grey"}.get(mode, mode) for mode in found.modes)
    return (
        f"{course.folder:<13} {split:<5} {found.images:>7,} {expected:>7}  {course.size}x{course.size} {kind:<4}"
        f" {classes:>9}  {cells(found.means):<17}  {cells(course.means):<17}"
        f"  {cells(found.deviations):<17}  {cells(course.deviations)}"
    )


HEADER = (
    f"{'':<13} {'':<5} {'':>7} {'':>7}  {'':<5} {'':<4} {'smallest-':>9}  {'means of R, G, B':<17}  {'':<17}"
    f"  {'deviations':<17}\n"
    f"{'set':<13} {'split':<5} {'images':>7} {'course':>7}  {'size':<5} {'kind':<4} {'largest %':>9}"
    f"  {'here':<17}  {'reference':<17}  {'here':<17}  reference"
)
