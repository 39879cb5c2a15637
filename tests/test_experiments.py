"""The experiments: trainings are done once, results become files and tables."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

import p1_dcgan_train
import p1_wgan_train
import p2_inference
import p3_dann_train
from common.config import UserError, parse_config
from common.images import labelled_grid, save_image, write_images
from data.reading import decode_image, list_images, load_digits
from experiments import headline, p1, p2, p3, runs, tables
from experiments.runs import Config
from models.classifier import Judge
from models.dann import DANN
from sampling.faces import slerp
from sampling.labels import load_dann, predict


def test_files_and_tables(tmp_path):
    """A list of numbers is one line of a file."""
    content = {"rows": {"a": {"runs": [{"fid": [1.5, 2.0]}]}, "b": {}}, "text": "± in [-1,  1]"}
    runs.write_results(tmp_path / "x.json", content)
    assert runs.read_results(tmp_path / "x.json") == content | {"text": "± in [-1, 1]"}
    assert runs.read_results(tmp_path / "y.json") == {}
    assert '"fid": [1.5, 2.0]\n' in (tmp_path / "x.json").read_text()
    assert tables.table("a | b", [("1", 2)]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"


def test_results_know_their_weights():
    """Results are stale if a released network is another one than they were measured with."""
    content = {"weights": runs.digests("p3_dann_svhn", "p3_dann_usps")}
    line = f"{content['weights']['p3_dann_usps']}  p3_dann_usps.safetensors"
    assert line in (runs.CHECKPOINTS / "SHA256SUMS").read_text() and runs.stale(content) == [] == runs.stale({})
    content["weights"]["p3_dann_usps"] = "0" * 64
    assert runs.stale(content) == ["p3_dann_usps"]


def test_a_training_that_fails_stops_the_experiment(tmp_path):
    with pytest.raises(UserError, match="failed with exit code 2"):
        runs.train("p3_dann_train.py", tmp_path / "run", "--source", tmp_path / "none")
    with pytest.raises(UserError, match=r"none/metrics.jsonl is missing"):
        runs.metrics(tmp_path / "none", "fid")


def test_commands_are_shown_as_one_types_them(capfd, tmp_path):
    """By paths within the repository, quoted where needed; what the script prints is what `evaluate` returns."""
    (tmp_path / "a b.csv").write_text("image_name,label\n1.png,7\n")
    found = runs.evaluate("labels", tmp_path / "a b.csv", os.path.relpath(tmp_path / "a b.csv"))
    assert found["accuracy"] == 1
    with pytest.raises(UserError, match=r"^bash hw2_3.sh tests/none 'a b.csv' failed with exit code 2$"):
        runs.run("hw2_3.sh", runs.ROOT / "tests" / "none", "a b.csv")
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("==")]
    assert lines[0].startswith(f"== python3 evaluate.py labels '{tmp_path}/a b.csv' ")
    assert lines[1:] == ["== bash hw2_3.sh tests/none 'a b.csv'"]


def test_a_part_that_is_not_there_is_refused(refused_inside):
    assert "--part: 'p4' is not one of headline, p1_dcgan" in refused_inside("experiments.__main__", "--part", "p4")


@pytest.mark.parametrize(("part", "script"), [("p1_dcgan", p1_dcgan_train), ("p1_wgan", p1_wgan_train)])
def test_rows_of_faces_are_trainings_of_today(part, script):
    rows = p1.ROWS[part]
    presets = {"original": script.ORIGINAL}
    configs = [parse_config(script.Config, "", list(map(str, options)), presets) for options in rows.values()]
    assert all(one not in configs[:place] for place, one in enumerate(configs))


@pytest.mark.parametrize("part", p3.ROWS)
def test_rows_of_adaptation_are_trainings_of_today(part):
    for name, options in p3.rows_of(Config(part), "svhn").items():
        config = parse_config(p3_dann_train.Config, "", list(map(str, options)), p3_dann_train.RECIPES)
        assert config.teachers.count("weights.safetensors") == (3 if (part, name) == ("p3_rounds", "2") else 0)


def test_short_trainings_are_done_once(monkeypatch, tmp_path):
    """Rows that the file holds by the same options are left; a row of five critic steps sees a third of the images."""
    trained = []

    def train(script: str, run_dir: Path, *options: object) -> Path:
        words = list(map(str, options))
        images = int(words[words.index("--images") + 1])
        trained.append((script, run_dir.name, images))
        lines = [{"fid": 9.0, "kid_x1000": 8.0}, {"loss": 1, "images": images}, {"fid": 5.0, "kid_x1000": 4}]
        (run_dir / "samples").mkdir(parents=True)
        (run_dir / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
        save_image(run_dir / "samples" / "1.png", torch.zeros(3, 526, 526, dtype=torch.uint8))
        return run_dir

    monkeypatch.setattr(runs, "train", train)
    config = Config("p1_wgan", runs=tmp_path / "runs", results=tmp_path, images=900)
    p1.trainings(config)
    rows = {"original:_weight_clipping-0": 300, "penalty,_no_BatchNorm-0": 900}
    assert trained == [("p1_wgan_train.py", *row) for row in rows.items()]
    content = runs.read_results(config.file)
    assert content["rows"]["original: weight clipping"] == {
        "options": ["--recipe", "original"],
        "images": 300,
        "runs": [{"fid": [9.0, 5.0], "kid_x1000": [8.0, 4]}],
    }
    assert decode_image(tmp_path / "p1_wgan_plain.png").shape == (64, 526, 3)
    content["rows"]["penalty, no BatchNorm"]["options"] = ["--other"]  # as if it had been measured by other options
    runs.write_results(config.file, content)
    p1.trainings(replace(config, runs=tmp_path / "again"))
    assert trained[2:] == [("p1_wgan_train.py", "penalty,_no_BatchNorm-0", 900)]


def test_sharpness():
    """Of stripes a pixel wide half of all neighbours differ, by all; of stripes two wide a quarter."""
    stripes = torch.tensor([0, 200], dtype=torch.uint8).repeat(8).expand(1, 3, 16, 16)
    assert p1.sharpness(stripes) == pytest.approx(100)
    assert p1.sharpness(stripes[..., :8].repeat_interleave(2, 3)) == pytest.approx(200 * 7 / 15 / 2)


def test_interpolation_keeps_the_length():
    first, second = torch.randn(2, 100, 1, 1)
    second = second * first.norm() / second.norm()
    path = slerp(first, second, 5)
    torch.testing.assert_close(path[[0, 4]], torch.stack((first, second)))
    torch.testing.assert_close(path.flatten(1).norm(dim=1), first.norm().expand(5))
    steps = (path[1:] * path[:-1]).flatten(1).sum(1)
    torch.testing.assert_close(steps, steps[0].expand(4))


def test_nearest_faces():
    faces = torch.randint(0, 256, (9, 3, 64, 64), dtype=torch.uint8)
    order = torch.tensor([5, 0, 7])
    assert p1.nearest_faces(faces[order], faces, 2)[:, 0].tolist() == order.tolist()


def test_rows_of_the_trade_off():
    for place, row in enumerate(p2.ROWS):
        assert row not in p2.ROWS[:place]
        p2_inference.make_sampler(p2_inference.Config(Path(), **row))


def test_the_trade_off_goes_on(monkeypatch, tmp_path):
    """Rows are measured once; those of other weights are measured anew."""
    drawn, config = [], Config("p2_tradeoff", results=tmp_path)
    monkeypatch.setattr(p2, "draw_and_score", lambda _, row, folder: drawn.append(row) or {"row": row})
    monkeypatch.setattr(p2, "ROWS", p2.ROWS[:2])
    p2.tradeoff(config)
    monkeypatch.setattr(p2, "ROWS", [*p2.ROWS, p2.FIRST | {"guidance_scale": 9.0}])
    p2.tradeoff(config)
    assert drawn == p2.ROWS
    content = runs.read_results(config.file)
    content["weights"]["p2_ddpm"] = "0" * 64
    runs.write_results(config.file, content)
    p2.tradeoff(config)
    assert drawn[3:] == p2.ROWS and len(runs.read_results(config.file)["rows"]) == 3


def test_two_rounds(monkeypatch, builtin, tmp_path):
    """The second round is taught by the first one's networks; what was trained and measured is left as it is."""
    monkeypatch.setitem(p3.SEEDS, "p3_rounds", 2)
    monkeypatch.setitem(p3.IMAGES, "p3_rounds", {"usps": 128})
    config = Config("p3_rounds", builtin, runs=tmp_path / "runs", results=tmp_path)
    p3.trainings(config)
    content = runs.read_results(config.file)
    first, second = content["usps"].values()
    options = dict(zip(second["options"][::2], second["options"][1::2], strict=True))
    folder = tmp_path / "runs" / "p3" / "rounds" / "usps"
    assert options["--teachers"].split(",") == [str(folder / f"1-{seed}" / "weights.safetensors") for seed in (0, 1)]
    assert sorted(path.name for path in folder.iterdir()) == ["1-0", "1-1", "2-0", "2-1"]
    for run in first["runs"] + second["runs"]:
        assert 0 <= run["accuracy"] <= 1 and -1 <= run["agreement"] <= 1 and sum(run["predictions"]) == 10
    before = {file: file.read_bytes() for file in folder.rglob("*.safetensors")}
    del content["usps"]["1"]
    runs.write_results(config.file, content)
    p3.trainings(config)
    assert list(runs.read_results(config.file)["usps"].items()) == [("1", first), ("2", second)]
    assert {file: file.read_bytes() for file in folder.rglob("*.safetensors")} == before


