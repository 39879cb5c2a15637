"""Reading images and labels, once, into uint8 tensors."""

import contextlib
import csv
import functools
import hashlib
import io
import os
import re
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from tqdm import tqdm

from common.config import UserError, first_five, first_sentence, warn
from common.files import atomic_write, read_text, remove_parts, require_file

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm"}
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "GIF", "PPM", "AVIF", "JPEG2000", "ICO")  # and no EPS: it is a program
MAX_PIXELS = 64 * 1024 * 1024  # of one image file; more is taken for a decompression bomb
BLANK = 4  # grey levels between the darkest and the brightest value of an image that shows nothing
NUM_CLASSES = 10
DIGITS = list("0123456789")
DECODED_AT_ONCE = 64  # by a thread
CACHE_BYTES = 4 << 30  # of decoded images and features; beyond it what was not read for longest goes
OTHER_DATA = "give another folder by --data, --source or --target, or make one: python3 prepare_data.py hw2_data"

T = TypeVar("T")

warnings.filterwarnings("ignore", module="PIL")  # of notes in an image that nobody asked for


def in_threads(function: Callable[[Any], T], items: Sequence[Any], title: str, unit: str = "img") -> Iterator[T]:
    """function(item) of every item in order, by a few threads; what takes long has a progress bar on a terminal."""
    with ThreadPoolExecutor(min(4, torch.get_num_threads())) as pool:  # Python's lock allows little more
        try:
            yield from tqdm(pool.map(function, items), title, len(items), unit=unit, disable=None, delay=1)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


# Folders


def list_files(folder: Path, below: bool = False) -> list[Path]:
    """The files of a folder sorted by name, with `below` those of its sub-folders too.

    Links are followed, but not into a folder that holds them; one to nothing is listed, so that reading it says so.
    Hidden entries, pipes and devices are passed over.  Raises UserError for what is no folder or cannot be read.
    """
    if not os.path.isdir(folder):  # unlike folder.is_dir(), without errors for odd names
        raise UserError(f"{folder} is {'not a folder' if os.path.exists(folder) else 'missing'}")

    def refuse(error: OSError):
        raise UserError(f"{error.filename} cannot be read: {error.strerror}") from None

    files = []
    for place, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        above = {os.path.realpath(parent) for parent in (place, *Path(place).parents)}
        visible = [name for name in folders if below and not name.startswith(".")]
        folders[:] = [name for name in visible if os.path.realpath(os.path.join(place, name)) not in above]
        for path in (Path(place, name) for name in names if not name.startswith(".")):
            if os.path.isfile(path) or not os.path.exists(path):
                files.append(path)
    return sorted(files, key=lambda path: path.parts)


def is_image(path: Path) -> bool:
    """Whether a file has the suffix of an image, in any case, or with another suffix or none the content of one."""
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return True
    try:
        require_file(path)
        with Image.open(path, formats=FORMATS):
            return True
    except Exception:  # Pillow raises many kinds
        return False


def list_images(folder: Path) -> list[Path]:
    """The image files of a folder sorted by name (`list_files`, `is_image`).  Raises UserError if there is none."""
    paths = [path for path in list_files(folder) if is_image(path)]
    if not paths:
        meant = _did_you_mean(folder, lambda path: path.suffix.lower() in IMAGE_SUFFIXES)
        raise UserError(f"{folder} holds no image{meant}")
    return paths


def _did_you_mean(folder: Path, wanted: Callable[[Path], bool]) -> str:
    """A question: the first folder, one or two levels below `folder`, test/ last, with a file that is `wanted`."""
    with contextlib.suppress(OSError):
        files = [*folder.glob("*/*"), *folder.glob("*/*/*")]
        for path in sorted(files, key=lambda path: (path.parent.name == "test", len(path.parts), path)):
            if wanted(path):
                return f"; did you mean {path.parent}?"
    return ""


