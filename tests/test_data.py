"""What users' data can look like: every fault is one sentence that names file and row, every variant is read right."""

import csv
import errno
import io
import os
import random
import string
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from common.config import UserError
from data import reading
from data.reading import (
    cached,
    decode_image,
    decode_images,
    find_files,
    list_files,
    list_images,
    load_digits,
    load_folder,
    read_labels,
    warn_of_others,
)

ROOT = Path(__file__).resolve().parent.parent

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
        "\ufeff Image_Name , LABEL \r\n 2.png , 5 \n0.png,3\r\n\n1.png,0",
        'label,more,image_name\n5,x,"2.png"\n3,,0.png\n0,"a,b",1.png\n',
    ],
    ids=["mark, spaces, an empty line", "other columns"],
)
def test_variants_of_a_csv(text, domain):
    (domain / "train.csv").write_text(text, encoding="utf-8", newline="")
    images, labels = load_digits(domain, "train")
    assert labels.tolist() == [5, 3, 0] and images[:, 0, 0, 0].tolist() == [2, 0, 1]  # in the csv's order


HEADER = b"image_name,label\n"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (HEADER + b"0.png,3\n0.png,4\n", "train.csv row 3: 0.png stands twice"),
        (HEADER + b"0.png,3\n./0.png,4\n", "train.csv row 3: 0.png stands twice"),
        (HEADER + b"0.png,3\n1.png,10\n", "train.csv row 3: label '10' of 1.png is not a digit from 0 to 9"),
        (HEADER + b"0.png,3.0\n", "train.csv row 2: label '3.0' of 0.png is not a digit"),
        (HEADER + b"0.png,\n", "train.csv row 2: label '' of 0.png is not a digit"),
        (HEADER + "0.png,٣\n".encode(), "train.csv row 2: label '٣' of 0.png is not a digit"),
        pytest.param(HEADER + b"0.png," + b"9" * 5000, f"label '{'9' * 30}' of 0.png is not a digit", id="long"),
        (HEADER + b"0.png\n", "train.csv row 2 has 1 columns"),
        (HEADER + b",3\n", "train.csv row 2 names no image"),
        (HEADER + b'0.png,3,"a note\n1.png,4,another\n', "train.csv is not a csv file (unexpected end of data)"),
        (HEADER, "train.csv has no rows"),
        (HEADER + b"0.png,3\nmissing.png,3\n", "train.csv: {}/data/missing.png is missing"),
        (b"", "train.csv has 0 columns called image_name, expected image_name,label"),
        (b"image_name;label\n0.png;3\n", "train.csv has 0 columns called image_name"),
        (b"image_name,label,label\n0.png,3,4\n", "train.csv has 2 columns called label"),
        (None, "train.csv is a folder, expected a file"),
    ],
)
def test_wrong_tables(content, reason, domain):
    file = domain / "train.csv"
    file.unlink()
    file.mkdir() if content is None else file.write_bytes(content)
    with pytest.raises(UserError) as caught:
        load_digits(domain, "train")
    assert reason.format(domain) in str(caught.value) and str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


# Images


def test_images_that_do_not_fit_are_named(domain):
    """Those without a row are not read."""
    (domain / "data" / "broken.png").write_bytes(b"not an image")
    assert len(load_digits(domain, "train")[0]) == 3
    (domain / "data" / "broken.png").unlink()
    write_image(domain / "data" / "1.png", size=32)
    for load in (lambda: load_digits(domain, "train"), lambda: load_folder(domain / "data", 28)):
        with pytest.raises(UserError, match=r"data/1\.png is 32x32, expected 28x28"):
            load()
    (domain / "data" / "0.png").unlink()
    (domain / "data" / "0.png").mkdir()
    assert [path.name for path in list_images(domain / "data")] == ["1.png", "2.png"]
    with pytest.raises(UserError, match=r"data/0\.png is a folder, expected a file"):
        load_digits(domain, "train")


# What a picture says


def drawing() -> np.ndarray:
    """A picture that is unlike itself in every turn: uint8 (28, 28)."""
    pixels = np.zeros((28, 28), np.uint8)
    pixels[3:20, 5:9], pixels[3:6, 5:17], pixels[12:14, 9:13] = 255, 200, 160
    return pixels