def test_agreement():
    """1 for equal labels, 0 for chance, and 0 for networks that always say the same."""
    labels, turned = torch.arange(10).repeat(10), torch.arange(10).repeat_interleave(10)
    assert p3.agreement([labels, labels.clone(), turned]) == pytest.approx([0.5, 0.5, 0])
    assert p3.agreement([torch.full((9,), 3), torch.full((9,), 3)]) == [0, 0]


def test_features_are_what_the_heads_read(builtin):
    network = DANN().eval()
    digits = load_digits(builtin / "digits" / "usps", "val")[0]
    found = p3.features(network, digits, standardized=False)
    with torch.no_grad():
        torch.testing.assert_close(found, network.extract(digits.float() / 127.5 - 1))


def test_neighbours_in_a_map():
    """Two pairs: one of a domain and two classes, one of two domains and a class."""
    points = torch.tensor([[0.0, 0], [0, 1], [9, 9], [9, 8]])
    found = p3.neighbours(points, torch.tensor([1, 2, 3, 3]), torch.tensor([1, 1, 0, 1]), count=1)
    assert found == {"same_domain": 0.5, "target_same_class": 0.3333}


def test_the_hardest_digits(inside, builtin, tmp_path):
    file, options = tmp_path / "p3_hardest.json", ("--data", builtin, "--results", tmp_path)
    assert inside("experiments.__main__", "--part", "p3_hardest", *options)[:2] == (0, f"{file}\n")
    content = runs.read_results(file)["usps"]
    digits, labels = load_digits(builtin / "digits" / "usps", "val")
    found = predict(*(load := load_dann(runs.CHECKPOINTS / "p3_dann_usps.safetensors"))[:1], digits, *load[1:])
    wrong = [(t, f) for t, f in zip(labels.tolist(), found.tolist(), strict=True) if t != f]
    assert (content["images"], content["wrong"]) == (len(digits), len(wrong)) and wrong
    assert all(wrong.count((pair["true"], pair["found"])) == pair["count"] for pair in content["pairs"])
    with Image.open(tmp_path / "p3_hardest_usps.png") as image:
        assert image.size == (10 * 58 - 2, len(content["pairs"]) * 58 - 2)