def warn_of_others(folder: Path, images: list[Path], lacking: str) -> None:
    """Say on stderr that what a folder holds beside its `images` is `lacking`, but for hidden files that are none."""
    others = set(os.listdir(folder)) - {path.name for path in images}
    others = [name for name in others if not name.startswith(".") or is_image(folder / name)]
    if others:
        warn(f"{folder}: {lacking}: {first_five(sorted(others, key=lambda name: (name.startswith('.'), name)))}")


def find_files(folder: Path, names: Iterable[str]) -> list[Path]:
    """The files that a table calls `names`, relative to `folder`, whether they are there or not.

    A letter with an accent may be one character in the table and two in the folder (NFC, NFD), and a locale may
    show neither; spaces around a name do not count.  Raises UserError if two files have one name in that sense.
    """

    def plain(name: str) -> str:
        return unicodedata.normalize("NFC", name).strip()

    @functools.cache
    def entries(place: Path) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        with contextlib.suppress(OSError, ValueError):
            for entry in os.listdir(place):
                found.setdefault(plain(os.fsencode(entry).decode("utf-8", "surrogateescape")), []).append(entry)
        return found

    def find(name: str) -> Path:
        place = folder
        for part in PurePosixPath(name).parts:
            same = entries(place).get(plain(part), [part])
            if len(same) > 1:
                reason = "but for spaces around a name and the form of accents (NFC, NFD)"
                raise UserError(f"{place} holds {len(same)} files that are all called {part} {reason}: rename one")
            place /= same[0]
        return place

    return [find(name) for name in names]


# Images


def decode_image(
    path: Path, size: int | None = None, resize: bool = False, content: bytes | None = None, as_stored: bool = False
) -> np.ndarray:
    """One image file as uint8 (size, size, 3), without `size` (height, width, 3).

    It is what a viewer shows, see `_as_shown`; `as_stored`, without transparency and orientation, as the grader's tools
    decode.  Another size is scaled bilinearly with `resize`, else an error.  `content` are the bytes of an image in an
    archive.  Raises UserError, naming the file, for what cannot be decoded or has more than MAX_PIXELS pixels.
    """
    if content is None:
        require_file(path)
    try:
        # By an open file, as Pillow 12 maps an uncompressed TIFF that lies on its side into memory the wrong way.
        with (
            open(path, "rb") if content is None else io.BytesIO(content) as handle,
            Image.open(handle, formats=FORMATS) as image,
        ):
            if image.width * image.height > MAX_PIXELS:
                raise UserError(f"{path} is too large: {image.width}x{image.height} pixels")
            image = _high_byte(image).convert("RGB") if as_stored else _as_shown(image, path)
    except (UserError, MemoryError):
        raise
    except UnidentifiedImageError:  # its text is about Python's file object
        raise UserError(f"{path} cannot be decoded (no image of a known kind)") from None
    except Exception as error:  # Pillow's decoders raise many kinds for broken files
        reason = getattr(error, "strerror", None) or first_sentence(error)
        raise UserError(f"{path} cannot be decoded ({reason})") from None
    if size and image.size != (size, size):
        if not resize:
            raise UserError(f"{path} is {image.width}x{image.height}, expected {size}x{size}")
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(image)


def _high_byte(image: Image.Image) -> Image.Image:
    """The upper 8 of 16 bits of a grey image, which Pillow's convert would clip instead; other modes as they are."""
    if not image.mode.startswith("I"):
        return image
    return Image.fromarray((np.asarray(image).astype(np.int64).clip(0, 65535) >> 8).astype(np.uint8))