@pytest.mark.parametrize("ink", [0, 40, 255])
@pytest.mark.parametrize("mode", ["LA", "RGBA", "P", "PA"])
def test_ink_on_transparent_stays_ink(mode, ink, tmp_path):
    """Dark ink comes to lie on white, bright ink on black; what is half transparent in between."""
    cover = Image.fromarray(drawing()).point(lambda value: 255 if mode == "P" and value else value)
    image = Image.merge("LA", (Image.new("L", (28, 28), ink), cover))
    options = {}
    if mode == "P":
        image, options = Image.fromarray(np.asarray(cover) // 255), {"transparency": 0}
        image.putpalette([123, 45, 67, ink, ink, ink])
    else:
        image = image.convert("RGBA") if mode == "PA" else image.convert(mode)
    image.save(tmp_path / "a.png", **options)
    share, paper = np.asarray(cover, float) / 255, 0 if ink > 127 else 255
    expected = np.rint(ink * share + paper * (1 - share))
    found = decode_image(tmp_path / "a.png")
    assert np.abs(found - expected[:, :, None]).max() <= 1
    assert np.ptp(found) > 100


def test_scores_are_of_what_is_stored(tmp_path):
    """The grader's tools know neither transparency nor orientation."""
    image = Image.merge("LA", (Image.fromarray(drawing()), Image.fromarray(drawing().T)))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.png", exif=exif)
    assert (decode_image(tmp_path / "a.png", as_stored=True) == drawing()[:, :, None]).all()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG", "WEBP"])
def test_orientation(kind, tmp_path):
    """The EXIF standard's table: where the stored first row and first column are in the picture."""
    options, exif = {"JPEG": {"quality": 100}, "WEBP": {"lossless": True}}.get(kind, {}), Image.Exif()
    picture = drawing()[:20]
    half_turn = np.rot90(picture, 2)
    stored = (picture, np.fliplr(picture), half_turn, np.flipud(picture), picture.T)
    # 6 is of a camera turned clockwise: shown, the picture is turned back.
    for number, pixels in enumerate((*stored, np.rot90(picture), half_turn.T, np.rot90(picture, -1)), 1):
        exif[0x0112] = number
        Image.fromarray(np.ascontiguousarray(pixels)).save(tmp_path / "a.png", kind, exif=exif, **options)
        found = decode_image(tmp_path / "a.png").astype(int)
        assert found.shape == (20, 28, 3) and np.abs(found[:, :, 0] - picture).max() <= 12


def test_the_first_frame_is_read(tmp_path):
    frames = [Image.new("L", (28, 28), value) for value in (9, 200)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert decode_image(tmp_path / "a.gif").max() == 9


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "big-endian TIFF", "PGM"])
def test_16_bits_are_those_of_the_whole_range(kind, tmp_path):
    """Whatever the image holds: a dark one stays dark; one whose numbers are probably of fewer bits is refused."""
    file = tmp_path / "a.png"

    def save(numbers: np.ndarray) -> None:
        raw = numbers.astype(">u2").tobytes()
        if kind == "PGM":
            file.write_bytes(b"P5 28 28 65535\n" + raw)
        elif kind == "big-endian TIFF":
            Image.frombytes("I;16B", (28, 28), raw).save(file, "TIFF")
        else:
            Image.fromarray(numbers.astype(np.uint16)).save(file, kind)

    for top, brightest in ((65535, 255), (40_000, 156), (4096, 16), (511, 1), (256, 1), (255, 0)):
        save((drawing() == 255) * top)
        assert decode_image(file).max() == brightest
    for top in (2**10 - 1, 2**11 - 100, 2**12 - 1):
        save(drawing() / 255 * top)
        with pytest.raises(UserError, match="has 16-bit values, none of which exceeds .* so its range is not known"):
            decode_image(file)


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_numbers_of_no_known_range_are_refused(dtype, tmp_path):
    for scale in (1, 255, 2**20):
        Image.fromarray((drawing() / 255 * scale).astype(dtype)).save(tmp_path / "a.tif")
        with pytest.raises(UserError, match=r"a\.tif holds .*, whose range is not known: save it with 8 or 16 bits"):
            decode_image(tmp_path / "a.tif")


def test_a_declared_range_is_used(tmp_path):
    (tmp_path / "a.pgm").write_bytes(b"P5 2 1 1023\n" + bytes([3, 255, 1, 255]))
    assert decode_image(tmp_path / "a.pgm")[0, :, 0].tolist() == [255, 127]


def test_images_of_one_colour_are_told(tmp_path, capsys):
    paths = [write_image(tmp_path / f"{number}.png", value=number) for number in range(3)]
    Image.fromarray(drawing()).save(paths[1])
    decode_images(paths, 28)
    assert capsys.readouterr().err == f"warning: 2 of 3 images are of one colour, {paths[0]} first\n"
    decode_images(paths[1:2], 28)
    decode_images(paths, 28, as_stored=True)
    assert capsys.readouterr().err == ""


# Which files