def test_the_headline(builtin, tmp_path, monkeypatch):
    """The wrappers are run on the right folders, what they write is scored against val, and pictures are made of it."""
    commands = []

    def run(script: str, first: object, *others: object) -> str:
        commands.append([script, *(word.name for word in (first, *others) if isinstance(word, Path))])
        if script == "hw2_3.sh":
            others[0].write_text("image_name,label\n" + "".join(f"{path.name},0\n" for path in list_images(first)))
        elif script == "hw2_2.sh":
            names = [f"{digit}_{number:03d}.png" for digit in range(10) for number in range(1, 11)]
            write_images(first, names, torch.zeros(100, 3, 28, 28, dtype=torch.uint8))
        elif first == "sheet":
            save_image(others[1], torch.zeros(3, 78, 1196, dtype=torch.uint8))
        elif script != "evaluate.py":
            write_images(first, [f"{n:04d}.png" for n in range(40)], torch.zeros(40, 3, 64, 64, dtype=torch.uint8))
        return json.dumps({"kind": str(first)})

    monkeypatch.setattr(runs, "run", run)
    monkeypatch.setattr(headline, "score_digits", lambda *folders: {"of": [folder.name for folder in folders]})
    config = Config("headline", builtin, Path("c.pth"), tmp_path / "runs", tmp_path / "results")
    headline.measure(config)
    content = runs.read_results(config.file)
    assert commands == [
        ["hw2_1.sh", "dcgan"],
        ["evaluate.py", "dcgan", "val", "train"],
        ["p1_inference.py", "wgan", "p1_wgan.safetensors"],
        ["evaluate.py", "wgan", "val", "train"],
        ["hw2_2.sh", "digits"],
        ["hw2_3.sh", "data", "svhn.csv"],
        ["evaluate.py", "svhn.csv", "val.csv"],
        ["evaluate.py", "data", "svhn.png", "svhn.csv", "val.csv"],
        ["hw2_3.sh", "data", "usps.csv"],
        ["evaluate.py", "usps.csv", "val.csv"],
        ["evaluate.py", "data", "usps.png", "usps.csv", "val.csv"],
    ]
    assert content["digits"] == {"of": ["digits", "c.pth", "mnistm"]} and content["faces"]["wgan"] == {"kind": "faces"}
    assert content["networks"]["p3_dann_svhn"] == {"trained_images": 2_400_000, "views": 18}
    assert content["data"]["face"]["train"] == len(list_images(builtin / "face" / "train"))
    assert not runs.stale(content)
    sizes = {"headline_faces": (790, 196), "headline_digits": (1158, 172), "headline_labels": (1196, 156)}
    for name, size in (sizes | {"p2_grid": (578, 578)}).items():
        with Image.open(tmp_path / "results" / f"{name}.png") as image:
            assert image.size == size


