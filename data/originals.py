"""Reading the public originals, or the user's own images, in the form the course gave them.

MNIST, SVHN, USPS and CelebA are fetched, checked and (but for CelebA's photographs) read by torchvision's datasets.
"""

import gzip
import hashlib
import os
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from common.config import UserError
from data.reading import IMAGE_SUFFIXES, NUM_CLASSES, decode_image, read_labels
from data.tree import COURSE, Originals, stream

BSDS500 = "BSR_bsds500.tgz"
BSDS500_URL = f"http://www.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/BSR/{BSDS500}"
BSDS500_IMAGES = "BSDS500/data/images/"  # the archive's other images are copies of some of these
PHOTOGRAPH = 481  # the longer side of a BSDS500 photograph; larger ones of the user's are reduced to it
NAMESAKES = {"FashionMNIST", "KMNIST", "QMNIST", "EMNIST"}  # torchvision's folders of files that are named as MNIST's
CROP = (12, 30)  # left and top of the course's 64x64 faces in CelebA's aligned photographs at half resolution

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


def checksum_of(files: Iterable[tuple[str, int]]) -> str:
    """A short checksum of names and sizes in bytes, by which a later run knows the same originals."""
    lines = "".join(f"{name} {size}\n" for name, size in files)
    return hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def checksum_of_files(paths: Iterable[Path]) -> str:
    return checksum_of((path.name, path.stat().st_size) for path in paths)


def checked_labels(labels: np.ndarray, count: int, where: object) -> np.ndarray:
    """Labels as int64 (count,).  Raises UserError, naming `where`, if they are others than 0 to 9 or not as many."""
    labels = np.asarray(labels).reshape(-1)
    if len(labels) != count:
        raise UserError(f"{where} has {count} images and {len(labels)} labels")
    if not np.issubdtype(labels.dtype, np.integer) or (count and not 0 <= labels.min() <= labels.max() < NUM_CLASSES):
        raise UserError(f"{where} has labels that are not digits from 0 to 9")
    return labels.astype(np.int64)


# The public originals


def is_hidden(path: Path, folder: Path) -> bool:
    """Whether `path`, or a folder between it and `folder`, has a name that begins with a dot."""
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def find(folder: Path, name: str) -> Path | None:
    """The file or folder `name` in `folder` or the nearest of its sub-folders, but for those of MNIST's namesakes."""
    found = [
        path
        for path in (folder.rglob(name) if folder.is_dir() else ())
        if not is_hidden(path, folder) and NAMESAKES.isdisjoint(path.relative_to(folder).parts)
    ]
    return min(found, key=lambda path: (len(path.parts), path), default=None)


def check_md5(path: Path, md5: str | None, sources: Sources) -> None:
    """Raises UserError if `path` is not the original of that MD5."""
    if md5 and sources.checksums and not import_datasets().utils.check_integrity(path, md5):
        raise UserError(
            f"{path} is not the original, its MD5 is not {md5}: remove it and it is fetched again, "
            "or accept it with --no-checksums"
        )


def fetch(path: Path, addresses: list[str], md5: str | None) -> None:
    """Download `path`, which comes into being only when all of it is there, with the right MD5.

    An address that has no https:// is the id of a file on Google Drive.
    """
    utils = import_datasets().utils
    part = path.with_name(f".download-{path.name}")
    reasons = []
    try:
        shutil.rmtree(part, ignore_errors=True)  # of a run that was killed
        part.mkdir(parents=True)
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
    """The original whose path below --sources torchvision wants to be `place`; found anywhere below, or fetched."""
    path = find(sources.folder, PurePosixPath(place).name)
    if path is None:
        path = sources.folder / place
        if not sources.download:
            raise UserError(f"{sources.folder} lacks {path.name}, and --no-download was given")
        fetch(path, addresses, md5)
    check_md5(path, md5, sources)
    return path


