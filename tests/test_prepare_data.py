"""prepare_data.py on images of one's own: what they are known by, what stops it, what it reads and says."""

import importlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image, ImageOps
from small_originals import LABELS, as_course, contents, halves, noise, pairs, pixels, png

from common.files import locked
from data import tree
from data.reading import read_labels
from data.tree import MANIFEST

ROOT = Path(__file__).resolve().parent.parent


def classes(folder: Path, count: int = 40) -> Path:
    """USPS-like digits, 16x16, in folders named after their classes."""
    for index in range(count):
        path = folder / str(LABELS["usps"][index]) / f"{index:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(pixels("usps")[index]))
    return folder


def test_an_interrupted_run_leaves_no_set(prepare, tmp_path, monkeypatch):
    """Ctrl-C amid the writing: the next run, of corrected labels, holds nothing of the earlier one."""
    source = classes(tmp_path / "own")
    options = ("--only", "usps", "--input", source)
    with monkeypatch.context() as patch:
        patch.setattr(tree, "decode_image", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert prepare(tmp_path / "tree", *options) == 130
    assert list((tmp_path / "tree" / "digits" / ".usps.part").rglob("*.png"))
    assert not (tmp_path / "tree" / "digits" / "usps").exists()
    moved = next((source / "3").iterdir())
    moved.rename(source / "8" / moved.name)
    for name in ("tree", "fresh"):
        assert prepare(tmp_path / name, *options) == 0
    assert contents(tmp_path / "tree") == contents(tmp_path / "fresh")


def test_a_set_is_known_by_its_content(prepare, tmp_path, capsys):
    """Other names and compression are the same set, also an earlier version's; a pixel, a label or a seed another."""
    source = classes(tmp_path / "own")
    folder = tmp_path / "tree"
    assert prepare(folder, "--only", "usps", "--input", source) == 0
    file = folder / "digits" / "usps" / MANIFEST
    file.write_text(file.read_text().replace('"seed"', '"originals": "0123", "seed"').replace('"classes"', '"shares"'))
    before = contents(folder)
    renamed = shutil.copytree(source, tmp_path / "renamed")
    for path in sorted(renamed.rglob("*.png")):
        Image.open(path).save(path.with_name(f"a{path.stem}.bmp"))
        path.unlink()
    assert prepare(folder, "--only", "usps", "--input", renamed) == 0
    assert "there already" in capsys.readouterr().out
    pixel, label = (shutil.copytree(source, tmp_path / name) for name in ("pixel", "label"))
    image = next((pixel / "3").iterdir())
    ImageOps.mirror(Image.open(image)).save(image)
    moved = next((label / "3").iterdir())
    moved.rename(label / "8" / moved.name)
    sentence = "is there already, made of other images or labels, or with another seed (own, 40 images): remove it"
    for changed in ((pixel,), (label,), (source, "--seed", 1)):
        assert prepare(folder, "--only", "usps", "--input", *changed) == 2
        assert sentence in capsys.readouterr().err
    assert contents(folder) == before and not list(folder.rglob(".*"))
    file.unlink()  # as the course's own tree
    assert prepare(folder, "--only", "usps", "--input", source) == 2
    assert "without a MANIFEST: choose another folder" in capsys.readouterr().err


def test_one_process_at_a_time(prepare, tmp_path, capsys):
    """While another one writes into the tree, or fetches originals; when that one is killed, its lock is free."""
    importlib.import_module("with_torchvision")
    source, folder = classes(tmp_path / "own"), tmp_path / "tree"
    script = "import sys, time; sys.path.insert(0, sys.argv[1])\nfrom pathlib import Path\n"
    script += "from common.files import locked\nwith locked(Path(sys.argv[2])): print(flush=True), time.sleep(60)"
    command = [sys.executable, "-c", script, ROOT, folder]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE)
    holder.stdout.readline()
    options = ("--only", "usps", "--input", source)
    assert prepare(folder, *options) == 2
    assert f"is in use by -c, process {holder.pid} on " in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == [".lock"]
    with locked(tmp_path / "originals"):
        assert prepare(tmp_path / "other", "--only", "usps", "--sources", tmp_path / "originals") == 2
    assert "originals is in use by" in capsys.readouterr().err
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert prepare(folder, *options) == 0
    assert [path.name for path in folder.iterdir()] == ["digits"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("tree", "--only", "usps,emnist"), "'emnist' is not one of face, mnistm, svhn, usps"),
        (("tree", "--verify", "--builtin"), "only one of"),
        (("tree", "--input", "x"), "--input is of one set"),
        (("tree", "--input", "x", "--only", "face,usps"), "--input is of one set"),
        (("tree", "--input", "x", "--only", "usps"), "x is missing"),
        (("", "--only", "usps"), "a path is empty"),
        (("--only", "usps"), "required: FOLDER"),
        (("--verify", "nothing"), "nothing is missing"),
        (("--builtin", "y", "--count", "39"), "39 is out of range, must be at least 40"),
        (("--builtin", "y", "z"), "unrecognized arguments: z"),
    ],
)
def test_wrong_options(prepare, arguments, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert prepare(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and len(captured.err.splitlines()) == 1
    assert sentence in captured.err
    assert not list(tmp_path.iterdir())


def folder_with_csv(folder: Path) -> None:
    (folder / "data").mkdir(parents=True)
    rows = ["image_name,label"]
    for index, (image, label) in enumerate(zip(pixels("svhn"), LABELS["svhn"], strict=True)):
        (folder / "data" / f"{index}.png").write_bytes(png(image))
        rows.append(f"{index}.png,{label}")
    (folder / "labels.csv").write_text("\n".join(rows))


def folder_like_mnistm(folder: Path) -> None:
    for part, half in zip(("mnist_m_train", "mnist_m_test"), halves("svhn"), strict=True):
        (folder / part).mkdir(parents=True)
        rows = []
        for index, (image, label) in enumerate(zip(pixels("svhn")[half], LABELS["svhn"][half], strict=True)):
            (folder / part / f"{index:08d}.png").write_bytes(png(image))
            rows.append(f"{index:08d}.png {label}\n")
        (folder / f"{part}_labels.txt").write_text("".join(rows))


def folder_of_classes(folder: Path) -> None:
    for index, (image, label) in enumerate(zip(pixels("svhn"), LABELS["svhn"], strict=True)):
        path = folder / ("train" if index % 2 else "test") / str(label) / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(image))


def expected(name: str) -> list[tuple[bytes, int]]:
    """What the course would make of the images of such a folder."""
    images = [as_course(name, image).tobytes() for image in pixels("svhn")]
    return sorted(zip(images, LABELS["svhn"], strict=True))


@pytest.mark.parametrize("name", ["svhn", "mnistm"])
@pytest.mark.parametrize("write", [folder_with_csv, folder_like_mnistm, folder_of_classes])
def test_own_digits(prepare, name, write, tmp_path, capsys):
    """32x32 colour digits in every form: MNIST-M's are cropped as the published ones, SVHN's scaled."""
    write(tmp_path / "own")
    assert prepare(tmp_path / "tree", "--only", name, "--input", tmp_path / "own") == 0
    assert pairs(tmp_path / "tree", name) == expected(name)
    assert capsys.readouterr().err == ""


def test_own_digits_of_other_channels(prepare, tmp_path):
    """Colour becomes grey for USPS, grey becomes colour for SVHN; grey is no MNIST-M."""
    source = classes(tmp_path / "own")
    assert prepare(tmp_path / "svhn", "--only", "svhn", "--input", source) == 0
    for path in source.rglob("*.png"):
        Image.open(path).convert("RGB").save(path)
    assert prepare(tmp_path / "usps", "--only", "usps", "--input", source) == 0
    assert pairs(tmp_path / "usps", "usps") == sorted(
        (image[::3], label) for image, label in pairs(tmp_path / "svhn", "svhn")
    )
    assert prepare(tmp_path / "mnistm", "--only", "mnistm", "--input", source) == 2


def test_own_faces(prepare, tmp_path, capsys):
    """Finished crops, half-size and full-size photographs, of sub-folders, without labels, names of no encoding."""
    faces, folder = pixels("face"), tmp_path / "faces"
    for index, face in enumerate(faces):
        half = Image.fromarray(face).reduce(2)
        image = [Image.fromarray(face), half, half.crop((12, 30, 76, 94))][index % 3]
        path = folder / str(index % 3) / f"{index} \udcff.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    assert prepare(tmp_path / "tree", "--only", "face", "--input", folder) == 0
    assert pairs(tmp_path / "tree", "face") == sorted((as_course("face", face).tobytes(), None) for face in faces)
    made = tmp_path / "tree" / "face"
    (made / "val" / "00000.png").rename(made / "val" / "\udcff.png")
    (made / MANIFEST).unlink()
    assert prepare(tmp_path / "tree", "--verify", "--only", "face") == 0
    assert capsys.readouterr().err == ""


def test_what_lies_about_does_no_harm(prepare, tmp_path, capsys):
    """What macOS, Jupyter, Windows and rsync leave; links to folders and out of them; suffixes in any case or none."""
    own, outside = tmp_path / "own", tmp_path / "elsewhere"
    folder_like_mnistm(own)
    (own / "mnist_m_test").rename(outside)
    (own / "mnist_m_test").symlink_to(outside)
    (outside / "loop").symlink_to(own)
    table = own / "mnist_m_train_labels.txt"
    text = table.read_text()
    for name, other in (("00000000.png", "00000000.PNG"), ("00000001.png", "00000001")):
        text = text.replace(name, other)
        (own / "mnist_m_train" / name).rename(own / "mnist_m_train" / other)
    table.unlink()
    (own / "mnist_m_train_LABELS.TXT").write_text(text, encoding="utf-16", newline="\r\n")
    for hidden in ("._labels.csv", ".ipynb_checkpoints/labels.csv", "mnist_m_train/.0.png", "__MACOSX/._labels.csv"):
        (own / hidden).parent.mkdir(exist_ok=True)
        (own / hidden).write_bytes(b"\0\xa3\xff")
    os.mkfifo(own / "pipe.csv")
    os.mkfifo(own / "mnist_m_train" / "pipe.png")
    assert prepare(tmp_path / "tree", "--only", "svhn", "--input", own) == 0
    assert pairs(tmp_path / "tree", "svhn") == expected("svhn")
    assert capsys.readouterr().err == ""


def test_an_image_is_in_one_split(prepare, tmp_path, capsys):
    """Copies under other names, folders, links and formats are one image; with two labels they are refused."""
    own = classes(tmp_path / "own")
    for number, path in enumerate(sorted(own.rglob("*.png"))):
        copy = tmp_path / "own" / "again" / path.parent.name / f"{number}.bmp"
        copy.parent.mkdir(parents=True, exist_ok=True)
        Image.open(path).convert("RGB" if number % 2 else "L").save(copy)
    (own / "linked").symlink_to(own / "again")
    (own / "stray.png").write_bytes(png(noise(28, 28)))
    assert prepare(tmp_path / "tree", "--only", "usps", "--input", own) == 0
    error = capsys.readouterr().err
    assert f"own: 1 images without a label are left out, {own / 'stray.png'} first" in error
    assert "own: 80 images are copies of others and left out" in error
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


def test_folders_that_are_refused(prepare, tmp_path, capsys):
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
        "00000000.png 1\n00000001.png 12\n": "row 2: label '12' of 00000001.png is not a digit",
        "00000000.png 1\n00000001.png\n": "row 2 names no image",
        "00000000.png 1\n00000000.png 2\n": "row 2: 00000000.png stands twice",
        "00000000.png 1\n0000\0.png 2\n": "is damaged: line 2 holds a NUL byte",
    }.items():
        table.write_text(text)
        assert f"mnist_m_train_labels.txt {sentence}" in refusal("svhn", own)
    table.write_text("00000000.png 1\n")
    (own / "labels.csv").write_text("image_name,label\nmnist_m_train/00000000.png,2\n")
    assert f"00000000.png is 2 by {own / 'labels.csv'} and 1 by {table}" in refusal("svhn", own)
    both = classes(tmp_path / "both")
    image = next((both / "3").iterdir())
    (both / "labels.csv").write_text(f"image_name,label\n3/{image.name},4\n")
    assert f"{image} is 3 by {both / '3'} and 4 by {both / 'labels.csv'}" in refusal("usps", both)
    assert "2 images are too few for usps" in refusal("usps", classes(tmp_path / "few", 2))
    (tmp_path / "empty").mkdir()
    assert "empty holds no image with a label" in refusal("usps", tmp_path / "empty")
    assert "empty holds no image\n" in refusal("face", tmp_path / "empty")
    assert not (tmp_path / "tree").exists()


