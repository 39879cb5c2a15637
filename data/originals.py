"""Reading the public originals, or the user's own images, in the form the course gave them.

The addresses and checksums of MNIST, SVHN, USPS and CelebA are torchvision's, and so are the readers of SVHN and USPS.
"""

import gzip
import hashlib
import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from common.config import UserError
from common.files import locked, read_text, require_file, sha256
from data.reading import (
    IMAGE_SUFFIXES,
    NUM_CLASSES,
    checked_labels,
    decode_image,
    find_files,
    is_image,
    list_files,
    read_labels,
    warn,
)
from data.tree import COURSE, Originals, in_threads, stream

BSDS500 = "BSR_bsds500.tgz"
BSDS500_URL = f"http://www.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/BSR/{BSDS500}"
BSDS500_IMAGES = "BSDS500/data/images/"  # the archive's other images are copies of some of these
PHOTOGRAPH = 481  # the longer side of a BSDS500 photograph; larger ones of the user's are reduced to it
NAMESAKES = {"FashionMNIST", "KMNIST", "QMNIST", "EMNIST"}  # torchvision's folders of files that are named as MNIST's
CROP = (12, 30)  # left and top of the course's 64x64 faces in CelebA's aligned photographs at half resolution
DIGITS = list("0123456789")

Pixels = np.ndarray  # uint8 (height, width, 3) or (height, width)


class Sources(NamedTuple):
    """Where originals lie, whether to fetch those that lack, and whether their checksums must be torchvision's."""

    folder: Path
    download: bool
    checksums: bool


def import_datasets() -> ModuleType:
    try:
        from torchvision import datasets  # here, because only originals need it
    except (ImportError, RuntimeError) as error:  # RuntimeError: torch and torchvision of different builds
        reason = str(error).splitlines()[0]
        raise UserError(f"torchvision is needed to read the originals and does not import ({reason})") from None
    return datasets


def guarded(path: Path, read: Callable[[], Any]) -> Any:
    """read(), whatever a library raises for a broken file made one sentence that names it."""
    try:
        return read()
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{path} cannot be read ({str(error) or type(error).__name__})") from None


def to_course(name: str, pixels: Pixels, where: object) -> Pixels:
    """An original image of the set `name` in the course's form: what `Originals.image` returns.

    Faces: the crop of CelebA's 178x218 or 89x109, or 64x64 as it is.  MNIST-M: the middle of 32x32.  Every other
    digit is scaled bilinearly to 28x28.  Raises UserError, naming `where`, for faces of other sizes.
    """
    course = COURSE[name]
    image = Image.fromarray(pixels).convert(course.mode)
    if name == "face":
        if image.size == (178, 218):
            image = image.reduce(2)
        if image.size == (89, 109):
            left, top = CROP
            image = image.crop((left, top, left + course.size, top + course.size))
        if image.size != (course.size, course.size):
            raise UserError(
                f"{where} is {image.width}x{image.height}, expected an aligned CelebA photograph (178x218 or 89x109) "
                "or a finished 64x64 crop"
            )
    elif name == "mnistm" and image.size == (32, 32):
        image = image.crop((2, 2, 30, 30))
    elif image.size != (course.size, course.size):
        image = image.resize((course.size, course.size), Image.Resampling.BILINEAR)
    return np.asarray(image)


def digest_of(content: bytes | Pixels) -> bytes:
    """SHA-256 of bytes, or of pixels whatever file they came from."""
    return hashlib.sha256(content if isinstance(content, bytes) else np.ascontiguousarray(content)).digest()


def checksum_of(digests: Iterable[bytes], labels: np.ndarray | None = None) -> str:
    """One checksum of images, by their own in order, and labels: by it a later run knows the same originals."""
    whole = hashlib.sha256(b"".join(digests))
    whole.update(b"" if labels is None else labels.astype(np.int64).tobytes())
    return whole.hexdigest()[:32]


# The public originals