def _as_shown(image: Image.Image, path: Path) -> Image.Image:
    """An opened image as upright (EXIF), opaque RGB with 8 bits.

    What is transparent becomes white, or black where the visible part is brighter than middle grey on average, so that
    ink stays ink.  16 bits are those of 65,535, whatever the image holds; one whose brightest value is below 1/16 of
    that is refused, as its numbers are probably of 10 or 12 bits, unless it would be black.  So are floats and 32-bit
    integers.
    """
    kind, deep = image.format, image.mode.startswith("I") or re.search("(LA|RGB.?|CMYK);16", str(image.tile))
    image.load()
    with contextlib.suppress(Exception):  # notes that cannot be read hold no orientation
        image = ImageOps.exif_transpose(image)
    if image.mode == "F" or (image.mode == "I" and kind not in ("PNG", "PPM")):
        numbers = "floats" if image.mode == "F" else "32-bit integers"
        raise UserError(f"{path} holds {numbers}, whose range is not known: save it with 8 or 16 bits")
    image = _high_byte(image)
    if transparent := image.has_transparency_data:
        image = image.convert("RGBA")
    rgb = image.convert("RGB")
    if deep and 1 < (top := np.asarray(rgb).max()) < 16:
        raise UserError(
            f"{path} has 16-bit values, none of which exceeds {256 * int(top) + 255} of 65,535, so its range is not "
            "known: save it with 8 bits, or with values up to 65,535"
        )
    if transparent:
        cover, grey = np.asarray(image.getchannel("A"), np.float64), np.asarray(rgb.convert("L"))
        dark = (cover * grey).sum() <= 127.5 * cover.sum()
        paper = Image.new("RGBA", image.size, "white" if dark else "black")
        rgb = Image.alpha_composite(paper, image).convert("RGB")
    return rgb


def decode_images(paths: list[Path], size: int, resize: bool = False, as_stored: bool = False) -> Tensor:
    """Image files as uint8 (n, 3, size, size); unless `as_stored`, stderr says how many of them are of one colour."""
    images = np.empty((len(paths), 3, size, size), dtype=np.uint8)

    def decode(some: slice) -> None:  # a task of one small image costs as much as the image
        for index in range(some.start, some.stop):
            images[index] = decode_image(paths[index], size, resize, as_stored=as_stored).transpose(2, 0, 1)

    for _ in in_threads(decode, list(chunks(len(paths), DECODED_AT_ONCE)), "decoding", f"x{DECODED_AT_ONCE} img"):
        pass
    if len(paths) and not as_stored:
        flat = images.reshape(len(images), -1)
        blank = np.flatnonzero(flat.max(1) - flat.min(1) < BLANK)
        if len(blank):
            warn(f"{len(blank)} of {len(paths)} images are of one colour, {paths[blank[0]]} first")
    return torch.from_numpy(images)


def cached(key: str, compute: Callable[[], np.ndarray], of: str = "") -> np.ndarray:
    """What `compute` returns, kept by `key` in the user's cache folder.

    It replaces what was kept `of` the same folder or table; of all that lies there CACHE_BYTES stay.
    """

    def checksum(text: str) -> str:
        return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=12).hexdigest()

    try:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dlcv-hw2"
    except RuntimeError:  # no HOME, and a user whom the system does not know: no cache
        return compute()
    place = checksum(of or key)
    file = root / f"{place}-{checksum(key)}.npy"
    try:
        array = np.load(file, allow_pickle=False)
        with contextlib.suppress(OSError):
            os.utime(file)  # read just now
        return array
    except (OSError, ValueError, EOFError):  # not cached yet, or an unreadable cache: compute again
        array = compute()
    with contextlib.suppress(UserError, OSError):  # a cache that cannot be written costs only time
        atomic_write(file, lambda handle: np.save(handle, array))
        remove_parts(root)  # of processes that were killed
        total = 0
        for old in sorted(root.glob("*.npy"), key=lambda old: (old != file, -old.stat().st_mtime)):
            replaced = old != file and old.name.startswith(place)
            total += 0 if replaced else old.stat().st_size
            if replaced or (old != file and total > CACHE_BYTES):
                old.unlink(missing_ok=True)
    return array


def _cached_images(paths: list[Path], size: int, of: Path) -> Tensor:
    """`decode_images`, cached by the files' names, sizes and times.  Raises UserError for a missing file."""
    key = f"images 3 {size}"
    for path in paths:
        require_file(path)
        status = path.stat()  # an image copied with its old time has a new ctime
        key += f"\n{os.path.abspath(path)}|{status.st_size}|{status.st_mtime_ns}|{status.st_ctime_ns}"
    return torch.from_numpy(cached(key, lambda: decode_images(paths, size).numpy(), f"{size} {os.path.abspath(of)}"))