def test_labels_under_digits():
    """A wrong label is vermilion, a right one black."""
    sheet = labelled_grid(torch.full((2, 3, 28, 28), 255, dtype=torch.uint8), [7, 7], [True, False], 2)
    right, wrong = sheet[:, :, :56], sheet[:, :, 60:]
    assert right.amin(0).min() < 40 and (right.amax(0) - right.amin(0)).max() == 0
    assert (0xD5, 0x5E, 0x00) in {tuple(pixel) for pixel in wrong.flatten(1).T.tolist()}


def test_the_judge_is_trained(call, builtin, tmp_path):
    options = ("--images", 64, "--batch-size", 16, "--log-every", 1, "--run-dir", tmp_path / "run")
    data = ("--data", builtin / "digits" / "mnistm")
    result = call("experiments/p2_judge.py", *data, *options, PYTHONPATH=str(runs.ROOT))
    assert result.returncode == 0, result.stderr
    lines = list(map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()))
    assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3, 4] and "val_accuracy" in lines[-1]
    assert (tmp_path / "run" / "weights.safetensors").is_file()


def test_the_judge():
    images = torch.randn(3, 3, 28, 28)
    judge = Judge().eval()
    with torch.no_grad():
        assert judge.features(images).shape == (3, 128)
        torch.testing.assert_close(judge(images), judge.head(judge.features(images)))
