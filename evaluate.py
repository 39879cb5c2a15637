"""Score images and labels as the homework's grader does.

    python3 evaluate.py faces OUT_DIR --reference hw2_data/face/val --floor hw2_data/face/train
    python3 evaluate.py faces OUT_DIR --reference hw2_data/face/train --held-out 1000
    python3 evaluate.py digits OUT_DIR --classifier hw2_data/Classifier.pth --classifier judge
    python3 evaluate.py digits OUT_DIR --reference hw2_data/digits/mnistm
    python3 evaluate.py labels PREDICTED.csv TRUTH.csv
    python3 evaluate.py sheet DIR SHEET.png
    python3 evaluate.py sheet DIR SHEET.png --labels PREDICTED.csv --truth TRUTH.csv

Without --classifier, digits are judged by checkpoints/p2_judge.safetensors, a small ResNet trained on
MNIST-M's training images (experiments/p2_judge.py); the grader uses the course's Classifier.pth.
Every command prints a short table or, with --json, one JSON object.  Inception's features are kept in the user's
cache folder by the images' content, so to score the same images again takes seconds.
"""

from common.start import run_script

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from common.config import Parser, UserError, checked, first_five, given_path, warn
from common.device import pick_device
from common.images import labelled_grid, make_grid, save_image
from data import reading
from data.batches import FACE_SIZE, held_out_indices
from evaluation.distances import distances, sample_of
from evaluation.faces import face_counts, read_faces, scored_images
from evaluation.judges import classify, digit_quality, load_judge

Result = tuple[dict[str, Any], list[str]]  # what --json prints, and the lines of the table


def _faces(options: argparse.Namespace) -> Result:
    """FID, KID and face rate of a folder of faces, and FID and KID of as many real images."""
    paths, reference = scored_images(options.folder), scored_images(options.reference)
    real = scored_images(options.floor) if options.floor else []
    if options.held_out:
        names = reading.list_images(options.reference)  # as the trainers list them
        trained, held_out = held_out_indices(len(names), options.held_out)
        reference, real = [names[index] for index in held_out], real or [names[index] for index in trained]
    elif options.floor and options.floor.resolve() == options.reference.resolve():
        raise UserError(f"--floor and --reference are the same folder, {options.floor}")
    device = pick_device(options.device)
    images, problems = read_faces(paths)
    for problem in problems[:5]:
        warn(problem)
    counts = face_counts(images)
    found = {"none": counts.count(0), "one": counts.count(1), "several": sum(count > 1 for count in counts)}
    if real and len(real) < len(images):
        warn(f"the floor is of {len(real)} images, fewer than {len(images)}, and so too high")
    decoded = partial(reading.decode_images, size=FACE_SIZE, as_stored=True)
    result = {
        "images": len(images),
        **distances(images, decoded(reference), decoded(sample_of(real, len(images))) if real else None, device),
        "face_rate": found["one"] / len(paths),  # an image that cannot be read counts as one without a face
        "faces_found": found,
        "unreadable": len(problems),
        "unreadable_files": problems,
    }
    return result, [
        f"{len(images)} images of {options.folder} against {len(reference)} real ones",
        *_distance_lines(result, f"real images of {options.floor or options.reference}"),
        f"face rate   {result['face_rate']:8.1%}   " + ", ".join(f"{found[key]} with {key}" for key in found),
        f"unreadable  {len(problems):8d}",
    ]


def _distance_lines(result: dict[str, Any], real: str) -> list[str]:
    lines = [f"FID         {result['fid']:8.2f}   floor ", f"KID x 1000  {result['kid_x1000']:8.2f}   floor "]
    if not (floor := result["floor"]):
        return [lines[0] + "not measured, give --floor a folder of other real images", lines[1] + "not measured"]
    return [f"{lines[0]}{floor['fid']:.2f}: {floor['images']} {real}", f"{lines[1]}{floor['kid_x1000']:.2f}"]


def _accuracy(predicted: torch.Tensor, labels: torch.Tensor) -> dict[str, Any]:
    """The share of right predictions, and the confusion matrix, a row for each true digit."""
    classes = reading.NUM_CLASSES
    confusion = torch.bincount(classes * labels + predicted, minlength=classes**2).view(-1, classes)
    accuracy = confusion.diagonal().sum().item() / len(labels)
    return {"images": len(labels), "accuracy": accuracy, "confusion": confusion.tolist()}


def _accuracy_lines(scores: dict[str, dict[str, Any]], real: dict[str, float] | None = None) -> list[str]:
    """A column for each of the named `scores`, a row for each digit that occurs."""

    def row(name: str, shares: list[float], rest: str = "") -> str:
        return f"{name:<10}" + "".join(f"{share:>12.2%}" for share in shares) + rest

    columns = list(scores.values())
    lines = [" " * 10 + "".join(f"{Path(name).stem:>12.11}" for name in scores)]
    lines.append(row("accuracy", [column["accuracy"] for column in columns], f" of {columns[0]['images']} images"))
    if real:
        lines.append(row("real ones", list(real.values())))
    for digit, count in enumerate(map(sum, columns[0]["confusion"])):
        if count:
            right = [column["confusion"][digit][digit] / count for column in columns]
            lines.append(row(f"digit {digit}", right, f" of {count}"))
    return lines


