"""Problem 1 in numbers and figures: what each ingredient is worth, the normalisation lesson, looks at the faces.

    python3 -m experiments.p1 --part dcgan      # short trainings of A, one ingredient more in each row
    python3 -m experiments.p1 --part wgan       # short trainings of B
    python3 -m experiments.p1 --part lesson     # real images normalised as for ImageNet: the discriminator wins
    python3 -m experiments.p1 --part figures    # first faces, interpolation, nearest training faces, failures

A row's score is FID (and KID) of 1,000 samples against 2,000 training faces that were held out; val chooses
nothing.  All rows take about as long: one whose critic steps five times to a generator's once has a third of the
images.  Each part trains what is not yet trained (in --runs, killed and started again at will), writes
results/p1_<part>.json and prints a table.  On two CPU cores with avx512_bf16 a training takes 14 to 20 minutes.

Rows by options that the scripts no longer have, and long trainings, are in results/archive/, each with the commit
that measured it.
"""

from common.start import run_script

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor

import p1_dcgan_train
from common.checkpoint import load_weights
from common.config import UserError, option, parse_config
from common.images import make_grid, save_image
from data.reading import decode_image, list_images, load_folder, to_unit_range
from evaluation.distances import distances, sample_of
from evaluation.faces import face_counts
from experiments.headline import GRADED
from experiments.runs import (
    CHECKPOINTS,
    METHODS,
    RESULTS,
    digests,
    mean_and_spread,
    metrics,
    read_results,
    table,
    train,
    write_results,
)
from models.dcgan import Generator
from sampling.faces import latents, sample_images, slerp

PLAIN = ("--recipe", "original")
AVERAGED = (*PLAIN, "--ema-half-life", 10_000)
MOVED = (*AVERAGED, "--flips", "--augment", "translation")
PAIRED = (*MOVED, "--joint-batches", "--loss", "relativistic")
ROWS: dict[str, dict[str, tuple[object, ...]]] = {
    "dcgan": {
        "original": PLAIN,
        "+ averaged weights": AVERAGED,
        "+ flips and translation": MOVED,
        "  joint batches": (*MOVED, "--joint-batches"),
        "  relativistic loss": (*MOVED, "--loss", "relativistic"),
        "  joint and relativistic": PAIRED,
        "  these two without translation": (*PAIRED, "--augment", "none"),
        "  these two and G at 4e-4": (*PAIRED, "--learning-rate-g", 4e-4),
    },
    "wgan": {
        "original: weight clipping": PLAIN,
        "penalty, no BatchNorm": ("--batch-size", 64, "--decay-from", 0.7, "--ema-half-life", 10_000),
    },
}
FIVE_CRITIC_STEPS = "original: weight clipping"  # to one of the generator: a third of the images
# Rows whose first faces are shown, and the pictures' names.
PICTURED = {
    "dcgan": {"original": "plain", "  joint and relativistic": "improved"},
    "wgan": {"original: weight clipping": "plain"},
}
CELL = 66  # pixels from one face of a sheet to the next
LESSONS = ("tanh_range", "imagenet", "tanh_range_joint", "imagenet_joint")  # trainings of the normalisation lesson
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Config:
    part: str = option("dcgan", "what to measure or make", choices=("dcgan", "wgan", "lesson", "figures"))
    data: Path = option(Path("hw2_data/face/train"), "folder of training faces")
    runs: Path = option(Path("runs/p1"), "folder of the trainings")
    results: Path = option(RESULTS, "folder of the result files")
    images: int = option(64_000, "length of a short training in images", low=1)
    held_out: int = option(2000, "faces held out for the scores", low=2)
    count: int = option(1000, "samples behind each score", low=2)
    compared: int = option(1500, "training faces behind the FID of the figures, as many as val has", low=2)
    seeds: int = option(1, "trainings per row", low=1, high=100)
    only: str = option("", "these rows of the table alone, separated by commas")


