"""Reading images and labels, once, into uint8 tensors; and the order in which training visits them."""

import contextlib
import csv
import hashlib
import io
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from common.config import UserError
from common.device import generator
from common.files import atomic_write

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm"}
MAX_PIXELS = 64 * 1024 * 1024  # of one image file; more is taken for a decompression bomb
NUM_CLASSES = 10
DECODED_AT_ONCE = 64  # by a thread


def list_images(folder: Path) -> list[Path]:
    """The image files of a folder sorted by name; hidden files and sub-folders are passed over.

    Raises UserError if the folder is missing, is a file, cannot be read or holds no image.
    """
    if not os.path.isdir(folder):  # unlike folder.is_dir(), without errors for odd names
        raise UserError(f"{folder} is {'not a folder' if os.path.exists(folder) else 'missing'}")
    try:
        paths = sorted(
            path
            for path in folder.iterdir()
            if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and not path.is_dir()
        )
    except OSError as error:
        raise UserError(f"{folder} cannot be read: {error.strerror}") from None
    if not paths:
        raise UserError(f"{folder} holds no image ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return paths


def decode_image(path: Path, size: int | None = None, resize: bool = False, content: bytes | None = None) -> np.ndarray:
    """One image file as uint8 (size, size, 3), without `size` (height, width, 3).

    `content` are the bytes of an image that lies in an archive, and `path` is then only its name.

    Grey, palette, 16-bit and transparent images become RGB.  An image of another size is scaled
    bilinearly with `resize` and is otherwise an error.  Raises UserError, naming the file, for what
    cannot be decoded or has more than MAX_PIXELS pixels.
    """
    try:
        with Image.open(path if content is None else io.BytesIO(content)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise UserError(f"{path} is too large: {image.width}x{image.height} pixels")
            if image.mode.startswith("I"):  # 16-bit grey; convert("RGB") would clip it at 255
                wide = np.asarray(image).astype(np.int64)
                image = Image.fromarray((wide.clip(0, 65535) >> (8 if wide.max() > 255 else 0)).astype(np.uint8))
            image = image.convert("RGB")
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{path} is missing") from None
    except Exception as error:  # Pillow's decoders raise many kinds for broken files
        empty = content == b"" if content is not None else path.is_file() and path.stat().st_size == 0
        reason = "is empty" if empty else f"cannot be decoded ({error})"
        raise UserError(f"{path} {reason}") from None
    if size and image.size != (size, size):
        if not resize:
            raise UserError(f"{path} is {image.width}x{image.height}, expected {size}x{size}")
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(image)


def decode_images(paths: list[Path], size: int, resize: bool = False) -> Tensor:
    """Image files as one uint8 tensor (n, 3, size, size), in the order of `paths`."""
    images = np.empty((len(paths), 3, size, size), dtype=np.uint8)

    def decode(some: slice) -> int:
        for index in range(some.start, some.stop):
            images[index] = decode_image(paths[index], size, resize).transpose(2, 0, 1)
        return some.stop - some.start

    with (
        # Python's lock allows little more; and a task of one small image costs as much as the image.
        ThreadPoolExecutor(min(4, torch.get_num_threads())) as pool,
        tqdm(total=len(paths), desc="decoding", unit="img", disable=len(paths) < 5000) as progress,
    ):
        try:
            for count in pool.map(decode, chunks(len(paths), DECODED_AT_ONCE)):
                progress.update(count)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return torch.from_numpy(images)


def cached(paths: list[Path], kind: str, compute: Callable[[], np.ndarray]) -> np.ndarray:
    """What `compute` makes of the files `paths`, kept in the user's cache folder.

    The key is `kind` with the names, sizes and times of the files, those of their last change included;
    a missing file is a UserError.
    """
    digest = hashlib.blake2b(kind.encode(), digest_size=16)
    for path in paths:
        try:
            status = path.stat()
        except OSError:
            raise UserError(f"{path} is missing") from None
        times = f"{status.st_mtime_ns}|{status.st_ctime_ns}"  # an image copied with its old time has a new ctime
        digest.update(f"{os.path.abspath(path)}|{status.st_size}|{times}\n".encode("utf-8", "surrogateescape"))
    try:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # no HOME, and a user whom the system does not know: no cache
        return compute()
    file = root / "dlcv-hw2" / f"{digest.hexdigest()}.npy"
    try:
        return np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError):  # not cached yet, or an unreadable cache: compute again
        array = compute()
    with contextlib.suppress(UserError):  # a cache that cannot be written costs only time
        atomic_write(file, lambda handle: np.save(handle, array))
    return array


def _cached_images(paths: list[Path], size: int) -> Tensor:
    return torch.from_numpy(cached(paths, f"1 {size}", lambda: decode_images(paths, size).numpy()))


def load_folder(folder: Path, size: int) -> Tensor:
    """All images of a folder as uint8 (n, 3, size, size), decoded once and cached."""
    return _cached_images(list_images(folder), size)


def read_labels(file: Path) -> dict[str, int]:
    """The rows of an `image_name,label` csv as {image name: label}.

    A byte-order mark, CRLF, extra columns and spaces around the header are accepted.  Raises UserError,
    naming file and row, for a missing file or column, a duplicate name, or a label that is not 0 to 9.
    """
    try:
        with open(file, newline="", encoding="utf-8-sig") as handle:
            rows = list(csv.reader(handle))
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"{file} is not a csv file ({error})") from None
    header = [cell.strip().lower() for cell in rows[0]] if rows else []
    if "image_name" not in header or "label" not in header:
        raise UserError(f"{file} lacks the header image_name,label")
    name_column, label_column = header.index("image_name"), header.index("label")
    labels: dict[str, int] = {}
    for number, row in enumerate(rows[1:], 2):
        if not any(cell.strip() for cell in row):
            continue
        if len(row) <= max(name_column, label_column):
            raise UserError(f"{file} row {number} has {len(row)} columns, expected image_name,label")
        name, label = row[name_column].strip(), row[label_column].strip()
        # int() does not read thousands of digits
        if not (label.isascii() and label.isdigit() and len(label) < 10 and int(label) < NUM_CLASSES):
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
    labels = read_labels(file)
    try:
        images = _cached_images([domain / "data" / name for name in labels], 28)
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


def batch_indices(count: int, batch_size: int, step: int, seed: int | tuple[int, int], stream: str = "order") -> Tensor:
    """The indices (batch_size,) that training step `step` visits: a new permutation every epoch.

    The order is one endless stream of permutations, cut into batches, so every image is visited equally
    often and a step's batch depends on nothing but the arguments.
    """
    positions = torch.arange(step * batch_size, (step + 1) * batch_size)
    epochs = positions // count
    indices = torch.empty_like(positions)
    for epoch in epochs.unique().tolist():
        order = torch.randperm(count, generator=generator(seed, stream, epoch))
        chosen = epochs == epoch
        indices[chosen] = order[positions[chosen] % count]
    return indices


def chunks(count: int, size: int) -> Iterable[slice]:
    """Slices of at most `size` that cover range(count)."""
    return (slice(start, min(start + size, count)) for start in range(0, count, size))
