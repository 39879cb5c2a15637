"""The wrappers hw2_1.sh, hw2_2.sh and hw2_3.sh as a grader calls them: what they write, and that it never varies."""

import contextlib
import csv
import fcntl
import functools
import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ABSENT, noise_denoiser, wrapped
from PIL import Image
from safetensors.torch import save_file
from small_originals import contents

import models.ddpm
import p2_inference
import p3_inference
import sampling.digits
import sampling.faces
import sampling.labels
from common.checkpoint import export_weights
from models.ddpm import ContextUnet
from sampling.digits import digit_keys, draw_digits
from sampling.faces import latents, sample_images
from sampling.labels import predict

ROOT = Path(__file__).resolve().parent.parent
REAL = ROOT.parent / "shared" / "data"
needs_real_data = pytest.mark.skipif(not REAL.is_dir(), reason="the real data are not here")


def errors(result) -> list[str]:
    """stderr without progress bars."""
    lines = [part for line in result.stderr.splitlines() for part in line.split("\r")]
    return [line for line in lines if line.strip() and not re.search(r"\d+%\|", line)]


def assert_images(images: dict[str, bytes], names: list[str], size: int) -> None:
    """RGB PNG files of exactly these names, no two the same."""
    assert sorted(images) == names and len(set(images.values())) == len(names)
    for content in images.values():
        with Image.open(io.BytesIO(content)) as image:
            assert (image.mode, image.size, image.format) == ("RGB", (size, size), "PNG")


@pytest.fixture
def abroad(tmp_path) -> Path:
    """A working directory that is not the repository, with what breaks unquoted scripts in its name."""
    folder = tmp_path / "another folder (é) $HOME\n*"
    folder.mkdir()
    return folder


# Faces


def test_faces_as_the_grader_asks(call, abroad):
    """Exactly the 1,000 files; the same ones by another process, however many are drawn and on two cores."""
    result = call("hw2_1.sh", "not/yet there/", cwd=abroad)
    assert result.returncode == 0 and errors(result) == []
    images = contents(abroad / "not" / "yet there")
    assert_images(images, [f"{number:04d}.png" for number in range(1, 1001)], 64)
    for count, threads in ((1, 1), (57, 2)):
        assert call("hw2_1.sh", abroad / f"{count}", "--count", count, threads=threads).returncode == 0
        fewer = contents(abroad / f"{count}")
        assert len(fewer) == count and fewer == {name: images[name] for name in fewer}


def test_options_of_faces(inside, weights, tmp_path):
    def draw(*options: object) -> set[bytes]:
        options = (tmp_path, "--count", 3, "--weights", weights["generator"], *options)
        assert inside("p1_inference.py", *options)[0] == 0
        return set(contents(tmp_path).values())

    images, others, mean_face = draw(), draw("--seed", 1), draw("--truncation", 0)
    assert len(images) == 3 and not images & others and len(mean_face) == 1


# Digits


def test_digits_as_the_grader_asks(call, abroad):
    """All 1,000 names, and the same images again on two cores among fewer; those that are too many then go.

    One network call an image instead of the default's, as the test is of the files.
    """
    result = call("hw2_2.sh", "digits", "--steps", 1, cwd=abroad)
    assert result.returncode == 0 and errors(result) == []
    images = contents(abroad / "digits")
    assert_images(images, [f"{digit}_{number:03d}.png" for digit in range(10) for number in range(1, 101)], 28)
    assert call("hw2_2.sh", "digits", "--steps", 1, "--per-class", 1, cwd=abroad, threads=2).returncode == 0
    fewer = contents(abroad / "digits")
    assert len(fewer) == 10 and fewer == {name: images[name] for name in fewer}