@pytest.mark.parametrize("text", ['{"splits": {}}', '{"splits": {"train": 1, "val": 1, "test": 1}}', "[]", "1", ""])
def test_a_damaged_manifest(text, prepare, tmp_path, capsys):
    """Neither a set that is there already nor one without anything to verify."""
    domain = tmp_path / "digits" / "usps"
    domain.mkdir(parents=True)
    (domain / MANIFEST).write_text(text)
    assert prepare(tmp_path, "--only", "usps", "--input", tmp_path) == 2
    assert f"{domain / MANIFEST} cannot be read (" in capsys.readouterr().err
    assert prepare(tmp_path, "--verify", "--only", "usps") == 2


@pytest.fixture
def course(builtin, tmp_path) -> Path:
    """A tree without MANIFEST and test images, as the course's."""
    return shutil.copytree(builtin, tmp_path / "course", ignore=shutil.ignore_patterns(MANIFEST, "test"))


def test_verify_of_the_courses_tree(prepare, course, capsys):
    assert prepare("--verify", course, "--only", "usps,face") == 0
    rows = capsys.readouterr().out.splitlines()[1:]
    expected = ["digits/usps train 38", "digits/usps val 10", "face train 54", "face val 3"]
    assert [" ".join(row.split()[:3]) for row in rows] == expected