def find(folder: Path, name: str) -> Path | None:
    """The file `name` in `folder` or the nearest of its sub-folders, but for those of MNIST's namesakes.

    Raises UserError if several files of other content are as near.
    """
    files = list_files(folder, below=True) if folder.is_dir() else []
    there = [path for path in files if path.name == name and NAMESAKES.isdisjoint(path.relative_to(folder).parts)]
    nearest = [path for path in there if len(path.parts) == min(len(path.parts) for path in there)]
    if len(nearest) > 1 and len({sha256(path) for path in nearest}) > 1:
        raise UserError(f"{name} is there with several contents, remove all but one: {', '.join(map(str, nearest))}")
    return nearest[0] if nearest else None


def fetch(path: Path, addresses: list[str], md5: str | None) -> None:
    """Download `path`, which comes into being only when all of it is there, with the right MD5.

    An address that has no https:// is the id of a file on Google Drive.
    """
    utils = import_datasets().utils
    part = path.with_name(f".download-{path.name}")
    reasons = []
    with locked(path.parent):
        try:
            shutil.rmtree(part, ignore_errors=True)  # of a run that was killed
            part.mkdir()
            for address in addresses:
                try:
                    if "://" in address:
                        utils.download_url(address, part, path.name, md5)
                    else:
                        utils.download_file_from_google_drive(address, part, path.name, md5)
                    os.replace(part / path.name, path)
                    return
                except (OSError, RuntimeError, ValueError) as error:
                    reasons.append(str(error).splitlines()[0] if str(error) else type(error).__name__)
        except OSError as error:
            raise UserError(f"{path} cannot be written: {error.strerror or error}") from None
        finally:
            shutil.rmtree(part, ignore_errors=True)
    raise UserError(
        f"{path.name} cannot be downloaded ({'; '.join(dict.fromkeys(reasons))}): put it into {path.parent}, "
        f"or give the folder that holds it by --sources"
    )


def original(sources: Sources, place: str, addresses: list[str], md5: str | None = None) -> Path:
    """The original whose path below --sources torchvision wants to be `place`; found anywhere below, or fetched.

    Raises UserError if it cannot be had or is another file than that MD5 says.
    """
    path = find(sources.folder, PurePosixPath(place).name)
    if path is None:
        path = sources.folder / place
        if not sources.download:
            raise UserError(f"{sources.folder} lacks {path.name}, and --no-download was given")
        fetch(path, addresses, md5)
    if md5 and sources.checksums and not import_datasets().utils.check_integrity(path, md5):
        raise UserError(
            f"{path} is not the original, its MD5 is not {md5}: remove it and it is fetched again, "
            "or accept it with --no-checksums"
        )
    return path


def read_idx(path: Path) -> np.ndarray:
    """The uint8 array of one of MNIST's idx files, as published or unpacked."""

    def read() -> np.ndarray:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        dimensions = content[3]
        shape = np.frombuffer(content, ">u4", dimensions, 4)
        return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)

    return guarded(path, read)


def read_mnist(sources: Sources) -> tuple[np.ndarray, np.ndarray]:
    """MNIST's images uint8 (70000, 28, 28) and labels (70000,): training set, then test set."""
    datasets = import_datasets()
    arrays = []
    for name, md5 in datasets.MNIST.resources:
        bare = find(sources.folder, name.removesuffix(".gz")) if find(sources.folder, name) is None else None
        addresses = [mirror + name for mirror in datasets.MNIST.mirrors]
        path = bare or original(sources, f"MNIST/raw/{name}", addresses, md5)
        arrays.append(read_idx(path))
        if len(arrays) % 2 == 0:
            refuse_labels(arrays[-1], len(arrays[-2]), path)
    return np.concatenate(arrays[::2]), np.concatenate(arrays[1::2])


