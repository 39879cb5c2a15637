"""The wrappers hw2_1.sh, hw2_2.sh and hw2_3.sh as a grader calls them: what they write, and that it never varies."""

import csv
import json
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from common.digits import BATCH, digit_keys, draw_digits
from models.ddpm import ContextUnet
from models.diffusion import ancestral, ddim, dpm_solver, final, time_grid

ROOT = Path(__file__).resolve().parent.parent
REAL = ROOT.parent / "shared" / "data"
needs_real_data = pytest.mark.skipif(not REAL.is_dir(), reason="the real data are not here")
FEW = ("--per-class", 2, "--steps", 3)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def errors(result) -> list[str]:
    """stderr without progress bars."""
    lines = [part for line in result.stderr.splitlines() for part in line.split("\r")]
    return [line for line in lines if line.strip() and not re.search(r"\d+%\|", line)]


@pytest.fixture
def abroad(tmp_path) -> Path:
    """A working directory that is not the repository, with what breaks unquoted scripts in its name."""
    folder = tmp_path / "another folder (é) $HOME"
    folder.mkdir()
    return folder


# Faces


def test_faces_as_the_grader_asks(call, abroad):
    result = call("hw2_1.sh", "not/yet there/", cwd=abroad)
    assert result.returncode == 0 and errors(result) == []
    images = sorted((abroad / "not" / "yet there").iterdir())
    assert [path.name for path in images] == [f"{number:04d}.png" for number in range(1, 1001)]
    for path in images:
        with Image.open(path) as image:
            assert (image.mode, image.size, image.format) == ("RGB", (64, 64), "PNG")
    assert len({path.read_bytes() for path in images}) == 1000


def test_faces_never_vary(call, weights, tmp_path):
    def draw(name: str, *options: object) -> dict[str, bytes]:
        result = call("hw2_1.sh", tmp_path / name, "--weights", weights["generator"], *options)
        assert result.returncode == 0, result.stderr
        return contents(tmp_path / name)

    images = draw("a", "--count", 107)
    assert images == draw("b", "--count", 107)
    for count in (1, 7, 100):
        fewer = draw(f"{count}", "--count", count)
        assert len(fewer) == count and fewer == {name: images[name] for name in fewer}
    other = draw("e", "--count", 12, "--seed", 1)
    assert not set(other.values()) & set(images.values())
    assert len(set(draw("f", "--count", 3, "--truncation", 0).values())) == 1  # the mean face


@pytest.mark.parametrize("wrapper", ["hw2_1.sh", "hw2_2.sh"])
def test_images_do_not_depend_on_threads(wrapper, call, tmp_path):
    """The released weights, in the precision of this machine, on one core and on two."""
    options = ("--count", 20) if wrapper == "hw2_1.sh" else ("--per-class", 1, "--steps", 4)
    for threads in (1, 2):
        assert call(wrapper, tmp_path / str(threads), *options, threads=threads).returncode == 0
    assert contents(tmp_path / "1") == contents(tmp_path / "2")


# Digits


def test_digits_as_the_grader_asks(call, abroad):
    """All 1,000 names; one network call an image instead of the default's, as the test is of the files."""
    result = call("hw2_2.sh", "digits", "--steps", 1, "--guidance-scale", 0, cwd=abroad)
    assert result.returncode == 0 and errors(result) == []
    images = contents(abroad / "digits")
    assert sorted(images) == [f"{digit}_{number:03d}.png" for digit in range(10) for number in range(1, 101)]
    for path in (abroad / "digits").iterdir():
        with Image.open(path) as image:
            assert (image.mode, image.size, image.format) == ("RGB", (28, 28), "PNG")
    assert len(set(images.values())) == 1000


@pytest.mark.parametrize("precision", ["auto", "fp32"])
def test_digits_never_vary(precision, call, weights, tmp_path):
    def draw(name: str, *options: object) -> dict[str, bytes]:
        fixed = ("--weights", weights["unet"], "--precision", precision)
        result = call("hw2_2.sh", tmp_path / name, *fixed, *options)
        assert result.returncode == 0, result.stderr
        return contents(tmp_path / name)

    steps = ("--steps", 2)
    images = draw("a", "--per-class", 12, *steps)  # more than one batch
    fewer = draw("b", "--per-class", 1, *steps)
    assert len(fewer) == 10 and fewer == draw("again", "--per-class", 1, *steps)
    assert fewer == {name: images[name] for name in fewer}
    assert not set(draw("other", "--per-class", 1, *steps, "--seed", 1).values()) & set(fewer.values())


@pytest.mark.parametrize(
    "options",
    [("--sampler", "ddim", "--eta", 1), ("--sampler", "ddim"), ("--spacing", "uniform"), ("--guidance-scale", 3)],
)
def test_every_option_of_the_sampler_matters(options, call, weights, tmp_path):
    for name, chosen in (("a", ()), ("b", options)):
        result = call("hw2_2.sh", tmp_path / name, "--weights", weights["unet"], *FEW, *chosen)
        assert result.returncode == 0, result.stderr
    first, second = contents(tmp_path / "a"), contents(tmp_path / "b")
    assert first.keys() == second.keys() and not set(first.values()) & set(second.values())


