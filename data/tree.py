"""The course's layout: how a set is split, written and described."""

import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from common.config import UserError, warn
from common.files import atomic_write, read_text
from data.reading import NUM_CLASSES, decode_image, find_files, in_threads, list_images, read_labels

SPLITS = ("train", "val", "test")
MANIFEST = "MANIFEST"  # in the folder of every set that prepare_data.py makes: JSON


class CourseSet(NamedTuple):
    """A set as the course gave it: folder, images of train and val, side in pixels, Pillow's mode.

    `means` are of the channels in [0, 1]: the course's own for the faces; for the digits what --verify prints for
    training images of the originals (MNIST-M and USPS the course's number, SVHN 6,400 of its test set).
    """

    folder: str
    train: int
    val: int
    size: int
    mode: str
    means: tuple[float, ...]


COURSE = {
    "face": CourseSet("face", 38464, 2025, 64, "RGB", (0.570, 0.432, 0.359)),
    "mnistm": CourseSet("digits/mnistm", 44800, 11200, 28, "RGB", (0.464, 0.467, 0.420)),
    "svhn": CourseSet("digits/svhn", 63544, 15887, 28, "RGB", (0.453, 0.453, 0.470)),
    "usps": CourseSet("digits/usps", 5950, 1488, 28, "L", (0.259,)),
}


class Originals(NamedTuple):
    """What a set is made of: `image(i)` is uint8 (size, size, 3), or (size, size) if grey, in the course's form.

    `source` says in words what it is, `labels` is (n,) or None.
    """

    source: str
    count: int
    labels: np.ndarray | None
    image: Callable[[int], np.ndarray]


def stream(seed: int, *key: str) -> np.random.Generator:
    """The random numbers of one part of the tree, whatever else is drawn."""
    return np.random.default_rng([seed, zlib.crc32("/".join(key).encode())])


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
    train, val, test = split_sizes(name, count).values()
    order = stream(seed, name, "order").permutation(count)
    if name == "face":
        parts = np.split(order[: train + val + test], [train, train + val])
        return {split: (np.arange(len(part)), part) for split, part in zip(SPLITS, parts, strict=True)}
    mixed = stream(seed, name, "names").permutation(train + val)
    numbers = {"train": np.sort(mixed[:train]), "val": np.sort(mixed[train:])}
    both = {split: (chosen, order[chosen]) for split, chosen in numbers.items()}
    return both | {"test": (np.arange(test), order[train + val :])}


def image_folder(domain: Path, name: str, split: str) -> Path:
    """Where the images of a split lie: digits of train and val together in data/."""
    return domain / ("data" if name != "face" and split != "test" else split)


def write_csv(file: Path, numbers: np.ndarray, labels: np.ndarray) -> None:
    """Write `image_name,label` rows, the names five digits and .png."""
    rows = [f"{number:05d}.png,{label}\n" for number, label in zip(numbers, labels, strict=True)]
    atomic_write(file, ("image_name,label\n" + "".join(rows)).encode())


def read_manifest(domain: Path) -> dict[str, Any] | None:
    """`source` and `sha256` (of each split) of a set's MANIFEST, or None.  Raises UserError if it cannot be read."""
    file = domain / MANIFEST
    if not file.exists():
        return None
    try:
        manifest = json.loads(read_text(file))
        sums = {split: manifest["splits"][split]["sha256"] for split in SPLITS}
        return {"source": manifest["source"], "sha256": sums}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} cannot be read ({error})") from None


