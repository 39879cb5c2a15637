"""Reading the public originals, or the user's own images, in the form the course gave them.

The addresses and MD5s of MNIST, SVHN, USPS and CelebA, their layout on the disk and the readers of SVHN and USPS are
torchvision's.
"""

import gzip
import hashlib
import os
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
from PIL import Image

from common.config import UserError, first_sentence, warn
from common.files import locked
from data.reading import DIGITS, decode_image, find_files, in_threads, is_image, list_files, read_labels
from data.tree import COURSE, Originals, stream

BSDS500 = "BSR_bsds500.tgz"
BSDS500_URL = f"http://www.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/BSR/{BSDS500}"
BSDS500_IMAGES = r"BSDS500/data/images/.*/[^./]+\.jpg$"  # the archive's other images are copies of some of these
CELEBA = 202_599  # photographs
CROP = (12, 30, 76, 94)  # the course's faces in CelebA's aligned photographs at half resolution

Pixels = np.ndarray  # uint8 (height, width, 3) or (height, width)
Get = Callable[[str, list[str], str | None], Path]  # an original, of its path below --sources, its addresses and MD5


def import_datasets() -> ModuleType:
    try:  # here, because only originals need them; SVHN's reader needs scipy
        import scipy.io  # noqa: F401
        from torchvision import datasets
    except (ImportError, RuntimeError) as error:  # RuntimeError: torch and torchvision of different builds
        reason = first_sentence(error)
        raise UserError(f"originals need torchvision and scipy, which do not import ({reason})") from None
    return datasets


def to_course(name: str, pixels: Pixels, where: object) -> Pixels:
    """An original image of the set `name` in the course's form: what `Originals.image` returns.

    Faces: the crop of CelebA's 178x218 or 89x109, or 64x64 as it is.  MNIST-M: the middle of 32x32.  Every other
    digit is scaled bilinearly to 28x28.  Raises UserError, naming `where`, for faces of other sizes.
    """
    mode, size = COURSE[name].mode, (COURSE[name].size,) * 2
    image = Image.fromarray(pixels).convert(mode)
    if name == "face":
        if image.size == (178, 218):
            image = image.reduce(2)
        if image.size == (89, 109):
            image = image.crop(CROP)
        if image.size != size:
            reason = "expected an aligned CelebA photograph (178x218 or 89x109) or a finished 64x64 crop"
            raise UserError(f"{where} is {image.width}x{image.height}, {reason}")
    elif name == "mnistm" and image.size == (32, 32):
        image = image.crop((2, 2, 30, 30))
    elif image.size != size:
        image = image.resize(size, Image.Resampling.BILINEAR)
    return np.asarray(image)


# The public originals


def original(folder: Path, download: bool, place: str, addresses: list[str], md5: str | None) -> Path:
    """The file `place` below `folder`; if it lacks, fetched from `addresses`: https://, or ids of Google Drive.

    It comes into being only with the right MD5.  Raises UserError if it cannot be had or is another file.
    """
    utils, path = import_datasets().utils, folder / place
    if not os.path.exists(path):
        if not download:
            raise UserError(f"{path} is missing, and --no-download was given")
        part = path.with_name(f".{path.name}.part")
        with locked(folder):
            for address in addresses:
                part.unlink(missing_ok=True)  # of a run that was killed, or the last address's
                fetch = utils.download_url if "://" in address else utils.download_file_from_google_drive
                try:
                    fetch(address, part.parent, part.name, md5)
                    os.replace(part, path)
                    return path
                except (OSError, RuntimeError, ValueError) as error:
                    reason = first_sentence(error)
            part.unlink(missing_ok=True)
            raise UserError(f"{path} cannot be downloaded ({reason}): put it there yourself")
    if not utils.check_integrity(path, md5):
        raise UserError(f"{path} is not the original, its MD5 is not {md5}: remove it and it is fetched again")
    return path


