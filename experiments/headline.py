"""What the three wrappers reach, as the grader would score them: the table at the top of README and report.

    python3 -m experiments.headline

Runs hw2_1.sh, hw2_2.sh and hw2_3.sh into --images, scores what they wrote with evaluate.py, and writes
results/headline.json and three small pictures beside it.  Draws and scores faces of the other method, which hw2_1.sh
does not run, too.  Prints the table, ours beside what others have measured.  About a quarter of an hour on two CPU
cores.
"""

from common.start import run_script

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

import p1_inference
from common.checkpoint import load_weights
from common.config import UserError, option, parse_config
from common.images import labelled_grid as labelled
from common.images import make_grid, save_image
from data.reading import decode_images, list_images, load_folder, read_labels
from evaluation.faces import face_counts
from experiments.runs import CHECKPOINTS, METHODS, RESULTS, ROOT, digests, percent, read_results, table, write_results
from models.dann import DANN
from models.dcgan import Generator
from models.ddpm import ContextUnet
from sampling.labels import TARGETS

NETWORKS: dict[str, type[nn.Module]] = {
    "p1_dcgan": Generator,
    "p1_wgan": Generator,
    "p2_ddpm": ContextUnet,
    "p3_dann_svhn": DANN,
    "p3_dann_usps": DANN,
}
GRADED = p1_inference.Config.weights.stem.removeprefix("p1_")  # the method that hw2_1.sh runs
CITED = json.loads((ROOT / "report" / "cited.json").read_text(encoding="utf-8"))  # what others have measured
COLUMNS = ["problem", "score", "ours", "original report", "best of eighteen others", "course's baselines", "limit"]


@dataclass(frozen=True)
class Config:
    data: Path = option(Path("hw2_data"), "the course's tree")
    classifier: Path = option(Path("hw2_data/Classifier.pth"), "the course's digit classifier")
    images: Path = option(Path("runs/headline"), "folder of what the wrappers write")
    results: Path = option(RESULTS, "folder of the result file and the pictures")


def run(*command: object) -> str:
    """The output of a command run in the repository's folder; it shows its progress on stderr."""
    print("== " + " ".join(map(str, command)), file=sys.stderr)
    result = subprocess.run([str(part) for part in command], check=False, stdout=subprocess.PIPE, text=True)
    if result.returncode:
        raise UserError(f"{' '.join(map(str, command))} failed with exit code {result.returncode}")
    return result.stdout


def score(kind: str, *arguments: object) -> dict[str, Any]:
    return json.loads(run(sys.executable, ROOT / "evaluate.py", kind, *arguments, "--json"))


def score_digits(folder: Path, classifier: Path, domain: Path, split: str = "val") -> dict[str, Any]:
    """Scores of a folder of digits against real ones: "course" and "judge" are those of the two classifiers."""
    judges = ("--classifier", classifier, "--classifier", "judge")
    found = score("digits", folder, *judges, "--reference", domain, "--split", split)
    of_all = ("reference_images", "split", "floor", "nearest_training_image")
    scores = {key: found[key] for key in ("fid", "kid_x1000", "density", "coverage", "recall", *of_all)}
    for name, key in (("course", str(classifier)), ("judge", "judge")):
        scores[name] = found["classifiers"][key] | {"real_accuracy": found["real_accuracy"][key]}
    return scores


def networks() -> dict[str, dict[str, int]]:
    """What the files of the released networks say: images seen, and faces or views if they have such."""
    notes = {name: load_weights(make(), CHECKPOINTS / f"{name}.safetensors") for name, make in NETWORKS.items()}
    return {
        name: {"trained_images": int(said["images"])}
        | {key: int(said[key]) for key in ("faces", "views") if key in said}
        for name, said in notes.items()
    }


def counts(data: Path) -> dict[str, dict[str, int]]:
    """How many images each set has for training and for scores."""
    found = {"face": {split: len(list_images(data / "face" / split)) for split in ("train", "val")}}
    for domain in ("mnistm", *TARGETS):
        files = {split: data / "digits" / domain / f"{split}.csv" for split in ("train", "val")}
        found[domain] = {split: len(read_labels(file)) for split, file in files.items()}
    return found