def write_set(root: Path, name: str, originals: Originals, seed: int) -> bool:
    """Make the set `name` below `root`: in a hidden folder beside its place, which gets its name when all is there.

    False if it was there already, of the same images and labels.  What an interrupted run left is begun again.  Raises
    UserError for what cannot be read, or if a set of others is there.  The caller locks `root`.
    """
    final = root / COURSE[name].folder
    part = final.with_name(f".{final.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    tasks = []
    for split, (numbers, indices) in split_originals(name, originals.count, seed).items():
        folder = image_folder(part, name, split)
        folder.mkdir(parents=True, exist_ok=True)
        tasks += [(folder / f"{number:05d}.png", int(index)) for number, index in zip(numbers, indices, strict=True)]
        if originals.labels is not None:
            write_csv(part / f"{split}.csv", numbers, originals.labels[indices])

    def write(task: tuple[Path, int]) -> None:
        path, index = task
        Image.fromarray(originals.image(index)).save(path, "PNG")

    for _ in in_threads(write, tasks, f"{name}: writing"):
        pass
    seen: dict[bytes, str] = {}
    splits = {split: describe(part, name, split, seen) for split in SPLITS}
    if there := read_manifest(final):
        shutil.rmtree(part)
        if there["sha256"] != {split: splits[split]["sha256"] for split in SPLITS}:
            reason = f"made of other images or labels, or with another seed ({there['source']})"
            raise UserError(f"{final} is there already, {reason}: remove it first")
        return False
    manifest = {"set": name, "source": originals.source, "seed": seed, "splits": splits}
    atomic_write(part / MANIFEST, (json.dumps(manifest, indent=1) + "\n").encode())
    os.sync()  # a power cut after the renaming finds every image on the disk
    os.rename(part, final)
    return True


def describe(domain: Path, name: str, split: str, seen: dict[bytes, str]) -> dict[str, Any]:
    """Read every image of a split anew.  Raises UserError, in one sentence, if it cannot be used.

    What it returns goes into MANIFEST: `images`, `modes`, `means` of the channels in [0, 1], `classes` (images of each
    digit) and a SHA-256 of names, labels, modes and pixels in the order of names, whatever the files' compression.
    `seen` is the split of every image's pixels so far: stderr tells how many are in another split too.
    """
    folder, size = image_folder(domain, name, split), COURSE[name].size
    if name == "face":
        paths = list_images(folder)
        labels: dict[str, Any] = {path.name: "-" for path in paths}
    else:
        labels = dict(sorted(read_labels(domain / f"{split}.csv").items()))
        paths = find_files(folder, labels)
        if split == "val" and (domain / "train.csv").exists():
            shared = sorted(labels.keys() & read_labels(domain / "train.csv").keys())
            if shared:
                raise UserError(f"{domain / 'val.csv'} names {len(shared)} images of train.csv, {shared[0]} first")

    def decode(path: Path) -> tuple[str, np.ndarray]:
        pixels = decode_image(path, size)
        with Image.open(path) as image:
            return image.mode, pixels

    digest, modes, sums, copies = hashlib.sha256(), set(), np.zeros(3), []
    decoded = in_threads(decode, paths, f"{name} {split}: reading")
    for (file, label), (mode, pixels) in zip(labels.items(), decoded, strict=True):
        digest.update(f"{file} {label} {mode}\n".encode("utf-8", "surrogateescape") + pixels.tobytes())
        if (other := seen.setdefault(hashlib.sha256(pixels.tobytes()).digest(), split)) != split:
            copies.append((file, other))
        modes.add(mode)
        sums += pixels.sum((0, 1))
    if copies:
        warn(f"{COURSE[name].folder}: {len(copies)} images of {split} are in {copies[0][1]} too, {copies[0][0]} first")
    means = (sums / (255 * size**2 * len(paths)))[: 1 if modes == {"L"} else 3].round(6).tolist()
    classes = [] if name == "face" else np.bincount(list(labels.values()), minlength=NUM_CLASSES).tolist()
    sha256 = digest.hexdigest()
    return {"images": len(paths), "modes": sorted(modes), "means": means, "classes": classes, "sha256": sha256}


ROW = "{:<13} {:<5} {:>7} {:>7}  {:<5} {:>12}  {:<17}  {}"  # of the table of --verify
HEADER = ROW.format("set", "split", "images", "course", "mode", "% of a class", "means of R, G, B", "course")


def row_of(name: str, split: str, found: dict[str, Any]) -> str:
    """A split, as `describe` found it, beside the course's numbers; of its classes the smallest and the largest."""
    course, images = COURSE[name], found["images"]
    expected = {"train": f"{course.train:,}", "val": f"{course.val:,}"}.get(split, "-")
    shares = "-".join(f"{of(found['classes']) / images * 100:.1f}" for of in (min, max) if found["classes"])
    means = [" ".join(f"{value:.3f}" for value in values) for values in (found["means"], course.means)]
    return ROW.format(course.folder, split, f"{images:,}", expected, "+".join(found["modes"]), shares or "-", *means)
