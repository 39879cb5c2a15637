"""What the three wrappers reach, as the grader would score them: the table at the top of README and report.

    python3 -m experiments.headline

Runs hw2_1.sh, hw2_2.sh and hw2_3.sh into --images, scores what they wrote with evaluate.py, and writes
results/headline.json and three small pictures beside it.  Draws and scores faces of the other method, which hw2_1.sh
does not run, too.  Prints the table of README, which a test compares.  About a quarter of an hour on two CPU cores.
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

import p1_inference
from common.checkpoint import load_weights
from common.config import UserError, option, parse_config, run_script
from common.download import sha256
from common.images import make_grid, save_image
from data.reading import decode_images, list_images, load_folder, read_labels
from evaluation.faces import face_counts
from experiments.runs import METHODS, RESULTS, ROOT, percent, read_results, table, write_results
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


def checkpoints() -> dict[str, dict[str, Any]]:
    """The sha256 of every released network, and what its metadata say."""
    folder = ROOT / "checkpoints"
    files = {name: folder / f"{name}.safetensors" for name in NETWORKS}
    notes = {name: load_weights(network(), files[name]) for name, network in NETWORKS.items()}
    return {
        name: {"sha256": sha256(files[name]), "trained_images": int(notes[name]["images"])}
        | {note: int(notes[name][note]) for note in ("views", "faces") if note in notes[name]}
        for name in NETWORKS
    }


def counts(data: Path) -> dict[str, dict[str, int]]:
    """How many images each set has for training and for scores."""
    found = {"face": {split: len(list_images(data / "face" / split)) for split in ("train", "val")}}
    for domain in ("mnistm", *TARGETS):
        found[domain] = {
            split: len(read_labels(data / "digits" / domain / f"{split}.csv")) for split in ("train", "val")
        }
    return found


def labelled(images: Tensor, labels: list[int], right: list[bool], columns: int, scale: int = 2) -> Tensor:
    """A sheet of uint8 (n, 3, 28, 28) digits, each with its label beneath, a wrong one in vermilion and in brackets."""
    height, width = images.shape[2:]
    below = torch.full((len(images), 3, scale * height + 22, scale * width), 255, dtype=torch.uint8)
    font = ImageFont.load_default(20)
    for image, label, good, cell in zip(images, labels, right, below, strict=True):
        cell[:, : scale * height] = image.repeat_interleave(scale, 1).repeat_interleave(scale, 2)
        text = Image.new("RGB", (scale * width, 22), "white")
        place = {"xy": (scale * width / 2, 11), "anchor": "mm", "font": font}
        ImageDraw.Draw(text).text(
            text=f"{label}" if good else f"({label})", fill="#000" if good else "#D55E00", **place
        )
        pixels = torch.frombuffer(bytearray(text.tobytes()), dtype=torch.uint8).view(22, scale * width, 3)
        cell[:, scale * height :] = pixels.permute(2, 0, 1)
    return make_grid(below, columns, gap=4)


def measure(config: Config) -> dict[str, Any]:
    """Run the wrappers and score what they write; the content of the result file."""
    digits, faces = config.images / "digits", config.data / "face"
    content: dict[str, Any] = {"checkpoints": checkpoints(), "data": counts(config.data)}

    real = face_counts(load_folder(faces / "val", 64))
    content["real_face_rate"], content["faces"] = real.count(1) / len(real), {}
    for method in METHODS:
        if method == GRADED:
            run("bash", ROOT / "hw2_1.sh", config.images / method)
        else:
            weights = ROOT / "checkpoints" / f"p1_{method}.safetensors"
            run(sys.executable, ROOT / "p1_inference.py", config.images / method, "--weights", weights)
        between = ("--reference", faces / "val", "--floor", faces / "train")
        content["faces"][method] = score("faces", config.images / method, *between)
    shown = list_images(config.images / GRADED)[:36]
    save_image(config.results / "headline_faces.png", make_grid(decode_images(shown, 64), 12))

    run("bash", ROOT / "hw2_2.sh", digits)
    reference = ("--reference", config.data / "digits" / "mnistm")
    content["digits"] = {
        "course": score("digits", digits, "--classifier", config.classifier, *reference),
        "judge": score("digits", digits, *reference),
    }
    shown = [digits / f"{digit}_{number:03d}.png" for number in range(1, 7) for digit in range(10)]
    save_image(config.results / "headline_digits.png", make_grid(decode_images(shown, 28), 20, scale=2))

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


def rows(content: dict[str, Any], recipe: dict[str, Any]) -> list[list[str]]:
    """The rows of the headline table, as README and report show them; `recipe` is results/p3_recipe.json."""
    trained = {name: f"{notes['trained_images'] / 1000:,.0f},000" for name, notes in content["checkpoints"].items()}
    course, judge = content["digits"]["course"], content["digits"]["judge"]
    real = [next(iter(result["real_accuracy"].values())) for result in (course, judge)]
    found = [
        [
            "1",
            f"{name}, {trained[f'p1_{method}']} images seen",
            f"FID {faces['fid']:.1f}, KID × 1000 {faces['kid_x1000']:.1f}, face rate {percent([faces['face_rate']])} %",
            f"floor {faces['floor']['fid']:.1f} and {faces['floor']['kid_x1000']:.2f}; "
            f"real val faces: {percent([content['real_face_rate']])} %",
        ]
        for method, name in METHODS.items()
        for faces in (content["faces"][method],)
    ]
    found += [
        [
            "2",
            f"diffusion, {trained['p2_ddpm']} images seen",
            f"accuracy of {course['images']:,} digits {percent([course['accuracy']])} % by the course's classifier, "
            f"{percent([judge['accuracy']])} % by our own judge; FID {judge['fid']:.1f}",
            f"real MNIST-M val: {percent(real[:1])} % and {percent(real[1:])} %; "
            f"FID's floor {judge['floor']['fid']:.1f}",
        ],
    ]
    for target, name in zip(TARGETS, ("SVHN", "USPS"), strict=True):
        seeds = [run["accuracy_of_views"] for run in recipe[target]["the recipe"]["runs"]]
        original, others = CITED["original_report"]["dann"][target], CITED["eighteen_others"]["dann_best"][target]
        best = CITED["eighteen_others"]["dann_best_of"][target]
        found.append(
            [
                "3",
                f"MNIST-M → {name}",
                f"accuracy {percent([content['labels'][target]['accuracy']])} %; {len(seeds)} seeds {percent(seeds)} %",
                f"original report {percent([original])} %, {best} of eighteen others {percent([others])} %",
            ]
        )
    return found


def main() -> None:
    config = parse_config(Config, __doc__)
    content = measure(config)
    print(table(["problem", "network", "score", "beside it"], rows(content, read_results(RESULTS / "p3_recipe.json"))))


if __name__ == "__main__":
    run_script(main)
