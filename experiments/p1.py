"""Problem 1 in numbers and figures: what each ingredient is worth, looks at the faces.

    p1_dcgan     short trainings of A, one ingredient more in each row
    p1_wgan      short trainings of B
    p1_figures   first faces, interpolation, nearest training faces, failures

A row's score is FID (and KID) of 1,000 samples against 2,000 training faces that were held out; val chooses nothing.
All rows take about as long, 14 to 20 minutes on two CPU cores with avx512_bf16: one whose critic steps five times to a
generator's once has a third of the images.  Rows by options that the scripts no longer have, the normalisation lesson,
and long trainings are in results/archive/.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common.checkpoint import CHECKPOINTS, load_weights
from common.images import make_grid, save_image
from data.reading import decode_images, list_images, load_folder, to_unit_range
from evaluation.distances import distances, sample_of
from evaluation.faces import face_counts
from experiments import runs
from experiments.headline import GRADED
from experiments.runs import METHODS, Config, Options
from models.dcgan import Generator
from sampling.faces import latents, sample_images, slerp

PLAIN = ("--recipe", "original")
AVERAGED = (*PLAIN, "--ema-half-life", 10_000)
MOVED = (*AVERAGED, "--flips", "--augment", "translation")
PAIRED = (*MOVED, "--joint-batches", "--loss", "relativistic")
PENALTY = ("--batch-size", 64, "--decay-from", 0.7, "--ema-half-life", 10_000)
ROWS: dict[str, dict[str, Options]] = {
    "p1_dcgan": {
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
    "p1_wgan": {"original: weight clipping": PLAIN, "penalty, no BatchNorm": PENALTY},
}
FIVE_CRITIC_STEPS = "original: weight clipping"  # to one of the generator: a third of the images
PICTURED = {PLAIN: "plain", PAIRED: "improved", PENALTY: "improved"}  # options whose first faces are shown
COUNT, HELD_OUT = 1000, 2000  # samples and faces behind the scores of short trainings
COMPARED = 1500  # training faces behind the FID of the figures, as many as val has


def trainings(config: Config) -> None:
    """Train and score what the result file does not hold yet."""
    content: dict[str, Any] = {"images": config.images, "held_out": HELD_OUT, "count": COUNT}
    earlier, rows = runs.read_results(config.file), ROWS[config.part]
    content["rows"] = earlier["rows"] if content.items() <= earlier.items() else {}

    def train_row(name: str, seed: int) -> Path:
        options, images = rows[name], config.images // 3 if name == FIVE_CRITIC_STEPS else config.images
        length = ("--images", images, "--sample-every", images // 4, "--score-every", images // 2)
        faces = ("--data", config.data / "face" / "train", "--held-out", HELD_OUT, "--score-count", COUNT)
        run_dir = config.folder / f"{name.strip(' +').replace(' ', '_')}-{seed}"
        runs.train(f"{config.part}_train.py", run_dir, *faces, "--seed", seed, *length, *options)
        if options in PICTURED:
            (sheet,) = decode_images(list_images(run_dir / "samples")[-1:], 8 * 66 - 2)  # eight faces to a row
            save_image(config.results / f"{config.part}_{PICTURED[options]}.png", sheet[:, :64])
        return run_dir

    def measure(run_dirs: list[Path]) -> dict[str, Any]:
        scores = [{score: runs.metrics(run_dir, score) for score in ("fid", "kid_x1000")} for run_dir in run_dirs]
        return {"images": runs.metrics(run_dirs[0], "images")[-1], "runs": scores}

    runs.measure_rows(config, content, content["rows"], rows, 1, train_row, measure)


def nearest_faces(images: Tensor, others: Tensor, count: int) -> Tensor:
    """Indices (n, count) of the `others` nearest to uint8 images, by the distance of images shrunk to 16 x 16."""
    small = [torch.nn.functional.avg_pool2d(to_unit_range(batch), 4).flatten(1) for batch in (images, others)]
    return torch.cdist(*small).topk(count, largest=False).indices


def sharpness(images: Tensor) -> float:
    """How much neighbouring pixels of uint8 images (n, 3, h, w) differ on average, in grey levels: low if blurred."""
    grey = images.float().mean(1)
    return ((grey.diff(dim=1).abs().mean() + grey.diff(dim=2).abs().mean()) / 2).item()


def figures(config: Config) -> None:
    """Write the sheets of the report, and what they show.

    The first faces and the FID against as many training faces as val has are of both methods: beside the FID against
    val it tells whether a network has learned its faces by heart.  All else is of the method that hw2_1.sh runs.
    """
    content: dict[str, Any] = {"weights": runs.digests(*(f"p1_{method}" for method in METHODS))}
    training, drawn = decode_images(sample_of(list_images(config.data / "face" / "train"), COMPARED), 64), {}
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

    faces, real = drawn[GRADED], load_folder(config.data / "face" / "train", 64)
    content["sharpness_real"] = sharpness(real)
    near = nearest_faces(faces[:8], real, 4)
    save_image(config.results / "p1_nearest.png", make_grid(torch.cat((faces[:8], real[near.T.flatten()])), 8))
    missed = faces[torch.tensor(face_counts(faces)) != 1]
    if len(missed):
        save_image(config.results / "p1_missed.png", make_grid(missed[:32], 8))
    content |= {"faces": len(faces), "missed": len(missed), "shown": len(missed[:32])}
    runs.write_results(config.file, content)