def read_split_list(name: str, sources: Sources) -> tuple[np.ndarray, np.ndarray]:
    """SVHN's images uint8 (99289, 32, 32, 3), or USPS's (9298, 16, 16), and labels (n,), its training set first."""
    datasets = import_datasets()

    class CheckedSVHN(datasets.SVHN):
        def _check_integrity(self) -> bool:
            return True  # original() has

    images, labels = [], []
    for split in ("train", "test"):
        url, file, md5 = (datasets.SVHN if name == "svhn" else datasets.USPS).split_list[split]
        path = original(sources, file, [url], md5)
        if name == "svhn":
            part = guarded(path, lambda path=path, split=split: CheckedSVHN(path.parent, split))
            images.append(part.data.transpose(0, 2, 3, 1))
            labels.append(np.asarray(part.labels))
        else:
            part = guarded(path, lambda path=path, split=split: datasets.USPS(path.parent, split == "train"))
            images.append(part.data)
            labels.append(np.asarray(part.targets))
        refuse_labels(labels[-1], len(images[-1]), path)
    return np.concatenate(images), np.concatenate(labels)


def refuse_labels(labels: np.ndarray, count: int, path: Path) -> None:
    """Raise UserError unless the labels of `path` are digits and as many as its images."""
    if labels.shape != (count,) or not np.isin(labels, range(NUM_CLASSES)).all():
        raise UserError(f"{path} cannot be read (its labels are not {count} digits from 0 to 9)")


def celeba(sources: Sources) -> Originals:
    """CelebA's aligned photographs, of a folder img_align_celeba or its zip; the list of its partition says which.

    Every photograph is taken, whatever CelebA's partition: the course's split is its own.
    """
    files = list_files(sources.folder, below=True) if sources.folder.is_dir() else []
    files = [file for file in files if file.parent.name == "img_align_celeba" and file.suffix.lower() == ".jpg"]
    folder = min((file.parent for file in files), key=lambda path: (len(path.parts), path), default=None)
    photographs = {file.name: file for file in files if file.parent == folder}
    table = find(sources.folder, "list_eval_partition.txt") or find(sources.folder, "list_eval_partition.csv")
    archive = None
    if not photographs or table is None:
        entries = {name: (address, md5) for address, md5, name in import_datasets().CelebA.file_list}

        def get(name: str) -> Path:
            address, md5 = entries[name]
            return original(sources, f"celeba/{name}", [address], md5)

        table = table or get("list_eval_partition.txt")
        archive = None if photographs else get("img_align_celeba.zip")
    lines = read_text(table).splitlines()
    names = [line.replace(",", " ").split()[0] for line in lines if line.strip() and not line.startswith("image_id")]
    if archive:
        opened = guarded(archive, lambda: zipfile.ZipFile(archive))
        members = {PurePosixPath(member.filename).name: member for member in opened.infolist()}
        place, there = archive, members.keys()
    else:
        place, there = folder, photographs.keys()
    if missing := [name for name in names if name not in there]:
        raise UserError(f"{place} lacks {len(missing)} of the {len(names)} photographs of {table}, {missing[0]} first")

    def read(name: str) -> bytes:
        return guarded(place, lambda: opened.read(members[name]) if archive else photographs[name].read_bytes())

    digests = list(in_threads(lambda name: digest_of(read(name)), names, len(names), "face: checksums"))

    def image(index: int) -> Pixels:
        where, content = Path(f"{place}/{names[index]}"), read(names[index])
        if digest_of(content) != digests[index]:
            raise UserError(f"{where} was changed meanwhile")
        return to_course("face", decode_image(where, content=content), where)

    return Originals(f"CelebA, {len(names):,} aligned photographs", checksum_of(digests), len(names), None, image)


