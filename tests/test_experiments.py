"""The experiments: trainings are done once, results become files and tables."""

import json
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
    assert runs.percent([0.7, 0.8]) == "75.0 ± 7.1" and runs.percent([0.75]) == "75.0"
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
    with pytest.raises(UserError, match="none is not the folder of a training"):
        runs.metrics(tmp_path / "none", "fid")


@pytest.mark.parametrize(("part", "script"), [("dcgan", p1_dcgan_train), ("wgan", p1_wgan_train)])
def test_rows_of_faces_are_trainings_of_today(part, script):
    rows = p1.ROWS[part]
    presets = {"original": script.ORIGINAL}
    configs = [parse_config(script.Config, "", list(map(str, options)), presets) for options in rows.values()]
    assert all(one not in configs[:place] for place, one in enumerate(configs))


@pytest.mark.parametrize("part", p3.ROWS)
def test_rows_of_adaptation_are_trainings_of_today(part):
    for name, options in p3.rows_of(p3.Config(), part, "svhn").items():
        config = parse_config(p3_dann_train.Config, "", list(map(str, options)), p3_dann_train.RECIPES)
        assert config.teachers.count("weights.safetensors") == (3 if (part, name) == ("rounds", "2") else 0)


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
    config = p1.Config(part="wgan", runs=tmp_path / "runs", results=tmp_path, images=900)
    file = tmp_path / "p1_wgan.json"
    p1.short_trainings(config, file)
    rows = {"original:_weight_clipping-0": 300, "penalty,_no_BatchNorm-0": 900}
    assert trained == [("p1_wgan_train.py", *row) for row in rows.items()]
    content = runs.read_results(file)
    assert content["rows"]["original: weight clipping"] == {
        "options": ["--recipe", "original"],
        "images": 300,
        "runs": [{"fid": [9.0, 5.0], "kid_x1000": [8.0, 4]}],
    }
    assert decode_image(tmp_path / "p1_wgan_plain.png").shape == (64, 526, 3)
    content["rows"]["penalty, no BatchNorm"]["options"] = ["--other"]  # as if it had been measured by other options
    runs.write_results(file, content)
    p1.short_trainings(replace(config, runs=tmp_path / "again"), file)
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
    assert len(set(p2.ROWS)) == len(p2.ROWS) <= 30 and p2.ROWS[0] == p2.Row(2.0)
    for row in p2.ROWS:
        p2_inference.make_sampler(p2_inference.Config(Path(), **vars(row)))


def test_the_trade_off_goes_on(monkeypatch, tmp_path):
    """Rows are measured once; those of other weights are measured anew."""
    drawn, file = [], tmp_path / "p2_tradeoff.json"
    monkeypatch.setattr(p2, "draw_and_score", lambda _, row, folder: drawn.append(row) or {"row": vars(row)})
    monkeypatch.setattr(p2, "ROWS", p2.ROWS[:2])
    p2.tradeoff(p2.Config(), file)
    monkeypatch.setattr(p2, "ROWS", [*p2.ROWS, p2.Row(9.0)])
    p2.tradeoff(p2.Config(), file)
    assert drawn == p2.ROWS
    content = runs.read_results(file)
    content["weights"]["p2_ddpm"] = "0" * 64
    runs.write_results(file, content)
    p2.tradeoff(p2.Config(), file)
    assert drawn[3:] == p2.ROWS and len(runs.read_results(file)["rows"]) == 3


def test_two_rounds(monkeypatch, builtin, tmp_path):
    """The second round is taught by the first one's networks; what was trained and measured is left as it is."""
    monkeypatch.setitem(p3.SEEDS, "rounds", 2)
    monkeypatch.setitem(p3.IMAGES, "rounds", {"usps": 128})
    config, file = p3.Config("rounds", builtin / "digits", tmp_path / "runs", tmp_path), tmp_path / "p3_rounds.json"
    p3.run_part(config)
    content = runs.read_results(file)
    first, second = content["usps"].values()
    options = dict(zip(second["options"][::2], second["options"][1::2], strict=True))
    folder = tmp_path / "runs" / "rounds" / "usps"
    assert options["--teachers"].split(",") == [str(folder / f"1-{seed}" / "weights.safetensors") for seed in (0, 1)]
    assert sorted(path.name for path in folder.iterdir()) == ["1-0", "1-1", "2-0", "2-1"]
    for run in first["runs"] + second["runs"]:
        assert 0 <= run["accuracy"] <= 1 and -1 <= run["agreement"] <= 1 and sum(run["predictions"]) == 10
    before = {file: file.read_bytes() for file in folder.rglob("*.safetensors")}
    del content["usps"]["1"]
    runs.write_results(file, content)
    p3.run_part(config)
    assert list(runs.read_results(file)["usps"].items()) == [("1", first), ("2", second)]
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


