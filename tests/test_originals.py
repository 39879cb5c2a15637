"""The public originals, small but in their true formats: what is made of them, what is refused, --verify."""

import bz2
import functools
import gzip
import hashlib
import http.server
import importlib
import io
import json
import shutil
import struct
import sys
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import io as matlab
from small_originals import COUNTS, LABELS, as_course, contents, halves, images_of, jpeg, noise, pairs, pixels

from common.config import UserError
from data import originals, tree
from data.reading import decode_image
from data.tree import COURSE, MANIFEST, SPLITS

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared" / "data"
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


def write_bsds500(folder: Path, photographs: dict[str, np.ndarray] = PHOTOGRAPHS) -> None:
    with tarfile.open(folder / "BSR_bsds500.tgz", "w:gz") as archive:
        files = {name: jpeg(image) for name, image in photographs.items()}
        files["BSR/bench/data/images/3.jpg"] = jpeg(np.zeros((40, 36, 3), np.uint8))
        files["BSR/BSDS500/data/images/train/Thumbs.db"] = b"no image"
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


def write_celeba(folder: Path) -> None:
    photographs = folder / "celeba" / "img_align_celeba"
    photographs.mkdir(parents=True)
    for index, image in enumerate(pixels("face"), 1):
        (photographs / f"{index:06d}.jpg").write_bytes(jpeg(image))


@pytest.fixture(scope="module")
def sources(torchvision, tmp_path_factory):
    """The small originals, which torchvision takes for the published ones."""
    folder = tmp_path_factory.mktemp("originäls") / "all of them"
    folder.mkdir()
    for write in (write_mnist, write_bsds500, write_svhn, write_usps, write_celeba):
        write(folder)

    def md5(path: str) -> str:
        return hashlib.md5((folder / path).read_bytes()).hexdigest()

    with pytest.MonkeyPatch.context() as patch:
        datasets = torchvision.datasets
        resources = [(file, md5(f"MNIST/raw/{file}")) for file, _ in datasets.MNIST.resources]
        patch.setattr(datasets.MNIST, "resources", resources)
        for kind in (datasets.SVHN, datasets.USPS):
            entries = {
                split: [url, file, md5(file)] for split, (url, file, _) in kind.split_list.items() if split != "extra"
            }
            patch.setattr(kind, "split_list", entries)
        patch.setattr(originals, "CELEBA", COUNTS["face"])
        yield folder


@pytest.fixture(scope="module")
def made(prepare, sources, tmp_path_factory) -> Path:
    """The tree that the script makes of the small originals, offline."""
    folder = tmp_path_factory.mktemp("made") / "a tree"
    assert prepare(folder, "--sources", sources, "--no-download") == 0
    return folder


@pytest.mark.parametrize("name", COURSE)
def test_split_sizes_of_the_complete_originals(name):
    """The course's numbers: 80 % of 80 % and 20 % of 80 % of the digits, in whole images."""
    complete = {"face": 202599, "mnistm": 60000 + 10000, "svhn": 73257 + 26032, "usps": 7291 + 2007}[name]
    sizes = tree.split_sizes(name, complete)
    assert (sizes["train"], sizes["val"]) == (COURSE[name].train, COURSE[name].val)
    used = int(complete * 0.8)
    if name == "face":
        assert sizes["test"] == sizes["val"]
    else:
        assert sizes == {"train": int(used * 0.8), "val": used - int(used * 0.8), "test": complete - used}