def read_photographs(path: Path) -> list[Pixels]:
    """The photographs of a folder or a tar, sub-folders included, by name, as uint8 (height, width, 3).

    Of BSDS500 only its own 500.  Larger ones are reduced to 481 pixels, so that a patch shows as much of a scene.
    Raises UserError if there is none or one is smaller than a digit.
    """

    def opened() -> Iterator[tuple[str, Pixels]]:
        if path.is_dir():
            for file in filter(is_image, list_files(path, below=True)):
                yield str(file), decode_image(file)
            return
        require_file(path)
        with tarfile.open(path) as archive:
            members = {member.name: member for member in archive if member.isfile()}
            for name in sorted(members):
                base = PurePosixPath(name)
                if base.suffix.lower() in IMAGE_SUFFIXES and not base.name.startswith("."):
                    yield f"{path}/{name}", decode_image(path / name, content=archive.extractfile(members[name]).read())

    pictures = dict(guarded(path, lambda: list(opened())))
    photographs = []
    for where in [where for where in pictures if BSDS500_IMAGES in where] or pictures:
        image = Image.fromarray(pictures[where])
        image.thumbnail((PHOTOGRAPH, PHOTOGRAPH), Image.Resampling.LANCZOS)
        if min(image.size) < COURSE["mnistm"].size:
            raise UserError(f"{where} is {image.width}x{image.height} after reduction, too small for a 28x28 patch")
        photographs.append(np.asarray(image))
    if not photographs:
        raise UserError(f"{path} holds no photograph")
    return photographs


def blend(digit: np.ndarray, photographs: list[Pixels], random: np.random.Generator) -> Pixels:
    """An MNIST-M digit, uint8 (h, w, 3), of an MNIST digit (h, w) as Ganin and Lempitsky made them: |patch - digit|.

    The patch is drawn uniformly among photographs and places, without scaling.  Every pixel of ink counts as
    white, as the published images show: where a patch is plain enough to tell, a pixel is the patch's colour or its
    negative and nothing between; and their means are those of patches with 19.1 % of the pixels negative, which is
    how many of MNIST's are not 0.
    """
    photograph = photographs[random.integers(len(photographs))]
    height, width = digit.shape
    top, left = (int(random.integers(photograph.shape[axis] - digit.shape[axis] + 1)) for axis in (0, 1))
    patch = photograph[top : top + height, left : left + width]
    return np.where(digit[:, :, None] > 0, 255 - patch, patch)


def public(name: str, sources: Sources, photographs: str, seed: int) -> Originals:
    """The public originals of a set: found in `sources` or fetched into it.

    MNIST-M is made of MNIST over patches of BSDS500, or of the folder or tar `photographs` if that is not empty.
    """
    if sources.folder.exists() and not sources.folder.is_dir():
        raise UserError(f"{sources.folder} is not a folder")
    if name == "face":
        return celeba(sources)
    if name != "mnistm":
        images, labels = read_split_list(name, sources)
        checksum = checksum_of([digest_of(images)], labels)
        source = f"{name.upper()}, {len(images):,} digits"
        return Originals(source, checksum, len(images), labels, lambda i: to_course(name, images[i], f"{name} {i}"))

    digits, labels = read_mnist(sources)
    place = Path(photographs) if photographs else original(sources, BSDS500, [BSDS500_URL])
    if not place.exists():
        raise UserError(f"{place} is missing")
    pictures = read_photographs(place)

    def image(index: int) -> Pixels:
        return blend(digits[index], pictures, stream(seed, "mnistm", "patch", str(index)))

    source = f"MNIST, {len(digits):,} digits, over patches of {len(pictures):,} photographs ({place.name})"
    checksum = checksum_of([digest_of(digits), *map(digest_of, pictures)], labels)
    return Originals(source, checksum, len(digits), labels, image)


# The user's own images