@pytest.mark.parametrize("sampler", ["ancestral", "ddim", "dpm"])
@pytest.mark.parametrize("count", [1, 7, 100])
def test_noise_belongs_to_the_image(sampler, count):
    """An image is the same among 1, 7 and 100 as among 10 others, also where noise is added on the way."""
    torch.manual_seed(0)
    network = ContextUnet(n_feat=16).eval()

    def sample(denoise, x, noise):
        if sampler == "ancestral":
            return final(ancestral(denoise, x, noise, timesteps=6))
        if sampler == "ddim":
            return final(ddim(denoise, x, time_grid(4), 1.0, lambda call: noise(call + 1)))
        return final(dpm_solver(denoise, x, time_grid(4)))

    def draw(keys):
        return draw_digits(network, keys, 2.0, (0.1, 0.9), sample, torch.device("cpu"), chunk=20)

    keys = [(number % 10, number) for number in range(100)]
    images = draw(keys[:count])
    assert images.unique(dim=0).shape[0] == count
    others = draw([(3, 1000), *reversed(keys[:10])])[1:].flip(0)
    assert torch.equal(images[:10], others[:count])


def test_memory_is_that_of_one_batch():
    """However many digits are drawn, the network never sees more than BATCH at once, guided or not."""
    seen = []

    class Network(torch.nn.Module):
        def encode(self, x):
            seen.append(len(x))
            return x

        def decode(self, x, context, time):
            seen.append(len(x))
            return torch.zeros_like(x)

    keys = digit_keys(25)
    images = draw_digits(
        Network(), keys, 2.0, (0.0, 1.0), lambda d, x, noise: final(dpm_solver(d, x, time_grid(2))), torch.device("cpu")
    )
    assert len(images) == 250 and set(seen) == {BATCH}


@pytest.mark.parametrize("wrapper", ["hw2_1.sh", "hw2_2.sh", "hw2_3.sh"])
def test_inference_needs_few_packages(wrapper, environment):
    """What the training or the scores need besides may be missing on the grader's machine."""
    absent = ("sklearn", "scipy", "dlib", "tensorboard", "matplotlib", "pytorch_fid", "torchvision", "hypothesis")
    script = f"p{wrapper[4]}_inference.py"
    block = f"import sys, runpy; sys.modules.update(dict.fromkeys({absent!r})); sys.path.insert(0, {str(ROOT)!r}); "
    block += f"sys.argv = [{script!r}, '--help']; runpy.run_path({str(ROOT / script)!r}, run_name='__main__')"
    command = [sys.executable, "-c", block]
    result = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, timeout=60)
    assert result.returncode == 0 and "usage: " in result.stdout, result.stderr


# Output folders


def test_output_folder(call, weights, tmp_path):
    """A longer run's images go, the user's files stay and are named, and ours are overwritten."""
    options = ("--weights", weights["generator"])
    assert call("hw2_1.sh", tmp_path, "--count", 9, *options).returncode == 0
    before = contents(tmp_path)
    Image.new("RGB", (64, 64)).save(tmp_path / "0008.png")  # the user's, though it has one of our names
    (tmp_path / ".DS_Store").touch()
    (tmp_path / "0002.png").write_bytes(b"broken")
    result = call("hw2_1.sh", tmp_path, "--count", 4, *options)
    assert result.returncode == 0
    assert errors(result) == [f"warning: {tmp_path} also holds files that are not ours: .DS_Store, 0008.png"]
    after = contents(tmp_path)
    assert sorted(after) == [".DS_Store", "0001.png", "0002.png", "0003.png", "0004.png", "0008.png"]
    assert all(after[f"{number:04d}.png"] == before[f"{number:04d}.png"] for number in range(1, 5))


@pytest.mark.parametrize("wrapper", ["hw2_1.sh", "hw2_2.sh"])
def test_output_that_cannot_be_a_folder(wrapper, refused, tmp_path):
    (tmp_path / "file").write_text("mine")
    assert "file is a file, expected a folder" in refused(wrapper, tmp_path / "file")
    assert "file/in cannot be made or read" in refused(wrapper, tmp_path / "file" / "in")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.fixture
