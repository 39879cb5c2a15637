"""The wrappers hw2_1.sh, hw2_2.sh and hw2_3.sh as a grader calls them: what they write, and that it never varies.

Fourteen ways in which such solutions lost their marks, and the tests that would have told:

1. no output folder, no parents, a bare csv name: `..._as_the_grader_asks`, `test_csv_targets`
2. spaces, other letters, trailing slashes, another working directory: `abroad` and `another_place`
3. odd csv files (header, order, line ends, missing images): test_data.py
4. misleading or neutral folder names: `test_the_domain`
5. stale and foreign files in the output folder: `test_output_folder`, `test_an_interrupted_run_is_completed`
6. checkpoints of a second GPU, pickles that run code: `test_broken_weights`, test_judges.py, test_training.py
7. broken downloads: test_download.py; downloads at inference: `test_missing_weights_are_not_fetched`
8. images that vary between runs, numbers of images or threads: `..._as_the_grader_asks`, `..._never_vary`,
   `test_every_batch_has_one_size`
9. colours shifted or wrapped round on saving: `to_uint8` in test_gan_losses.py
10. names: `..._as_the_grader_asks`
11. too much at once, duplicates: `test_memory_is_that_of_one_batch`, `..._as_the_grader_asks`
12. images of other kinds, broken ones, none at all: `test_images_of_every_kind`, `test_a_broken_image_is_named`
13. `python` for python3, wrappers that change folder, missing packages: every call here, by conftest.py's `call`
14. face rates over the images that dlib happened to accept: `face_counts` in test_faces_score.py
"""

import contextlib
import csv
import errno
import fcntl
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

import models.ddpm
import sampling.labels
from common.checkpoint import export_weights
from common.device import has_fast_bf16
from models.ddpm import ContextUnet
from models.diffusion import ancestral, ddim, dpm_solver, final, time_grid
from sampling.digits import BATCH, digit_keys, draw_digits
from sampling.faces import latents, sample_images
from sampling.labels import predict

ROOT = Path(__file__).resolve().parent.parent
REAL = ROOT.parent / "shared" / "data"
needs_real_data = pytest.mark.skipif(not REAL.is_dir(), reason="the real data are not here")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def errors(result) -> list[str]:
    """stderr without progress bars."""
    lines = [part for line in result.stderr.splitlines() for part in line.split("\r")]
    return [line for line in lines if line.strip() and not re.search(r"\d+%\|", line)]


@pytest.fixture
def abroad(tmp_path) -> Path:
    """A working directory that is not the repository, with what breaks unquoted scripts in its name."""
    folder = tmp_path / "another folder (é) $HOME\n*"
    folder.mkdir()
    return folder


@pytest.fixture
def another_place(tmp_path) -> Path:
    """The scripts in a folder with such a name, the wrappers called by symbolic links in a third folder."""
    place, links = tmp_path / "Hausaufgabe Zwei – löschen, 作業 $HOME", tmp_path / "links to it"
    place.mkdir()
    links.mkdir()
    for path in ROOT.glob("p?_inference.py"):
        shutil.copy(path, place)
    for name in ("common", "data", "models", "sampling"):
        shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    for wrapper in ("hw2_1.sh", "hw2_2.sh", "hw2_3.sh"):
        shutil.copy(ROOT / wrapper, place)
        (links / wrapper).symlink_to(place / wrapper)
    (place / "checkpoints").symlink_to(ROOT / "checkpoints")
    return links


# Faces


def test_faces_as_the_grader_asks(call, abroad):
    """Exactly the 1,000 files; the same ones by another process, however many are drawn and on two cores."""
    result = call("hw2_1.sh", "not/yet there/", cwd=abroad)
    assert result.returncode == 0 and errors(result) == []
    images = contents(abroad / "not" / "yet there")
    assert sorted(images) == [f"{number:04d}.png" for number in range(1, 1001)]
    for content in images.values():
        with Image.open(io.BytesIO(content)) as image:
            assert (image.mode, image.size, image.format) == ("RGB", (64, 64), "PNG")
    assert len(set(images.values())) == 1000
    for count, threads in ((1, 1), (57, 2)):
        assert call("hw2_1.sh", abroad / f"{count}", "--count", count, threads=threads).returncode == 0
        fewer = contents(abroad / f"{count}")
        assert len(fewer) == count and fewer == {name: images[name] for name in fewer}


