"""The experiments' commands with tiny budgets: trainings are done once, results become files and tables."""

import json
import math
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from common.checkpoint import export_weights, load_weights
from common.config import UserError, to_json
from common.images import save_image, write_images
from data.reading import decode_image, list_images, load_digits
from experiments import headline, p1, p2, p3
from experiments.runs import mean_and_spread, percent, table, train
from models.classifier import Judge
from models.dann import DANN
from models.dcgan import Generator
from sampling.labels import predict

ROOT = Path(__file__).resolve().parent.parent


SMALLER = f"""
import sys
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests")!r}]
import smaller
smaller.fewer_images()
smaller.small_inception()
"""


@pytest.fixture(scope="module")
def experiment(environment, tmp_path_factory):
    """A function that runs an experiment; it and its trainings look at fewer images and have a small Inception."""
    folder = tmp_path_factory.mktemp("smaller")
    (folder / "sitecustomize.py").write_text(SMALLER)  # what Python imports before anything else

    def run(module: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", f"experiments.{module}", *map(str, arguments)]
        variables = environment | {"PYTHONPATH": str(folder)}
        return subprocess.run(
            command, check=False, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=300
        )

    return run


def test_the_ladder_is_climbed_once(experiment, builtin, tmp_path):
    arguments = ("--data", builtin / "digits", "--runs", tmp_path / "runs", "--results", tmp_path, "--target", "usps")
    arguments += ("--part", "ladder", "--seeds", 2, "--rows", 1, "--images", 64)
    first = experiment("p3", *arguments)
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith("| training | USPS: accuracy | USPS: best seen | USPS: agreement |")
    assert first.stdout.count("\n") == 3 and "| source only, as in the original | " in first.stdout
    before = (tmp_path / "p3_ladder.json").read_bytes()
    content = json.loads(before)["usps"]
    assert list(content) == list(p3.LADDER)[:1]
    for entry in content.values():
        for run in entry["runs"]:
            assert 0 <= run["accuracy"] <= 1 and -1 <= run["agreement"] <= 1 and sum(run["predictions"]) == 10
    weights = {path: path.read_bytes() for path in (tmp_path / "runs").rglob("weights.safetensors")}
    assert len(weights) == 2 and len(set(weights.values())) == 2
    again = experiment("p3", *arguments)
    assert again.stdout == first.stdout and (tmp_path / "p3_ladder.json").read_bytes() == before
    assert {path: path.read_bytes() for path in weights} == weights


def test_a_training_that_fails_stops_the_experiment(tmp_path):
    with pytest.raises(UserError, match="failed with exit code 2"):
        train("p3_dann_train.py", tmp_path / "run", "--source", tmp_path / "none")


def save_run(folder: Path, seed: int, constant: bool = False) -> Path:
    torch.manual_seed(seed)
    network = DANN()
    for parameter in network.parameters():
        parameter.data.mul_(3 if parameter.dim() > 1 else 0)
    if constant:
        network.task_classifier[4].weight.data.zero_()
        network.task_classifier[4].bias.data[3] = 1
    export_weights(folder / "weights.safetensors", network, standardized=True)
    return folder


def test_agreement(builtin, tmp_path):
    """1 for equal networks, about 0 for strangers, and 0 for networks that always say the same."""
    runs = [save_run(tmp_path / name, seed) for name, seed in (("a", 0), ("b", 0), ("c", 1))]
    equal, same, stranger = p3.agreement(runs, "usps", builtin / "digits")
    assert equal == same and abs(2 * equal - 1 - stranger) < 1e-9  # kappa(a, b) = 1, kappa(a, c) = kappa(b, c)
    assert abs(stranger) < 0.5
    collapsed = [save_run(tmp_path / name, 0, constant=True) for name in ("d", "e")]
    assert p3.agreement(collapsed, "usps", builtin / "digits") == [0, 0]
    assert abs(p3.agreement([runs[0], collapsed[0]], "usps", builtin / "digits")[0]) < 1e-9


def test_features_are_what_the_heads_read(builtin):
    network = DANN().eval()
    digits = load_digits(builtin / "digits" / "usps", "val")[0]
    found = p3.features(network, digits, standardized=False)
    with torch.no_grad():
        torch.testing.assert_close(found, network.extract(digits.float() / 127.5 - 1))


def test_the_trade_off(call, experiment, weights, tmp_path):
    assert call("prepare_data.py", "--builtin", tmp_path / "data", "--count", 60).returncode == 0  # two a class in val
    arguments = ("--data", tmp_path / "data" / "digits" / "mnistm", "--weights", weights["unet"], "--classifier", "")
    arguments += ("--results", tmp_path, "--per-class", 2)
    first = experiment("p2", *arguments, "--rows", 1)
    assert first.returncode == 0, first.stderr
    content = json.loads((tmp_path / "p2_tradeoff.json").read_text())
    row = content["rows"][0]
    assert row["row"][:4] == ["dpm", "karras", 5, 0.0] and row["fid"] > 0 and 0 <= row["recall"] <= 1
    row["row"] = json.loads(json.dumps(p2.grid()[1]))  # as if a later row had been drawn first
    (tmp_path / "p2_tradeoff.json").write_text(json.dumps(content))
    second = experiment("p2", *arguments, "--rows", 2)
    assert second.returncode == 0, second.stderr
    content = json.loads((tmp_path / "p2_tradeoff.json").read_text())
    assert [p2.row_of(result) for result in content["rows"]] == p2.grid()[:2]
    assert content["rows"][1] == row and len(content["rows"]) == 2  # was not drawn again
    assert second.stdout.count("| dpm karras |") == 2


def test_the_grid_of_the_trade_off():
    rows = p2.grid()
    assert len(set(rows)) == len(rows)
    assert {row[2] for row in rows} == {5, 8, 10, 12, 15, 20, 30, 50, 600}
    assert {row[3] for row in rows} == {0, 0.5, 1, 2, 4} and {row[0] for row in rows} == {"dpm", "ddim", "ancestral"}


def test_the_judge_is_trained(experiment, builtin, tmp_path):
    arguments = ("--data", builtin / "digits" / "mnistm", "--images", 64, "--batch-size", 16, "--log-every", 1)
    result = experiment("p2_judge", *arguments, "--run-dir", tmp_path / "run")
    assert result.returncode == 0, result.stderr
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3, 4] and "val_accuracy" in lines[-1]
    assert (tmp_path / "run" / "weights.safetensors").is_file()


