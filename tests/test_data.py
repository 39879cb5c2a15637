"""What users' data can look like: every fault is one sentence that names file and row, every variant is read right."""

import csv
import errno
import io
import os
import random
import string
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from common.config import UserError
from data.reading import decode_image, list_images, load_digits, load_folder, read_labels

# The folder of a test is shared by its examples, each of which writes what it reads.
fuzz = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
NAMES = st.text(string.ascii_letters + string.digits + " _-.é中", min_size=1, max_size=12).map(
    lambda s: f"{s.strip()}.png"
)


def write_image(path: Path, size: int = 28, mode: str = "RGB", value: int = 7) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (size, size), value if mode == "L" else (value, value, value)).save(path)
    return path


@pytest.fixture
def domain(tmp_path, monkeypatch) -> Path:
    """A digits folder of three images, its csv and a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for number in range(3):
        write_image(tmp_path / "data" / f"{number}.png", value=number)
    (tmp_path / "train.csv").write_text("image_name,label\n2.png,5\n0.png,3\n1.png,0\n")
    return tmp_path


# Labels


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffimage_name,label\r\n2.png,5\r\n0.png,3\r\n1.png,0\r\n",
        " Image_Name , LABEL \n 2.png , 5 \n0.png,3\n\n1.png,0",
        'label,more,image_name\n5,x,"2.png"\n3,,0.png\n0,"a,b",1.png\n',
    ],
    ids=["BOM and CRLF", "spaces and an empty line", "other columns"],
)
def test_variants_of_a_csv(text, domain):
    (domain / "train.csv").write_text(text, encoding="utf-8", newline="")
    images, labels = load_digits(domain, "train")
    assert labels.tolist() == [5, 3, 0] and images[:, 0, 0, 0].tolist() == [2, 0, 1]  # in the csv's order


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ("0.png,3\n0.png,4\n", "train.csv row 3: 0.png stands twice"),
        ("0.png,3\n1.png,10\n", "train.csv row 3: label '10' of 1.png is not a digit from 0 to 9"),
        ("0.png,-1\n", "train.csv row 2: label '-1' of 0.png is not a digit"),
        ("0.png,seven\n", "train.csv row 2: label 'seven' of 0.png is not a digit"),
        ("0.png,3.0\n", "train.csv row 2: label '3.0' of 0.png is not a digit"),
        ("0.png,\n", "train.csv row 2: label '' of 0.png is not a digit"),
        pytest.param(f"0.png,{'9' * 5000}\n", f"label '{'9' * 30}' of 0.png is not a digit", id="a long label"),
        ("0.png,٣\n", "train.csv row 2: label '٣' of 0.png is not a digit"),
        ("0.png\n", "train.csv row 2 has 1 columns"),
        ("", "train.csv has no rows"),
        ("missing.png,3\n", "data/missing.png is missing"),
        ("0.png,3\nmissing.png,3\n", "an image of "),
    ],
)
def test_wrong_rows(rows, reason, domain):
    (domain / "train.csv").write_text(f"image_name,label\n{rows}", encoding="utf-8")
    with pytest.raises(UserError) as caught:
        load_digits(domain, "train")
    assert reason in str(caught.value) and str(domain) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "lacks the header"),
        (b"name,label\n0.png,3\n", "lacks the header"),
        (b"image_name;label\n0.png;3\n", "lacks the header"),
        (b"image_name,label\n\xff\xfe.png,3\n", "is not text"),
        (b"image_name,label\n0.png,3\n\0\0\0\0", "is damaged: line 3 holds a NUL byte"),
        (b"image_name,label,label\n0.png,3,4\n", "has 2 columns called label, in image_name,label,label"),
        (None, "is a folder, expected a file"),
    ],
)
def test_wrong_files(content, reason, domain):
    file = domain / "train.csv"
    file.unlink()
    file.mkdir() if content is None else file.write_bytes(content)
    with pytest.raises(UserError, match=f"train.csv {reason}"):
        read_labels(file)


def test_images_without_a_row_are_not_read(domain):
    (domain / "data" / "broken.png").write_bytes(b"not an image")
    assert len(load_digits(domain, "train")[0]) == 3


# Images


def test_mixed_sizes_are_named(domain):
    write_image(domain / "data" / "1.png", size=32)
    with pytest.raises(UserError, match=r"data/1\.png is 32x32, expected 28x28"):
        load_digits(domain, "train")
    with pytest.raises(UserError, match=r"data/1\.png is 32x32, expected 28x28"):
        load_folder(domain / "data", 28)


def test_a_folder_with_the_name_of_an_image(domain):
    (domain / "data" / "0.png").unlink()
    (domain / "data" / "0.png").mkdir()
    assert [path.name for path in list_images(domain / "data")] == ["1.png", "2.png"]
    with pytest.raises(UserError, match=r"data/0\.png is a folder, expected a file"):
        load_digits(domain, "train")


def test_a_changed_image_is_noticed(domain):
    """The cache of decoded images is keyed by size and time of every file."""
    assert load_digits(domain, "train")[0][1, 0, 0, 0] == 0
    cached = list((domain / "cache" / "dlcv-hw2").iterdir())
    assert len(cached) == 1 and load_digits(domain, "train")[0][1, 0, 0, 0] == 0
    write_image(domain / "data" / "0.png", value=99)
    os.utime(domain / "data" / "0.png", (1, 1))  # as if another file had been copied there, however fast
    assert load_digits(domain, "train")[0][1, 0, 0, 0] == 99
    status = (domain / "data" / "0.png").stat()
    write_image(domain / "data" / "0.png", value=55)
    os.utime(domain / "data" / "0.png", ns=(status.st_atime_ns, status.st_mtime_ns))  # copied with its old time
    assert (domain / "data" / "0.png").stat().st_size == status.st_size
    assert load_digits(domain, "train")[0][1, 0, 0, 0] == 55


def test_a_broken_cache_is_made_again(domain):
    first = load_digits(domain, "train")[0]
    (cached,) = (domain / "cache" / "dlcv-hw2").iterdir()
    cached.write_bytes(cached.read_bytes()[:-100])
    assert load_digits(domain, "train")[0].equal(first)


def test_a_cache_that_cannot_be_written(domain, monkeypatch):
    """A file in its place; a disk that is full, where no half of it stays."""
    (domain / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(domain / "file"))
    assert len(load_digits(domain, "train")[0]) == 3

    def full(handle, array):
        handle.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setenv("XDG_CACHE_HOME", str(domain / "full"))
    monkeypatch.setattr(np, "save", full)
    assert len(load_digits(domain, "train")[0]) == 3
    assert list((domain / "full" / "dlcv-hw2").iterdir()) == []


def test_a_user_without_a_home_has_no_cache(domain, monkeypatch):
    """As in a container that runs as a number."""

    def unknown(uid):
        raise KeyError(uid)

    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    assert len(load_digits(domain, "train")[0]) == 3


# Whatever there may be


@fuzz
@given(rows=st.dictionaries(NAMES, st.integers(0, 9), min_size=1, max_size=20), style=st.integers(0, 7))
def test_any_table_is_read_right(rows, style, tmp_path):
    text = io.StringIO()
    writer = csv.writer(
        text, lineterminator="\r\n" if style & 1 else "\n", quoting=csv.QUOTE_ALL if style & 2 else csv.QUOTE_MINIMAL
    )
    writer.writerow(["image_name", "label"])
    writer.writerows(rows.items())
    (tmp_path / "any.csv").write_bytes((b"\xef\xbb\xbf" if style & 4 else b"") + text.getvalue().encode())
    assert read_labels(tmp_path / "any.csv") == rows


@settings(fuzz, max_examples=250)
@given(
    content=st.one_of(st.binary(max_size=200), st.text(max_size=100).map(lambda s: f"image_name,label\n{s}".encode()))
)
def test_any_bytes_are_a_table_or_one_sentence(content, tmp_path):
    file = tmp_path / "any.csv"
    file.write_bytes(content)
    try:
        labels = read_labels(file)
    except UserError as error:
        assert str(file) in str(error)
    else:
        assert labels and all(0 <= label <= 9 for label in labels.values())


FORMATS = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "JPEG": ("L", "RGB", "CMYK"),
    "GIF": ("L", "P"),
    "BMP": ("1", "L", "RGB"),
    "TIFF": ("1", "L", "RGB", "RGBA", "I;16", "CMYK"),
    "WEBP": ("RGB", "RGBA"),
    "PPM": ("L", "RGB"),
}
KINDS = [(kind, mode) for kind, modes in FORMATS.items() for mode in modes]


def encode(kind: str, mode: str, width: int, height: int, seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    if mode == "I;16":
        image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    else:
        image = Image.fromarray(pixels).convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


@settings(fuzz, max_examples=250)
@given(kind=st.sampled_from(KINDS), width=st.integers(1, 70), height=st.integers(1, 70), seed=st.integers(0, 99))
def test_any_image_is_decoded(kind, width, height, seed, tmp_path):
    file = tmp_path / "any.png"
    file.write_bytes(encode(*kind, width, height, seed))
    if kind[1] == "I;16" and width * height < 9:
        return  # such a small one may be dark, which is another test
    for resize in (False, True):
        if resize or width == height == 28:
            assert decode_image(file, 28, resize=resize).shape == (28, 28, 3)
    whole = decode_image(file)
    assert whole.shape == (height, width, 3) and whole.dtype == np.uint8
    if kind in (("PNG", "RGB"), ("BMP", "RGB"), ("PPM", "RGB")):
        expected = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
        np.testing.assert_array_equal(whole, expected)
    if kind == ("PNG", "I;16"):
        expected = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)[..., :1]
        np.testing.assert_array_equal(whole, np.broadcast_to(expected, whole.shape))


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@settings(fuzz, max_examples=250)
@given(kind=st.sampled_from(KINDS), seed=st.integers(0, 10**6))
def test_any_damage_is_decoded_or_one_sentence(kind, seed, tmp_path):
    """Cut off, bits flipped, or bytes of something else in between."""
    chance = random.Random(seed)
    content = bytearray(encode(*kind, 28, 28, 0))
    for _ in range(chance.randint(0, 8)):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    if chance.random() < 0.5:
        content = content[: chance.randrange(len(content))]
    file = tmp_path / f"damaged.{kind[0].lower()}"
    file.write_bytes(content)
    try:
        image = decode_image(file, 28, resize=True)
    except UserError as error:
        assert str(file) in str(error) and "\n" not in str(error)
    else:
        assert image.shape == (28, 28, 3) and image.dtype == np.uint8