def read_only_disk(tmp_path):
    folder = tmp_path / "read-only"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("mounting a file system is not allowed here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_read_only_disk(read_only_disk, refused, digits, weights):
    small = ("--count", 2, "--weights", weights["generator"])
    assert "read-only cannot be written: Read-only file system" in refused("hw2_1.sh", read_only_disk, *small)
    assert "in cannot be made or read: Read-only file system" in refused("hw2_1.sh", read_only_disk / "in", *small)
    assert "in cannot be made or read: Read-only file system" in refused("hw2_2.sh", read_only_disk / "in")
    out = read_only_disk / "out.csv"
    assert "out.csv cannot be written: Read-only file system" in refused("hw2_3.sh", digits("usps", "usps"), out)


@pytest.mark.parametrize("wrapper", ["hw2_1.sh", "hw2_2.sh", "hw2_3.sh"])
def test_wrong_calls(wrapper, refused, tmp_path):
    assert "the following arguments are required" in refused(wrapper)
    assert "unrecognized arguments" in refused(wrapper, tmp_path / "a", tmp_path / "b", "c")
    assert list(tmp_path.iterdir()) == []


def test_wrong_options_of_digits(refused, tmp_path):
    out = tmp_path / "out"
    assert "--guidance-from 0.9 is above" in refused("hw2_2.sh", out, "--guidance-from", 0.9, "--guidance-to", 0.1)
    assert "must be from 1 to 600" in refused("hw2_2.sh", out, "--steps", 601)
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
    reasons[0] = (folder / "missing", "missing is missing, run: bash hw2_download.sh")
    (folder / "damaged").write_bytes(damaged)
    reasons.append((folder / "damaged", "damaged is damaged: its weights are not those that were written"))
    reasons.append((folder / "foreign", "was not written by this repository"))
    return [*reasons, (weights["critic"], "holds another network than ")]


def test_broken_weights(refused, weights, builtin, tmp_path):
    for path, reason in broken_weights(weights, tmp_path):
        sentence = refused("hw2_3.sh", builtin / "digits" / "svhn" / "data", "out", "--weights", path, cwd=tmp_path)
        assert reason in sentence and str(path) in sentence
    for wrapper in ("hw2_1.sh", "hw2_2.sh"):
        for path in (tmp_path / "half", weights["critic"]):
            assert str(path) in refused(wrapper, "out", "--weights", path, cwd=tmp_path)
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
    """A bare csv name, the domain in the path, every image one row."""
    for domain in ("svhn", "usps"):
        folder = digits(domain, "with space", "digits", domain, "test")
        result = call("hw2_3.sh", f"{folder}/", f"{domain}.csv", cwd=abroad)
        assert result.returncode == 0 and errors(result) == []
        assert list(labels(abroad / f"{domain}.csv")) == sorted(path.name for path in folder.iterdir())


def test_labels_never_vary(call, digits, weights, tmp_path):
    """Neither with what else is in the folder, nor with the names, nor between runs."""
    folder = digits("svhn", "svhn")
    fixed = ("--weights", weights["dann"])
    assert call("hw2_3.sh", folder, tmp_path / "a.csv", *fixed).returncode == 0
    assert call("hw2_3.sh", folder, tmp_path / "b.csv", *fixed).returncode == 0
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
    assert call("hw2_3.sh", folder, tmp_path / "c.csv", *fixed).returncode == 0
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
    ],
)
def test_the_domain(domain, parts, expected, call, digits, tmp_path):
    folder = digits(domain, "copy", *parts)
    result = call("hw2_3.sh", folder, tmp_path / "out.csv")
    assert result.returncode == 0, result.stderr
    said = errors(result)
    assert said == [] if expected is None else re.search(f"names no domain.* taken for {expected}$", said[0])
    same = call("hw2_3.sh", folder, tmp_path / "same.csv", "--target", domain)
    assert same.returncode == 0 and errors(same) == []
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
    assert len(found) == 10 and {stem: found[stem] for stem in exact} == {s: wanted[f"{s}.png"] for s in exact}


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n" + b"\0" * 50, None])
def test_a_broken_image_is_named(content, refused, digits, tmp_path):
    folder = digits("svhn", "svhn")
    broken = sorted(folder.iterdir())[3]
    broken.write_bytes(broken.read_bytes()[:-300] if content is None else content)
    assert str(broken) in refused("hw2_3.sh", folder, tmp_path / "new" / "out.csv")
    assert not (tmp_path / "new").exists()


def test_a_decompression_bomb_is_refused(refused, digits, tmp_path):
    folder = digits("svhn", "svhn")
    Image.new("1", (20_000, 20_000)).save(folder / "bomb.png")
    assert "bomb.png " in refused("hw2_3.sh", folder, tmp_path / "out.csv")


def test_wrong_folders(refused, tmp_path):
    (tmp_path / "empty" / "inner").mkdir(parents=True)
    (tmp_path / "file").touch()
    out = tmp_path / "out.csv"
    assert "empty holds no image" in refused("hw2_3.sh", tmp_path / "empty", out)
    assert "none is missing" in refused("hw2_3.sh", tmp_path / "none", out)
    assert "file is not a folder" in refused("hw2_3.sh", tmp_path / "file", out)
    assert not out.exists()


def test_a_csv_that_cannot_be_written(refused, digits, tmp_path):
    folder = digits("usps", "usps")
    assert f"{tmp_path} is a folder, expected a csv file" in refused("hw2_3.sh", folder, tmp_path)
    (tmp_path / "file").touch()
    assert "file/out.csv cannot be written" in refused("hw2_3.sh", folder, tmp_path / "file" / "out.csv")


# The released weights, on real data


def score(call, *arguments: object) -> float:
    result = call("evaluate.py", *arguments, "--json")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)["accuracy"]


@needs_real_data
@pytest.mark.parametrize(("domain", "least"), [("svhn", 0.70), ("usps", 0.95)])
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
    assert score(call, "digits", tmp_path, "--classifier", REAL / "Classifier.pth") >= 0.8