def read_mnist(sources: Sources) -> tuple[list[Path], np.ndarray, np.ndarray]:
    """MNIST's four files, its images uint8 (70000, 28, 28) and labels int64 (70000,): training set, then test set."""
    datasets = import_datasets()
    files = []
    for name, md5 in datasets.MNIST.resources:
        bare = find(sources.folder, name.removesuffix(".gz")) if find(sources.folder, name) is None else None
        addresses = [mirror + name for mirror in datasets.MNIST.mirrors]
        files.append(bare or original(sources, f"MNIST/raw/{name}", addresses, md5))
    with tempfile.TemporaryDirectory() as folder:

        class UnpackedMNIST(datasets.MNIST):
            raw_folder = folder

        for file in files:
            opened = gzip.open(file) if file.suffix == ".gz" else open(file, "rb")
            with opened, open(Path(folder, file.name.removesuffix(".gz")), "wb") as target:
                guarded(file, lambda opened=opened, target=target: shutil.copyfileobj(opened, target))
        parts = [
            guarded(files[0 if train else 2], lambda train=train: UnpackedMNIST(folder, train))
            for train in (True, False)
        ]
        images = np.concatenate([part.data.numpy() for part in parts])
        labels = np.concatenate([part.targets.numpy() for part in parts])
    return files, images, checked_labels(labels, len(images), files[0].parent)


def guarded(path: Path, read: Callable[[], Any]) -> Any:
    """read(), whatever a library raises for a broken file made one sentence that names it."""
    try:
        return read()
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{path} cannot be read ({str(error) or type(error).__name__})") from None


def read_svhn(sources: Sources) -> tuple[list[Path], np.ndarray, np.ndarray]:
    """SVHN's two files, its images uint8 (99289, 32, 32, 3) and labels int64 (99289,): training set, then test set."""
    datasets = import_datasets()

    class CheckedSVHN(datasets.SVHN):
        def _check_integrity(self) -> bool:
            return True  # original() has

    files, images, labels = [], [], []
    for split in ("train", "test"):
        url, name, md5 = datasets.SVHN.split_list[split]
        file = original(sources, name, [url], md5)
        part = guarded(file, lambda file=file, split=split: CheckedSVHN(file.parent, split))
        files.append(file)
        images.append(part.data.transpose(0, 2, 3, 1))
        labels.append(checked_labels(part.labels, len(part), file))
    return files, np.concatenate(images), np.concatenate(labels)


def read_usps(sources: Sources) -> tuple[list[Path], np.ndarray, np.ndarray]:
    """USPS's two files, its images uint8 (9298, 16, 16) and labels int64 (9298,): training set, then test set."""
    datasets = import_datasets()
    files, images, labels = [], [], []
    for split in ("train", "test"):
        url, name, md5 = datasets.USPS.split_list[split]
        file = original(sources, name, [url], md5)
        part = guarded(file, lambda file=file, split=split: datasets.USPS(file.parent, split == "train"))
        files.append(file)
        images.append(part.data)
        labels.append(checked_labels(np.array(part.targets), len(part), file))
    return files, np.concatenate(images), np.concatenate(labels)