def test_the_judge():
    images = torch.randn(3, 3, 28, 28)
    judge = Judge().eval()
    with torch.no_grad():
        assert judge.features(images).shape == (3, 128)
        torch.testing.assert_close(judge(images), judge.head(judge.features(images)))


def test_tables():
    assert mean_and_spread([0.5]) == (0.5, 0.0)
    assert percent([0.7, 0.8]) == "75.0 ± 7.1" and percent([0.75]) == "75.0"
    assert table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"


def test_rows_of_faces():
    """Names can be told apart behind --only, and each option is one of its script's."""
    for part, rows in p1.ROWS.items():
        names = [name.strip(" +") for name in rows]
        assert len(set(names)) == len(names) and not any("," in name for name in names)
        trained = [p1.settings(part, options) for options in rows.values()]
        assert all(one not in trained[:place] for place, one in enumerate(trained))


def test_short_trainings_take_as_many_steps_of_both_networks():
    batch, images = 64, 64_000
    steps = {}
    others = {"dcgan": {"batches of 16": (*p1.PLAIN, "--batch-size", 16)}, "wgan": {"three": ("--critic-steps", 3)}}
    for part, rows in p1.ROWS.items():
        for name, options in (rows | others[part]).items():
            trained = p1.settings(part, options)
            each = 1 + trained.get("critic_steps", 1)
            count, rest = divmod(p1.row_images(images, trained), trained["batch_size"])
            steps[part, name] = count * each * trained["batch_size"] / batch
            assert rest == 0
    assert steps["dcgan", "original"] == steps["dcgan", "batches of 16"] == 2000
    assert all(2000 - 6 < count <= 2000 for count in steps.values())