def test_what_is_listed(tmp_path, capsys):
    """By suffix in any case, else by content; hidden entries, pipes and folders not, and the latter are named."""
    for name in ("b.PNG", "c.png", "no suffix", "d.jfif", ".hidden.png"):
        write_image(tmp_path / "c.png").rename(tmp_path / "image")
        (tmp_path / "image").rename(tmp_path / name)
    (tmp_path / "c.png").symlink_to("b.PNG")
    (tmp_path / "gone.png").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe.png")
    write_image(tmp_path / "below" / "e.png")
    for name in ("notes.txt", ".DS_Store", "empty"):
        (tmp_path / name).touch()
    images = list_images(tmp_path)
    assert [path.name for path in images] == ["b.PNG", "c.png", "d.jfif", "gone.png", "no suffix"]
    warn_of_others(tmp_path, images, "left out")
    others = "below, empty, notes.txt, pipe.png, .hidden.png"
    assert capsys.readouterr().err == f"warning: {tmp_path}: left out: {others}\n"
    for number in range(3):
        (tmp_path / f".{number}.png").touch()
    warn_of_others(tmp_path, images, "left out")
    others = "below, empty, notes.txt, pipe.png, .0.png and 3 more"
    assert capsys.readouterr().err == f"warning: {tmp_path}: left out: {others}\n"
    for name in ("gone.png", "pipe.png"):
        with pytest.raises(UserError, match=f"{name} is "):
            decode_image(tmp_path / name)


def test_links_are_followed_and_loops_are_not(tmp_path):
    write_image(tmp_path / "elsewhere" / "x.png")
    write_image(tmp_path / "own" / "a" / "y.png")
    (tmp_path / "own" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "own")
    (tmp_path / "own" / "a" / "itself").symlink_to(".")
    (tmp_path / "own" / "b").symlink_to("b")
    found = [str(path.relative_to(tmp_path / "own")) for path in list_files(tmp_path / "own", below=True)]
    assert found == ["a/y.png", "b", "linked/x.png"]


@pytest.mark.parametrize("forms", [("NFD", "NFC"), ("NFC", "NFD"), ("NFD", "NFD")])
def test_a_name_in_any_form_is_the_same(forms, domain):
    """An accent as one character or two, in the folder and in the table; below a sub-folder too; spaces around it."""
    folder, table = (unicodedata.normalize(form, "année/é中.png") for form in forms)
    write_image(domain / "data" / folder, value=9)
    write_image(domain / "data" / "x.png", value=8).rename(domain / "data" / " b b.png ")
    (domain / "train.csv").write_text(f"image_name,label\n{table},4\nb b.png,5\n", encoding="utf-8")
    images, labels = load_digits(domain, "train")
    assert (images[:, 0, 0, 0].tolist(), labels.tolist()) == ([9, 8], [4, 5])
    assert next(iter(read_labels(domain / "train.csv"))) == unicodedata.normalize("NFC", table)


def test_two_files_of_one_name(tmp_path):
    for form in ("NFC", "NFD"):
        write_image(tmp_path / "data" / unicodedata.normalize(form, "é.png"))
    with pytest.raises(UserError, match="holds 2 files that are all called é.png"):
        find_files(tmp_path / "data", ["é.png"])


def test_names_beyond_the_locale(tmp_path):
    write_image(tmp_path / "data" / "größe.png")
    (tmp_path / "train.csv").write_text("image_name,label\ngröße.png,4\nweiß.png,3\n", encoding="utf-8")
    code = "import sys; from pathlib import Path; from data.reading import *; from common.files import atomic_write\n"
    code += "paths = find_files(Path(sys.argv[1]) / 'data', read_labels(Path(sys.argv[1]) / 'train.csv'))\n"
    code += "decode_image(paths[0])\ntry: decode_image(paths[1])\nexcept UserError as error: print(ascii(error))"
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, str(tmp_path)]
    result = subprocess.run(command, check=False, env=os.environ | locale, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "") and "is missing" in result.stdout


# The cache


def test_a_changed_image_is_noticed(domain):
    """The cache of decoded images is keyed by size and time of every file, and keeps no copy that is out of date."""
    file, cache = domain / "data" / "0.png", domain / "cache" / "dlcv-hw2"

    def first_value() -> int:
        return load_digits(domain, "train")[0][1, 0, 0, 0].item()

    assert first_value() == first_value() == 0 and len(list(cache.iterdir())) == 1
    write_image(file, value=99)
    os.utime(file, (1, 1))  # as if another file had been copied there, however fast
    assert first_value() == 99
    size = file.stat().st_size
    write_image(file, value=55)
    os.utime(file, (1, 1))  # copied with its old time
    assert file.stat().st_size == size and first_value() == 55
    for number in range(3, 6):
        write_image(domain / "data" / f"{number}.png", value=number)
        load_folder(domain / "data", 28)
    assert len(list(cache.iterdir())) == 2  # the split and the folder


