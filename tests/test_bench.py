"""The benchmark: its counts and arithmetic against closed forms, its plain references, and a row of it."""

import json
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import exit_code
from torch import nn

from benchmarks import bench, plain
from common.config import UserError
from evaluation.distances import frechet_distance
from experiments import tables


@pytest.fixture
def commands(monkeypatch, tmp_path) -> list[list[str]]:
    """The commands of processes that only say what they were asked for."""
    commands = []

    def run(*command: object, cache: Path | None = None) -> plain.Values:
        words = list(map(str, command))
        commands.append(words)
        steps = int(words[words.index("--images") + 1]) // 2 if "--images" in words else 0
        if "--run-dir" in words:
            file = Path(words[words.index("--run-dir") + 1]) / "metrics.jsonl"
            file.parent.mkdir()
            lines = [{"images_per_second": rate} for rate in (1, 20, 60)] + [{"val_accuracy": 0.5}]
            file.write_text("\n".join(map(json.dumps, lines)))
        return {"s": 3.0, "operations": 100 + 7 * steps, "FLOPs": 10 * steps, "images/s": 20.0}

    monkeypatch.setattr(bench, "run", run)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return commands


def line_of(row: dict, folder: Path, peak: float = 1.0) -> str:
    """The table's line of a row's side `ours`."""
    content = {"machine": {}, "options": {"repeats": 1}, "peak": peak, "rows": {"x": row}}
    (folder / "bench.json").write_text(json.dumps(content))
    return tables.benchmark(folder).splitlines()[4]


@pytest.mark.parametrize("name", list(bench.TRAININGS))
def test_a_training_is_measured_as_it_is(name, builtin, commands, tmp_path, capsys):
    """The rate leaves the start out: of 20 and of 60 images a second for as many images it is 30."""
    row = bench.training(bench.Config(data=builtin, repeats=2), name)
    assert row["sides"]["ours"]["images/s"] == {"values": [30, 30], "median": 30, "spread": 0}
    assert row["work"]["ours"] == {"operations": 7, "FLOPs": 5}  # of a step, and of one of its two images
    line = f"| {name} training | 20 ± 0 images/s | 20 ± 0 images/s | 30 ± 0 images/s | 1.5 × | 1.5 × | 100 / 7 | 15% |"
    assert line_of(row, tmp_path, peak=1000) == line
    ours = [words for words in commands if "benchmarks.plain" not in words]
    for words in ours:
        script = next(index for index, word in enumerate(words) if word.endswith("_train.py"))
        assert exit_code(words[script], (*words[script + 1 :], "--dry-run")) == 0, capsys.readouterr().err
    if bench.TRAININGS[name][4]:  # the released recipe in its own batches
        config = json.loads(capsys.readouterr().out.split("\n}\n")[-2] + "}")
        assert exit_code(ours[-1][1], ("--dry-run",)) == 0
        assert config["batch_size"] == json.loads(capsys.readouterr().out)["batch_size"]


def test_rows_that_are_drawn(builtin, commands):
    bench.drawing(bench.Config(data=builtin, repeats=1), "digits")
    assert commands[-1][:2] == ["bash", "hw2_2.sh"] and commands[-1][-2:] == ["--per-class", "100"]
    images = bench.links(builtin / "face" / "train", 60)
    assert len({file.resolve() for file in images.iterdir()}) == 54 and len(list(images.iterdir())) == 60