def read_digits(name: str, get: Get) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (n, h, w) or (n, h, w, 3) and labels (n,) of MNIST, SVHN or USPS, the training set first."""
    datasets, images, labels = import_datasets(), [], []
    if name == "mnistm":
        for file, md5 in datasets.MNIST.resources:
            path = get(f"MNIST/raw/{file}", [mirror + file for mirror in datasets.MNIST.mirrors], md5)
            content = gzip.decompress(path.read_bytes())
            if "images" in file:
                images.append(np.frombuffer(content, np.uint8, offset=16).reshape(-1, 28, 28))
            else:
                labels.append(np.frombuffer(content, np.uint8, offset=8))
        return np.concatenate(images), np.concatenate(labels)
    kind = datasets.SVHN if name == "svhn" else datasets.USPS
    for split in ("train", "test"):
        url, file, md5 = kind.split_list[split]
        part = kind(get(file, [url], md5).parent, split if name == "svhn" else split == "train")
        images.append(part.data.transpose(0, 2, 3, 1) if name == "svhn" else part.data)
        labels.append(part.labels if name == "svhn" else part.targets)
    return np.concatenate(images), np.concatenate(labels)


def celeba(sources: Path, get: Get) -> Originals:
    """CelebA's aligned photographs, of a folder or its zip: all of them, as the course's split is its own."""
    place = sources / "celeba" / "img_align_celeba"
    if not place.is_dir():
        address, md5, file = next(entry for entry in import_datasets().CelebA.file_list if entry[2].endswith(".zip"))
        place = zipfile.Path(get(f"celeba/{file}", [address], md5), "img_align_celeba/")
    names = sorted(path.name for path in place.iterdir() if path.name.endswith(".jpg") and path.name[0] != ".")
    if len(names) != CELEBA:
        raise UserError(f"{place} holds {len(names):,} photographs of {CELEBA:,}: give what you have by --input")

    def image(index: int) -> Pixels:
        path = place / names[index]
        return to_course("face", decode_image(Path(f"{path}"), content=path.read_bytes()), path)

    return Originals(f"CelebA, {len(names):,} aligned photographs", len(names), None, image)


def read_photographs(path: Path) -> list[Pixels]:
    """BSDS500's photographs, of its archive, by name: uint8 (height, width, 3).  Raises UserError if there is none."""
    try:
        with tarfile.open(path) as archive:
            names = sorted(name for name in archive.getnames() if re.search(BSDS500_IMAGES, name))
            photographs = [decode_image(path / name, content=archive.extractfile(name).read()) for name in names]
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        raise UserError(f"{path} cannot be read ({first_sentence(error)})") from None
    if not photographs:
        raise UserError(f"{path} holds no photograph of BSDS500")
    return photographs


def blend(digit: np.ndarray, photographs: list[Pixels], random: np.random.Generator) -> Pixels:
    """An MNIST-M digit, uint8 (h, w, 3), of an MNIST digit (h, w) as Ganin and Lempitsky made them: |patch - digit|.

    The patch is drawn uniformly among photographs and places, unscaled.  All ink counts as white: in the published
    images a pixel is a patch's colour or its negative, and 19.1 % are negative, as many as are not 0 in MNIST.
    """
    photograph = photographs[random.integers(len(photographs))]
    height, width = digit.shape
    top, left = (int(random.integers(photograph.shape[axis] - digit.shape[axis] + 1)) for axis in (0, 1))
    patch = photograph[top : top + height, left : left + width]
    return np.where(digit[:, :, None] > 0, 255 - patch, patch)


