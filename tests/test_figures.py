"""Figures are drawn from result files, the same each time."""

import json
import re
import sys

import pytest

from common.config import UserError
from experiments import figures


def draw(monkeypatch, folder):
    monkeypatch.setattr(sys, "argv", ["figures.py", "--results", str(folder), "--build", str(folder / "build")])
    figures.main()
    return {path.name: path.read_bytes() for path in (folder / "build").iterdir()}


def test_figures_of_adaptation(monkeypatch, tmp_path):
    points = {"x": [0.0, 1.0, 2.0], "y": [2.0, 0.0, 1.0], "class": [3, 9, 3], "domain": [0, 0, 1]}
    features = {f"usps, {name}": points for name in ("source only", "DANN")}
    (tmp_path / "p3_features.json").write_text(json.dumps(features))
    rest = {"val_accuracy": 0.9, "feature_norm": 20.0, "predictions": [8, 2]}
    runs = [{"accuracy": accuracy, **rest} for accuracy in (0.2, 0.4)]
    (tmp_path / "p3_collapse.json").write_text(
        json.dumps({"svhn": {"alpha to 0.1": {"runs": runs}, "alpha to 2.0": {"runs": runs}}})
    )
    first = draw(monkeypatch, tmp_path)
    assert set(first) == {"p3_tsne_usps.svg", "p3_collapse_svhn.svg"}
    for content in first.values():
        assert re.search(rb"<svg[^>]*viewBox", content)
    assert draw(monkeypatch, tmp_path) == first
    features["usps, DANN"] = points | {"class": [3, 9, 8]}
    (tmp_path / "p3_features.json").write_text(json.dumps(features))
    assert draw(monkeypatch, tmp_path)["p3_tsne_usps.svg"] != first["p3_tsne_usps.svg"]


def test_without_results(monkeypatch, tmp_path):
    with pytest.raises(UserError, match="holds no result file that a figure"):
        draw(monkeypatch, tmp_path)