def short_trainings(config: Config) -> dict[str, Any]:
    """Train and score what the result file does not hold yet of the parts dcgan and wgan; the file's content."""
    file, table_of = config.results / f"p1_{config.part}.json", ROWS[config.part]
    content: dict[str, Any] = {name: getattr(config, name) for name in ("images", "held_out", "count")}
    earlier = read_results(file)
    known = earlier["rows"] if content.items() <= earlier.items() else {}
    meant = {name: [str(part) for part in options] for name, options in table_of.items()}
    names = {name.strip(" +"): name for name in table_of}
    wanted = [name.strip(" +") for name in config.only.split(",") if name.strip(" +")] or list(names)
    if unknown := [name for name in wanted if name not in names]:
        raise UserError(f"--only: {unknown[0]!r} is not one of {', '.join(names)}")
    for name in map(names.get, wanted):
        images = config.images // 3 if name == FIVE_CRITIC_STEPS else config.images
        if known.get(name, {}).get("options") != meant[name]:
            known[name] = {"options": meant[name], "images": images, "runs": []}
        for seed in range(len(known[name]["runs"]), config.seeds):
            run_dir = row_folder(config, name, seed)
            watch = ("--held-out", config.held_out, "--score-every", max(1, images // 2), "--score-count", config.count)
            fixed = ("--data", config.data, "--images", images, "--sample-every", max(1, images // 4))
            train(f"p1_{config.part}_train.py", run_dir, *fixed, *watch, *table_of[name], "--seed", seed)
            known[name]["runs"].append({score: metrics(run_dir, score) for score in ("fid", "kid_x1000")})
        content["rows"] = {name: known[name] for name in table_of if known.get(name, {}).get("options") == meant[name]}
        write_results(file, content)
    for name, shown in PICTURED[config.part].items():
        if (sheets := row_folder(config, name) / "samples").is_dir():
            save_image(config.results / f"p1_{config.part}_{shown}.png", first_faces(list_images(sheets)[-1]))
    return content


def row_folder(config: Config, name: str, seed: int = 0) -> Path:
    """Where a row of a table is trained."""
    return config.runs / config.part / f"{name.strip(' +').replace(' ', '_')}-{seed}"


def first_faces(sheet: Path) -> Tensor:
    """The first eight faces of a sample sheet, uint8 (3, h, w)."""
    pixels = torch.from_numpy(decode_image(sheet).copy()).permute(2, 0, 1)
    return pixels[:, : CELL - 2, : 8 * CELL - 2]


def show(content: dict[str, Any]) -> str:
    """The short trainings as a Markdown table."""
    rows = []
    for name, row in content["rows"].items():
        half, end = (mean_and_spread([run["fid"][which] for run in row["runs"]]) for which in (0, -1))
        kid, _ = mean_and_spread([run["kid_x1000"][-1] for run in row["runs"]])
        spread = f" ± {end[1]:.1f}" if len(row["runs"]) > 1 else ""
        counts = [str(len(row["runs"])), f"{row['images']:,}"]
        rows.append([name, *counts, f"{half[0]:.1f}", f"{end[0]:.1f}{spread}", f"{kid:.1f}"])
    return table(["training", "seeds", "images", "FID half-way", "FID at the end", "KID x 1000"], rows)


def lesson(config: Config) -> dict[str, Any]:
    """The original recipe on real images in [-1, 1] and on ImageNet-normalised ones: the discriminator's accuracy.

    ImageNet's means and deviations make of them about [-2.1, 2.6], where Tanh cannot follow.  Twice: with batches of
    real or generated images alone, as is usual, of which BatchNorm takes the scale out, and with joint ones, where the
    discriminator can see it.
    """
    faces = p1_dcgan_train.Faces

    class ImageNetFaces(faces):
        def batch(self, step: Any) -> Tensor:
            images = super().batch(step)
            mean, std = (images.new_tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
            return ((images + 1) / 2 - mean) / std

    content: dict[str, Any] = {}
    length = ("--images", config.images // 4, "--sample-every", max(1, config.images // 16), "--log-every", 5)
    for name in LESSONS:
        run_dir = config.runs / "lesson" / name
        joint = ("--joint-batches",) if "joint" in name else ()
        options = ("--data", config.data, "--run-dir", run_dir, "--resume", *PLAIN, *joint, *length)
        arguments = ["p1_dcgan_train.py", *map(str, options)]
        shown = ImageNetFaces if "imagenet" in name else faces
        with mock.patch.object(p1_dcgan_train, "Faces", shown), mock.patch.object(sys, "argv", arguments):
            p1_dcgan_train.main()
        logged = ("accuracy_d", "logit_real", "logit_fake", "loss_g")
        content[name] = {metric: metrics(run_dir, metric) for metric in logged}
        save_image(config.results / f"p1_lesson_{name}.png", first_faces(list_images(run_dir / "samples")[-1]))
    write_results(config.results / "p1_lesson.json", content)
    return content


def nearest_faces(images: Tensor, others: Tensor, count: int) -> Tensor:
    """Indices (n, count) of the `others` nearest to uint8 images, by the distance of images shrunk to 16 x 16."""
    small = [torch.nn.functional.avg_pool2d(to_unit_range(batch), 4).flatten(1) for batch in (images, others)]
    return torch.cdist(*small).topk(count, largest=False).indices


def sharpness(images: Tensor) -> float:
    """How much neighbouring pixels of uint8 images (n, 3, h, w) differ on average, in grey levels: low if blurred."""
    grey = images.float().mean(1)
    return ((grey.diff(dim=1).abs().mean() + grey.diff(dim=2).abs().mean()) / 2).item()


def figures(config: Config) -> dict[str, Any]:
    """Write the sheets of the report, and p1_figures.json: what they show.

    The first faces and the FID against as many training faces as val has are of both methods: beside the FID against
    val it tells whether a network has learned its faces by heart.  All else is of the method that hw2_1.sh runs.
    """
    content: dict[str, Any] = {"weights": digests(*(f"p1_{method}" for method in METHODS))}
    training = sample_of(list_images(config.data), config.compared)
    for method in METHODS:
        network = Generator().eval()
        load_weights(network, CHECKPOINTS / f"p1_{method}.safetensors")
        drawn = sample_images(network, latents(config.count))
        fid = distances(drawn, training)["fid"]
        content[method] = {"sharpness": sharpness(drawn), "training_images": len(training), "training_fid": fid}
        save_image(config.results / f"p1_first32_{method}.png", make_grid(drawn[:32], 8))
        if method == GRADED:
            generator, faces = network, drawn

    ends = latents(8)
    strips = [sample_images(generator, slerp(ends[i], ends[i + 1], 10)) for i in range(0, 8, 2)]
    save_image(config.results / "p1_interpolation.png", make_grid(torch.cat(strips), 10))

    real = load_folder(config.data, 64)
    content["sharpness_real"] = sharpness(real)
    near = nearest_faces(faces[:8], real, 4)
    save_image(config.results / "p1_nearest.png", make_grid(torch.cat((faces[:8], real[near.T.flatten()])), 8))

    missed = [face for face, found in zip(faces, face_counts(faces), strict=True) if found != 1]
    if missed:
        save_image(config.results / "p1_missed.png", make_grid(torch.stack(missed[:32]), 8))
    content |= {"faces": len(faces), "missed": len(missed), "shown": len(missed[:32])}
    write_results(config.results / "p1_figures.json", content)
    return content


def main() -> None:
    config = parse_config(Config, __doc__)
    if config.part == "figures":
        content = figures(config)
        rows = [[METHODS[name], f"{content[name]['training_fid']:.1f}"] for name in METHODS]
        print(table(["method", "FID against training faces"], rows))
    elif config.part == "lesson":
        for name, values in lesson(config).items():
            if not values["accuracy_d"]:
                raise UserError(f"--images {config.images} is too short to log anything")
            print(f"{name}: the discriminator is right for {values['accuracy_d'][-1]:.1%} of images at the end")
    else:
        print(show(short_trainings(config)))


if __name__ == "__main__":
    run_script(main)