def own(path: Path, name: str) -> Originals:
    """Images of a folder and its sub-folders, with labels if they are digits, as originals of the set `name`.

    An image that is there several times, by its pixels in the course's form, is taken once, and stderr says so.
    Raises UserError, in one sentence, for an image or label that cannot be used, or for two labels of one image.
    """
    if not path.is_dir():
        raise UserError(f"{path} is {'not a folder' if path.exists() else 'missing'}")
    images = [file for file in list_files(path, below=True) if is_image(file)]
    labels = {} if name == "face" else own_labels(path, images)
    if not (images if name == "face" else labels):
        kind = (
            "" if name == "face" else " with a label: a csv (image_name,label), X_labels.txt of X/, or folders 0 to 9"
        )
        raise UserError(f"{path} holds no image{kind}")
    chosen = images if name == "face" else [file for file in images if file in labels]
    if len(chosen) < len(images):
        left = next(file for file in images if file not in labels)
        warn(f"{path}: {len(images) - len(chosen)} images without a label are left out, {left} first")

    def read(file: Path) -> tuple[bytes, bool]:
        pixels = decode_image(file)
        return digest_of(to_course(name, pixels, file)), bool((pixels == pixels[:, :, :1]).all())

    first: dict[bytes, Path] = {}
    copies, grey = [], True
    for file, (digest, is_grey) in zip(
        chosen, in_threads(read, chosen, len(chosen), f"{name}: checksums"), strict=True
    ):
        grey &= is_grey
        if (same := first.setdefault(digest, file)) is file:
            continue
        if labels.get(file) != labels.get(same):
            raise UserError(f"{file} is the same image as {same}, with label {labels[file]} instead of {labels[same]}")
        copies.append(file)
    if copies:
        warn(f"{path}: {len(copies)} images are copies of others and left out, {copies[0]} first")
    if name == "mnistm" and grey:
        raise UserError(f"{path} is grey: MNIST itself goes into --sources, and MNIST-M is made of it")
    digests, files = list(first), list(first.values())

    def image(index: int) -> Pixels:
        pixels = to_course(name, decode_image(files[index]), files[index])
        if digest_of(pixels) != digests[index]:
            raise UserError(f"{files[index]} was changed meanwhile")
        return pixels

    values = None if name == "face" else np.array([labels[file] for file in files])
    source = f"{os.path.basename(os.path.abspath(path))}, {len(files):,} images"  # also of "."
    return Originals(source, checksum_of(digests, values), len(files), values, image)


def own_labels(path: Path, images: list[Path]) -> dict[Path, int]:
    """The labels of digits below `path`: from csv files (image_name,label, of images beside the file or in data/),
    from X_labels.txt as MNIST-M has them (lines `NAME LABEL` of images in X/), or from folders named 0 to 9.

    Raises UserError for a row without its image, and for labels that contradict each other.
    """
    there, labels = set(images), {}
    for file in images:
        if file.parent.name in DIGITS:
            labels[file] = int(file.parent.name)
    from_folders, from_tables = dict(labels), {}
    for table in list_files(path, below=True):
        if table.suffix.lower() == ".csv":
            rows, places = read_labels(table), [table.parent / "data", table.parent]
        elif table.name.lower().endswith("_labels.txt"):
            rows, places = read_text_labels(table), [table.with_name(table.name[: -len("_labels.txt")]), table.parent]
        else:
            continue
        for row, *candidates in zip(rows, *(find_files(place, rows) for place in places), strict=True):
            file = next((candidate for candidate in candidates if candidate in there), None)
            if file is None:
                raise UserError(f"{places[0] / row} of {table} is missing")
            if file in from_tables:
                raise UserError(f"{file} stands in several label files, {from_tables[file]} and {table}")
            if from_folders.get(file, rows[row]) != rows[row]:
                raise UserError(f"{file} lies in a folder {from_folders[file]} and is {rows[row]} by {table}")
            labels[file], from_tables[file] = rows[row], table
    return labels


def read_text_labels(table: Path) -> dict[str, int]:
    """Lines `NAME LABEL` as {name: label}."""
    rows = []
    for number, line in enumerate(read_text(table).splitlines(), 1):
        cells = line.rsplit(maxsplit=1)
        if cells and (len(cells) < 2 or cells[1] not in DIGITS):
            raise UserError(f"{table} line {number} is not a name and a digit")
        if cells:
            rows.append((number, cells[0].strip(), cells[1]))
    return checked_labels(table, rows)