def test_the_cache_has_an_end(domain, monkeypatch):
    """What was read last stays, and so does what was just made, however large; what was killed amid writing goes."""
    cache = domain / "cache" / "dlcv-hw2"
    array = np.zeros(1000, np.uint8)

    def made(key: str) -> bool:
        calls = []
        cached(key, lambda: calls.append(key) or array)
        return bool(calls)

    monkeypatch.setattr(reading, "CACHE_BYTES", 3500)
    for number, key in enumerate("abc"):
        assert made(key)
        for file in cache.iterdir():
            os.utime(file, ns=(0, file.stat().st_mtime_ns - 10**9 * (10 - number)))
    assert not made("a")
    (cache / ".x.npy.0123abcd.part").touch()
    assert made("d") and not made("a") and not made("d") and made("b")
    assert len(list(cache.iterdir())) == 3
    monkeypatch.setattr(reading, "CACHE_BYTES", 10)
    assert made("e") and not made("e") and len(list(cache.iterdir())) == 1


def test_a_cache_that_cannot_be_used(domain, monkeypatch):
    """It is broken; a file is in its place; the disk is full, where no half of it stays; there is no home at all."""
    first = load_digits(domain, "train")[0]
    (file,) = (domain / "cache" / "dlcv-hw2").iterdir()
    file.write_bytes(file.read_bytes()[:-100])
    assert load_digits(domain, "train")[0].equal(first)
    monkeypatch.setenv("XDG_CACHE_HOME", str(file))
    assert load_digits(domain, "train")[0].equal(first)

    def full(handle, array):
        handle.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setenv("XDG_CACHE_HOME", str(domain / "full"))
    with monkeypatch.context() as patch:
        patch.setattr(np, "save", full)
        assert load_digits(domain, "train")[0].equal(first)
    assert list((domain / "full" / "dlcv-hw2").iterdir()) == []

    def unknown(uid):
        raise KeyError(uid)

    for name in ("HOME", "XDG_CACHE_HOME"):  # as in a container that runs as a number
        monkeypatch.delenv(name)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    assert load_digits(domain, "train")[0].equal(first)


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


MODES = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "BMP": ("1", "L", "RGB"),
    "TIFF": ("1", "L", "RGB", "RGBA", "I;16", "CMYK"),
    "PPM": ("L", "RGB"),
    "JPEG": ("L", "RGB", "CMYK"),
    "GIF": ("L", "P"),
    "WEBP": ("RGB", "RGBA"),
}
LOSSY = ("JPEG", "GIF", "WEBP")
KINDS = st.sampled_from([(kind, mode) for kind, modes in MODES.items() for mode in modes])


def write_noise(file: Path, kind: str, mode: str, width: int, height: int, seed: int) -> np.ndarray:
    """A file of noise, and what it shows: uint8 (height, width, 3)."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    if mode == "I;16":
        image, shown = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257), pixels[..., :1].repeat(3, 2)
    else:
        image = Image.fromarray(pixels).convert(mode)
        shown = np.asarray(image.convert("RGB"))
    image.save(file, kind)
    return shown


@settings(fuzz, max_examples=250)
@given(kind=KINDS, width=st.integers(9, 70), height=st.integers(1, 70), seed=st.integers(0, 99))
def test_any_image_is_decoded(kind, width, height, seed, tmp_path):
    """Of nine pixels and more, as fewer with 16 bits may all be dark, which is another test."""
    file = tmp_path / "any.png"
    shown = write_noise(file, *kind, width, height, seed)
    found = decode_image(file)
    assert found.shape == shown.shape and found.dtype == np.uint8
    assert kind[0] in LOSSY or (found == shown).all()
    assert decode_image(file, 28, resize=True).shape == (28, 28, 3)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@settings(fuzz, max_examples=250)
@given(kind=KINDS, seed=st.integers(0, 10**6))
def test_any_damage_is_decoded_or_one_sentence(kind, seed, tmp_path):
    """Cut off, or bits flipped."""
    file, chance = tmp_path / "damaged.png", random.Random(seed)
    write_noise(file, *kind, 28, 28, 0)
    content = bytearray(file.read_bytes())
    for _ in range(chance.randint(0, 8)):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    if chance.random() < 0.5:
        content = content[: chance.randrange(len(content))]
    file.write_bytes(content)
    try:
        image = decode_image(file, 28, resize=True)
    except UserError as error:
        assert str(file) in str(error) and "\n" not in str(error)
    else:
        assert image.shape == (28, 28, 3) and image.dtype == np.uint8