def test_every_option_of_the_sampler_matters(inside, tmp_path, monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(models.ddpm, "N_FEAT", 16)
    export_weights(tmp_path / "small.safetensors", noise_denoiser())
    fixed = ("--per-class", 2, "--weights", tmp_path / "small.safetensors", "--precision", "fp32")

    def draw(*options: object) -> dict[str, bytes]:
        few = ("--steps", 3, "--guidance-scale", 50)  # the class hardly moves a random network
        code, _, said = inside("p2_inference.py", tmp_path / "out", *fixed, *few, *options)
        assert code == 0, said
        return contents(tmp_path / "out")

    plain, odd = draw(), ("--sampler", "ddim")
    assert len(set(plain.values())) == 20
    for options in (
        *((*odd, "--eta", 1), odd, ("--spacing", "uniform"), ("--guidance-scale", 90), ("--guidance-from", 0.5)),
        *(("--guidance-to", 0.5), ("--steps", 4), ("--seed", 1)),
    ):
        other = draw(*options)
        assert other.keys() == plain.keys() and sum(other[name] != plain[name] for name in plain) > 15, options


@pytest.mark.parametrize("sampler", ["ancestral", "ddim", "dpm"])
def test_noise_belongs_to_the_image(sampler, monkeypatch):
    """An image is the same among 1, 7 and 100 as among 10 others, also where noise is added on the way."""
    torch.manual_seed(0)
    monkeypatch.setattr(models.ddpm, "N_FEAT", 16)
    monkeypatch.setattr(p2_inference, "ancestral", functools.partial(p2_inference.ancestral, timesteps=6))
    sample = p2_inference.make_sampler(p2_inference.Config(sampler=sampler, steps=4, eta=1.0))
    network = ContextUnet().eval()

    def draw(keys: list[tuple[int, int]]) -> torch.Tensor:
        return draw_digits(network, keys, 2.0, (0.1, 0.9), sample, chunk=20)

    keys = [(number % 10, number) for number in range(100)]
    images = draw(keys)
    assert images.unique(dim=0).shape[0] == 100
    for count in (1, 7):
        assert torch.equal(draw(keys[:count]), images[:count])
    assert torch.equal(draw([(3, 1000), *reversed(keys[:10])])[1:].flip(0), images[:10])


def test_every_batch_has_one_size():
    """However many are drawn or labelled, memory is that of a batch; sums of floats differ between sizes."""
    seen = set()

    class Network(torch.nn.Linear):  # whose weight says on which device it is
        def encode(self, x):
            seen.add(len(x))
            return x

        def decode(self, x, context, time):
            seen.add(len(x))
            return torch.zeros_like(x)

        def forward(self, x):
            seen.add(len(x))
            return x.expand(-1, -1, 64, 64)[:, :3] if x.shape[2] == 1 else (x.new_zeros(len(x), 10), None)

    network, sample = Network(1, 1), p2_inference.make_sampler(p2_inference.Config(steps=2))
    for draw, count, module in (
        (lambda: sample_images(network, latents(7)), 7, sampling.faces),
        (lambda: draw_digits(network, digit_keys(25), 2.0, (0.0, 1.0), sample), 250, sampling.digits),
        (lambda: predict(network, torch.zeros(501, 3, 28, 28).byte(), False), 501, sampling.labels),
    ):
        seen.clear()
        assert len(draw()) == count and seen == {module.BATCH}


# Where the scripts are, and what there is


def test_packages_are_missing_in_every_call(environment):
    """What this file relies on: the wrappers run without what only training or scores need, and without `python`."""
    code = "import sys; sys.exit(sum(sys.modules.get(name, 1) is not None for name in sys.argv[1:]))"
    for command, exit_code in ((["python3", "-c", code, *ABSENT], 0), (["python", "-c", ""], 99)):
        result = subprocess.run(command, check=False, capture_output=True, env=wrapped(environment))
        assert result.returncode == exit_code


def test_wrappers_in_another_place(call, refused, digits, abroad, tmp_path):
    """Called by relative symbolic links, with CDPATH set; modules of the caller's folder are not taken for ours.

    hw2_download.sh fetches missing weights, hw2_N.sh says that it should.
    """
    place, links = tmp_path / "Hausaufgabe Zwei – löschen, 作業 $HOME", tmp_path / "links to it"
    for name in ("common", "data", "models", "sampling"):
        shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    links.mkdir()
    for number in (1, 3):
        for name in (f"p{number}_inference.py", f"hw2_{number}.sh"):
            shutil.copy(ROOT / name, place)
        (links / f"hw2_{number}.sh").symlink_to(place / f"hw2_{number}.sh")
    (place / "checkpoints").symlink_to(ROOT / "checkpoints")
    for name in ("common", "models", "p1_inference", "random", "csv"):
        (abroad / f"{name}.py").write_text("raise SystemExit('the wrong module')")
    digits("usps", "usps")
    first, third = (os.path.relpath(links / f"hw2_{number}.sh", abroad) for number in (1, 3))
    assert call(first, "faces", "--count", 2, cwd=abroad, CDPATH=str(links)).returncode == 0
    assert sorted(contents(abroad / "faces")) == ["0001.png", "0002.png"]
    assert call(third, "../usps", "usps.csv", cwd=abroad, CDPATH=str(links)).returncode == 0
    assert len(labels(abroad / "usps.csv")) == 48

    (place / "checkpoints").unlink()
    (place / "checkpoints").mkdir()
    address = {"HW2_CHECKPOINT_URL": (ROOT / "checkpoints").as_uri()}
    sentence = refused(third, "../usps", "out.csv", cwd=abroad, **address)
    assert "p3_dann_usps.safetensors is missing, run: bash hw2_download.sh" in sentence
    assert list((place / "checkpoints").iterdir()) == [] and not (abroad / "out.csv").exists()


OLD_PYTHON = """#!/bin/sh
exec "{}" -c 'import sys
code, sys.argv[1:] = sys.argv[3], sys.argv[4:]
sys.version_info, sys.version = (3, 9, 18), "3.9.18 (main)"
exec(code)' "$@"
"""


@pytest.mark.parametrize("wrapper", ["hw2_1.sh", "hw2_2.sh", "hw2_3.sh"])
def test_an_old_python(wrapper, refused, tmp_path):
    """It cannot read our files, but says so in one sentence."""
    (tmp_path / "python3").write_text(OLD_PYTHON.format(sys.executable))
    (tmp_path / "python3").chmod(0o755)
    sentence = refused(wrapper, "out", cwd=tmp_path, PATH=f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert sentence == f"{wrapper}: error: needs Python 3.10 or newer, this is 3.9.18"


def test_every_line_of_the_makefile_is_a_command():
    """GNU make 3.81, which macOS has, knows no .ONESHELL: it gives each line of a recipe to a shell of its own."""
    for line in (ROOT / "Makefile").read_text().replace("\\\n", "").replace("$$", "$").split("\n"):
        if line.startswith("\t"):
            assert subprocess.run(["bash", "-n", "-c", line], check=False).returncode == 0, line


# Output folders


def test_output_folder(call, inside, weights, tmp_path):
    """A longer run's images go, the user's files stay and are named, ours are overwritten.

    The folder is called by a symbolic link.
    """
    options = ("--weights", weights["generator"])
    folder, link = tmp_path / "folder", tmp_path / "link"
    folder.mkdir()
    link.symlink_to(folder)
    assert inside("p1_inference.py", link, "--count", 9, *options)[0] == 0
    before = contents(folder)
    Image.new("RGB", (64, 64)).save(folder / "0008.png")  # the user's, though it has one of our names
    (folder / ".DS_Store").touch()
    (folder / "0002.png").write_bytes(b"broken")
    (folder / "0009.png").rename(folder / "0011.png")
    (folder / "0010.png").mkdir()
    with open(folder / ".0004.png.0123abcd.part", "wb") as handle:  # as if another process were writing it
        fcntl.flock(handle, fcntl.LOCK_EX)
        result = call("hw2_1.sh", link, "--count", 4, *options)
    assert result.returncode == 0
    named = ".0004.png.0123abcd.part, .DS_Store, 0008.png, 0010.png"
    assert errors(result) == [f"warning: {link} also holds files that are not ours: {named}"]
    after = contents(folder)
    ours = ["0001.png", "0002.png", "0003.png", "0004.png"]
    assert sorted(after) == [".0004.png.0123abcd.part", ".DS_Store", *ours, "0008.png"]
    assert all(after[name] == before[name] for name in ours)


def test_an_interrupted_run_is_completed(environment, inside, weights, tmp_path):
    """kill -9 amid the writing, as a grader's time limit does; the next run leaves exactly its files."""
    options = ("--weights", str(weights["generator"]), "--count", "50")
    command = ["bash", str(ROOT / "hw2_1.sh"), str(tmp_path / "a"), *options]
    process = subprocess.Popen(command, env=environment)
    while not (tmp_path / "a" / "0001.png").exists():
        assert process.poll() is None
    process.kill()
    assert process.wait() == -signal.SIGKILL
    for name, content in contents(tmp_path / "a").items():
        assert name.endswith(".part") or Image.open(io.BytesIO(content)).size == (64, 64)
    (tmp_path / "a" / ".0050.png.89abcdef.part").write_bytes(b"half")
    for name in ("a", "b"):
        code, _, said = inside("p1_inference.py", tmp_path / name, *options)
        assert (code, said) == (0, "")
    assert contents(tmp_path / "a") == contents(tmp_path / "b") and len(contents(tmp_path / "a")) == 50


def test_output_that_cannot_be_a_folder(refused, refused_inside, tmp_path):
    file, loop = tmp_path / "file\nor two", tmp_path / "loop"
    file.write_text("mine")
    loop.symlink_to(loop)
    assert "file\\nor two is a file, expected a folder" in refused("hw2_1.sh", file)
    for script, name in (("p1_inference.py", "0009.png"), ("p2_inference.py", "9_001.png")):
        (tmp_path / script / name).mkdir(parents=True)
        assert f"{name} is a folder, expected a file" in refused_inside(script, tmp_path / script)
        assert [path.name for path in (tmp_path / script).iterdir()] == [name]  # nothing but what was there
    for folder, reason in ((file / "in", "or two/in cannot be written"), ("", "a path is empty"), (loop, "loop ")):
        assert reason in refused_inside("p1_inference.py", folder)
    assert file.read_text() == "mine"


def test_letters_of_no_encoding(call, weights, tmp_path):
    """A folder whose name is not UTF-8, and a terminal that knows ASCII only."""
    name = "not UTF-8 \udcff"
    options = ("--weights", weights["generator"], "--count", 1)
    result = call("hw2_1.sh", tmp_path / name, *options, PYTHONIOENCODING="ascii")
    assert (result.returncode, result.stderr) == (0, "")
    assert [path.name for path in (tmp_path / name).iterdir()] == ["0001.png"]


def test_a_read_only_disk(disk, refused_inside, digits, weights):
    folder = disk("ro")
    assert "disk cannot be written" in refused_inside("p1_inference.py", folder, "--weights", weights["generator"])
    assert "in cannot be written: Read-only file system" in refused_inside("p2_inference.py", folder / "in")
    sentence = refused_inside("p3_inference.py", digits("usps", "usps"), folder / "out.csv")
    assert "out.csv cannot be written: Read-only file system" in sentence


def test_a_full_disk(disk, refused, refused_inside, digits, weights):
    """One sentence, and what could be written is whole."""
    folder = disk("size=262144")
    sentence = refused("hw2_1.sh", folder / "out", "--count", 50, "--weights", weights["generator"])
    assert re.search(r"disk/out/\d{4}\.png cannot be written: No space left on device", sentence)
    written = contents(folder / "out")
    assert 0 < len(written) < 50 and all(name.endswith(".png") for name in written)
    assert all(Image.open(io.BytesIO(content)).convert("RGB").size == (64, 64) for content in written.values())
    with contextlib.suppress(OSError), open(folder / "filler", "wb", buffering=0) as handle:
        while handle.write(bytes(4096)):
            pass
    sentence = refused_inside("p3_inference.py", digits("usps", "usps"), folder / "out.csv")
    assert "out.csv cannot be written: No space left on device" in sentence
    assert sorted(path.name for path in folder.iterdir()) == ["filler", "out"]


@pytest.mark.parametrize(
    ("script", "options", "reason"),
    [
        *((f"p{number}_inference.py", ("a", "b", "c"), "unrecognized arguments") for number in (1, 2, 3)),
        *((f"p{number}_inference.py", (), "the following arguments are required") for number in (1, 2, 3)),
        ("p2_inference.py", ("out", "--guidance-from", 0.9, "--guidance-to", 0.1), "--guidance-from 0.9 is above"),
        ("p2_inference.py", ("out", "--steps", 601), "must be at most 600"),
        ("p2_inference.py", ("out", "--seed", "9" * 400), f"{'9' * 400} is out of range, must be at most"),
    ],
)
def test_wrong_calls(script, options, reason, refused_inside, tmp_path):
    assert reason in refused_inside(script, *options, cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []


# Weights


def test_broken_weights(refused, refused_inside, weights, builtin, tmp_path):
    whole = weights["dann"].read_bytes()
    flipped, damaged = bytearray(whole), bytearray(whole)
    flipped[3] ^= 255  # in the length of the header
    damaged[-1000] ^= 1  # in a weight
    files = {"empty": b"", "half": whole[: len(whole) // 2], "flipped": flipped, "page": b"<!DOCTYPE html>404"}
    for name, content in (files | {"damaged": damaged}).items():
        (tmp_path / name).write_bytes(content)
    torch.save({"weight": torch.zeros(1)}, tmp_path / "pickle")
    save_file({"weight": torch.zeros(1)}, tmp_path / "foreign")
    reasons = {tmp_path / name: "is not a whole safetensors file" for name in (*files, "pickle")}
    reasons[tmp_path / "missing"] = "missing is missing"
    reasons[tmp_path / "damaged"] = "damaged is damaged: its weights are not those that were written"
    reasons[tmp_path / "foreign"] = "was not written by this repository"
    reasons[weights["critic"]] = "holds another network than "
    images = builtin / "digits" / "svhn" / "data"
    for path, reason in reasons.items():
        sentence = refused_inside("p3_inference.py", images, "out", "--weights", path, cwd=tmp_path)
        assert reason in sentence and str(path) in sentence
    for wrapper in ("hw2_1.sh", "hw2_2.sh"):
        assert str(weights["critic"]) in refused(wrapper, "out", "--weights", weights["critic"], cwd=tmp_path)
    assert not (tmp_path / "out").exists()


# Labels


def labels(path: Path) -> dict[str, str]:
    text = path.read_bytes().decode()
    assert text.startswith("image_name,label\n") and "\r" not in text
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert all(row["label"] in set("0123456789") for row in rows)
    assert [row["image_name"] for row in rows] == sorted({row["image_name"] for row in rows})
    return {row["image_name"]: row["label"] for row in rows}


@pytest.fixture
def digits(builtin, tmp_path):
    """A function that copies built-in digits of a domain to a folder of any name."""

    def copy(domain: str, *parts: str) -> Path:
        return shutil.copytree(builtin / "digits" / domain / "data", tmp_path.joinpath(*parts))

    return copy


@pytest.mark.parametrize(("domain", "target"), [("svhn", "svhn.csv"), ("usps", "not yet/there/usps.csv")])
def test_labels_as_the_grader_asks(domain, target, call, digits, abroad):
    """A bare csv name or missing parents, the domain in the path, every image one row, whatever its name."""
    folder = digits(domain, "with space", "digits", domain, "test")
    for old, new in (("00000.png", "UPPER.PNG"), ("00001.png", '作業 é, "x".png'), ("00002.png", "a\nb.png")):
        (folder / old).rename(folder / new)
    result = call("hw2_3.sh", f"{folder}/", target, cwd=abroad)
    assert result.returncode == 0 and errors(result) == []
    assert list(labels(abroad / target)) == sorted(path.name for path in folder.iterdir())


def test_labels_never_vary(call, inside, digits, tmp_path):
    """Neither with what else is in the folder, nor with the names, nor between runs, nor with the threads."""
    folder = digits("svhn", "svhn")
    for name, threads in (("a.csv", 1), ("b.csv", 2)):
        assert call("hw2_3.sh", folder, tmp_path / name, threads=threads).returncode == 0
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    before = labels(tmp_path / "a.csv")
    assert len(set(before.values())) > 1
    names = random.Random(0).sample(list(before), len(before))
    renamed = {name: f"zz {number}.png" for number, name in enumerate(names[: len(names) // 2])}
    for old, new in renamed.items():
        (folder / old).rename(folder / new)
    for name in names[-5:]:
        (folder / name).unlink()
    (folder / "inner").mkdir()
    (folder / "._hidden.png").write_bytes(b"macOS")
    assert inside("p3_inference.py", folder, tmp_path / "c.csv")[0] == 0
    assert labels(tmp_path / "c.csv") == {renamed.get(name, name): before[name] for name in names[:-5]}


@pytest.mark.parametrize(
    ("domain", "parts", "expected"),
    [
        ("usps", ("test",), "usps"),  # no name: the images are grey
        ("svhn", ("test",), "svhn"),
        ("usps", ("svhn", "digits", "usps", "test"), None),
        ("svhn", ("usps_work", "SVHN", "images"), None),
        ("svhn", ("my-usps-backup",), "svhn"),  # part of a name is no name
        ("svhn", ("usps", "..", "test"), "svhn"),  # nor is what the path leaves again
    ],
)
def test_the_domain(domain, parts, expected, inside, digits, tmp_path):
    if ".." in parts:
        (tmp_path / "copy" / "usps").mkdir(parents=True)
    folder = digits(domain, "copy", *parts)
    code, _, said = inside("p3_inference.py", folder, tmp_path / "out.csv")
    assert code == 0 and (said == "" if expected is None else said.endswith(f" so they are taken for {expected}\n"))
    code, _, said = inside("p3_inference.py", folder, tmp_path / "same.csv", "--target", domain)
    assert (code, said) == (0, "")
    assert labels(tmp_path / "out.csv") == labels(tmp_path / "same.csv")


@pytest.mark.parametrize("name", ["a", "re\rturn", "line\nbreak", 'a "quote', "com,ma", " space ", "\udcff", "3"])
def test_a_name_is_one_cell_of_the_table(name):
    text = b"image_name,label\n%s,7\n" % p3_inference.cell(name)
    rows = list(csv.reader(io.StringIO(text.decode("utf-8", "surrogateescape"), newline=""), strict=True))
    assert rows == [["image_name", "label"], [name, "7"]]


def test_a_broken_image_is_named(refused, refused_inside, digits, tmp_path):
    folder, out = digits("svhn", "svhn"), tmp_path / "new" / "out.csv"
    broken = sorted(folder.iterdir())[3].rename(folder / "line\nbreak.png")
    for content in (b"not an image", broken.read_bytes()[:-300], b"\x89PNG\r\n\x1a\n" + b"\0" * 50):
        broken.write_bytes(content)
        assert "svhn/line\\nbreak.png cannot be decoded (" in refused_inside("p3_inference.py", folder, out)
    broken.write_bytes(b"")
    assert "line\\nbreak.png cannot be decoded (no image of a known kind)" in refused("hw2_3.sh", folder, out)
    broken.unlink()
    broken.symlink_to(tmp_path / "gone")
    assert "line\\nbreak.png is missing" in refused_inside("p3_inference.py", folder, out)
    broken.unlink()
    Image.new("1", (20_000, 20_000)).save(folder / "bomb.png")
    assert "bomb.png " in refused_inside("p3_inference.py", folder, out)
    assert not out.parent.exists()


def test_wrong_folders(refused_inside, tmp_path):
    (tmp_path / "empty" / "inner").mkdir(parents=True)
    Image.new("L", (28, 28)).save(tmp_path / "empty" / "inner" / "0.png")
    (tmp_path / "file").touch()
    reasons = {"empty": "empty holds no image", "none": "none is missing", "x" * 300: "x is missing"}
    for name, reason in (reasons | {"file": "file is not a folder", "": "a path is empty"}).items():
        assert reason in refused_inside("p3_inference.py", name and tmp_path / name, tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


def test_csv_targets(refused_inside, inside, digits, tmp_path):
    folder, longest = digits("usps", "usps"), "作" * 83 + ".csv"  # 253 bytes, of 255
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")  # as /dev/null and /dev/stdout are
    for target, reason in (
        (f"{tmp_path}/", f"{tmp_path} is a folder, expected a file"),
        (tmp_path / "file" / "out.csv", "file/out.csv cannot be written"),
        ("", "a path is empty"),
        (tmp_path / "pipe", "pipe is not a regular file"),
        (tmp_path / f"作{longest}", "cannot be written: File name too long"),
    ):
        assert reason in refused_inside("p3_inference.py", folder, target)
    assert (tmp_path / "pipe").is_fifo() and not list(tmp_path.glob(".*"))
    assert inside("p3_inference.py", folder, longest, cwd=tmp_path)[0] == 0
    assert len(labels(tmp_path / longest)) == 48


# The released weights, on real data


@needs_real_data
@pytest.mark.parametrize(("domain", "least"), [("svhn", 0.78), ("usps", 0.96)])
def test_released_labels(domain, least, inside, tmp_path):
    """The first 800 images of the held-out val."""
    with np.load(REAL / f"{domain}.npz") as arrays:
        images, truth = arrays["val_x"][:800], arrays["val_y"][:800]
    (tmp_path / domain).mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / domain / f"{number:04d}.png")
    assert inside("p3_inference.py", tmp_path / domain, tmp_path / "out.csv")[0] == 0
    found = list(map(int, labels(tmp_path / "out.csv").values()))  # in the order of the names
    assert np.equal(found, truth).mean() >= least


@needs_real_data
def test_released_digits(inside, tmp_path):
    """By the course's own classifier."""
    assert inside("p2_inference.py", tmp_path, "--per-class", 5)[0] == 0
    code, output, said = inside("evaluate.py", "digits", tmp_path, "--classifier", REAL / "Classifier.pth", "--json")
    assert code == 0 and json.loads(output)["accuracy"] >= 0.88, said