def celeba(sources: Sources) -> Originals:
    """CelebA's aligned photographs, of a folder img_align_celeba or its zip; the list of its partition says which.

    Every photograph is taken, whatever CelebA's partition: the course's split is its own.
    """
    folder = find(sources.folder, "img_align_celeba")
    if folder is not None and not any(folder.glob("*.jpg")):
        folder = find(folder, "img_align_celeba")  # some archives nest the folder
    table = find(sources.folder, "list_eval_partition.txt") or find(sources.folder, "list_eval_partition.csv")
    if folder is None or table is None:
        entries = {name: (address, md5) for address, md5, name in import_datasets().CelebA.file_list}

        def get(name: str) -> Path:
            address, md5 = entries[name]
            return original(sources, f"celeba/{name}", [address], md5)

        table = table or get("list_eval_partition.txt")
        archive = None if folder else get("img_align_celeba.zip")
    else:
        archive = None
    lines = guarded(table, lambda: table.read_text(encoding="utf-8").splitlines())
    names = [line.replace(",", " ").split()[0] for line in lines if line.strip() and not line.startswith("image_id")]
    if archive:
        opened = guarded(archive, lambda: zipfile.ZipFile(archive))
        members = {PurePosixPath(member.filename).name: member for member in opened.infolist()}
        sizes = {name: member.file_size for name, member in members.items()}

        def photograph(name: str) -> Pixels:
            content = guarded(archive, lambda: opened.read(members[name]))
            return decode_image(Path(f"{archive}/{name}"), content=content)

    else:
        sizes = {entry.name: entry.stat().st_size for entry in os.scandir(folder)}

        def photograph(name: str) -> Pixels:
            return decode_image(folder / name)

    place = archive or folder
    if missing := [name for name in names if name not in sizes]:
        raise UserError(f"{place} lacks {len(missing)} of the {len(names)} photographs of {table}, {missing[0]} first")

    def image(index: int) -> Pixels:
        return to_course("face", photograph(names[index]), f"{place}/{names[index]}")

    checksum = checksum_of((name, sizes[name]) for name in names)
    return Originals(f"CelebA, {len(names):,} aligned photographs", checksum, len(names), None, image)


def read_photographs(path: Path) -> list[Pixels]:
    """The photographs of a folder, tar or zip, sub-folders included, by name, as uint8 (height, width, 3).

    Of BSDS500 only its own 500.  Larger ones are reduced to 481 pixels, so that a patch shows as much of a scene.
    Raises UserError if there is none or one is smaller than a digit.
    """
    contents: dict[str, bytes] = {}
    if path.is_dir():
        for file in path.rglob("*"):
            if file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith("."):
                contents[file.relative_to(path.parent).as_posix()] = guarded(file, file.read_bytes)
    elif zipfile.is_zipfile(path):
        with guarded(path, lambda: zipfile.ZipFile(path)) as archive:
            for name in archive.namelist():
                if Path(name).suffix.lower() in IMAGE_SUFFIXES:
                    contents[name] = guarded(path, lambda name=name: archive.read(name))
    else:

        def unpack() -> None:
            with tarfile.open(path) as archive:
                for member in archive:
                    if member.isfile() and Path(member.name).suffix.lower() in IMAGE_SUFFIXES:
                        contents[member.name] = archive.extractfile(member).read()

        guarded(path, unpack)
    contents = {name: content for name, content in contents.items() if not Path(name).name.startswith(".")}
    names = sorted([name for name in contents if BSDS500_IMAGES in name] or contents)
    if not names:
        raise UserError(f"{path} holds no photograph")
    photographs = []
    for name in names:
        where = (path.parent if path.is_dir() else path) / name
        image = Image.fromarray(decode_image(where, content=contents.pop(name)))
        image.thumbnail((PHOTOGRAPH, PHOTOGRAPH), Image.Resampling.LANCZOS)
        if min(image.size) < COURSE["mnistm"].size:
            raise UserError(f"{where} is {image.width}x{image.height} after reduction, too small for a 28x28 patch")
        photographs.append(np.asarray(image))
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


def mnistm(sources: Sources, photographs: str, seed: int) -> Originals:
    """MNIST over patches of BSDS500, or of the folder or archive `photographs` if that is not empty."""
    files, digits, labels = read_mnist(sources)
    if photographs:
        place = Path(photographs)
        if not place.exists():
            raise UserError(f"{place} is missing")
    else:
        place = find(sources.folder, "BSDS500") or original(sources, BSDS500, [BSDS500_URL])
    pictures = read_photographs(place)
    pixels = hashlib.sha256()
    for picture in pictures:
        pixels.update(picture)

    def image(index: int) -> Pixels:
        return blend(digits[index], pictures, stream(seed, "mnistm", "patch", str(index)))

    source = f"MNIST, {len(digits):,} digits, over patches of {len(pictures):,} photographs ({place.name})"
    checksum = checksum_of([*((file.name, file.stat().st_size) for file in files), (pixels.hexdigest(), 0)])
    return Originals(source, checksum, len(digits), labels, image)


