"""What the three wrappers reach, as the grader would score them: the table at the top of README and report.

    python3 -m experiments.headline

Runs hw2_1.sh, hw2_2.sh and hw2_3.sh into --images, scores what they wrote with evaluate.py, and writes
results/headline.json and four pictures beside it.  Draws and scores faces of the other method, which hw2_1.sh
does not run, too.  About a quarter of an hour on two CPU cores.
"""

from common.start import run_script

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

import p1_inference
from common.checkpoint import CHECKPOINTS
from common.config import option, parse_config
from common.images import labelled_grid, make_grid, save_image
from data.reading import decode_images, list_images, load_folder, read_labels
from evaluation.faces import face_counts
from experiments.runs import METHODS, RESULTS, ROOT, digests, run, write_results
from sampling.labels import TARGETS

NETWORKS = ("p1_dcgan", "p1_wgan", "p2_ddpm", "p3_dann_svhn", "p3_dann_usps")
GRADED = p1_inference.Config.weights.stem.removeprefix("p1_")  # the method that hw2_1.sh runs
SPLITS = ("train", "val")


@dataclass(frozen=True)
class Config:
    data: Path = option(Path("hw2_data"), "the course's tree")
    classifier: Path = option(Path("hw2_data/Classifier.pth"), "the course's digit classifier")
    images: Path = option(Path("runs/headline"), "folder of what the wrappers write")
    results: Path = option(RESULTS, "folder of the result file and the pictures")


def score(kind: str, *arguments: object) -> dict[str, Any]:
    return json.loads(run(sys.executable, ROOT / "evaluate.py", kind, *arguments, "--json"))


def score_digits(folder: Path, classifier: Path, domain: Path, split: str = "val") -> dict[str, Any]:
    """Scores of a folder of digits against real ones: "course" and "judge" are those of the two classifiers."""
    judges = ("--classifier", classifier, "--classifier", "judge")
    scores = score("digits", folder, *judges, "--reference", domain, "--split", split)
    of_all = ("reference_images", "split", "floor", "nearest_training_image")
    kept = {key: scores[key] for key in ("fid", "kid_x1000", "density", "coverage", "recall", *of_all)}
    for name, key in (("course", str(classifier)), ("judge", "judge")):
        kept[name] = scores["classifiers"][key] | {"real_accuracy": scores["real_accuracy"][key]}
    return kept


def about(name: str) -> dict[str, int]:
    """What a released network's file says: images seen, and faces or views if it has such."""
    with safe_open(CHECKPOINTS / f"{name}.safetensors", framework="pt") as file:
        notes = json.loads(file.metadata()["about"])
    more = {key: int(notes[key]) for key in ("faces", "views") if key in notes}
    return {"trained_images": int(notes["images"])} | more


def labelled_digits(domain: Path, file: Path, count: int, columns: int) -> tuple[Tensor, int]:
    """A sheet uint8 (3, h, w) of a domain's first val digits, each over its label in a csv, and how many are right."""
    truth, read = read_labels(domain / "val.csv"), read_labels(file)
    names = list(truth)[:count]
    right = [read[name] == truth[name] for name in names]
    images = decode_images([domain / "data" / name for name in names], 28)
    return labelled_grid(images, [read[name] for name in names], right, columns), sum(right)


def measure(config: Config) -> dict[str, Any]:
    """Run the wrappers and score what they write; the content of the result file."""
    faces, domains = config.data / "face", config.data / "digits"
    content: dict[str, Any] = {"weights": digests(*NETWORKS), "networks": {name: about(name) for name in NETWORKS}}
    content["data"] = {"face": {split: len(list_images(faces / split)) for split in SPLITS}}
    for domain in ("mnistm", *TARGETS):
        content["data"][domain] = {split: len(read_labels(domains / domain / f"{split}.csv")) for split in SPLITS}

    def picture(name: str, paths: list[Path], size: int, columns: int, scale: int) -> None:
        save_image(config.results / f"{name}.png", make_grid(decode_images(paths, size), columns, scale=scale))

    real = face_counts(load_folder(faces / "val", 64))
    content["real_face_rate"], content["faces"] = real.count(1) / len(real), {}
    for method in METHODS:
        folder, weights = config.images / method, CHECKPOINTS / f"p1_{method}.safetensors"
        if method == GRADED:
            run("bash", ROOT / "hw2_1.sh", folder)
            picture("headline_faces", list_images(folder)[:36], 64, 12, 1)
        else:
            run(sys.executable, ROOT / "p1_inference.py", folder, "--weights", weights)
        content["faces"][method] = score("faces", folder, "--reference", faces / "val", "--floor", faces / "train")

    digits = config.images / "digits"
    run("bash", ROOT / "hw2_2.sh", digits)
    content["digits"] = score_digits(digits, config.classifier, domains / "mnistm")
    columns = [digits / f"{digit}_{number:03d}.png" for number in range(1, 7) for digit in range(10)]
    picture("headline_digits", columns, 28, 20, 2)
    rows = [digits / f"{digit}_{number:03d}.png" for digit in range(10) for number in range(1, 11)]
    picture("p2_grid", rows, 28, 10, 2)

    content["labels"], sheets = {}, []
    for target in TARGETS:
        domain, file = domains / target, config.images / f"{target}.csv"
        run("bash", ROOT / "hw2_3.sh", domain / "data", file)
        content["labels"][target] = score("labels", file, domain / "val.csv")
        sheets.append(labelled_digits(domain, file, 20, 20)[0])
    save_image(config.results / "headline_labels.png", torch.cat(sheets, 1))
    write_results(config.results / "headline.json", content)
    return content


def main() -> None:
    config = parse_config(Config, __doc__)
    measure(config)
    print(config.results / "headline.json")


if __name__ == "__main__":
    run_script(main)