def test_the_hardest_digits(builtin, tmp_path):
    p3.hardest(p3.Config(data=builtin / "digits", results=tmp_path), ("usps",), pairs=2, each=3)
    content = runs.read_results(tmp_path / "p3_hardest.json")["usps"]
    digits, labels = load_digits(builtin / "digits" / "usps", "val")
    found = predict(*(load := load_dann(runs.CHECKPOINTS / "p3_dann_usps.safetensors"))[:1], digits, *load[1:])
    wrong = [(t, f) for t, f in zip(labels.tolist(), found.tolist(), strict=True) if t != f]
    assert (content["images"], content["wrong"]) == (len(digits), len(wrong)) and wrong
    assert all(wrong.count((pair["true"], pair["found"])) == pair["count"] for pair in content["pairs"])
    with Image.open(tmp_path / "p3_hardest_usps.png") as image:
        assert image.size == (3 * 58 - 2, len(content["pairs"]) * 58 - 2)


def test_the_headline(builtin, tmp_path, monkeypatch):
    """The wrappers are run on the right folders, what they write is scored against val, and pictures are made of it."""
    commands = []

    def run(*command: object) -> str:
        script, out = Path(str(command[1])).name, command[-1] if "hw2_3.sh" in str(command[1]) else command[2]
        commands.append([script, *(Path(word).name for word in command[2:] if isinstance(word, Path))])
        if script == "hw2_3.sh":
            out.write_text("image_name,label\n" + "".join(f"{path.name},0\n" for path in list_images(command[2])))
        elif script == "hw2_2.sh":
            names = [f"{digit}_{number:03d}.png" for digit in range(10) for number in range(1, 11)]
            write_images(out, names, torch.zeros(100, 3, 28, 28, dtype=torch.uint8))
        elif script != "evaluate.py":
            write_images(out, [f"{n:04d}.png" for n in range(40)], torch.zeros(40, 3, 64, 64, dtype=torch.uint8))
        return json.dumps({"kind": str(command[2])})

    monkeypatch.setattr(headline, "run", run)
    monkeypatch.setattr(headline, "score_digits", lambda *folders: {"of": [folder.name for folder in folders]})
    content = headline.measure(headline.Config(builtin, Path("c.pth"), tmp_path / "images", tmp_path / "results"))
    assert commands == [
        ["hw2_1.sh", "dcgan"],
        ["evaluate.py", "dcgan", "val", "train"],
        ["p1_inference.py", "wgan", "p1_wgan.safetensors"],
        ["evaluate.py", "wgan", "val", "train"],
        ["hw2_2.sh", "digits"],
        ["hw2_3.sh", "data", "svhn.csv"],
        ["evaluate.py", "svhn.csv", "val.csv"],
        ["hw2_3.sh", "data", "usps.csv"],
        ["evaluate.py", "usps.csv", "val.csv"],
    ]
    assert content["digits"] == {"of": ["digits", "c.pth", "mnistm"]} and content["faces"]["wgan"] == {"kind": "faces"}
    assert content["networks"]["p3_dann_svhn"] == {"trained_images": 2_400_000, "views": 18}
    assert content["data"]["face"]["train"] == len(list_images(builtin / "face" / "train"))
    assert not runs.stale(content) and json.loads((tmp_path / "results" / "headline.json").read_text()) == content
    for name, size in {"headline_faces": (790, 196), "headline_digits": (1158, 172), "p2_grid": (578, 578)}.items():
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
