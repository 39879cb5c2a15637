"""What the three wrappers reach, as the grader would score them: the table at the top of README and report.

The part `headline` runs hw2_1.sh, hw2_2.sh and hw2_3.sh into runs/headline, scores what they wrote with evaluate.py,
and makes four pictures of it.  Draws and scores faces of the other method, which hw2_1.sh does not run, too.  About a
quarter of an hour on two CPU cores.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

import p1_inference
from common.checkpoint import CHECKPOINTS
from common.images import make_grid, save_image
from data.reading import decode_image, decode_images, list_images, load_folder, read_labels
from evaluation.faces import face_counts
from experiments import runs
from experiments.runs import METHODS, Config
from sampling.labels import TARGETS

NETWORKS = ("p1_dcgan", "p1_wgan", "p2_ddpm", "p3_dann_svhn", "p3_dann_usps")
GRADED = p1_inference.Config.weights.stem.removeprefix("p1_")  # the method that hw2_1.sh runs
SPLITS = ("train", "val")
SCORES = ("fid", "kid_x1000", "density", "coverage", "recall")  # of generated digits beside real ones


def score_digits(folder: Path, classifier: Path, domain: Path, split: str = "val") -> dict[str, Any]:
    """Scores of a folder of digits against real ones: "course" and "judge" are those of the two classifiers."""
    judges = ("--classifier", classifier, "--classifier", "judge")
    scores = runs.evaluate("digits", folder, *judges, "--reference", domain, "--split", split)
    of_all = ("reference_images", "split", "floor", "nearest_training_image")
    kept = {key: scores[key] for key in (*SCORES, *of_all)}
    for name, key in (("course", str(classifier)), ("judge", "judge")):
        kept[name] = scores["classifiers"][key] | {"real_accuracy": scores["real_accuracy"][key]}
    return kept


def about(name: str) -> dict[str, int]:
    """What a released network's file says: images seen, and faces or views if it has such."""
    with safe_open(CHECKPOINTS / f"{name}.safetensors", framework="pt") as file:
        notes = json.loads(file.metadata()["about"])
    more = {key: int(notes[key]) for key in ("faces", "views") if key in notes}
    return {"trained_images": int(notes["images"])} | more


def measure(config: Config) -> None:
    """Run the wrappers and score what they write."""
    faces, domains = config.data / "face", config.data / "digits"
    content: dict[str, Any] = {"weights": runs.digests(*NETWORKS), "networks": {name: about(name) for name in NETWORKS}}
    content["data"] = {"face": {split: len(list_images(faces / split)) for split in SPLITS}}
    for domain in ("mnistm", *TARGETS):
        content["data"][domain] = {split: len(read_labels(domains / domain / f"{split}.csv")) for split in SPLITS}

    def picture(name: str, paths: list[Path], size: int, columns: int, scale: int) -> None:
        save_image(config.results / f"{name}.png", make_grid(decode_images(paths, size), columns, scale=scale))

    real = face_counts(load_folder(faces / "val", 64))
    content["real_face_rate"], content["faces"] = real.count(1) / len(real), {}
    for method in METHODS:
        folder = config.folder / method
        if method == GRADED:
            runs.run("hw2_1.sh", folder)
            picture("headline_faces", list_images(folder)[:36], 64, 12, 1)
        else:
            runs.run("p1_inference.py", folder, "--weights", CHECKPOINTS / f"p1_{method}.safetensors")
        against = ("--reference", faces / "val", "--floor", faces / "train")
        content["faces"][method] = runs.evaluate("faces", folder, *against)

    digits = config.folder / "digits"
    runs.run("hw2_2.sh", digits)
    content["digits"] = score_digits(digits, config.classifier, domains / "mnistm")
    columns = [digits / f"{digit}_{number:03d}.png" for number in range(1, 7) for digit in range(10)]
    picture("headline_digits", columns, 28, 20, 2)
    rows = [digits / f"{digit}_{number:03d}.png" for digit in range(10) for number in range(1, 11)]
    picture("p2_grid", rows, 28, 10, 2)

    content["labels"], sheets = {}, []
    for target in TARGETS:
        file, sheet = (config.folder / f"{target}.{kind}" for kind in ("csv", "png"))
        images, truth = domains / target / "data", domains / target / "val.csv"
        runs.run("hw2_3.sh", images, file)
        content["labels"][target] = runs.evaluate("labels", file, truth)
        first = ("--labels", file, "--truth", truth, "--count", 20, "--columns", 20)
        runs.run("evaluate.py", "sheet", images, sheet, *first)
        sheets.append(torch.tensor(decode_image(sheet)).permute(2, 0, 1))
    save_image(config.results / "headline_labels.png", torch.cat(sheets, 1))
    runs.write_results(config.file, content)