def _digits(options: argparse.Namespace) -> Result:
    """Accuracy of digit classifiers on a folder of digits, each named after its label; with --reference more."""
    paths = reading.list_images(options.folder)
    reading.warn_of_others(options.folder, paths, "not scored")
    for path in paths:
        if path.name[0] not in reading.DIGITS:
            raise UserError(f"{path} does not begin with its label, a digit")
    labels = torch.tensor([int(path.name[0]) for path in paths])
    digits = reading.decode_images(paths, 28, as_stored=True)
    device = pick_device(options.device)
    classifiers = {name: load_judge(name, device) for name in options.classifier or ["judge"]}
    scores = {name: _accuracy(classify(network, digits, device), labels) for name, network in classifiers.items()}
    result = next(iter(scores.values())) | {"classifiers": scores}  # at the top the first classifier's
    if not options.reference:
        return result, _accuracy_lines(scores)
    result |= digit_quality(digits, options.reference, classifiers, device, options.split)
    floor, nearest = result["floor"], result["nearest_training_image"]
    return result, [
        *_accuracy_lines(scores, result["real_accuracy"]),
        f"against {result['reference_images']} {options.split} images:",
        *_distance_lines(result, "training digits"),
        *(f"{key:<11} {result[key]:8.3f}   floor {floor[key]:.3f}" for key in ("density", "coverage", "recall")),
        f"nearest training image {nearest['generated']:.1f} grey levels off, {nearest['real']:.1f} for real digits",
    ]


def _labels(options: argparse.Namespace) -> Result:
    """Accuracy of a csv of labels on the images of another; rows for further images are not scored."""
    predicted, truth = reading.read_labels(options.predicted), reading.read_labels(options.truth)
    if missing := [name for name in truth if name not in predicted]:
        raise UserError(f"{options.predicted} lacks {first_five(missing)} of {options.truth}")
    result = _accuracy(torch.tensor([predicted[name] for name in truth]), torch.tensor(list(truth.values())))
    return result | {"not_scored": len(predicted) - len(truth)}, _accuracy_lines({"labels": result})


def _sheet(options: argparse.Namespace) -> Result:
    """Put images of a folder on one sheet to look at, with --labels the first ones, each with its label beneath."""
    paths, names = reading.list_images(options.folder), {}
    if options.truth and not options.labels:
        raise UserError("--truth marks wrong labels, give --labels too")
    if options.labels:
        labels = reading.read_labels(options.labels)
        truth = reading.read_labels(options.truth) if options.truth else labels
        names = dict(zip(reading.find_files(options.folder, labels), labels, strict=True))  # of whichever accents
        paths = [path for path in paths if names.get(path) in truth]
        if not paths:
            raise UserError(f"{options.labels} has no label for an image of {options.folder}")
    # By number, a folder of digits begins with hundreds of zeros: spread evenly where no table names the images.
    step = 1 if options.labels else max(1, len(paths) // options.count)
    paths = paths[::step][: options.count]
    images = reading.decode_images(paths, max(reading.decode_image(paths[0]).shape[:2]), resize=True)
    if options.labels:
        shown = [names[path] for path in paths]
        right = [labels[name] == truth[name] for name in shown]
        sheet = labelled_grid(images, [labels[name] for name in shown], right, options.columns)
    else:
        sheet = make_grid(images, options.columns)
    save_image(options.sheet, sheet)
    result = {"images": len(paths), "sheet": str(options.sheet)}
    return result, [f"{len(paths)} images of {options.folder} on {options.sheet}"]


def _parser() -> Parser:
    parser = Parser(description=__doc__)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(run: Callable[[argparse.Namespace], Result], *arguments: tuple[str, str, dict[str, Any]]) -> None:
        added = commands.add_parser(run.__name__[1:], help=run.__doc__, description=run.__doc__)
        added.set_defaults(run=run)
        for name, text, settings in arguments:
            added.add_argument(name, help=text, **({"type": given_path} | settings))
        added.add_argument("--json", action="store_true", help="print one JSON object")

    device = ("--device", "auto, cpu, cuda, mps ... (default: auto)", {"type": str, "default": "auto"})
    held_out = "of --reference only the N images that the trainers' --held-out N keeps out, the others are the floor"
    command(
        _faces,
        ("folder", "64x64 images to score", {}),
        ("--reference", "folder of real images to score against", {"required": True}),
        ("--floor", "other real images: as many as in the folder are scored for comparison", {}),
        ("--held-out", held_out, {"type": checked(int, 2), "default": 0, "metavar": "N"}),
        device,
    )
    classifier = "the course's Classifier.pth, or judge, the one in checkpoints/ (default); may be given several times"
    distances_from = "MNIST-M folder: distances from 2,000 of its images (FID, KID, density, coverage, recall ...)"
    splits = {"type": str, "choices": ("train", "val"), "default": "val"}
    command(
        _digits,
        ("folder", "28x28 images, the first character of a name its label", {}),
        ("--reference", distances_from, {}),
        ("--split", "of the reference: train to choose by (default: val)", splits),
        ("--classifier", classifier, {"type": str, "action": "append", "metavar": "PATH"}),
        device,
    )
    command(_labels, ("predicted", "csv of labels to score", {}), ("truth", "csv of true labels", {}))
    command(
        _sheet,
        ("folder", "images to show", {}),
        ("sheet", "file to write, SHEET.png", {}),
        ("--labels", "csv: write each image's label beneath it", {}),
        ("--truth", "csv: only its images, wrong labels in brackets", {}),
        ("--count", "how many (default: 64)", {"type": checked(int, 1), "default": 64, "metavar": "N"}),
        ("--columns", "in a row (default: 8)", {"type": checked(int, 1), "default": 8, "metavar": "N"}),
    )
    return parser


def main() -> None:
    options = _parser().parse_args()
    result, lines = options.run(options)
    print(json.dumps(result, allow_nan=False) if options.json else "\n".join(lines))


if __name__ == "__main__":
    run_script(main)