def public(name: str, sources: Sources, photographs: str, seed: int) -> Originals:
    """The public originals of a set: found in `sources` or fetched into it."""
    if sources.folder.exists() and not sources.folder.is_dir():
        raise UserError(f"{sources.folder} is not a folder")
    if name == "face":
        return celeba(sources)
    if name == "mnistm":
        return mnistm(sources, photographs, seed)
    files, images, labels = {"svhn": read_svhn, "usps": read_usps}[name](sources)

    def image(index: int) -> Pixels:
        return to_course(name, images[index], f"{name} {index}")

    return Originals(f"{name.upper()}, {len(images):,} digits", checksum_of_files(files), len(images), labels, image)


# The user's own images


def own(path: Path, name: str) -> Originals:
    """Images, and labels if they are digits, of a folder, .npz or .parquet, as originals of the set `name`.

    All splits that `path` may have are pooled.  Raises UserError, in one sentence, for what is not of these forms.
    """
    if not path.exists():
        raise UserError(f"{path} is missing")
    if path.suffix.lower() == ".npz":
        read = own_arrays
    elif path.suffix.lower() == ".parquet" or (path.is_dir() and any(path.rglob("*.parquet"))):
        read = own_parquet
    elif path.is_dir():
        read = own_folder
    else:
        raise UserError(f"{path} is neither a folder nor a .npz or .parquet file")
    checksum, labels, count, decode = read(path, name)

    def image(index: int) -> Pixels:
        return to_course(name, decode(index), f"image {index} of {path}")

    if name == "mnistm" and all(is_grey(decode(index)) for index in range(min(count, 20))):
        raise UserError(f"{path} is grey: MNIST itself goes into --sources, and MNIST-M is made of it")
    return Originals(f"{path.name}, {count:,} images", checksum, count, labels, image)


def is_grey(pixels: Pixels) -> bool:
    return pixels.ndim == 2 or bool((pixels == pixels[:, :, :1]).all())


Own = tuple[str, np.ndarray | None, int, Callable[[int], Pixels]]  # checksum, labels, count, image by index


def own_folder(path: Path, name: str) -> Own:
    """Images of a folder and its sub-folders.

    Digits have their labels from csv files (image_name,label, of images beside the file or in data/), from
    X_labels.txt as MNIST-M has them (lines `NAME LABEL` of images in X/), or from sub-folders named 0 to 9.
    """
    files = {file for file in path.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES and not is_hidden(file, path)}
    relevant = (
        "" if name == "face" else " with a label: a csv (image_name,label), X_labels.txt of X/, or folders 0 to 9"
    )
    labels: dict[Path, int] = {}
    tables = [] if name == "face" else sorted([*path.rglob("*.csv"), *path.rglob("*_labels.txt")])
    for table in tables:
        if table.suffix == ".csv":
            rows, places = read_labels(table), [table.parent / "data", table.parent]
        else:
            folder = table.with_name(table.name.removesuffix("_labels.txt"))
            rows, places = read_text_labels(table), [folder, table.parent]
        for row, label in rows.items():
            file = next((place / row for place in places if place / row in files), None)
            if file is None:
                raise UserError(f"{places[0] / row} of {table} is missing")
            if file in labels:
                raise UserError(f"{file} stands in several label files, {table} among them")
            labels[file] = label
    if name != "face" and not tables:
        labels = {file: int(file.parent.name) for file in files if file.parent.name in list("0123456789")}
    chosen = sorted(files if name == "face" else labels)
    if not chosen:
        raise UserError(f"{path} holds no image{relevant}")
    checksum = checksum_of((file.relative_to(path).as_posix(), file.stat().st_size) for file in chosen)
    values = None if name == "face" else np.array([labels[file] for file in chosen])
    return checksum, values, len(chosen), lambda index: decode_image(chosen[index])