def test_short_trainings_of_faces(experiment, builtin, tmp_path):
    arguments = ("--data", builtin / "face" / "train", "--runs", tmp_path / "runs", "--results", tmp_path)
    arguments += ("--images", 64, "--held-out", 3, "--count", 3, "--only", "original")
    result = experiment("p1", "--part", "dcgan", *arguments)
    assert result.returncode == 0, result.stderr
    content = json.loads((tmp_path / "p1_dcgan.json").read_text())
    row = content["rows"]["original"]
    assert row["settings"]["recipe"] == "original" and row["settings"]["batch_size"] == 64
    (fid,) = row["runs"][0]["fid"]
    assert f"| original | 1 | 64 | {fid:.1f} |" in result.stdout
    assert decode_image(tmp_path / "p1_dcgan_plain.png").shape == (64, 526, 3)

    older = {name: value for name, value in row["settings"].items() if name != "r2_weight"}  # an option that came later
    content["rows"] = {"original": {"settings": older, "runs": row["runs"]}, "  of old": row}
    (tmp_path / "p1_dcgan.json").write_text(json.dumps(content))
    run = (tmp_path / "runs" / "dcgan" / "original-0").rename(tmp_path / "run")
    again = experiment("p1", "--part", "dcgan", *arguments)
    assert again.stdout == result.stdout and not any((tmp_path / "runs" / "dcgan").iterdir()), "measured once"
    assert json.loads((tmp_path / "p1_dcgan.json").read_text())["rows"] == {"original": row}
    assert "forgets of old:" in again.stderr and "forgets" not in result.stderr
    found = p1.curve(run)
    assert found["fid"] == [[64, row["runs"][0]["fid"][0]]] and found["held_out"] == 3
    assert found["trained_images"] == 64
    assert [images for images, _ in found["train"]] == [images for images, _ in found["held_out_faces"]]
    later = tmp_path / "later"
    later.mkdir()
    shutil.copy(run / "weights.safetensors", later)
    (later / "config.json").write_text((run / "config.json").read_text().replace('"start": ""', f'"start": "{run}/x"'))
    (later / "metrics.jsonl").write_text('{"step": 1, "images": 128, "fid": 5.0}\n')
    with open(run / "metrics.jsonl", "a") as file:
        file.write('{"step": 9, "images": 576, "fid": 1.0}\n')  # the earlier one went on, but not towards these weights
    assert p1.stages(later) == [run, later] and p1.curve(later)["fid"] == [*found["fid"], [128, 5.0]]
    assert p1.curve(later)["train"] == found["train"]
    assert p1.stage_ends(later) == [(run, 64), (later, math.inf)]
    (later / "config.json").write_text('{"start": "released.safetensors"}')
    assert p1.stages(later) == [later]
    with pytest.raises(UserError, match="missing is not the folder of a training"):
        p1.curve(tmp_path / "missing")

    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines if "fid" not in line))
    with pytest.raises(UserError, match="logged no FID"):
        p1.curve(run)