def measure(config: Config) -> dict[str, Any]:
    """Run the wrappers and score what they write; the content of the result file."""
    digits, faces = config.images / "digits", config.data / "face"
    content: dict[str, Any] = {"weights": digests(*NETWORKS), "networks": networks(), "data": counts(config.data)}

    real = face_counts(load_folder(faces / "val", 64))
    content["real_face_rate"], content["faces"] = real.count(1) / len(real), {}
    for method in METHODS:
        if method == GRADED:
            run("bash", ROOT / "hw2_1.sh", config.images / method)
        else:
            weights = CHECKPOINTS / f"p1_{method}.safetensors"
            run(sys.executable, ROOT / "p1_inference.py", config.images / method, "--weights", weights)
        between = ("--reference", faces / "val", "--floor", faces / "train")
        content["faces"][method] = score("faces", config.images / method, *between)
    shown = list_images(config.images / GRADED)[:36]
    save_image(config.results / "headline_faces.png", make_grid(decode_images(shown, 64), 12))

    run("bash", ROOT / "hw2_2.sh", digits)
    content["digits"] = score_digits(digits, config.classifier, config.data / "digits" / "mnistm")
    shown = [digits / f"{digit}_{number:03d}.png" for number in range(1, 7) for digit in range(10)]
    save_image(config.results / "headline_digits.png", make_grid(decode_images(shown, 28), 20, scale=2))
    shown = [digits / f"{digit}_{number:03d}.png" for digit in range(10) for number in range(1, 11)]
    save_image(config.results / "p2_grid.png", make_grid(decode_images(shown, 28), 10, scale=2))

    content["labels"], sheets = {}, []
    for target in TARGETS:
        domain, file = config.data / "digits" / target, config.images / f"{target}.csv"
        run("bash", ROOT / "hw2_3.sh", domain / "data", file)
        content["labels"][target] = score("labels", file, domain / "val.csv")
        truth, found = read_labels(domain / "val.csv"), read_labels(file)
        names = list(truth)[:20]
        right = [found[name] == truth[name] for name in names]
        pictures = decode_images([domain / "data" / name for name in names], 28)
        sheets.append(labelled(pictures, [found[name] for name in names], right, 20))
    save_image(config.results / "headline_labels.png", torch.cat(sheets, 1))
    write_results(config.results / "headline.json", content)
    return content


def rows(content: dict[str, Any], bounds: dict[str, Any]) -> list[list[str]]:
    """The headline table: our scores beside the original's, the best of eighteen others, baselines and limits.

    `bounds` is results/p3_bounds.json.
    """
    original, others, course = CITED["original_report"], CITED["eighteen_others"], CITED["course"]
    networks, data = content["networks"], content["data"]

    def seen(name: str) -> str:
        return f"{networks[name]['trained_images'] / 1e6:.1f} M images seen"

    def baselines(values: dict[str, float]) -> str:
        return " / ".join(f"{100 * value:.0f} %" for value in values.values())

    found = []
    for method, name in METHODS.items():
        scores, faces = content["faces"][method], f"{data['face']['train']:,} faces"
        best = f"{others['fid_best']}" if method == "dcgan" else "–"
        fid = [f"FID, {name} ({faces}, {seen(f'p1_{method}')})", f"{scores['fid']:.1f}", str(original["fid"][method])]
        given = " / ".join(map(str, course["fid"].values()))
        found.append(["1", *fid, best, given, f"real faces: {scores['floor']['fid']:.1f}"])
    for method, name in METHODS.items():
        rate = percent([content["faces"][method]["face_rate"]])
        best = f"{100 * others['face_rate_best']:.0f} %" if method == "dcgan" else "–"
        limit = f"real faces: {percent([content['real_face_rate']])} %"
        found.append(["1", f"face rate, {name}", f"{rate} %", "–", best, baselines(course["face_rate"]), limit])
    for judge, name in (("course", "the course's classifier"), ("judge", "our judge")):
        scores = content["digits"][judge]
        cited = (
            [f"{100 * others['digits_best']:.1f} %", baselines(course["digits"])] if judge == "course" else ["–", "–"]
        )
        limit = f"real digits: {percent([scores['real_accuracy']])} %"
        about = f" ({data['mnistm']['train']:,} digits, {seen('p2_ddpm')})" if judge == "course" else ""
        found.append(["2", f"accuracy by {name}{about}", f"{percent([scores['accuracy']])} %", "–", *cited, limit])
    for target, name in zip(TARGETS, ("SVHN", "USPS"), strict=True):
        unlabelled = f"{data[target]['train']:,} unlabelled digits, {seen(f'p3_dann_{target}')}"
        ours = f"{percent([content['labels'][target]['accuracy']])} %"
        cited = [f"{percent([who[target]])} %" for who in (original["dann"], others["dann_best"])]
        baseline = f"{100 * course['dann'][target]:.0f} %"
        supervised = [run["accuracy"] for run in bounds[target]["target only"]["runs"]]
        limit = f"trained on {name}'s labels: {percent(supervised)} %"
        found.append(["3", f"MNIST-M → {name} ({unlabelled})", ours, *cited, baseline, limit])
    return found


def main() -> None:
    content = measure(parse_config(Config, __doc__))
    print(table(COLUMNS, rows(content, read_results(RESULTS / "p3_bounds.json"))))


if __name__ == "__main__":
    run_script(main)