def public(name: str, sources: Path, download: bool, seed: int) -> Originals:
    """The public originals of a set, MNIST and BSDS500 for MNIST-M: what `sources` lacks is fetched into it."""
    get = partial(original, sources, download)
    if name == "face":
        return celeba(sources, get)
    digits, labels = read_digits(name, get)
    if name != "mnistm":
        source = f"{name.upper()}, {len(digits):,} digits"
        return Originals(source, len(digits), labels, lambda i: to_course(name, digits[i], f"{name} {i}"))

    photographs = read_photographs(get(BSDS500, [BSDS500_URL], None))

    def image(index: int) -> Pixels:
        return blend(digits[index], photographs, stream(seed, "mnistm", "patch", str(index)))

    source = f"MNIST, {len(digits):,} digits, over patches of {len(photographs):,} photographs ({BSDS500})"
    return Originals(source, len(digits), labels, image)


# The user's own images


def own(path: Path, name: str) -> Originals:
    """Images of a folder and its sub-folders, with labels if they are digits, as originals of the set `name`.

    An image that is there several times, by its pixels in the course's form, is taken once, and stderr says so.  Raises
    UserError, in one sentence, for an image or label that cannot be used, or for two labels of one image.
    """
    images = [file for file in list_files(path, below=True) if is_image(file)]
    if name == "face":
        labels, kind = dict.fromkeys(images), ""
    else:
        labels, kind = own_labels(path, images), " with a label: see docs/data.md"
    chosen = [file for file in images if file in labels]
    if not chosen:
        raise UserError(f"{path} holds no image{kind}")
    if len(chosen) < len(images):
        left = next(file for file in images if file not in labels)
        warn(f"{path}: {len(images) - len(chosen)} images without a label are left out, {left} first")

    def digest(file: Path) -> bytes:
        return hashlib.sha256(to_course(name, decode_image(file), file).tobytes()).digest()

    first: dict[bytes, Path] = {}
    copies = []
    for file, found in zip(chosen, in_threads(digest, chosen, f"{name}: checksums"), strict=True):
        same = first.setdefault(found, file)
        if labels[file] != labels[same]:
            raise UserError(f"{file} is the same image as {same}, with label {labels[file]} instead of {labels[same]}")
        if same is not file:
            copies.append(file)
    if copies:
        warn(f"{path}: {len(copies)} images are copies of others and left out, {copies[0]} first")
    if name == "mnistm" and all(np.ptp(decode_image(file), axis=2).max() == 0 for file in chosen[:100]):
        raise UserError(f"{path} is grey: MNIST itself goes into --sources, and MNIST-M is made of it")
    files = list(first.values())
    values = None if name == "face" else np.array([labels[file] for file in files])
    source = f"{os.path.basename(os.path.abspath(path))}, {len(files):,} images"  # also of "."
    return Originals(source, len(files), values, lambda i: to_course(name, decode_image(files[i]), files[i]))


def own_labels(path: Path, images: list[Path]) -> dict[Path, int]:
    """The labels of digits below `path`: from csv files (image_name,label, of images beside the file or in data/),
    from X_labels.txt as MNIST-M has them (lines `NAME LABEL` of images in X/), or from folders named 0 to 9.

    Raises UserError for a row without its image, and for labels that contradict each other.
    """
    there = set(images)
    labels = {file: (int(file.parent.name), file.parent) for file in images if file.parent.name in DIGITS}
    for table in list_files(path, below=True):
        beside = table.parent
        if table.suffix.lower() == ".csv":
            places = [beside / "data", beside]
        elif table.name.lower().endswith("_labels.txt"):
            places = [beside / table.name[: -len("_labels.txt")], beside]
        else:
            continue
        rows = read_labels(table)
        for row, *candidates in zip(rows, *(find_files(place, rows) for place in places), strict=True):
            file = next((candidate for candidate in candidates if candidate in there), None)
            if file is None:
                raise UserError(f"{places[0] / row} of {table} is missing")
            label, origin = labels.setdefault(file, (rows[row], table))
            if label != rows[row]:
                raise UserError(f"{file} is {label} by {origin} and {rows[row]} by {table}")
    return {file: label for file, (label, _) in labels.items()}