def test_verify_names_everything_that_is_missing(prepare, course, capsys):
    shutil.rmtree(course / "face" / "val")
    (course / "digits" / "mnistm" / "val.csv").unlink()
    (course / "digits" / "svhn" / "data" / next(iter(read_labels(course / "digits" / "svhn" / "train.csv")))).unlink()
    shutil.copy(course / "digits" / "usps" / "train.csv", course / "digits" / "usps" / "val.csv")
    Image.new("RGB", (89, 109)).save(course / "face" / "train" / "00003.png")
    grey = course / "digits" / "mnistm" / "data" / next(iter(read_labels(course / "digits" / "mnistm" / "train.csv")))
    Image.open(grey).convert("L").save(grey)
    assert prepare("--verify", course) == 2
    captured = capsys.readouterr()
    rows = [" ".join(row.split()[:2]) for row in captured.out.splitlines()[1:]]
    assert rows == ["digits/mnistm train", "digits/svhn val", "digits/usps train"]
    lines = captured.err.splitlines()
    for line, (kind, words) in zip(
        lines,
        [
            ("error: ", "00003.png is 89x109, expected 64x64"),
            ("error: ", "val is missing"),
            ("warning", "the train images are L, RGB, the course's RGB"),
            ("error: ", "val.csv is missing"),
            ("error: ", ".png is missing"),
            ("error: ", "val.csv names 38 images of train.csv"),
        ],
        strict=True,
    ):
        assert kind in line and words in line, captured.err
