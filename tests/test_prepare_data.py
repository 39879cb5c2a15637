"""prepare_data.py on small originals in their true formats: the layout, what stops it, what it reads besides."""

import bz2
import functools
import gzip
import hashlib
import http.server
import importlib
import io
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tarfile
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import io as matlab

from common.config import UserError
from common.files import locked
from data import originals, tree
from data.reading import decode_image, read_labels
from data.tree import COURSE, MANIFEST, SPLITS

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared" / "data"
COUNTS = {"face": 60, "mnistm": 70, "svhn": 50, "usps": 40}  # originals; the first two thirds are the training set
TRAIN = {name: count * 2 // 3 for name, count in COUNTS.items()}
LABELS = {name: np.random.default_rng(1).integers(0, 10, count) for name, count in COUNTS.items() if name != "face"}
NEEDS_SHARED = pytest.mark.skipif(not SHARED.is_dir(), reason="no ../shared/data")


@pytest.fixture(scope="module")
def torchvision():
    importlib.import_module("with_torchvision")
    return importlib.import_module("torchvision")


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@functools.cache
def pixels(name: str) -> np.ndarray:
    """The originals' pixels, training set first: digits, and for faces smooth 178x218 photographs."""
    count = COUNTS[name]
    if name == "mnistm":
        return np.where(np.random.default_rng(2).random((count, 28, 28)) < 0.2, noise(count, 28, 28), 0).astype(
            np.uint8
        )
    if name == "face":
        coarse = noise(count, 6, 5, 3)
        return np.stack([np.asarray(Image.fromarray(image).resize((178, 218), 3)) for image in coarse])
    return noise(count, 32, 32, 3) if name == "svhn" else noise(count, 16, 16)


def jpeg(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


PHOTOGRAPHS = {f"BSR/BSDS500/data/images/{part}/{part}.jpg": noise(40, 36, 3, seed=len(part)) for part in SPLITS}


def halves(name: str) -> list[slice]:
    return [slice(0, TRAIN[name]), slice(TRAIN[name], None)]


def write_mnist(folder: Path) -> None:
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part, half in zip(("train", "t10k"), halves("mnistm"), strict=True):
        images, labels = pixels("mnistm")[half], LABELS["mnistm"][half]
        with gzip.open(raw / f"{part}-images-idx3-ubyte.gz", "wb") as file:
            file.write(struct.pack(">4i", 2051, *images.shape) + images.tobytes())
        with gzip.open(raw / f"{part}-labels-idx1-ubyte.gz", "wb") as file:
            file.write(struct.pack(">2i", 2049, len(labels)) + labels.astype(np.uint8).tobytes())
    other = folder / "FashionMNIST" / "raw"  # torchvision's other sets have files of the same names
    other.mkdir(parents=True)
    (other / "train-images-idx3-ubyte.gz").write_bytes(b"a shoe")


def write_bsds500(folder: Path) -> None:
    with tarfile.open(folder / "BSR_bsds500.tgz", "w:gz") as archive:
        files = {name: jpeg(image) for name, image in PHOTOGRAPHS.items()}
        files["BSR/bench/data/images/3.jpg"] = jpeg(np.zeros((40, 36, 3), np.uint8))
        files["BSR/BSDS500/data/groundTruth/train/3.mat"] = b"no image"
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def write_svhn(folder: Path) -> None:
    for part, half in zip(("train", "test"), halves("svhn"), strict=True):
        labels = np.where(LABELS["svhn"] == 0, 10, LABELS["svhn"])[half]  # SVHN's label of a zero
        data = {"X": pixels("svhn")[half].transpose(1, 2, 3, 0), "y": labels[:, None].astype(np.uint8)}
        matlab.savemat(folder / f"{part}_32x32.mat", data)


def write_usps(folder: Path) -> None:
    for part, half in zip(("usps", "usps.t"), halves("usps"), strict=True):
        lines = [
            f"{label + 1} " + " ".join(f"{i}:{value / 127.5 - 1:.7f}" for i, value in enumerate(image.ravel(), 1))
            for image, label in zip(pixels("usps")[half], LABELS["usps"][half], strict=True)
        ]
        (folder / f"{part}.bz2").write_bytes(bz2.compress(("\n".join(lines) + "\n").encode()))


def face_names() -> list[str]:
    return [f"{index:06d}.jpg" for index in range(1, COUNTS["face"] + 1)]


def write_celeba(folder: Path) -> None:
    photographs = folder / "celeba" / "img_align_celeba"
    photographs.mkdir(parents=True)
    for name, image in zip(face_names(), pixels("face"), strict=True):
        (photographs / name).write_bytes(jpeg(image))
    partition = "".join(f"{name} {index % 3}\n" for index, name in enumerate(face_names()))
    (folder / "celeba" / "list_eval_partition.txt").write_text(partition)


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("originäls") / "all of them"
    folder.mkdir()
    for write in (write_mnist, write_bsds500, write_svhn, write_usps, write_celeba):
        write(folder)
    return folder


@pytest.fixture(scope="module")
def made(run_with_torchvision, sources, tmp_path_factory) -> Path:
    """The tree that the script makes of the small originals, offline."""
    folder = tmp_path_factory.mktemp("made") / "a tree"
    options = ("--sources", sources, "--no-checksums", "--no-download")
    result = run_with_torchvision("prepare_data", folder, *options, home=folder.parent)
    assert (result.returncode, result.stderr) == (0, ""), result.stderr
    assert len(result.stdout.splitlines()) == 4
    return folder


@pytest.fixture(scope="module")
def classes():
    """A function that writes USPS-like digits, 16x16, into folders named after their classes."""

    def write(folder: Path, count: int = 40) -> Path:
        for index in range(count):
            path = folder / str(LABELS["usps"][index]) / f"{index:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png(pixels("usps")[index]))
        return folder

    return write


@pytest.fixture
def copy(made, tmp_path) -> Path:
    return shutil.copytree(made, tmp_path / "copy")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def images_of(root: Path, name: str, split: str) -> dict[str, tuple[np.ndarray, int | None]]:
    """Every image of a split as its file has it, with its label."""
    domain = root / COURSE[name].folder
    if name == "face":
        labels = {path.name: None for path in sorted((domain / split).iterdir())}
    else:
        labels = read_labels(domain / f"{split}.csv")
    folder = domain / ("data" if name != "face" and split != "test" else split)
    found = {}
    for file, label in labels.items():
        with Image.open(folder / file) as image:
            assert (image.format, image.mode, image.size) == ("PNG", COURSE[name].mode, (COURSE[name].size,) * 2)
            found[file] = np.asarray(image), label
    return found


def pairs(root: Path, name: str) -> list[tuple[bytes, int | None]]:
    """Pixels and label of every image of all splits, sorted."""
    return sorted(
        (image.tobytes(), label) for split in SPLITS for image, label in images_of(root, name, split).values()
    )


def as_course(name: str, image: np.ndarray) -> np.ndarray:
    """What the course made of an original, written independently."""
    if name == "face":
        half = image.reshape(109, 2, 89, 2, 3).mean((1, 3))
        return np.floor(half + 0.5).astype(np.uint8)[30:94, 12:76]
    if name == "mnistm":
        return image[2:-2, 2:-2]
    return np.asarray(Image.fromarray(image).resize((28, 28), Image.Resampling.BILINEAR))


# What is made of the originals


@pytest.mark.parametrize("name", COURSE)
def test_split_sizes_of_the_complete_originals(name):
    """The course's numbers: 80 % of 80 % and 20 % of 80 % of the digits, in whole images."""
    complete = {"face": 202599, "mnistm": 60000 + 10000, "svhn": 73257 + 26032, "usps": 7291 + 2007}[name]
    sizes = tree.split_sizes(name, complete)
    assert (sizes["train"], sizes["val"]) == (COURSE[name].train, COURSE[name].val)
    if name == "face":
        assert sizes["test"] == sizes["val"]
    else:
        used = int(complete * 0.8)
        assert sizes == {"train": int(used * 0.8), "val": used - int(used * 0.8), "test": complete - used}
    assert sizes == {split: len(indices) for split, (_, indices) in tree.split_originals(name, complete, 0).items()}


@pytest.mark.parametrize(
    ("name", "count"), [("face", 40), ("face", 40489), ("usps", 10), ("usps", 7438), ("svhn", 10**6)]
)
def test_splits_of_other_numbers(name, count):
    splits = tree.split_originals(name, count, seed=3)
    indices = np.concatenate([indices for _, indices in splits.values()])
    assert len(set(indices.tolist())) == len(indices) and indices.max() < count
    assert all(len(indices) == len(numbers) > 0 for numbers, indices in splits.values())
    if name != "face":
        assert len(indices) == count
        both = np.concatenate([splits["train"][0], splits["val"][0]])
        assert sorted(both) == list(range(len(both)))
        assert all((np.diff(numbers) > 0).all() for numbers, _ in splits.values())
    assert not np.array_equal(splits["train"][1], tree.split_originals(name, count, seed=4)["train"][1])


def test_layout(made):
    assert sorted(path.name for path in made.iterdir()) == ["digits", "face"]
    assert sorted(path.name for path in (made / "digits").iterdir()) == ["mnistm", "svhn", "usps"]
    assert sorted(path.name for path in (made / "face").iterdir()) == [MANIFEST, "test", "train", "val"]
    for name, count in COUNTS.items():
        sizes = tree.split_sizes(name, count)
        found = {split: images_of(made, name, split) for split in SPLITS}
        assert {split: len(images) for split, images in found.items()} == sizes
        if name != "face":
            domain = made / COURSE[name].folder
            names = [MANIFEST, "data", "test", "test.csv", "train.csv", "val.csv"]
            assert sorted(path.name for path in domain.iterdir()) == names
            both = [f"{number:05d}.png" for number in range(sizes["train"] + sizes["val"])]
            assert sorted(path.name for path in (domain / "data").iterdir()) == both
            assert sorted([*found["train"], *found["val"]]) == both
            assert min(found["val"]) < max(found["train"])  # mixed
            header, *rows = (domain / "train.csv").read_bytes().decode().split("\n")
            assert header == "image_name,label" and rows[-1] == "" and rows[:-1] == sorted(rows[:-1])


@pytest.mark.parametrize("name", ["svhn", "usps"])
def test_every_digit_is_there_once_with_its_label(made, name):
    expected = [
        (as_course(name, image).tobytes(), label) for image, label in zip(pixels(name), LABELS[name], strict=True)
    ]
    if name == "usps":  # torchvision rounds the text's values down, which may cost one grey level
        expected = []
        for image, label in zip(pixels(name), LABELS[name], strict=True):
            values = np.array([float(f"{value / 127.5 - 1:.7f}") for value in image.ravel()], np.float32)
            lower = ((values + 1) / 2 * 255).astype(np.uint8).reshape(16, 16)
            expected.append((as_course(name, lower).tobytes(), label))
    assert pairs(made, name) == sorted(expected)


def test_every_mnistm_image_is_a_patch_and_a_digit(made):
    """With its ink's pixels made negative again, each is a patch of a photograph of BSDS500 and of no other image."""
    patches = set()
    for image in PHOTOGRAPHS.values():
        decoded = decode_image(Path("photograph"), content=jpeg(image))
        windows = np.lib.stride_tricks.sliding_window_view(decoded, (28, 28, 3))
        patches |= {window.tobytes() for window in windows.reshape(-1, 28, 28, 3)}
    used, seen = [], set()
    for split in SPLITS:
        for image, label in images_of(made, "mnistm", split).values():
            for index in np.flatnonzero(LABELS["mnistm"] == label):
                ink = pixels("mnistm")[index][:, :, None] > 0
                patch = np.where(ink, 255 - image, image).tobytes()
                if patch in patches:
                    used.append(int(index))
                    seen.add(patch)
    assert sorted(used) == list(range(COUNTS["mnistm"]))
    assert len(seen) > 0.8 * COUNTS["mnistm"]  # of 351 places


def test_faces_are_the_crop_at_half_resolution(made):
    found = {image.tobytes() for split in SPLITS for image, _ in images_of(made, "face", split).values()}
    decoded = [decode_image(Path("face"), content=jpeg(image)) for image in pixels("face")]
    assert found == {as_course("face", image).tobytes() for image in decoded}
    assert len(found) == COUNTS["face"]


def test_manifest(made):
    for name in COURSE:
        manifest = json.loads((made / COURSE[name].folder / MANIFEST).read_text())
        assert manifest["seed"] == 0 and manifest["set"] == name
        for split in SPLITS:
            values = manifest["splits"][split]
            images = images_of(made, name, split)
            stack = np.stack([image for image, _ in images.values()]).astype(float) / 255
            stack = stack.reshape(-1, 1 if name == "usps" else 3)
            assert values["images"] == len(images)
            assert values["means"] == pytest.approx(stack.mean(0), abs=1e-6)
            assert values["deviations"] == pytest.approx(stack.std(0), abs=1e-6)
            assert len(values["sha256"]) == 64
            if name != "face":
                assert values["classes"] == np.bincount([label for _, label in images.values()], minlength=10).tolist()


def test_the_seed_decides(torchvision, prepare, made, sources, tmp_path):
    options = ("--sources", sources, "--no-checksums", "--only", "mnistm,usps")
    assert prepare(tmp_path / "same", *options) == 0
    first = contents(tmp_path / "same")
    assert all(
        first[name] == content for name, content in contents(made).items() if "face" not in name and "svhn" not in name
    )
    assert prepare(tmp_path / "other", *options, "--seed", 1) == 0
    second = contents(tmp_path / "other")
    assert first.keys() == second.keys()
    assert pairs(tmp_path / "other", "usps") == pairs(tmp_path / "same", "usps")
    assert pairs(tmp_path / "other", "mnistm") != pairs(tmp_path / "same", "mnistm")  # other patches
    for name in ("digits/usps/train.csv", "digits/mnistm/train.csv"):
        assert first[name] != second[name]


def test_other_forms_of_the_originals(torchvision, prepare, made, sources, tmp_path):
    """Unpacked idx files, photographs of one's own, CelebA as a zip with a csv: found anywhere below --sources."""
    place = tmp_path / "sources" / "somewhere" / "below"
    place.mkdir(parents=True)
    for file in (sources / "MNIST" / "raw").iterdir():
        (place / file.name.removesuffix(".gz")).write_bytes(gzip.decompress(file.read_bytes()))
    for name, image in PHOTOGRAPHS.items():
        path = tmp_path / "photographs" / Path(name).parent.name / "a.jpg"
        path.parent.mkdir(parents=True)
        path.write_bytes(jpeg(image))
    with zipfile.ZipFile(place / "img_align_celeba.zip", "w") as archive:
        for path in sorted((sources / "celeba" / "img_align_celeba").iterdir()):
            archive.write(path, f"img_align_celeba/{path.name}")
    rows = "".join(f"{name},0\n" for name in face_names())
    (place / "list_eval_partition.csv").write_text("image_id,partition\n" + rows)
    options = ("--sources", tmp_path / "sources", "--photographs", tmp_path / "photographs", "--no-checksums")
    assert prepare(tmp_path / "tree", *options, "--only", "face,mnistm") == 0
    expected = {name: content for name, content in contents(made).items() if "svhn" not in name and "usps" not in name}
    found = contents(tmp_path / "tree")
    assert found.keys() == expected.keys()
    assert [name for name in found if found[name] != expected[name]] == ["digits/mnistm/" + MANIFEST]  # another source


def test_large_photographs_are_reduced(tmp_path):
    (tmp_path / "a.png").write_bytes(png(noise(1000, 962, 3)))
    (tmp_path / "b.png").write_bytes(png(noise(30, 40, 3)))
    (tmp_path / ".c.png").write_bytes(b"hidden")
    assert [image.shape for image in originals.read_photographs(tmp_path)] == [(481, 463, 3), (30, 40, 3)]
    (tmp_path / "b.png").write_bytes(png(noise(27, 40, 3)))
    with pytest.raises(UserError, match=r"b.png is 40x27 after reduction, too small"):
        originals.read_photographs(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty holds no photograph"):
        originals.read_photographs(tmp_path / "empty")


def test_blending_is_the_difference():
    """|patch - digit| of a digit that is black and white."""
    digit = np.zeros((28, 28), np.uint8)
    digit[5:20, 9:12] = 255
    photograph = noise(28, 28, 3)
    blended = originals.blend(digit, [photograph], np.random.default_rng(0))
    assert (blended == np.abs(photograph.astype(int) - digit[:, :, None])).all()
    assert blended.dtype == np.uint8
    assert (originals.blend(digit // 9, [photograph], np.random.default_rng(0)) == blended).all()  # thin ink is ink


# What stops it


def test_an_interrupted_run_leaves_no_set(prepare, classes, tmp_path, monkeypatch):
    """Ctrl-C amid the writing: the next run, of corrected labels, holds nothing of the earlier one."""
    source = classes(tmp_path / "own")
    options = ("--only", "usps", "--input", source)
    with monkeypatch.context() as patch:
        patch.setattr(tree, "describe", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert prepare(tmp_path / "tree", *options) == 130
    assert list((tmp_path / "tree" / "digits" / ".usps.part").rglob("*.png"))
    assert not (tmp_path / "tree" / "digits" / "usps").exists()
    moved = next((source / "3").iterdir())
    moved.rename(source / "8" / moved.name)
    for name in ("tree", "fresh"):
        assert prepare(tmp_path / name, *options) == 0
    assert contents(tmp_path / "tree") == contents(tmp_path / "fresh")


def flip(path: Path) -> None:
    """Change an image in place: its name, time and size stay."""
    status = path.stat()
    with Image.open(path) as image:
        turned = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    turned.save(path)
    path.write_bytes(path.read_bytes().ljust(status.st_size, b"\0")[: max(status.st_size, path.stat().st_size)])
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_set_is_known_by_its_content(prepare, classes, tmp_path, capsys):
    """Other names, another folder's name and other compression are the same set; a pixel or a label is another."""
    source = classes(tmp_path / "own")
    folder = tmp_path / "tree"
    assert prepare(folder, "--only", "usps", "--input", source) == 0
    before = contents(folder)
    renamed = shutil.copytree(source, tmp_path / "renamed")
    for path in sorted(renamed.rglob("*.png")):
        Image.open(path).save(path.with_name(f"a{path.stem}.bmp"))
        path.unlink()
    assert prepare(folder, "--only", "usps", "--input", renamed) == 0
    assert "there already" in capsys.readouterr().out
    assert prepare(folder, "--only", "usps", "--input", source, "--seed", 1) == 2
    assert "is there already, made with another seed" in capsys.readouterr().err
    pixel, label = (shutil.copytree(source, tmp_path / name) for name in ("pixel", "label"))
    flip(next((pixel / "3").iterdir()))
    moved = next((label / "3").iterdir())
    moved.rename(label / "8" / moved.name)
    for changed in (pixel, label):
        assert prepare(folder, "--only", "usps", "--input", changed) == 2
        assert "is there already, made of other images or labels (own, 40 images)" in capsys.readouterr().err
    assert contents(folder) == before
    (folder / "digits" / "usps" / MANIFEST).unlink()  # as the course's own tree
    assert prepare(folder, "--only", "usps", "--input", source) == 2
    assert "was not made by prepare_data.py" in capsys.readouterr().err


def test_originals_are_known_by_their_content(torchvision, prepare, sources, tmp_path, capsys):
    """Of the same names and sizes: a label of MNIST, a pixel of SVHN, the bytes of a photograph of CelebA."""
    folder = shutil.copytree(sources, tmp_path / "sources")
    options = ("--sources", folder, "--no-checksums", "--only", "face,mnistm,svhn")
    assert prepare(tmp_path / "tree", *options) == 0
    labels = folder / "MNIST" / "raw" / "t10k-labels-idx1-ubyte.gz"
    content = bytearray(gzip.decompress(labels.read_bytes()))
    content[-1] = (content[-1] + 1) % 10
    labels.write_bytes(gzip.compress(bytes(content)))
    svhn = matlab.loadmat(folder / "test_32x32.mat")
    svhn["X"][0, 0, 0, 0] ^= 1
    matlab.savemat(folder / "test_32x32.mat", {"X": svhn["X"], "y": svhn["y"]})
    photograph = folder / "celeba" / "img_align_celeba" / "000001.jpg"
    photograph.write_bytes(photograph.read_bytes()[:-2] + b"\0\0")
    for name in ("face", "mnistm", "svhn"):
        assert prepare(tmp_path / "tree", *options[:-1], name) == 2
        assert "made of other images or labels" in capsys.readouterr().err


def test_an_original_that_changes_meanwhile(prepare, classes, tmp_path, monkeypatch, capsys):
    source, split = classes(tmp_path / "own"), tree.split_originals

    def edited(*arguments):
        flip(next((source / "5").iterdir()))
        return split(*arguments)

    monkeypatch.setattr(tree, "split_originals", edited)
    assert prepare(tmp_path / "tree", "--only", "usps", "--input", source) == 2
    assert "was changed meanwhile" in capsys.readouterr().err
    assert not (tmp_path / "tree" / "digits" / "usps").exists()


def test_one_process_at_a_time(prepare, classes, torchvision, sources, tmp_path, capsys):
    """While another one writes into the tree, or fetches originals; when that one is killed, its lock is free."""
    source, folder = classes(tmp_path / "own"), tmp_path / "tree"
    script = "import sys, time; sys.path.insert(0, sys.argv[1])\nfrom pathlib import Path\n"
    script += "from common.files import locked\nwith locked(Path(sys.argv[2])): print(flush=True), time.sleep(60)"
    command = [sys.executable, "-c", script, ROOT, folder]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE)
    holder.stdout.readline()
    refused = [("--only", "usps", "--input", source), ("--builtin", "--count", 30)]
    for options in refused:
        assert prepare(folder, *options) == 2
        assert f"is in use by -c, process {holder.pid} on " in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == [".lock"]
    with locked(tmp_path / "originals"):
        assert prepare(tmp_path / "other", "--only", "usps", "--sources", tmp_path / "originals") == 2
    assert "originals is in use by" in capsys.readouterr().err
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert prepare(folder, *refused[0]) == 0
    assert [path.name for path in folder.iterdir()] == ["digits"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("tree", "--only", "usps,emnist"), "'emnist' is not one of face, mnistm, svhn, usps"),
        (("tree", "--verify", "--preview"), "only one of"),
        (("tree", "--input", "x"), "--input is of one set"),
        (("tree", "--input", "x", "--only", "face,usps"), "--input is of one set"),
        (("tree", "--input", "x", "--only", "usps"), "x is missing"),
        (("", "--only", "usps"), "a path is empty"),
        (("--only", "usps"), "required: FOLDER"),
        (("--verify", "nothing"), "nothing is missing"),
        (("--preview", "nothing", "--only", "face,usps"), "nothing holds none of face, usps"),
    ],
)
def test_wrong_options(prepare, arguments, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert prepare(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and len(captured.err.splitlines()) == 1
    assert sentence in captured.err
    assert not list(tmp_path.iterdir())


def broken(sources: Path, file: str, change) -> None:
    path = next(path for path in sources.rglob(file) if "Fashion" not in path.parts[-3])
    content = change(path.read_bytes())
    path.unlink() if content is None else path.write_bytes(content)


@pytest.mark.parametrize(
    ("only", "file", "change", "sentence"),
    [
        ("mnistm", "train-images-idx3-ubyte.gz", lambda c: c[:-100], "train-images-idx3-ubyte.gz cannot be read"),
        ("mnistm", "t10k-labels-idx1-ubyte.gz", lambda c: gzip.compress(gzip.decompress(c)[:-1]), "cannot be read"),
        ("mnistm", "t10k-labels-idx1-ubyte.gz", lambda c: None, "lacks t10k-labels-idx1-ubyte.gz, and --no-download"),
        ("mnistm", "BSR_bsds500.tgz", lambda c: c[:999], "BSR_bsds500.tgz cannot be read"),
        ("svhn", "train_32x32.mat", lambda c: c[:5000], "train_32x32.mat cannot be read"),
        ("svhn", "test_32x32.mat", lambda c: b"<html>not found</html>", "test_32x32.mat cannot be read"),
        ("usps", "usps.bz2", lambda c: c[:-50], "usps.bz2 cannot be read"),
        ("usps", "usps.t.bz2", lambda c: bz2.compress(b"12 1:0.5\n"), "usps.t.bz2 cannot be read"),
        ("face", "000007.jpg", lambda c: None, "lacks 1 of the 60 photographs"),
        ("face", "000007.jpg", lambda c: c[:300], "000007.jpg cannot be decoded"),
        ("face", "000007.jpg", lambda c: jpeg(noise(64, 89, 3)), "000007.jpg is 89x64, expected an aligned CelebA"),
    ],
)
def test_broken_originals(torchvision, prepare, sources, tmp_path, capsys, only, file, change, sentence):
    """One sentence that names the file, and no set."""
    folder = shutil.copytree(sources, tmp_path / "sources")
    broken(folder, file, change)
    options = ("--only", only, "--sources", folder, "--no-checksums", "--no-download")
    assert prepare(tmp_path / "tree", *options) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and len(captured.err.splitlines()) == 1, captured.err
    assert sentence in captured.err
    assert not (tmp_path / "tree" / COURSE[only].folder).exists()


@pytest.mark.parametrize(("only", "file"), [("mnistm", "train-images"), ("svhn", "train_32x32"), ("usps", "usps.bz2")])
def test_checksums(torchvision, prepare, sources, tmp_path, capsys, only, file):
    """Of originals that are not torchvision's, as these small ones."""
    assert prepare(tmp_path / "tree", "--only", only, "--sources", sources) == 2
    error = capsys.readouterr().err
    assert file in error and "is not the original, its MD5 is not" in error
    assert not (tmp_path / "tree").exists()


def test_without_torchvision(prepare, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    assert prepare(tmp_path / "tree", "--only", "usps", "--sources", tmp_path) == 2
    assert "torchvision is needed to read the originals" in capsys.readouterr().err


def test_downloads(torchvision, prepare, made, sources, tmp_path, monkeypatch, capfd):
    """From a server of the test's own, with the right MD5 and a wrong one; nothing is fetched twice."""
    requests = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.path)
            super().do_GET()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=sources))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    entries = {
        split: [f"{url}/{file}", file, hashlib.md5((sources / file).read_bytes()).hexdigest()]
        for split, file in (("train", "usps.bz2"), ("test", "usps.t.bz2"))
    }
    monkeypatch.setattr(torchvision.datasets.USPS, "split_list", entries)
    options = ("--only", "usps", "--sources", tmp_path / "new")
    try:
        left = tmp_path / "new" / ".download-usps.bz2"  # of a download that was killed
        left.mkdir(parents=True)
        (left / "usps.bz2").write_bytes(b"half")
        right, entries["test"][2] = entries["test"][2], "0" * 32
        assert prepare(tmp_path / "tree", *options) == 2
        assert "usps.t.bz2 cannot be downloaded (File not found or corrupted.)" in capfd.readouterr().err
        assert [path.name for path in (tmp_path / "new").iterdir()] == ["usps.bz2"]
        assert set(requests) == {"/usps.bz2", "/usps.t.bz2"}
        entries["test"][2] = right
        requests.clear()
        assert prepare(tmp_path / "tree", *options) == 0
        assert set(requests) == {"/usps.t.bz2"}
        assert contents(tmp_path / "tree" / "digits" / "usps") == contents(made / "digits" / "usps")
        entries["train"][0] = f"{url}/elsewhere.bz2"
        (tmp_path / "new" / "usps.bz2").unlink()
        assert prepare(tmp_path / "tree2", *options) == 2
        assert "cannot be downloaded (HTTP Error 404: File not found)" in capfd.readouterr().err
    finally:
        server.shutdown()


# The user's own images


def folder_with_csv(folder: Path) -> None:
    (folder / "data").mkdir(parents=True)
    for index, image in enumerate(pixels("svhn")):
        (folder / "data" / f"{index}.png").write_bytes(png(image))
    rows = "".join(f"{index}.png,{label}\n" for index, label in enumerate(LABELS["svhn"]))
    (folder / "labels.csv").write_text("image_name,label\n" + rows)


def folder_like_mnistm(folder: Path) -> None:
    for part, half in zip(("mnist_m_train", "mnist_m_test"), halves("svhn"), strict=True):
        (folder / part).mkdir(parents=True)
        lines = []
        for index, (image, label) in enumerate(zip(pixels("svhn")[half], LABELS["svhn"][half], strict=True)):
            (folder / part / f"{index:08d}.png").write_bytes(png(image))
            lines.append(f"{index:08d}.png {label}\n")
        (folder / f"{part}_labels.txt").write_text("".join(lines))


def folder_of_classes(folder: Path) -> None:
    for index, (image, label) in enumerate(zip(pixels("svhn"), LABELS["svhn"], strict=True)):
        path = folder / ("train" if index % 2 else "test") / str(label) / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(image))


@pytest.mark.parametrize("name", ["svhn", "mnistm"])
@pytest.mark.parametrize("write", [folder_with_csv, folder_like_mnistm, folder_of_classes])
def test_own_digits(prepare, name, write, tmp_path, capsys):
    """32x32 colour digits in every form: MNIST-M's are cropped as the published ones, SVHN's scaled."""
    write(tmp_path / "own")
    assert prepare(tmp_path / "tree", "--only", name, "--input", tmp_path / "own") == 0
    expected = [
        (np.ascontiguousarray(as_course(name, image)).tobytes(), label)
        for image, label in zip(pixels("svhn"), LABELS["svhn"], strict=True)
    ]
    assert pairs(tmp_path / "tree", name) == sorted(expected)
    assert capsys.readouterr().err == ""


def test_own_digits_of_other_channels(prepare, classes, tmp_path):
    """Colour becomes grey for USPS, grey becomes colour for SVHN; grey is no MNIST-M."""
    source = classes(tmp_path / "own")
    assert prepare(tmp_path / "svhn", "--only", "svhn", "--input", source) == 0
    for path in source.rglob("*.png"):
        Image.open(path).convert("RGB").save(path)
    assert prepare(tmp_path / "usps", "--only", "usps", "--input", source) == 0
    grey = sorted(
        image[:, :, 0].tobytes() for s in SPLITS for image, _ in images_of(tmp_path / "svhn", "svhn", s).values()
    )
    assert grey == [image for image, _ in sorted(pairs(tmp_path / "usps", "usps"))]
    assert prepare(tmp_path / "mnistm", "--only", "mnistm", "--input", source) == 2


def test_own_faces(prepare, tmp_path):
    """Finished crops, half-size and full-size photographs, of sub-folders, without labels."""
    faces = pixels("face")
    folder = tmp_path / "faces"
    for index, face in enumerate(faces):
        half = Image.fromarray(face).reduce(2)
        image = [Image.fromarray(face), half, half.crop((12, 30, 76, 94))][index % 3]
        path = folder / str(index % 3) / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    assert prepare(tmp_path / "tree", "--only", "face", "--input", folder) == 0
    assert pairs(tmp_path / "tree", "face") == sorted((as_course("face", face).tobytes(), None) for face in faces)


def test_names_of_no_encoding(prepare, tmp_path, capsys):
    """Of one's own images and of those of a tree."""
    (tmp_path / "faces").mkdir()
    for index in range(40):
        (tmp_path / "faces" / f"{index} \udcff.png").write_bytes(png(noise(64, 64, 3, seed=index)))
    assert prepare(tmp_path / "tree", "--only", "face", "--input", tmp_path / "faces") == 0
    folder = tmp_path / "tree" / "face"
    (folder / "val" / "00000.png").rename(folder / "val" / "\udcff.png")
    (folder / MANIFEST).unlink()
    assert prepare(tmp_path / "tree", "--verify", "--only", "face") == 0
    assert capsys.readouterr().err == ""


def test_what_lies_about_does_no_harm(prepare, tmp_path, capsys):
    """What macOS, Jupyter, Windows and rsync leave; links to folders and out of them; suffixes in any case or none."""
    own, outside = tmp_path / "own", tmp_path / "elsewhere"
    folder_like_mnistm(own)
    shutil.copytree(own / "mnist_m_test", outside)
    shutil.rmtree(own / "mnist_m_test")
    (own / "mnist_m_test").symlink_to(outside)
    (outside / "loop").symlink_to(own)
    table = own / "mnist_m_train_labels.txt"
    text = table.read_text().replace("00000000.png", "00000000.PNG").replace("00000001.png", "00000001")
    table.unlink()
    (own / "mnist_m_train_LABELS.TXT").write_text(text, encoding="utf-16", newline="\r\n")
    for old, new in (("00000000.png", "00000000.PNG"), ("00000001.png", "00000001")):
        (own / "mnist_m_train" / old).rename(own / "mnist_m_train" / new)
    (own / "._mnist_m_train_labels.txt").write_bytes(b"\xa3\xff")
    for hidden in (".ipynb_checkpoints/labels.csv", "mnist_m_train/.0.png", "__MACOSX/._labels.csv"):
        (own / hidden).parent.mkdir(exist_ok=True)
        (own / hidden).write_bytes(b"\0\0")
    os.mkfifo(own / "pipe.csv")
    os.mkfifo(own / "mnist_m_train" / "pipe.png")
    assert prepare(tmp_path / "tree", "--only", "svhn", "--input", own) == 0
    expected = [
        (as_course("svhn", image).tobytes(), label) for image, label in zip(pixels("svhn"), LABELS["svhn"], strict=True)
    ]
    assert pairs(tmp_path / "tree", "svhn") == sorted(expected)
    assert capsys.readouterr().err == ""


def test_an_image_is_in_one_split(prepare, classes, tmp_path, capsys):
    """Copies under other names, folders, links and formats are one image; with two labels they are refused."""
    own = classes(tmp_path / "own")
    for number, path in enumerate(sorted(own.rglob("*.png"))):
        copy = tmp_path / "own" / "again" / path.parent.name / f"{number}.bmp"
        copy.parent.mkdir(parents=True, exist_ok=True)
        Image.open(path).convert("RGB" if number % 2 else "L").save(copy)
    (own / "linked").symlink_to(own / "again")
    assert prepare(tmp_path / "tree", "--only", "usps", "--input", own) == 0
    assert "own: 80 images are copies of others and left out" in capsys.readouterr().err
    assert len(pairs(tmp_path / "tree", "usps")) == 40
    copy.rename(own / str((int(copy.parent.name) + 1) % 10) / "other.bmp")
    assert prepare(tmp_path / "tree2", "--only", "usps", "--input", own) == 2
    assert "is the same image as" in capsys.readouterr().err
    domain = tmp_path / "tree" / "digits" / "usps"
    names = {split: sorted(read_labels(domain / f"{split}.csv")) for split in ("train", "val")}
    shutil.copy(domain / "data" / names["train"][0], domain / "data" / names["val"][0])
    (domain / MANIFEST).unlink()
    assert prepare("--verify", tmp_path / "tree", "--only", "usps") == 0
    assert f"usps: 1 images of val are in train too, {names['val'][0]} first" in capsys.readouterr().err


def test_folders_that_are_refused(prepare, classes, tmp_path, capsys):
    def refusal(name: str, path: Path) -> str:
        assert prepare(tmp_path / "tree", "--only", name, "--input", path) == 2
        return capsys.readouterr().err

    (tmp_path / "a.npz").write_bytes(b"")
    assert "a.npz is not a folder" in refusal("usps", tmp_path / "a.npz")
    own = tmp_path / "own"
    folder_like_mnistm(own)
    (own / "mnist_m_train" / "00000005.png").unlink()
    assert "00000005.png of" in refusal("svhn", own)
    table = own / "mnist_m_train_labels.txt"
    for text, sentence in {
        "00000000.png 1\n00000001.png 12\n": "line 2 is not a name and a digit",
        "00000000.png 1\n00000000.png 2\n": "row 2: 00000000.png stands twice",
        "00000000.png 1\n0000\0.png 2\n": "is damaged: line 2 holds a NUL byte",
    }.items():
        table.write_text(text)
        assert f"mnist_m_train_labels.txt {sentence}" in refusal("svhn", own)
    table.write_text("00000000.png 1\n")
    (own / "labels.csv").write_text("image_name,label\nmnist_m_train/00000000.png,1\n")
    assert "stands in several label files, " in refusal("svhn", own)
    (own / "labels.csv").write_text("image_name,label,label\nmnist_m_train/00000001.png,1,2\n")
    assert "labels.csv has 2 columns called label, in image_name,label,label" in refusal("svhn", own)
    assert "2 images are too few for usps" in refusal("usps", classes(tmp_path / "few", 2))
    both = classes(tmp_path / "both")
    image = next((both / "3").iterdir())
    (both / "labels.csv").write_text(f"image_name,label\n3/{image.name},4\n")
    assert "lies in a folder 3 and is 4 by " in refusal("usps", both)
    (tmp_path / "empty").mkdir()
    assert "empty holds no image with a label" in refusal("usps", tmp_path / "empty")
    assert "empty holds no image\n" in refusal("face", tmp_path / "empty")
    assert not (tmp_path / "tree").exists()


def test_images_without_a_label_are_told(prepare, classes, tmp_path, capsys):
    own = classes(tmp_path / "own")
    (own / "stray.png").write_bytes(png(noise(28, 28)))
    assert prepare(tmp_path / "tree", "--only", "usps", "--input", own) == 0
    assert f"own: 1 images without a label are left out, {own / 'stray.png'} first" in capsys.readouterr().err


# --verify and --preview


def rows_of(output: str) -> list[list[str]]:
    return [line.split() for line in output.splitlines()[2:]]


def test_verify_prints_a_table(prepare, made, capsys):
    assert prepare("--verify", made) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    rows = rows_of(captured.out)
    assert [row[:2] for row in rows] == [[COURSE[name].folder, split] for name in COURSE for split in SPLITS]
    for name in COURSE:
        for split in SPLITS:
            row = next(row for row in rows if row[:2] == [COURSE[name].folder, split])
            images = images_of(made, name, split)
            course = {"train": f"{COURSE[name].train:,}", "val": f"{COURSE[name].val:,}", "test": "-"}[split]
            kind = "grey" if name == "usps" else "RGB"
            size = COURSE[name].size
            assert row[2:6] == [str(len(images)), course, f"{size}x{size}", kind]
            shares = np.bincount([label for _, label in images.values() if label is not None], minlength=10) / len(
                images
            )
            assert row[6] == ("-" if name == "face" else f"{shares.min():.1%}-{shares.max():.1%}".replace("%", ""))
            values = np.stack([image for image, _ in images.values()]).reshape(-1, 1 if name == "usps" else 3) / 255
            assert row[7 : 7 + values.shape[1]] == [f"{mean:.3f}" for mean in values.mean(0)]
            means = [f"{mean:.3f}" for mean in COURSE[name].means]
            assert row[7 + values.shape[1] : 7 + 2 * values.shape[1]] == means
            assert row[7 + 2 * len(means) : 7 + 3 * len(means)] == [f"{value:.3f}" for value in values.std(0)]


def test_verify_of_the_builtin_tree(prepare, builtin, capsys):
    """It has no MANIFEST and no test images, as the course's."""
    assert prepare("--verify", builtin, "--only", "usps,face") == 0
    rows = rows_of(capsys.readouterr().out)
    assert [row[:3] for row in rows] == [
        ["digits/usps", "train", "30"],
        ["digits/usps", "val", "10"],
        ["face", "train", "15"],
        ["face", "val", "5"],
    ]


def test_verify_notices_every_change(prepare, copy, capsys):
    """Against the MANIFEST: a pixel, a label, a missing split; what only the compression changes is no change."""
    digits = copy / "digits"
    name, (image, _) = next(iter(images_of(copy, "svhn", "val").items()))
    changed = image.copy()
    changed[3, 4, 1] ^= 1
    Image.fromarray(changed).save(digits / "svhn" / "data" / name)
    table = digits / "usps" / "train.csv"
    header, first, *rows = table.read_text().split("\n")
    table.write_text("\n".join([header, first[:-1] + str((int(first[-1]) + 1) % 10), *rows]))
    shutil.rmtree(copy / "face" / "test")
    name, (image, _) = next(iter(images_of(copy, "mnistm", "test").items()))
    Image.fromarray(image).save(digits / "mnistm" / "test" / name, compress_level=0)
    assert prepare("--verify", copy) == 2
    errors = capsys.readouterr().err.splitlines()
    expected = [
        f"{copy / 'face' / 'test'} is missing",
        f"{digits / 'svhn'}: the val split is not what its MANIFEST says",
        f"{digits / 'usps'}: the train split is not what its MANIFEST says",
    ]
    assert len(errors) == 3
    assert all(
        error.startswith(f"prepare_data.py: error: {words}") for words, error in zip(expected, errors, strict=True)
    )
    (digits / "usps" / MANIFEST).write_text("{}")
    assert prepare("--verify", copy, "--only", "usps") == 2
    assert "MANIFEST cannot be read" in capsys.readouterr().err


def test_verify_names_everything_that_is_missing(prepare, builtin, tmp_path, capsys):
    copy = shutil.copytree(builtin, tmp_path / "copy")
    shutil.rmtree(copy / "face" / "val")
    (copy / "digits" / "mnistm" / "val.csv").unlink()
    (copy / "digits" / "svhn" / "data" / next(iter(read_labels(copy / "digits" / "svhn" / "train.csv")))).unlink()
    shutil.copy(copy / "digits" / "usps" / "train.csv", copy / "digits" / "usps" / "val.csv")
    Image.new("RGB", (89, 109)).save(copy / "face" / "train" / "00003.png")
    grey = copy / "digits" / "mnistm" / "data" / next(iter(read_labels(copy / "digits" / "mnistm" / "train.csv")))
    Image.open(grey).convert("L").save(grey)
    assert prepare("--verify", copy) == 2
    captured = capsys.readouterr()
    assert [row[:2] for row in rows_of(captured.out)] == [
        ["digits/mnistm", "train"],
        ["digits/svhn", "val"],
        ["digits/usps", "train"],
    ]
    expected = [
        "error: ", "00003.png is 89x109, expected 64x64",
        "error: ", "val is missing",
        "warning", "the train images are L, RGB, the course's RGB",
        "error: ", "val.csv is missing",
        "error: ", ".png is missing",
        "error: ", "val.csv names 30 images of train.csv",
    ]  # fmt: skip
    lines = captured.err.splitlines()
    assert len(lines) == len(expected) // 2
    for line, kind, words in zip(lines, expected[::2], expected[1::2], strict=True):
        assert kind in line and words in line, captured.err


def test_preview(prepare, builtin, tmp_path, capsys):
    copy = shutil.copytree(builtin, tmp_path / "copy")
    shutil.rmtree(copy / "digits" / "svhn")
    shutil.rmtree(copy / "digits" / "mnistm")
    assert prepare("--preview", copy) == 0
    sheets = [copy / "preview" / f"{name}.png" for name in ("face", "usps")]
    assert capsys.readouterr().out.split() == [str(sheet) for sheet in sheets]
    labels = read_labels(copy / "digits" / "usps" / "train.csv")
    columns = min(list(labels.values()).count(label) for label in range(10))
    sheet = decode_image(sheets[1])
    assert sheet.shape == (10 * 58 - 2, columns * 58 - 2, 3)
    for label in range(10):  # the first of each row is the first of its class, each pixel twice
        first = decode_image(copy / "digits" / "usps" / "data" / min(name for name in labels if labels[name] == label))
        assert (sheet[58 * label :: 2][:28, :56:2] == first).all()
    assert decode_image(sheets[0]).shape == (64, 15 * 66 - 2, 3)


# Real data


@NEEDS_SHARED
def test_real_mnistm_is_made_so():
    """The published images are a patch or its exact negative; 19.1 % of the pixels, as of MNIST's that are not 0."""
    with np.load(SHARED / "mnistm.npz") as arrays:
        images = arrays["val_x"] / 255
    edge = np.ones((28, 28), bool)
    edge[2:26, 2:26] = False  # where no digit of MNIST has ink
    background, whole = images[:, edge].mean((0, 1)), images.mean((0, 1, 2))
    assert (whole - background) / (1 - 2 * background) == pytest.approx([0.191] * 3, abs=0.004)
    colours = images[:, edge].mean(1)
    plain = (images[:, edge].std(1).max(1) < 0.03) & (np.abs(colours - 0.5).max(1) > 0.3)
    assert plain.sum() > 400
    axis = 1 - 2 * colours[plain][:, None, None]
    ink = ((images[plain] - colours[plain][:, None, None]) * axis).sum(-1) / (axis**2).sum(-1)
    assert ((ink > 0.15) & (ink < 0.85)).mean() < 0.002  # 0 is the patch's colour, 1 its negative
    assert (ink > 0.5).mean() == pytest.approx(0.191, abs=0.006)


@NEEDS_SHARED
def test_real_faces_are_cropped_so():
    """Of CelebA's photographs at half resolution; the faces' channel means are near the course's."""
    faces = []
    with tarfile.open(SHARED / "face.tar") as archive:
        for _ in range(200):
            member = archive.next()
            image = decode_image(Path(member.name), content=archive.extractfile(member).read())
            assert image.shape == (109, 89, 3)
            faces.append(originals.to_course("face", image, member.name))
            assert (faces[-1] == image[30:94, 12:76]).all()
    assert np.mean(faces, (0, 1, 2)) / 255 == pytest.approx(COURSE["face"].means, abs=0.05)