def test_options_of_faces(inside, weights, tmp_path):
    def draw(name: str, *options: object) -> dict[str, bytes]:
        code, _, said = inside("p1_inference.py", tmp_path / name, "--weights", weights["generator"], *options)
        assert code == 0, said
        return contents(tmp_path / name)

    images = draw("a", "--count", 7)
    assert len(set(images.values())) == 7 and images == draw("b", "--count", 7)
    assert not set(draw("c", "--count", 7, "--seed", 1).values()) & set(images.values())
    assert len(set(draw("d", "--count", 3, "--truncation", 0).values())) == 1  # the mean face


# Digits


def test_digits_as_the_grader_asks(call, abroad):
    """All 1,000 names, and the same images again on two cores among fewer.

    One network call an image instead of the default's, as the test is of the files.
    """
    quick = ("--steps", 1, "--guidance-scale", 0)
    result = call("hw2_2.sh", "digits", *quick, cwd=abroad)
    assert result.returncode == 0 and errors(result) == []
    images = contents(abroad / "digits")
    assert sorted(images) == [f"{digit}_{number:03d}.png" for digit in range(10) for number in range(1, 101)]
    for content in images.values():
        with Image.open(io.BytesIO(content)) as image:
            assert (image.mode, image.size, image.format) == ("RGB", (28, 28), "PNG")
    assert len(set(images.values())) == 1000
    assert call("hw2_2.sh", "fewer", *quick, "--per-class", 1, cwd=abroad, threads=2).returncode == 0
    fewer = contents(abroad / "fewer")
    assert len(fewer) == 10 and fewer == {name: images[name] for name in fewer}


PRECISIONS = ["auto", "fp32"] if has_fast_bf16(torch.device("cpu")) else ["auto"]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_digits_never_vary(precision, call, weights, tmp_path):
    """With guidance: one image a class on two cores, and as part of two batches (fp32, which is slow: of one)."""

    def draw(name: str, per_class: int, threads: int) -> dict[str, bytes]:
        fixed = ("--weights", weights["unet"], "--precision", precision, "--steps", 1)
        result = call("hw2_2.sh", tmp_path / name, *fixed, "--per-class", per_class, threads=threads)
        assert result.returncode == 0, result.stderr
        return contents(tmp_path / name)

    fewer, images = draw("fewer", 1, 2), draw("images", 11 if precision == "auto" else 2, 1)
    assert len(set(fewer.values())) == 10 and fewer == {name: images[name] for name in fewer}


@pytest.fixture
def small_unet(monkeypatch, tmp_path) -> Path:
    """Weights of a small network, which p2_inference.py makes for the rest of the test."""
    torch.manual_seed(0)
    monkeypatch.setattr(models.ddpm, "N_FEAT", 16)
    export_weights(tmp_path / "small.safetensors", noise_denoiser())
    return tmp_path / "small.safetensors"


@pytest.mark.parametrize(
    "options",
    [
        *[("--sampler", "ddim", "--eta", 1), ("--sampler", "ddim"), ("--spacing", "uniform"), ("--guidance-scale", 90)],
        *[("--guidance-from", 0.5), ("--guidance-to", 0.5), ("--steps", 4), ("--seed", 1)],
    ],
)
def test_every_option_of_the_sampler_matters(options, inside, small_unet, tmp_path):
    few = ("--per-class", 2, "--steps", 3, "--weights", small_unet, "--precision", "fp32")
    few += ("--guidance-scale", 50)  # the class hardly moves a random network
    for name, chosen in (("a", ()), ("b", options)):
        code, _, said = inside("p2_inference.py", tmp_path / name, *few, *chosen)
        assert code == 0, said
    first, second = contents(tmp_path / "a"), contents(tmp_path / "b")
    assert first.keys() == second.keys() and len(set(first.values())) == 20
    assert sum(first[name] != second[name] for name in first) > 15