@pytest.mark.parametrize(
    ("name", "count"), [("face", 40), ("face", 40489), ("usps", 10), ("usps", 7438), ("svhn", 10**6)]
)
def test_splits_are_disjoint(name, count):
    splits = tree.split_originals(name, count, seed=3)
    indices = np.concatenate([indices for _, indices in splits.values()])
    assert len(set(indices.tolist())) == len(indices) and indices.max() < count
    sizes = tree.split_sizes(name, count)
    for split, (numbers, chosen) in splits.items():
        assert len(numbers) == len(chosen) == sizes[split] > 0 and (np.diff(numbers) > 0).all()
    if name != "face":
        assert len(indices) == count
        assert sorted(np.concatenate([splits["train"][0], splits["val"][0]])) == list(range(count - sizes["test"]))
    assert not np.array_equal(splits["train"][1], tree.split_originals(name, count, seed=4)["train"][1])


def test_layout(made):
    """`images_of` has the rest: names, formats, modes and sizes."""
    assert sorted(path.name for path in made.iterdir()) == ["digits", "face"]
    for name, count in COUNTS.items():
        sizes = tree.split_sizes(name, count)
        found = {split: images_of(made, name, split) for split in SPLITS}
        assert {split: len(images) for split, images in found.items()} == sizes
        domain = made / COURSE[name].folder
        extra = ["test", "train", "val"] if name == "face" else ["data", "test", "test.csv", "train.csv", "val.csv"]
        assert sorted(path.name for path in domain.iterdir()) == [MANIFEST, *extra]
        if name != "face":
            both = [f"{number:05d}.png" for number in range(sizes["train"] + sizes["val"])]
            assert sorted(path.name for path in (domain / "data").iterdir()) == both
            assert sorted([*found["train"], *found["val"]]) == both
            assert min(found["val"]) < max(found["train"])  # mixed
            header, *rows = (domain / "train.csv").read_bytes().decode().split("\n")
            assert header == "image_name,label" and rows[-1] == "" and rows[:-1] == sorted(rows[:-1])


@pytest.mark.parametrize("name", ["svhn", "usps"])
def test_every_digit_is_there_once_with_its_label(made, name):
    images = pixels(name)
    if name == "usps":  # torchvision rounds the text's values down, which may cost one grey level
        values = np.array([float(f"{value / 127.5 - 1:.7f}") for value in images.ravel()], np.float32)
        images = ((values + 1) / 2 * 255).astype(np.uint8).reshape(images.shape)
    expected = [(as_course(name, image).tobytes(), label) for image, label in zip(images, LABELS[name], strict=True)]
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


def test_the_seed_decides(prepare, made, sources, tmp_path):
    options = ("--sources", sources, "--only", "mnistm,usps")
    assert prepare(tmp_path / "same", *options) == 0
    first, there = contents(tmp_path / "same"), contents(made)
    assert first == {name: there[name] for name in there if "mnistm" in name or "usps" in name}
    assert prepare(tmp_path / "other", *options, "--seed", 1) == 0
    second = contents(tmp_path / "other")
    assert first.keys() == second.keys()
    assert pairs(tmp_path / "other", "usps") == pairs(tmp_path / "same", "usps")
    assert pairs(tmp_path / "other", "mnistm") != pairs(tmp_path / "same", "mnistm")  # other patches
    for name in ("digits/usps/train.csv", "digits/mnistm/train.csv"):
        assert first[name] != second[name]


def test_celeba_as_a_zip(torchvision, prepare, made, sources, tmp_path, monkeypatch):
    (tmp_path / "celeba").mkdir()
    file = shutil.make_archive(tmp_path / "celeba" / "img_align_celeba", "zip", sources / "celeba", "img_align_celeba")
    entry = ("an id", hashlib.md5(Path(file).read_bytes()).hexdigest(), "img_align_celeba.zip")
    monkeypatch.setattr(torchvision.datasets.CelebA, "file_list", [entry])
    assert prepare(tmp_path / "tree", "--sources", tmp_path, "--only", "face", "--no-download") == 0
    assert contents(tmp_path / "tree" / "face") == contents(made / "face")