def test_the_trainings_that_were_tried(tmp_path, monkeypatch, capsys):
    """A row for each, numbered by what it had seen when it began; the path to some weights; what they differ in."""

    def write(name: str, script: Any, images: list[int], fids: dict[int, float], **options: Any) -> None:
        (tmp_path / name).mkdir()
        settings = to_json(script.Config(**{"batch_size": 10, "held_out": 5} | options))
        (tmp_path / name / "config.json").write_text(json.dumps(settings))
        seen = [{"step": (end - images[0]) // settings["batch_size"], "images": end} for end in images[1:]]
        lines = [line | ({"fid": fids[line["images"]]} if line["images"] in fids else {}) for line in seen]
        (tmp_path / name / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))

    a, b = p1.SCRIPTS["dcgan"], p1.SCRIPTS["wgan"]
    write("z", a, [0, 100_000, 900_000], {100_000: 70.0, 900_000: 75.04}, decay_from=1.0, augment="translation")
    later = {"start": str(tmp_path / "z" / "checkpoint.pt"), "learning_rate_d": 1e-4, "held_out": 0, "beta1": 0.0}
    write("last", a, [500_000, 800_000], {}, **later, r2_weight=0.1, loss="standard")
    write("b", b, [0, 300_000], {300_000: 88.0}, decay_from=1.0)
    about = {"method": "dcgan", "images": 810_000, "seed": 0}
    export_weights(tmp_path / "last" / "weights.safetensors", Generator(), **about)
    monkeypatch.setattr(sys, "argv", ["p1.py", "--part", "tried", "--tried", str(tmp_path), "--results", str(tmp_path)])
    p1.main()
    assert capsys.readouterr().out.splitlines()[2:] == [
        "| A1 |  | 10 | 2 | translation | 0.0–0.9 | 70.0 | 75.0 |",
        "| A2 | A1 | 10 | 2 and 1 | color, translation; standard loss; gradient penalties; no momentum; rate falls; "
        "all faces | 0.5–0.8 |  |  |",
        "| B1 |  | 10 | 2 and 4 | translation | 0.0–0.3 | 88.0 | 88.0 |",
    ]
    content = json.loads((tmp_path / "p1_tried.json").read_text())
    assert p1.tried_path(content, "dcgan", 810_000) == ["z", "last"]
    assert p1.tried_path(content, "dcgan", 900_000) == p1.tried_path(content, "wgan", 810_000) == []
    for gone in ("last", "b"):
        shutil.rmtree(tmp_path / gone)
    write("c", b, [0, 400_000], {400_000: 77.0})
    (tmp_path / "failed").mkdir()
    (tmp_path / "failed" / "config.json").write_text("{}")
    (tmp_path / "failed" / "metrics.jsonl").touch()
    p1.main()
    kept = json.loads((tmp_path / "p1_tried.json").read_text())["rows"]
    assert list(kept) == ["z", "last", "b", "c"] and kept.items() >= content["rows"].items()
    monkeypatch.setattr(sys, "argv", [*sys.argv[:-3], str(tmp_path / "z"), *sys.argv[-2:]])
    with pytest.raises(UserError, match="z holds no training"):
        p1.main()


def test_the_collapse_of_a_critic(tmp_path, monkeypatch, capsys):
    """Distances are means over 5,000 images, of the default only as far as the other training went."""
    for name, sign, length in (("fast", -1, 12_000), ("default", 1, 30_000)):
        (tmp_path / name / "samples").mkdir(parents=True)
        lines = [{"images": images, "distance": sign * images} for images in range(1000, length + 1, 1000)]
        lines += [{"images": images, "fid": 300.0 + images} for images in (6000, length)]
        (tmp_path / name / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        trained = {"learning_rate_g": 4e-4 if name == "fast" else 2e-4, "seed": 0, "images": length}
        (tmp_path / name / "config.json").write_text(json.dumps(trained))
        for number in range(3):
            pixels = torch.full((3, 526, 526), 80 * number, dtype=torch.uint8)
            save_image(tmp_path / name / "samples" / f"{1000 * number:09d}.png", pixels)
    options = ("--part", "collapse", "--results", tmp_path, "--run-b", tmp_path / "default")
    monkeypatch.setattr(sys, "argv", ["p1.py", *map(str, options), "--run-fast", str(tmp_path / "fast")])
    p1.main()
    assert capsys.readouterr().out.splitlines()[0] == "fast: distance -11000.00 at about 12,500 images, FID 12300.0"
    content = json.loads((tmp_path / "p1_collapse.json").read_text())
    assert content["fast"]["distance"] == [[2500, -2500], [7500, -7000], [12500, -11000]]
    assert content["default"]["distance"] == [[2500, 2500], [7500, 7000], [12500, 11000]]
    assert content["fast"]["fid"] == [[6000, 6300], [12000, 12300]] and content["default"]["fid"] == [[6000, 6300]]
    assert content["sheets"] == [1000, 2000]
    shown = [decode_image(tmp_path / f"p1_collapse_{number}.png") for number in range(2)]
    assert [(image.shape, image.max()) for image in shown] == [((130, 526, 3), 80), ((130, 526, 3), 160)]
    lines = (tmp_path / "default" / "metrics.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "default" / "metrics.jsonl").write_text("".join(line for line in lines if "fid" not in line))
    with pytest.raises(UserError, match="no FID of the default training by 12,000 images"):
        p1.main()
    for other in ({"learning_rate_g": 4e-4, "seed": 1}, {"learning_rate_g": 3e-4, "seed": 0}):
        (tmp_path / "fast" / "config.json").write_text(json.dumps(other))
        with pytest.raises(UserError, match="default with its generator's learning rate doubled"):
            p1.main()
    monkeypatch.setattr(sys, "argv", [*sys.argv[:-1], str(tmp_path / "none")])
    with pytest.raises(UserError, match="none is not the folder of a training"):
        p1.main()


def test_figures_of_faces(experiment, builtin, weights, tmp_path):
    """Of two networks: their first faces, and all else of the one that hw2_1.sh runs."""
    torch.manual_seed(1)
    export_weights(tmp_path / "other.safetensors", Generator().eval(), method="wgan", images=7, seed=0)
    (tmp_path / "run" / "samples").mkdir(parents=True)
    (tmp_path / "run" / "config.json").write_text('{"start": ""}')
    for number in range(3):
        save_image(
            tmp_path / "run" / "samples" / f"{number}.png", torch.full((3, 526, 526), 80 * number, dtype=torch.uint8)
        )
    graded, other = ("a", "b") if headline.GRADED == "dcgan" else ("b", "a")
    arguments = ("--data", builtin / "face" / "train", "--results", tmp_path / "results", "--count", 32)
    arguments += ("--compared", 3)
    arguments += (f"--weights-{graded}", weights["generator"], f"--run-{graded}", tmp_path / "run")
    result = experiment("p1", "--part", "figures", *arguments, f"--weights-{other}", tmp_path / "other.safetensors")
    assert result.returncode == 0, result.stderr
    names = ("first32_dcgan", "first32_wgan", "interpolation", "missed", "nearest")
    sheets = [f"p1_{name}.png" for name in names]
    found = {path.name: path for path in (tmp_path / "results").iterdir()}
    assert sorted(found) == ["p1_figures.json", *sheets, "p1_training.gif"]
    content = json.loads(found["p1_figures.json"].read_text())
    assert content["training"]["images"] == 3 and content["training"]["fid"] > 0
    assert content["faces"] == 32 and content["shown"] == content["missed"] <= 32
    (unlike,) = {"dcgan", "wgan"} - {headline.GRADED}
    assert content[unlike]["trained_images"] == 7 and content[unlike] != content[headline.GRADED]
    drawn = {name: decode_image(found[f"p1_first32_{name}.png"]) for name in ("dcgan", "wgan")}
    nearest = decode_image(found["p1_nearest.png"])[:64]  # whose first row are the graded network's faces
    assert (nearest == drawn[headline.GRADED][:64]).all() and (nearest != drawn[unlike][:64]).any()
    with Image.open(tmp_path / "results" / "p1_training.gif") as image:
        assert image.n_frames == 3 and image.size == (262, 262)


def test_sharpness():
    """Of stripes a pixel wide half of all neighbours differ, by all; of stripes two wide a quarter."""
    stripes = torch.tensor([0, 200], dtype=torch.uint8).repeat(8).expand(1, 3, 16, 16)
    assert p1.sharpness(stripes) == pytest.approx(100)
    wide = stripes[..., :8].repeat_interleave(2, 3)
    assert p1.sharpness(wide) == pytest.approx(200 * 7 / 15 / 2)


def test_the_hardest_digits(builtin, tmp_path):
    config = p3.Config(data=builtin / "digits", results=tmp_path)
    network = DANN().eval()
    notes = load_weights(network, ROOT / "checkpoints" / "p3_dann_usps.safetensors")
    digits, labels = load_digits(builtin / "digits" / "usps", "val")
    found = predict(network, digits, True, torch.device("cpu"), int(notes["views"]))
    wrong = Counter((t, f) for t, f in zip(labels.tolist(), found.tolist(), strict=True) if t != f)
    content = p3.hardest(config, ("usps",), pairs=2, each=3)["usps"]
    assert content == json.loads((tmp_path / "p3_hardest.json").read_text())["usps"]
    assert (content["images"], content["wrong"]) == (len(digits), wrong.total()) and wrong
    counts = [pair["count"] for pair in content["pairs"]]
    assert counts == [count for _, count in wrong.most_common(2)]
    assert all(wrong[pair["true"], pair["found"]] == pair["count"] for pair in content["pairs"])
    with Image.open(tmp_path / "p3_hardest_usps.png") as image:
        assert image.size == (3 * 58 - 2, len(counts) * 58 - 2)


def test_the_headline(builtin, tmp_path, monkeypatch):
    """The wrappers are run on the right folders, what they write is scored against val, and pictures are made of it."""
    commands, scored, drawn, images = [], [], {}, tmp_path / "images"

    def run(*command: object) -> str:
        commands.append(Path(str(command[1])).name)
        if commands[-1] == "hw2_3.sh":
            names = [path.name for path in list_images(Path(command[2]))]
            command[3].write_text("image_name,label\n" + "".join(f"{name},0\n" for name in names))
        elif commands[-1] == "hw2_2.sh":
            names = [f"{digit}_{number:03d}.png" for digit in range(10) for number in range(1, 8)]
            write_images(command[2], names, torch.zeros(70, 3, 28, 28, dtype=torch.uint8))
        else:
            drawn[command[2].name] = commands[-1], command[3:]
            write_images(
                command[2], [f"{i:04d}.png" for i in range(1, 41)], torch.zeros(40, 3, 64, 64, dtype=torch.uint8)
            )
        return ""

    def score(kind: str, *arguments: object) -> dict:
        scored.append((kind, *arguments))
        return {"kind": kind}

    monkeypatch.setattr(headline, "run", run)
    monkeypatch.setattr(headline, "score", score)
    config = headline.Config(data=builtin, images=images, results=tmp_path / "results", classifier=Path("c.pth"))
    content = headline.measure(config)
    assert commands[2:] == ["hw2_2.sh", "hw2_3.sh", "hw2_3.sh"]
    (other,) = {"dcgan", "wgan"} - {headline.GRADED}
    weights = ("--weights", ROOT / "checkpoints" / f"p1_{other}.safetensors")
    assert drawn == {headline.GRADED: ("hw2_1.sh", ()), other: ("p1_inference.py", weights)}
    mnistm, faces = builtin / "digits" / "mnistm", builtin / "face"
    assert scored == [
        ("faces", images / "dcgan", "--reference", faces / "val", "--floor", faces / "train"),
        ("faces", images / "wgan", "--reference", faces / "val", "--floor", faces / "train"),
        ("digits", images / "digits", "--classifier", Path("c.pth"), "--reference", mnistm),
        ("digits", images / "digits", "--reference", mnistm),
        ("labels", images / "svhn.csv", builtin / "digits" / "svhn" / "val.csv"),
        ("labels", images / "usps.csv", builtin / "digits" / "usps" / "val.csv"),
    ]
    assert content["data"]["face"] == {
        "train": len(list_images(faces / "train")),
        "val": len(list_images(faces / "val")),
    }
    for notes in content["checkpoints"].values():
        assert notes["sha256"] in (ROOT / "checkpoints" / "SHA256SUMS").read_text()
    assert json.loads((tmp_path / "results" / "headline.json").read_text()) == content
    sizes = {"faces": (790, 196), "digits": (1158, 172)}
    for name, size in sizes.items():
        with Image.open(tmp_path / "results" / f"headline_{name}.png") as image:
            assert image.size == size


def test_labels_under_digits():
    """A wrong label is vermilion, a right one black."""
    digits = torch.full((2, 3, 28, 28), 255, dtype=torch.uint8)
    sheet = headline.labelled(digits, [7, 7], [True, False], 2)
    right, wrong = sheet[:, :, :56], sheet[:, :, 60:]
    assert right.amin(0).min() < 40 and (right.amax(0) - right.amin(0)).max() == 0
    colors = {tuple(pixel) for pixel in wrong.flatten(1).T.tolist()}
    assert (0xD5, 0x5E, 0x00) in colors


def test_interpolation_keeps_the_length():
    first, second = torch.randn(2, 100, 1, 1).div(torch.tensor(0.5))
    second = second * first.norm() / second.norm()
    path = p1.slerp(first, second, 5)
    assert path.shape == (5, 100, 1, 1)
    torch.testing.assert_close(path[0], first)
    torch.testing.assert_close(path[4], second)
    torch.testing.assert_close(path.flatten(1).norm(dim=1), first.norm().expand(5))
    steps = (path[1:] * path[:-1]).flatten(1).sum(1)
    torch.testing.assert_close(steps, steps[0].expand(4))


def test_nearest_faces():
    faces = torch.randint(0, 256, (9, 3, 64, 64), dtype=torch.uint8)
    order = torch.tensor([5, 0, 7])
    assert p1.nearest_faces(faces[order], faces, 2)[:, 0].tolist() == order.tolist()


def test_imagenet_normalisation():
    """Black and white are beyond Tanh's reach."""
    levels = torch.tensor([0, 255], dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 4, 4)
    batch = p1.imagenet_batch(levels, torch.tensor([0, 1]), torch.device("cpu"))
    assert batch[0].max() < -1.8 and batch[1].min() > 2.2
