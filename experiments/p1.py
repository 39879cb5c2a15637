"""Problem 1 in numbers and figures: what each ingredient is worth, looks at the faces.

    python3 -m experiments.p1 --part dcgan      # short trainings of A, one ingredient more in each row
    python3 -m experiments.p1 --part wgan       # short trainings of B
    python3 -m experiments.p1 --part figures    # first faces, interpolation, nearest training faces, failures

A row's score is FID (and KID) of 1,000 samples against 2,000 training faces that were held out; val chooses
nothing.  All rows take about as long: one whose critic steps five times to a generator's once has a third of the
images.  A part trains what results/p1_<part>.json does not hold yet, in --runs, killed and started again at will.
On two CPU cores with avx512_bf16 a training takes 14 to 20 minutes.

Rows by options that the scripts no longer have, the normalisation lesson, and long trainings are in results/archive/,
each with the commit that measured it.
"""

from common.start import run_script

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.checkpoint import CHECKPOINTS, load_weights
from common.config import option, parse_config
from common.images import make_grid, save_image
from data.reading import decode_images, list_images, load_folder, to_unit_range
from evaluation.distances import distances, sample_of
from evaluation.faces import face_counts
from experiments import runs
from experiments.headline import GRADED
from experiments.runs import METHODS, RESULTS, Options
from models.dcgan import Generator
from sampling.faces import latents, sample_images, slerp

PLAIN = ("--recipe", "original")
AVERAGED = (*PLAIN, "--ema-half-life", 10_000)
MOVED = (*AVERAGED, "--flips", "--augment", "translation")
PAIRED = (*MOVED, "--joint-batches", "--loss", "relativistic")
ROWS: dict[str, dict[str, Options]] = {
    "dcgan": {
        "original": PLAIN,
        "+ averaged weights": AVERAGED,
        "+ flips and translation": MOVED,
        "  joint batches": (*MOVED, "--joint-batches"),
        "  no BatchNorm": (*MOVED, "--no-batch-norm"),
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
    "original": "dcgan_plain",
    "  joint and relativistic": "dcgan_improved",
    "original: weight clipping": "wgan_plain",
    "penalty, no BatchNorm": "wgan_improved",
}
COUNT, HELD_OUT = 1000, 2000  # samples and faces behind the scores of short trainings
COMPARED = 1500  # training faces behind the FID of the figures, as many as val has

PARTS = (*ROWS, "figures")


@dataclass(frozen=True)
class Config:
    part: str = option("dcgan", "what to measure or make", choices=PARTS)
    data: Path = option(Path("hw2_data/face/train"), "folder of training faces")
    runs: Path = option(Path("runs/p1"), "folder of the trainings")
    results: Path = option(RESULTS, "folder of the result files")
    images: int = option(64_000, "length of a short training in images", low=12)


def short_trainings(config: Config, file: Path) -> None:
    """Train and score what the result file does not hold yet of the parts dcgan and wgan."""
    content: dict[str, Any] = {"images": config.images, "held_out": HELD_OUT, "count": COUNT}
    earlier = runs.read_results(file)
    content["rows"] = earlier["rows"] if content.items() <= earlier.items() else {}

    def train_row(name: str, seed: int) -> Path:
        images = config.images // 3 if name == FIVE_CRITIC_STEPS else config.images
        length = ("--images", images, "--sample-every", images // 4, "--score-every", images // 2)
        fixed = ("--data", config.data, "--held-out", HELD_OUT, "--score-count", COUNT, "--seed", seed)
        run_dir = config.runs / config.part / f"{name.strip(' +').replace(' ', '_')}-{seed}"
        runs.train(f"p1_{config.part}_train.py", run_dir, *fixed, *length, *ROWS[config.part][name])
        if name in PICTURED:
            (sheet,) = decode_images(list_images(run_dir / "samples")[-1:], 8 * 66 - 2)
            save_image(config.results / f"p1_{PICTURED[name]}.png", sheet[:, :64])  # its first eight faces
        return run_dir

    def measure(run_dirs: list[Path]) -> dict[str, Any]:
        scores = [{score: runs.metrics(run_dir, score) for score in ("fid", "kid_x1000")} for run_dir in run_dirs]
        return {"images": runs.metrics(run_dirs[0], "images")[-1], "runs": scores}

    runs.measure_rows(file, content, content["rows"], ROWS[config.part], 1, train_row, measure)


def nearest_faces(images: Tensor, others: Tensor, count: int) -> Tensor:
    """Indices (n, count) of the `others` nearest to uint8 images, by the distance of images shrunk to 16 x 16."""
    small = [torch.nn.functional.avg_pool2d(to_unit_range(batch), 4).flatten(1) for batch in (images, others)]
    return torch.cdist(*small).topk(count, largest=False).indices


def sharpness(images: Tensor) -> float:
    """How much neighbouring pixels of uint8 images (n, 3, h, w) differ on average, in grey levels: low if blurred."""
    grey = images.float().mean(1)
    return ((grey.diff(dim=1).abs().mean() + grey.diff(dim=2).abs().mean()) / 2).item()


def figures(config: Config, file: Path) -> None:
    """Write the sheets of the report, and what they show.

    The first faces and the FID against as many training faces as val has are of both methods: beside the FID against
    val it tells whether a network has learned its faces by heart.  All else is of the method that hw2_1.sh runs.
    """
    content: dict[str, Any] = {"weights": runs.digests(*(f"p1_{method}" for method in METHODS))}
    training, drawn = sample_of(list_images(config.data), COMPARED), {}
    for method in METHODS:
        network = Generator().eval()
        load_weights(network, CHECKPOINTS / f"p1_{method}.safetensors")
        drawn[method] = faces = sample_images(network, latents(COUNT))
        fid = distances(faces, training)["fid"]
        content[method] = {"sharpness": sharpness(faces), "training_images": len(training), "training_fid": fid}
        save_image(config.results / f"p1_first32_{method}.png", make_grid(faces[:32], 8))
        if method == GRADED:
            ends = latents(8)
            strips = [sample_images(network, slerp(ends[i], ends[i + 1], 10)) for i in range(0, 8, 2)]
            save_image(config.results / "p1_interpolation.png", make_grid(torch.cat(strips), 10))

    faces, real = drawn[GRADED], load_folder(config.data, 64)
    content["sharpness_real"] = sharpness(real)
    near = nearest_faces(faces[:8], real, 4)
    save_image(config.results / "p1_nearest.png", make_grid(torch.cat((faces[:8], real[near.T.flatten()])), 8))
    missed = faces[torch.tensor(face_counts(faces)) != 1]
    if len(missed):
        save_image(config.results / "p1_missed.png", make_grid(missed[:32], 8))
    content |= {"faces": len(faces), "missed": len(missed), "shown": len(missed[:32])}
    runs.write_results(file, content)


def main() -> None:
    config = parse_config(Config, __doc__)
    file = config.results / f"p1_{config.part}.json"
    (figures if config.part == "figures" else short_trainings)(config, file)
    print(file)


if __name__ == "__main__":
    run_script(main)