@pytest.mark.parametrize("sampler", ["ancestral", "ddim", "dpm"])
@pytest.mark.parametrize("count", [1, 7, 100])
def test_noise_belongs_to_the_image(sampler, count, monkeypatch):
    """An image is the same among 1, 7 and 100 as among 10 others, also where noise is added on the way."""
    torch.manual_seed(0)
    monkeypatch.setattr(models.ddpm, "N_FEAT", 16)
    network = ContextUnet().eval()

    def sample(denoise, x, noise):
        if sampler == "ancestral":
            return final(ancestral(denoise, x, noise, timesteps=6))
        if sampler == "ddim":
            return final(ddim(denoise, x, time_grid(4), 1.0, lambda call: noise(call + 1)))
        return final(dpm_solver(denoise, x, time_grid(4)))

    def draw(keys):
        return draw_digits(network, keys, 2.0, (0.1, 0.9), sample, chunk=20)

    keys = [(number % 10, number) for number in range(100)]
    images = draw(keys[:count])
    assert images.unique(dim=0).shape[0] == count
    others = draw([(3, 1000), *reversed(keys[:10])])[1:].flip(0)
    assert torch.equal(images[:10], others[:count])


def test_memory_is_that_of_one_batch():
    """However many digits are drawn, the network never sees more than BATCH at once, guided or not."""
    seen = []

    class Network(torch.nn.Linear):  # whose weight says on which device it is
        def encode(self, x):
            seen.append(len(x))
            return x

        def decode(self, x, context, time):
            seen.append(len(x))
            return torch.zeros_like(x)

    keys = digit_keys(25)
    images = draw_digits(
        Network(1, 1), keys, 2.0, (0.0, 1.0), lambda d, x, noise: final(dpm_solver(d, x, time_grid(2)))
    )
    assert len(images) == 250 and set(seen) == {BATCH}


def test_every_batch_has_one_size():
    """However many faces are drawn or digits labelled: on some machines sums of floats differ between sizes."""
    seen = []

    class Network(torch.nn.Linear):
        def forward(self, x):
            seen.append(len(x))
            return x.expand(-1, -1, 64, 64)[:, :3] if x.shape[2] == 1 else (x.new_zeros(len(x), 10), None)

    assert len(sample_images(Network(1, 1), latents(7))) == 7 and seen == [50]
    assert len(predict(Network(1, 1), torch.zeros(501, 3, 28, 28).byte(), False)) == 501
    assert set(seen[1:]) == {sampling.labels.BATCH}


# Where the scripts are, and what there is


def test_packages_are_missing_in_every_call(environment):
    """What this file relies on: the wrappers run without what only training or scores need, and without `python`."""
    for name in ABSENT:
        command = ["python3", "-c", f"import {name}"]
        result = subprocess.run(command, check=False, capture_output=True, text=True, env=wrapped(environment))
        assert f"import of {name} halted" in result.stderr
    command = ["python", "-c", ""]
    assert subprocess.run(command, check=False, capture_output=True, env=wrapped(environment)).returncode == 99


def test_wrappers_in_another_place(call, another_place, digits, abroad):
    """Called by relative symbolic links, with CDPATH set; modules of the caller's folder are not taken for ours."""
    for name in ("common", "models", "p1_inference", "random", "csv"):
        (abroad / f"{name}.py").write_text("raise SystemExit('the wrong module')")
    digits("usps", "usps")
    first = os.path.relpath(another_place / "hw2_1.sh", abroad)
    assert call(first, "faces", "--count", 2, cwd=abroad, CDPATH=str(another_place)).returncode == 0
    assert sorted(contents(abroad / "faces")) == ["0001.png", "0002.png"]
    third = os.path.relpath(another_place / "hw2_3.sh", abroad)
    assert call(third, "../usps", "usps.csv", cwd=abroad, CDPATH=str(another_place)).returncode == 0
    assert len(labels(abroad / "usps.csv")) == 40