def test_blending_is_the_difference():
    """|patch - digit| of a digit that is black and white."""
    digit = np.zeros((28, 28), np.uint8)
    digit[5:20, 9:12] = 255
    photograph = noise(28, 28, 3)
    blended = originals.blend(digit, [photograph], np.random.default_rng(0))
    assert (blended == np.abs(photograph.astype(int) - digit[:, :, None])).all()
    assert blended.dtype == np.uint8
    assert (originals.blend(digit // 9, [photograph], np.random.default_rng(0)) == blended).all()  # thin ink is ink


def test_originals_are_known_by_their_content(prepare, made, sources, tmp_path, capsys):
    """Where torchvision knows no MD5: a photograph of CelebA, a photograph of BSDS500."""
    folder = shutil.copytree(sources, tmp_path / "sources")
    options = ("--sources", folder, "--only", "face,mnistm")
    assert prepare(made, *options) == 0
    assert capsys.readouterr().out.count("there already, made of ") == 2
    (folder / "celeba" / "img_align_celeba" / "000001.jpg").write_bytes(jpeg(pixels("face")[0][:, ::-1]))
    write_bsds500(folder, {**PHOTOGRAPHS, "BSR/BSDS500/data/images/test/another.jpg": noise(40, 36, 3, seed=9)})
    for name in ("face", "mnistm"):
        assert prepare(made, *options[:-1], name) == 2
        assert "made of other images or labels" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("only", "file", "change", "sentence"),
    [
        ("mnistm", "MNIST/raw/train-images-idx3-ubyte.gz", lambda c: c[:-100], "is not the original, its MD5 is not "),
        ("mnistm", "MNIST/raw/t10k-labels-idx1-ubyte.gz", lambda c: None, "is missing, and --no-download was given"),
        ("mnistm", "BSR_bsds500.tgz", lambda c: c[:999], "cannot be read (Compressed file ended before"),
        ("mnistm", "BSR_bsds500.tgz", lambda c: b"<html>not found</html>", "cannot be read ("),
        ("svhn", "test_32x32.mat", lambda c: b"<html>not found</html>", "is not the original, its MD5 is not "),
        ("usps", "usps.t.bz2", lambda c: c[:-50], "is not the original, its MD5 is not "),
        ("face", "celeba/img_align_celeba/000007.jpg", lambda c: None, "holds 59 photographs of 60: give"),
        ("face", "celeba/img_align_celeba/000007.jpg", lambda c: c[:300], "cannot be decoded"),
        (*("face", "celeba/img_align_celeba/000007.jpg"), lambda c: jpeg(noise(64, 89, 3)), "is 89x64, expected an al"),
    ],
)
def test_broken_originals(prepare, sources, tmp_path, capsys, only, file, change, sentence):
    """One sentence that names the file, and no set."""
    folder = shutil.copytree(sources, tmp_path / "sources")
    content = change((folder / file).read_bytes())
    (folder / file).unlink() if content is None else (folder / file).write_bytes(content)
    assert prepare(tmp_path / "tree", "--only", only, "--sources", folder, "--no-download") == 2
    captured = capsys.readouterr()
    assert captured.out == "" and len(captured.err.splitlines()) == 1, captured.err
    named = folder / file if "photographs" not in sentence else (folder / file).parent
    assert f"{named} {sentence}" in captured.err
    assert not (tmp_path / "tree" / COURSE[only].folder).exists()


def test_an_archive_without_photographs(tmp_path):
    write_bsds500(tmp_path, {})
    with pytest.raises(UserError, match="holds no photograph of BSDS500"):
        originals.read_photographs(tmp_path / "BSR_bsds500.tgz")


@pytest.mark.parametrize("name", ["torchvision", "scipy.io"])
def test_without_a_package(name, prepare, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, name, None)
    assert prepare(tmp_path / "tree", "--only", "usps", "--sources", tmp_path) == 2
    assert (
        f"originals need torchvision and scipy, which do not import (import of {name} halted" in capsys.readouterr().err
    )


def test_downloads(torchvision, prepare, made, sources, tmp_path, monkeypatch, capfd):
    """From a server of the test's own, with the right MD5 and a wrong one; nothing is fetched twice."""
    requests = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            requests.append(self.path)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=sources))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    md5 = {file: entry for _, file, entry in torchvision.datasets.USPS.split_list.values()}
    entries = {"train": [f"{url}/usps.bz2", "usps.bz2", md5["usps.bz2"]]}
    monkeypatch.setattr(torchvision.datasets.USPS, "split_list", entries)
    new, options = tmp_path / "new", ("--only", "usps", "--sources", tmp_path / "new")
    new.mkdir()
    (new / ".usps.bz2.part").write_bytes(b"half")  # of a download that was killed
    for address, checksum, reason in (
        ("usps.t.bz2", "0" * 32, "File not found or corrupted."),
        ("elsewhere", md5["usps.t.bz2"], "HTTP Error 404: File not found"),
    ):
        entries["test"] = [f"{url}/{address}", "usps.t.bz2", checksum]
        assert prepare(tmp_path / "tree", *options) == 2
        assert f"{new / 'usps.t.bz2'} cannot be downloaded ({reason}): put it there" in capfd.readouterr().err
        assert [path.name for path in new.iterdir()] == ["usps.bz2"]
    requests.clear()
    entries["test"] = [f"{url}/usps.t.bz2", "usps.t.bz2", md5["usps.t.bz2"]]
    assert prepare(tmp_path / "tree", *options) == 0
    assert set(requests) == {"/usps.t.bz2"}
    assert contents(tmp_path / "tree" / "digits" / "usps") == contents(made / "digits" / "usps")
    server.shutdown()


