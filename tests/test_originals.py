"""The public originals, small but in their true formats: what is made of them, what is refused, --verify."""

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
import struct
import sys
import tarfile
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import io as matlab
from small_originals import COUNTS, LABELS, as_course, contents, halves, images_of, jpeg, noise, pairs, pixels, png

from common.config import UserError
from data import originals, tree
from data.reading import decode_image
from data.tree import COURSE, MANIFEST, SPLITS

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared" / "data"
NEEDS_SHARED = pytest.mark.skipif(not SHARED.is_dir(), reason="no ../shared/data")
PHOTOGRAPHS = {f"BSR/BSDS500/data/images/{part}/{part}.jpg": noise(40, 36, 3, seed=len(part)) for part in SPLITS}


@pytest.fixture(scope="module")
def torchvision():
    importlib.import_module("with_torchvision")
    return importlib.import_module("torchvision")


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


@pytest.fixture
def copy(made, tmp_path) -> Path:
    return shutil.copytree(made, tmp_path / "copy")


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
    os.mkfifo(tmp_path / "pipe.tgz")
    with pytest.raises(UserError, match="pipe.tgz is not a regular file"):
        originals.read_photographs(tmp_path / "pipe.tgz")


def test_blending_is_the_difference():
    """|patch - digit| of a digit that is black and white."""
    digit = np.zeros((28, 28), np.uint8)
    digit[5:20, 9:12] = 255
    photograph = noise(28, 28, 3)
    blended = originals.blend(digit, [photograph], np.random.default_rng(0))
    assert (blended == np.abs(photograph.astype(int) - digit[:, :, None])).all()
    assert blended.dtype == np.uint8
    assert (originals.blend(digit // 9, [photograph], np.random.default_rng(0)) == blended).all()  # thin ink is ink


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
    md5 = {file: hashlib.md5((sources / file).read_bytes()).hexdigest() for file in ("usps.bz2", "usps.t.bz2")}
    entries = {"train": [f"{url}/usps.bz2", "usps.bz2", md5["usps.bz2"]]}
    monkeypatch.setattr(torchvision.datasets.USPS, "split_list", entries)
    new, options = tmp_path / "new", ("--only", "usps", "--sources", tmp_path / "new")
    left = new / ".download-usps.bz2"  # of a download that was killed
    left.mkdir(parents=True)
    (left / "usps.bz2").write_bytes(b"half")
    for address, checksum, reason in (
        ("usps.t.bz2", "0" * 32, "File not found or corrupted."),
        ("elsewhere", md5["usps.t.bz2"], "HTTP Error 404: File not found"),
    ):
        entries["test"] = [f"{url}/{address}", "usps.t.bz2", checksum]
        assert prepare(tmp_path / "tree", *options) == 2
        assert f"usps.t.bz2 cannot be downloaded ({reason})" in capfd.readouterr().err
        assert [path.name for path in new.iterdir()] == ["usps.bz2"]
    requests.clear()
    entries["test"] = [f"{url}/usps.t.bz2", "usps.t.bz2", md5["usps.t.bz2"]]
    assert prepare(tmp_path / "tree", *options) == 0
    assert set(requests) == {"/usps.t.bz2"}
    assert contents(tmp_path / "tree" / "digits" / "usps") == contents(made / "digits" / "usps")
    server.shutdown()


def rows_of(output: str) -> list[list[str]]:
    return [line.split() for line in output.splitlines()[2:]]


def test_verify_prints_a_table(prepare, made, capsys):
    """Of what the images are, beside the course's numbers; the MANIFEST holds the same."""
    assert prepare("--verify", made) == 0
    captured = capsys.readouterr()
    rows = rows_of(captured.out)
    assert captured.err == "" and [row[:2] for row in rows] == [[COURSE[n].folder, s] for n in COURSE for s in SPLITS]
    for name, split in ((name, split) for name in COURSE for split in SPLITS):
        row, images = rows.pop(0), images_of(made, name, split)
        noted = json.loads((made / COURSE[name].folder / MANIFEST).read_text())["splits"][split]
        values = np.stack([image for image, _ in images.values()]).reshape(-1, 1 if name == "usps" else 3) / 255
        assert noted["images"] == len(images) == int(row[2]) and len(noted["sha256"]) == 64
        assert noted["means"] == pytest.approx(values.mean(0), abs=1e-6)
        assert noted["deviations"] == pytest.approx(values.std(0), abs=1e-6)
        assert row[3:5] == [
            {"train": f"{COURSE[name].train:,}", "val": f"{COURSE[name].val:,}"}.get(split, "-"),
            row[4],
        ]
        assert row[7 : 7 + values.shape[1]] == [f"{mean:.3f}" for mean in values.mean(0)]
        if name != "face":
            counts = np.bincount([label for _, label in images.values()], minlength=10)
            assert noted["classes"] == counts.tolist()
            assert row[6] == f"{counts.min() / len(images) * 100:.1f}-{counts.max() / len(images) * 100:.1f}"


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