def test_missing_weights_are_not_fetched(refused, another_place, digits, tmp_path):
    """hw2_download.sh fetches, hw2_N.sh says that it should."""
    checkpoints = (another_place / "hw2_3.sh").resolve().parent / "checkpoints"
    checkpoints.unlink()
    checkpoints.mkdir()
    address = {"HW2_CHECKPOINT_URL": (ROOT / "checkpoints").as_uri()}
    sentence = refused(str(another_place / "hw2_3.sh"), digits("svhn", "svhn"), tmp_path / "out.csv", **address)
    assert "p3_dann_svhn.safetensors is missing, run: bash hw2_download.sh" in sentence
    assert list(checkpoints.iterdir()) == [] and not (tmp_path / "out.csv").exists()


OLD_PYTHON = """#!/bin/sh
exec "{}" -c 'import sys
code, sys.argv[1:] = sys.argv[3], sys.argv[4:]
sys.version_info, sys.version = (3, 9, 18), "3.9.18 (main)"
exec(code)' "$@"
"""


@pytest.mark.parametrize("wrapper", ["hw2_1.sh", "hw2_2.sh", "hw2_3.sh", "hw2_download.sh"])
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
    """A longer run's images and what a killed run left go, the user's files stay and are named, ours are overwritten.

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
    (folder / ".0003.png.0123abcd.part").write_bytes(b"half")
    (folder / ".0004.png.0123abcd.part").write_bytes(b"half")
    with open(folder / ".0004.png.0123abcd.part", "rb") as handle:  # as if another process were writing it
        fcntl.flock(handle, fcntl.LOCK_EX)
        result = call("hw2_1.sh", link, "--count", 4, *options)
    assert result.returncode == 0
    named = ".0004.png.0123abcd.part, .DS_Store, 0008.png, 0010.png"
    assert errors(result) == [f"warning: {link} also holds files that are not ours: {named}"]
    (folder / "0010.png").rmdir()
    after = contents(folder)
    ours = ["0001.png", "0002.png", "0003.png", "0004.png"]
    assert sorted(after) == [".0004.png.0123abcd.part", ".DS_Store", *ours, "0008.png"]
    assert all(after[name] == before[name] for name in ours)


def test_stale_images(inside, refused_inside, weights, tmp_path, monkeypatch):
    """One that may not be removed is named, one that another run removed at the same moment is not missed."""
    options = ("p1_inference.py", tmp_path, "--weights", weights["generator"], "--count")
    assert inside(*options, 2)[0] == 0
    unlink = Path.unlink

    def forbidden(path, missing_ok=False):
        raise PermissionError(errno.EPERM, "Operation not permitted", str(path))

    def too_late(path, missing_ok=False):
        unlink(path)
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", forbidden)
    assert "0002.png cannot be removed: Operation not permitted" in refused_inside(*options, 1)
    monkeypatch.setattr(Path, "unlink", too_late)
    assert inside(*options, 1)[0] == 0
    assert sorted(contents(tmp_path)) == ["0001.png"]


def test_an_interrupted_run_is_completed(environment, call, weights, tmp_path):
    """kill -9 amid the writing, as a grader's time limit does; the next run leaves exactly its files."""
    options = ("--weights", str(weights["generator"]), "--count", "50")
    command = ["bash", str(ROOT / "hw2_1.sh"), str(tmp_path / "a"), *options]
    process = subprocess.Popen(command, env=environment)
    while not (tmp_path / "a" / "0001.png").exists():
        assert process.poll() is None
    process.kill()
    assert process.wait() == -signal.SIGKILL
    for content in contents(tmp_path / "a").items():
        assert content[0].endswith(".part") or Image.open(io.BytesIO(content[1])).size == (64, 64)
    (tmp_path / "a" / ".0050.png.89abcdef.part").write_bytes(b"half")
    for name in ("a", "b"):
        result = call("hw2_1.sh", tmp_path / name, *options)
        assert result.returncode == 0 and errors(result) == []
    assert contents(tmp_path / "a") == contents(tmp_path / "b") and len(contents(tmp_path / "a")) == 50