def test_verify_prints_a_table(prepare, made, capsys):
    """Of what the images are, beside the course's numbers; the MANIFEST holds the same."""
    assert prepare("--verify", made) == 0
    captured = capsys.readouterr()
    rows = [line.split() for line in captured.out.splitlines()[1:]]
    assert captured.err == "" and [row[:2] for row in rows] == [[COURSE[n].folder, s] for n in COURSE for s in SPLITS]
    for row, (name, split) in zip(rows, ((name, split) for name in COURSE for split in SPLITS), strict=True):
        images = images_of(made, name, split)
        noted = json.loads((made / COURSE[name].folder / MANIFEST).read_text())["splits"][split]
        values = np.stack([image for image, _ in images.values()]).reshape(-1, 1 if name == "usps" else 3) / 255
        assert noted["images"] == len(images) == int(row[2]) and len(noted["sha256"]) == 64
        assert noted["means"] == pytest.approx(values.mean(0), abs=1e-6)
        expected = {"train": f"{COURSE[name].train:,}", "val": f"{COURSE[name].val:,}"}.get(split, "-")
        means = [f"{mean:.3f}" for mean in (*values.mean(0), *COURSE[name].means)]
        assert row[3:5] + row[6:] == [expected, COURSE[name].mode, *means]
        if name != "face":
            counts = np.bincount([label for _, label in images.values()], minlength=10)
            assert noted["classes"] == counts.tolist()
            assert row[5] == f"{counts.min() / len(images) * 100:.1f}-{counts.max() / len(images) * 100:.1f}"


def test_verify_notices_every_change(prepare, made, tmp_path, capsys):
    """Against the MANIFEST: a pixel, a label, a missing split; what only the compression changes is no change."""
    copy = shutil.copytree(made, tmp_path / "copy")
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
    assert capsys.readouterr().err.splitlines() == [
        f"prepare_data.py: error: {copy / 'face' / 'test'} is missing",
        f"prepare_data.py: error: {digits / 'svhn'}: the val split is not what its MANIFEST says, it was changed",
        f"prepare_data.py: error: {digits / 'usps'}: the train split is not what its MANIFEST says, it was changed",
    ]


@pytest.mark.skipif(not SHARED.is_dir(), reason="no ../shared/data")
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