def read_text_labels(table: Path) -> dict[str, int]:
    """Lines `NAME LABEL` as {name: label}."""
    rows = {}
    lines = guarded(table, lambda: table.read_text(encoding="utf-8").splitlines())
    for number, line in enumerate(lines, 1):
        cells = line.split()
        if cells and not (len(cells) == 2 and cells[1] in list("0123456789")):
            raise UserError(f"{table} line {number} is not a name and a digit")
        if cells:
            rows[cells[0]] = int(cells[1])
    return rows


def own_arrays(path: Path, name: str) -> Own:
    """Arrays of images, uint8 (n, h, w), (n, h, w, 1 or 3) or (n, 1 or 3, h, w), and as many of labels, (n,).

    Images and labels go together in the order of their names: images and labels, or train_x, train_y, val_x, val_y.
    """
    opened = guarded(path, lambda: np.load(path, allow_pickle=False))
    if isinstance(opened, np.ndarray):
        raise UserError(f"{path} is a .npy file, a single array: images and labels go together into a .npz")
    with opened as file:
        arrays = {key: guarded(path, lambda key=key: file[key]) for key in sorted(file.files)}
    images = {key: array for key, array in arrays.items() if array.ndim in (3, 4) and array.dtype == np.uint8}
    shapes = ", ".join(f"{key} {array.dtype} {array.shape}" for key, array in arrays.items())
    labels = [
        array
        for array in arrays.values()
        if np.issubdtype(array.dtype, np.integer) and array.size == len(np.atleast_1d(array))
    ]
    if not images:
        raise UserError(f"{path} holds no uint8 images (n, h, w) or (n, h, w, 3), only {shapes or 'nothing'}")
    pixels = [channels_last(array) for array in images.values()]
    values = None
    if name != "face":
        if list(map(len, pixels)) != list(map(len, labels)):
            raise UserError(f"{path}: images and labels do not go together: {shapes}")
        values = np.concatenate([checked_labels(array, len(array), path) for array in labels])
    starts = np.cumsum([0, *map(len, pixels)])

    def decode(index: int) -> Pixels:
        part = int(np.searchsorted(starts, index, side="right")) - 1
        return pixels[part][index - starts[part]]

    return checksum_of_files([path]), values, int(starts[-1]), decode


def channels_last(images: np.ndarray) -> np.ndarray:
    """(n, c, h, w) or (n, h, w, c) of one or three channels to (n, h, w) or (n, h, w, 3)."""
    if images.ndim == 4 and images.shape[3] not in (1, 3) and images.shape[1] in (1, 3):
        images = images.transpose(0, 2, 3, 1)
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[:, :, :, 0]
    if images.ndim == 4 and images.shape[3] != 3:
        raise UserError(f"images of shape {images.shape} have neither one nor three channels")
    return images


def own_parquet(path: Path, name: str) -> Own:
    """Tables of encoded images (bytes, or a struct with the field bytes, as Hugging Face writes them) and labels."""
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ImportError:
        raise UserError(f"pyarrow is needed to read {path}: pip install pyarrow") from None
    files = [path] if path.is_file() else sorted(path.rglob("*.parquet"))
    table = guarded(path, lambda: arrow.concat_tables([parquet.read_table(file) for file in files]))
    binary = (arrow.types.is_binary, arrow.types.is_large_binary)
    images, labels = None, None
    for field in table.schema:
        inner = field.type
        if arrow.types.is_struct(inner) and inner.get_field_index("bytes") >= 0:
            inner = inner.field("bytes").type
        if images is None and any(test(inner) for test in binary):
            images = table.column(field.name)
        elif labels is None and arrow.types.is_integer(field.type):
            labels = table.column(field.name)
    columns = ", ".join(f"{field.name} {field.type}" for field in table.schema)
    if images is None or (labels is None and name != "face"):
        raise UserError(f"{path} lacks a column of encoded images or of whole-number labels, it has: {columns}")
    values = None if name == "face" else checked_labels(labels.to_numpy(), len(images), path)

    def decode(index: int) -> Pixels:
        cell = images[index].as_py()
        content = cell["bytes"] if isinstance(cell, dict) else cell
        return decode_image(Path(f"{path}, row {index}"), content=content or b"")

    return checksum_of_files(files), values, len(images), decode