@pytest.mark.parametrize("wrapper", ["hw2_1.sh", "hw2_2.sh"])
def test_output_that_cannot_be_a_folder(wrapper, refused, refused_inside, tmp_path):
    script = f"p{wrapper[4]}_inference.py"
    (tmp_path / "file\nor two").write_text("mine")
    assert "file\\nor two is a file, expected a folder" in refused(wrapper, tmp_path / "file\nor two")
    assert "or two/in cannot be made or read" in refused_inside(script, tmp_path / "file\nor two" / "in")
    assert (tmp_path / "file\nor two").read_text() == "mine"
    assert "a path is empty" in refused_inside(script, "")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert "loop " in refused_inside(script, tmp_path / "loop")
    taken = "0009.png" if script == "p1_inference.py" else "9_001.png"
    (tmp_path / "out" / taken).mkdir(parents=True)
    assert f"out/{taken} is a folder, expected a file" in refused_inside(script, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == [taken]  # nothing but what was there


def test_letters_of_no_encoding(call, weights, tmp_path):
    """A folder whose name is not UTF-8, and a terminal that knows ASCII only."""
    name = "not UTF-8 \udcff"
    options = ("--weights", weights["generator"], "--count", 1)
    result = call("hw2_1.sh", tmp_path / name, *options, PYTHONIOENCODING="ascii")
    assert (result.returncode, result.stderr) == (0, "")
    assert [path.name for path in (tmp_path / name).iterdir()] == ["0001.png"]


def test_a_read_only_disk(disk, refused, refused_inside, digits, weights):
    folder = disk("ro")
    small = ("--count", 2, "--weights", weights["generator"])
    assert "disk cannot be written: Read-only file system" in refused("hw2_1.sh", folder, *small)
    assert "in cannot be made or read: Read-only file system" in refused_inside("p1_inference.py", folder / "in")
    assert "in cannot be made or read: Read-only file system" in refused("hw2_2.sh", folder / "in")
    out = folder / "out.csv"
    assert "out.csv cannot be written: Read-only file system" in refused("hw2_3.sh", digits("usps", "usps"), out)


def test_a_full_disk(disk, refused, digits, weights):
    """One sentence, and what could be written is whole."""
    folder = disk("size=262144")
    sentence = refused("hw2_1.sh", folder / "out", "--count", 50, "--weights", weights["generator"])
    assert re.search(r"disk/out/\d{4}\.png cannot be written: No space left on device", sentence)
    written = contents(folder / "out")
    assert 0 < len(written) < 50 and all(name.endswith(".png") for name in written)
    assert all(Image.open(io.BytesIO(content)).convert("RGB").size == (64, 64) for content in written.values())
    out = folder / "out.csv"
    with contextlib.suppress(OSError), open(folder / "filler", "wb", buffering=0) as handle:
        while handle.write(bytes(4096)):
            pass
    assert "out.csv cannot be written: No space left on device" in refused("hw2_3.sh", digits("usps", "usps"), out)
    assert sorted(path.name for path in folder.iterdir()) == ["filler", "out"]


@pytest.mark.parametrize("wrapper", ["hw2_1.sh", "hw2_2.sh", "hw2_3.sh"])
def test_wrong_calls(wrapper, refused, refused_inside, tmp_path):
    assert "unrecognized arguments" in refused(wrapper, tmp_path / "a", tmp_path / "b", "c")
    assert "the following arguments are required" in refused_inside(f"p{wrapper[4]}_inference.py")
    assert list(tmp_path.iterdir()) == []


def test_wrong_options_of_digits(refused_inside, tmp_path):
    out = tmp_path / "out"
    crossed = ("--guidance-from", 0.9, "--guidance-to", 0.1)
    assert "--guidance-from 0.9 is above" in refused_inside("p2_inference.py", out, *crossed)
    assert "must be from 1 to 600" in refused_inside("p2_inference.py", out, "--steps", 601)
    for seed in (2**63, "9" * 400):
        assert f"{seed} is out of range, must fit" in refused_inside("p2_inference.py", out, "--seed", seed)
    assert not out.exists()


# Weights


def broken_weights(weights: dict[str, Path], folder: Path) -> list[tuple[Path, str]]:
    whole = weights["dann"].read_bytes()
    flipped, damaged = bytearray(whole), bytearray(whole)
    flipped[3] ^= 255  # in the length of the header
    damaged[-1000] ^= 1  # in a weight
    files = {"missing": None, "empty": b"", "half": whole[: len(whole) // 2], "flipped": bytes(flipped)}
    files["page"] = b"<!DOCTYPE html><html>404</html>"
    for name, content in files.items():
        if content is not None:
            (folder / name).write_bytes(content)
    torch.save({"weight": torch.zeros(1)}, folder / "pickle")
    save_file({"weight": torch.zeros(1)}, folder / "foreign")
    reasons = [(folder / name, "is not a whole safetensors file") for name in (*files, "pickle")]
    reasons[0] = (folder / "missing", "missing is missing")
    (folder / "damaged").write_bytes(damaged)
    reasons.append((folder / "damaged", "damaged is damaged: its weights are not those that were written"))
    reasons.append((folder / "foreign", "was not written by this repository"))
    return [*reasons, (weights["critic"], "holds another network than ")]


def test_broken_weights(refused, refused_inside, weights, builtin, tmp_path):
    images = builtin / "digits" / "svhn" / "data"
    for path, reason in broken_weights(weights, tmp_path):
        sentence = refused_inside("p3_inference.py", images, "out", "--weights", path, cwd=tmp_path)
        assert reason in sentence and str(path) in sentence
    for wrapper in ("hw2_1.sh", "hw2_2.sh"):
        assert str(tmp_path / "half") in refused(wrapper, "out", "--weights", tmp_path / "half", cwd=tmp_path)
        script = f"p{wrapper[4]}_inference.py"
        assert str(weights["critic"]) in refused_inside(script, "out", "--weights", weights["critic"], cwd=tmp_path)
    assert not (tmp_path / "out").exists()


# Labels


def labels(path: Path) -> dict[str, str]:
    text = path.read_bytes().decode()
    assert text.startswith("image_name,label\n") and "\r" not in text
    rows = list(csv.DictReader(text.splitlines()))
    assert all(row["label"] in set("0123456789") for row in rows)
    assert [row["image_name"] for row in rows] == sorted({row["image_name"] for row in rows})
    return {row["image_name"]: row["label"] for row in rows}


@pytest.fixture
def digits(builtin, tmp_path):
    """A function that copies built-in digits of a domain to a folder of any name."""

    def copy(domain: str, *parts: str) -> Path:
        return shutil.copytree(builtin / "digits" / domain / "data", tmp_path.joinpath(*parts))

    return copy


def test_labels_as_the_grader_asks(call, digits, abroad):
    """A bare csv name or missing parents, the domain in the path, every image one row, whatever its name."""
    for domain, target in (("svhn", "svhn.csv"), ("usps", "not yet/there/usps.csv")):
        folder = digits(domain, "with space", "digits", domain, "test")
        for old, new in (("00000.png", "UPPER.PNG"), ("00001.png", '作業 é, "x".png'), ("00002.png", "a\nb.png")):
            (folder / old).rename(folder / new)
        result = call("hw2_3.sh", f"{folder}/", target, cwd=abroad)
        assert result.returncode == 0 and errors(result) == []
        with open(abroad / target, newline="", encoding="utf-8") as handle:
            rows = list(csv.reader(handle))
        assert rows[0] == ["image_name", "label"] and len(rows) == 41
        assert [name for name, _ in rows[1:]] == sorted(path.name for path in folder.iterdir())


def test_labels_never_vary(call, inside, digits, weights, tmp_path):
    """Neither with what else is in the folder, nor with the names, nor between runs, nor with the threads."""
    folder = digits("svhn", "svhn")
    fixed = ("--weights", weights["dann"])
    assert call("hw2_3.sh", folder, tmp_path / "a.csv", *fixed).returncode == 0
    assert call("hw2_3.sh", folder, tmp_path / "b.csv", *fixed, threads=2).returncode == 0
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    before = labels(tmp_path / "a.csv")
    assert len(set(before.values())) > 1
    names = list(before)
    random.Random(0).shuffle(names)
    for number, name in enumerate(names[: len(names) // 2]):
        (folder / name).rename(folder / f"zz {number}.png")
    for name in names[-5:]:
        (folder / name).unlink()
    (folder / "inner").mkdir()
    (folder / "._hidden.png").write_bytes(b"macOS")
    (folder / "notes.txt").touch()
    assert inside("p3_inference.py", folder, tmp_path / "c.csv", *fixed)[0] == 0
    after = labels(tmp_path / "c.csv")
    assert len(after) == len(before) - 5
    for number, name in enumerate(names[: len(names) // 2]):
        assert after[f"zz {number}.png"] == before[name]


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
def test_the_domain(domain, parts, expected, call, inside, digits, tmp_path):
    if ".." in parts:
        (tmp_path / "copy" / "usps").mkdir(parents=True)
    folder = digits(domain, "copy", *parts)
    result = call("hw2_3.sh", folder, tmp_path / "out.csv")
    assert result.returncode == 0, result.stderr
    said = errors(result)
    assert said == [] if expected is None else re.search(f"names no domain.* taken for {expected}$", said[0])
    code, _, said = inside("p3_inference.py", folder, tmp_path / "same.csv", "--target", domain)
    assert (code, said) == (0, "")
    assert labels(tmp_path / "out.csv") == labels(tmp_path / "same.csv")


def test_images_of_every_kind(call, digits, tmp_path):
    """The same picture in other modes, formats and sizes gets the same label."""
    folder = digits("usps", "usps")
    files = sorted(folder.iterdir())[:8]
    assert call("hw2_3.sh", folder, tmp_path / "grey.csv").returncode == 0
    wanted = labels(tmp_path / "grey.csv")
    other = tmp_path / "other" / "usps"
    other.mkdir(parents=True)
    Image.open(files[0]).resize((1, 1)).save(other / "tiny.png")
    Image.open(files[0]).resize((3000, 2000)).save(other / "huge.jpg", quality=95)
    Image.open(files[0]).convert("CMYK").resize((32, 32)).save(other / "print.jpg")
    frames = [Image.open(path).convert("P") for path in files[1:3]]
    frames[0].save(other / "animated.gif", save_all=True, append_images=frames[1:])
    Image.open(files[1]).convert("LA").save(other / "transparent.png")
    for path, kind in zip(files, ["RGB", "RGBA", "P", "I;16", "BMP", "PPM", "1", "big"], strict=True):
        image = Image.open(path).convert("L")
        name = other / path.with_suffix(f".{kind}" if kind in ("BMP", "PPM") else ".png").name
        if kind == "I;16":
            image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
        elif kind == "big":
            image = image.resize((56, 56), Image.Resampling.NEAREST)
        elif kind not in ("BMP", "PPM"):
            image = image.convert(kind)
        image.save(name)
    assert call("hw2_3.sh", other, tmp_path / "other.csv").returncode == 0
    found = {Path(name).stem: label for name, label in labels(tmp_path / "other.csv").items()}
    exact = [path.stem for path in files[:6]]
    assert found["animated"] == found["transparent"] == wanted[files[1].name]  # of an animation, the first frame
    assert len(found) == 13 and {stem: found[stem] for stem in exact} == {s: wanted[f"{s}.png"] for s in exact}


def test_a_broken_image_is_named(refused, refused_inside, digits, tmp_path):
    folder = digits("svhn", "svhn")
    broken = sorted(folder.iterdir())[3].rename(folder / "line\nbreak.png")
    whole = broken.read_bytes()
    for content in (b"not an image", b"\x89PNG\r\n\x1a\n" + b"\0" * 50, whole[:-300], whole[:60]):
        broken.write_bytes(content)
        sentence = refused_inside("p3_inference.py", folder, tmp_path / "new" / "out.csv")
        assert "svhn/line\\nbreak.png cannot be decoded (" in sentence
    broken.write_bytes(b"")
    assert "line\\nbreak.png is empty" in refused("hw2_3.sh", folder, tmp_path / "new" / "out.csv")
    broken.unlink()
    broken.symlink_to(tmp_path / "gone")
    assert "line\\nbreak.png is missing" in refused_inside("p3_inference.py", folder, tmp_path / "new" / "out.csv")
    assert not (tmp_path / "new").exists()


def test_a_decompression_bomb_is_refused(refused, digits, tmp_path):
    folder = digits("svhn", "svhn")
    Image.new("1", (20_000, 20_000)).save(folder / "bomb.png")
    assert "bomb.png " in refused("hw2_3.sh", folder, tmp_path / "out.csv")


def test_wrong_folders(refused, refused_inside, tmp_path):
    (tmp_path / "empty" / "inner").mkdir(parents=True)
    Image.new("L", (28, 28)).save(tmp_path / "empty" / "inner" / "0.png")
    (tmp_path / "file").touch()
    out = tmp_path / "out.csv"
    assert "empty holds no image" in refused("hw2_3.sh", tmp_path / "empty", out)
    assert "none is missing" in refused_inside("p3_inference.py", tmp_path / "none", out)
    assert "x is missing" in refused_inside("p3_inference.py", tmp_path / ("x" * 300), out)
    assert "file is not a folder" in refused_inside("p3_inference.py", tmp_path / "file", out)
    assert "a path is empty" in refused_inside("p3_inference.py", "", out)
    assert not out.exists()


def test_csv_targets(refused, refused_inside, inside, digits, tmp_path):
    folder = digits("usps", "usps")
    assert f"{tmp_path} is a folder, expected a file" in refused("hw2_3.sh", folder, f"{tmp_path}/")
    (tmp_path / "file").touch()
    assert "file/out.csv cannot be written" in refused_inside("p3_inference.py", folder, tmp_path / "file" / "out.csv")
    assert "a path is empty" in refused_inside("p3_inference.py", folder, "")
    os.mkfifo(tmp_path / "pipe")  # as /dev/null and /dev/stdout are
    assert "pipe is not a regular file and is left alone" in refused_inside(
        "p3_inference.py", folder, tmp_path / "pipe"
    )
    assert (tmp_path / "pipe").is_fifo()
    longest = "作" * 83 + ".csv"  # 253 bytes, of 255
    assert inside("p3_inference.py", folder, longest, cwd=tmp_path)[0] == 0
    assert len(labels(tmp_path / longest)) == 40
    assert "cannot be written: File name too long" in refused_inside(
        "p3_inference.py", folder, tmp_path / f"作{longest}"
    )
    assert not list(tmp_path.glob(".*"))


# The released weights, on real data


def score(call, *arguments: object) -> float:
    result = call("evaluate.py", *arguments, "--json")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)["accuracy"]


@needs_real_data
@pytest.mark.parametrize(("domain", "least"), [("svhn", 0.78), ("usps", 0.96)])
def test_released_labels(domain, least, call, tmp_path):
    """The first 800 images of the held-out val."""
    with np.load(REAL / f"{domain}.npz") as arrays:
        images, truth = arrays["val_x"][:800], arrays["val_y"][:800]
    folder = tmp_path / domain
    folder.mkdir()
    rows = ["image_name,label"]
    for number, (image, label) in enumerate(zip(images, truth, strict=True)):
        Image.fromarray(image).save(folder / f"{number:04d}.png")
        rows.append(f"{number:04d}.png,{label}")
    (tmp_path / "truth.csv").write_text("\n".join(rows))
    assert call("hw2_3.sh", folder, tmp_path / "out.csv").returncode == 0
    assert score(call, "labels", tmp_path / "out.csv", tmp_path / "truth.csv") >= least


@needs_real_data
def test_released_digits(call, tmp_path):
    """By the course's own classifier."""
    assert call("hw2_2.sh", tmp_path, "--per-class", 5).returncode == 0
    assert score(call, "digits", tmp_path, "--classifier", REAL / "Classifier.pth") >= 0.88