def test_a_row_is_measured_and_shown(inside, refused_inside, builtin, tmp_path):
    """Rows that were measured on this machine with the same options stay."""
    file = tmp_path / "bench.json"
    options = {"data": str(builtin), "repeats": 1, "count": 10}
    earlier = {"machine": bench.machine(), "options": options, "peak": 1e9, "rows": {"fid": {"unit": "s", "sides": {}}}}
    file.write_text(json.dumps(earlier))
    arguments = ("--data", builtin, "--repeats", 1, "--count", 10, "--results", tmp_path)
    code, output, errors = inside("benchmarks.bench", *arguments, "--only", "faces")
    assert code == 0, errors
    content = json.loads(file.read_text())
    assert list(content["rows"]) == ["faces", "fid"]
    assert all(side["s"]["median"] > 0.1 for side in content["rows"]["faces"]["sides"].values())
    assert output.splitlines()[-1].startswith("| 10 faces | ") and output.count("± 0 s") == 2
    assert "'speed' is not one of dcgan, wgan" in refused_inside("benchmarks.bench", "--only", "speed")
    assert "missing" in refused_inside("benchmarks.bench", "--data", tmp_path / "none")


def test_a_process_that_fails_is_told():
    with pytest.raises(UserError, match="failed with exit code 3: no more"):
        bench.run("bash", "-c", "echo no more >&2; exit 3")


def test_sides_are_measured_in_turn(tmp_path):
    turns, values = [], iter([8.0, 1.0, 4.0, 2.0, 5.0, 2.5])
    sides = {name: lambda name=name: turns.append(name) or {"s": next(values)} for name in ("plain", "ours")}
    row = bench.measure("x", "s", sides, 3)
    assert turns == ["plain", "ours"] * 3
    assert row["sides"]["plain"]["s"] == {"values": [8.0, 4.0, 5.0], "median": 5.0, "spread": 2.0}
    assert line_of(row, tmp_path) == "| x | 5 ± 2 s |  | 2 ± 0.75 s | 2.5 × |  |  |  |"
    assert plain.seconds_of(lambda: time.sleep(0.05), 2) >= 0.05


def test_counts_are_those_of_the_closed_form():
    layer, images = nn.Conv2d(3, 8, 5, bias=False), torch.randn(4, 3, 12, 12)
    forward = 2 * 4 * 8 * 8 * 8 * 3 * 25  # 2 x batch x output (8, 8, 8) x kernel (3, 5, 5)
    assert plain.count_work(lambda: layer(images)) == {"operations": 1, "FLOPs": forward}
    assert plain.count_work(lambda: layer(images).sum().backward())["FLOPs"] == 2 * forward  # the weights' gradient

    def penalty() -> None:
        inputs = images.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(layer(inputs).square().sum(), inputs, create_graph=True)
        gradient.square().sum().backward()

    assert plain.count_work(penalty)["FLOPs"] > 2 * forward
    assert 1e7 < bench.matrix_peak(torch.float32, (64, 128)) < 1e16


@pytest.mark.parametrize(("task", "in_memory"), [*((task, False) for task in plain.TRAININGS), ("dann", True)])
def test_the_plain_references_train(task, in_memory, builtin):
    result = plain.train(plain.Config(task=task, data=builtin, in_memory=in_memory, batch_size=2, steps=1))
    assert result["images/s"] > 0 and result["operations"] > 100 and result["FLOPs"] > 1e6


def test_a_batch_that_cannot_be_filled_is_refused(builtin):
    with pytest.raises(UserError, match="holds 54 images, fewer than a batch of 64"):
        plain.train(plain.Config(data=builtin, batch_size=64))


def test_the_plain_references_draw_and_label(builtin, tmp_path):
    plain.faces(plain.Config(out=tmp_path / "faces", batch_size=2, count=3))
    assert sorted(file.name for file in (tmp_path / "faces").iterdir()) == ["0000.png", "0001.png", "0002.png"]
    assert plain.digits(plain.Config(batch_size=2, steps=1))["s"] > 0
    plain.labels(plain.Config(data=builtin / "digits" / "usps" / "data", out=tmp_path / "labels.csv"))
    assert len((tmp_path / "labels.csv").read_text().splitlines()) == 49


def test_both_fids_are_equal():
    first, second = (np.random.default_rng(seed).normal(size=(40, 8)) for seed in (0, 1))
    assert plain.frechet_distance(first, second) == pytest.approx(frechet_distance(first, second), abs=1e-8)