def load_folder(folder: Path, size: int) -> Tensor:
    """All images of a folder as uint8 (n, 3, size, size), decoded once and cached; stderr names what is no image."""
    if not os.path.exists(folder):
        raise UserError(f"{folder} is missing: {OTHER_DATA}")
    paths = list_images(folder)
    warn_of_others(folder, paths, "not among the images")
    return _cached_images(paths, size, folder)


# Labels


def read_labels(file: Path) -> dict[str, int]:
    """The rows of an `image_name,label` csv, or the lines `NAME LABEL` of a X_labels.txt, as {image name: label}.

    The names are in Unicode's composed form (NFC).  A byte-order mark, CRLF, extra columns and spaces around cells are
    accepted.  Raises UserError, naming file and row, for a missing file, column or name, two columns or images of one
    name, a quote that is not closed, a label that is not 0 to 9, or no row at all.
    """
    text, first = read_text(file), 2
    if file.name.lower().endswith("_labels.txt"):
        rows, first = [["image_name", "label"], *(["", *line.rsplit(maxsplit=1)][-2:] for line in text.splitlines())], 1
    else:
        try:
            rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))  # no row in an open quote
        except csv.Error as error:
            raise UserError(f"{file} is not a csv file ({error})") from None
    header = [cell.strip().lower() for cell in rows[0]] if rows else []
    for name in ("image_name", "label"):
        if header.count(name) != 1:
            raise UserError(f"{file} has {header.count(name)} columns called {name}, expected image_name,label")
    columns = header.index("image_name"), header.index("label")
    labels: dict[str, int] = {}
    for number, row in enumerate(rows[1:], first):
        if not any(cell.strip() for cell in row):
            continue
        if len(row) <= max(columns):
            raise UserError(f"{file} row {number} has {len(row)} columns, expected image_name,label")
        name, label = (row[column].strip() for column in columns)
        if not name:
            raise UserError(f"{file} row {number} names no image")
        name = str(PurePosixPath(unicodedata.normalize("NFC", name)))  # without "./"
        if label not in DIGITS:
            raise UserError(f"{file} row {number}: label '{label:.30}' of {name} is not a digit from 0 to 9")
        if name in labels:
            raise UserError(f"{file} row {number}: {name} stands twice")
        labels[name] = int(label)
    if not labels:
        raise UserError(f"{file} has no rows")
    return labels


def load_digits(domain: Path, split: str) -> tuple[Tensor, Tensor]:
    """A split of a digits folder with `data/` and `{split}.csv`: uint8 (n, 3, 28, 28) and int64 labels (n,)."""
    file = domain / f"{split}.csv"
    if not os.path.exists(file):
        if os.path.exists(domain.parent / file.name):
            raise UserError(f"{file} is missing; did you mean {domain.parent}?")
        meant = _did_you_mean(domain, lambda path: path.name == file.name)
        raise UserError(f"{file} is missing{meant or f': {OTHER_DATA}'}")
    labels = read_labels(file)
    try:
        images = _cached_images(find_files(domain / "data", labels), 28, file)
    except UserError as error:
        raise UserError(f"an image of {file}: {error}") from None
    return images, torch.tensor(list(labels.values()))


def load_unlabelled_digits(domain: Path, split: str) -> Tensor:
    """The images of a split as uint8 (n, 3, 28, 28): what adaptation may see of a target domain."""
    return load_digits(domain, split)[0]


def fingerprint(*tensors: Tensor) -> str:
    """A short checksum of uint8 or int64 tensors, so that a resumed training notices other data."""
    digest = hashlib.blake2b(digest_size=8)
    for tensor in tensors:
        digest.update(f"{tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy())
    return digest.hexdigest()


def to_unit_range(images: Tensor) -> Tensor:
    """uint8 [0, 255] to float32 [-1, 1]."""
    return images.float().div_(127.5).sub_(1.0)


def chunks(count: int, size: int) -> Iterable[slice]:
    """Slices of at most `size` that cover range(count)."""
    return (slice(start, min(start + size, count)) for start in range(0, count, size))
