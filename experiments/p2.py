"""Problem 2 in numbers and figures: what samplers, steps and guidance are worth, and the original's mistakes.

    python3 -m experiments.p2 --part tradeoff   # the rows not measured yet
    python3 -m experiments.p2 --part figures    # the reverse process in six images, the original's mistakes

A row of the trade-off is 1,000 digits of p2_inference.py by other options, from the same noise, scored by evaluate.py
against *training* digits: so val has no part in the choice of the default and only reports what was chosen.  A row
takes about four minutes on two CPU cores; results/p2_tradeoff.json is written after each, so the command can be stopped
at any time and started again.

The figures take two minutes.
"""

from common.start import run_script

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import p2_inference
from common.checkpoint import CHECKPOINTS, load_weights
from common.config import option, parse_config
from common.device import autocast, pick_device
from common.images import make_grid, save_image, to_uint8
from experiments.headline import score_digits
from experiments.runs import RESULTS, ROOT, digests, read_results, run, stale, write_results
from models.ddpm import ContextUnet
from models.diffusion import TIMESTEPS, ancestral, final
from sampling.digits import digit_keys, draw_digits, six_of_600, time_reversed

GUIDANCE = p2_inference.Config.guidance_scale  # what hw2_2.sh does
SHOWN = [round(TIMESTEPS * share / 5) for share in range(6)]  # steps done in the six images of the reverse process
PARTS = ("tradeoff", "figures")
PER_CLASS = 100  # images of each digit and row
SCORES = ("fid", "kid_x1000", "density", "coverage", "recall")


@dataclass(frozen=True)
class Row:
    """Options of p2_inference.py; guidance acts where t / T is from `guidance_from` to `guidance_to`."""

    guidance_scale: float
    steps: int = 8
    guidance_from: float = 0.1
    guidance_to: float = 1.0
    sampler: str = "dpm"
    spacing: str = "karras"


ROWS = [
    *map(Row, (2.0, 2.5, 1.0, 0.0, 4.0)),
    Row(2.0, guidance_to=0.8),
    Row(1.5, guidance_to=0.8),
    Row(2.0, steps=10, guidance_from=0.25),
    Row(2.0, steps=9, guidance_from=0.25),
]


@dataclass(frozen=True)
class Config:
    part: str = option("tradeoff", "what to make", choices=PARTS)
    data: Path = option(Path("hw2_data/digits/mnistm"), "MNIST-M: folder with data/, train.csv and val.csv")
    classifier: Path = option(Path("hw2_data/Classifier.pth"), "the course's classifier")
    images: Path = option(Path("runs/p2"), "folder of the rows' digits")
    results: Path = option(RESULTS, "folder of the result files")


def draw_and_score(config: Config, row: Row, folder: Path) -> dict[str, Any]:
    """Draw a row's digits into a folder and score them against training digits; its entry of the result file."""
    options = [part for name, value in asdict(row).items() for part in (f"--{name.replace('_', '-')}", value)]
    run(sys.executable, ROOT / "p2_inference.py", folder, *options, "--per-class", PER_CLASS)
    scores = score_digits(folder, config.classifier, config.data, "train")
    judged = {judge: scores[judge]["accuracy"] for judge in ("course", "judge")}
    found, floor = ({name: round(of[name], 4) for name in SCORES} for of in (scores, scores["floor"]))
    return {"row": asdict(row), **judged, **found, "floor": floor}


def tradeoff(config: Config, file: Path) -> None:
    """Measure the rows that the result file does not hold yet."""
    content = read_results(file)
    if not content or stale(content):
        content = {"weights": digests("p2_ddpm"), "per_class": PER_CLASS, "rows": []}
    for number, row in enumerate(ROWS, 1):
        if not any(measured["row"] == asdict(row) for measured in content["rows"]):
            content["rows"].append(draw_and_score(config, row, config.images / str(number)))
            write_results(file, content)


def figures(config: Config, file: Path) -> None:
    """Write the figures of the report."""
    device = pick_device("auto")
    network = ContextUnet()
    load_weights(network, CHECKPOINTS / "p2_ddpm.safetensors")
    network.eval().to(device=device, memory_format=torch.channels_last)

    def draw(keys: list[tuple[int, int]], sample: Any) -> Tensor:
        with autocast(device, "auto"):
            return draw_digits(network, keys, GUIDANCE, (0.0, 1.0), sample, chunk=len(keys))

    path: list[Tensor] = []

    def recorded(denoise: Any, x: Tensor, noise: Any) -> Tensor:
        path.extend((x, *(x for _, x in ancestral(denoise, x, noise))))
        return path[-1]

    def reversed_time(denoise: Any, x: Tensor, noise: Any) -> Tensor:
        return final(ancestral(time_reversed(denoise), x, noise))

    # The reverse process of the first zero: x_t of DDPM's own sampler, every t of it.
    draw([(0, 1)], recorded)
    frames = [to_uint8(x)[0] for x in path]  # frames[k] is x_t of t = T - k
    save_image(config.results / "p2_reverse.png", make_grid(torch.stack([frames[done] for done in SHOWN]), 6, scale=4))
    for name, sample in (("reversed_time", reversed_time), ("six_steps", six_of_600)):
        save_image(config.results / f"p2_{name}.png", make_grid(draw(digit_keys(1), sample), 10, scale=2))
    write_results(file, {"weights": digests("p2_ddpm")})


def main() -> None:
    config = parse_config(Config, __doc__)
    file = config.results / f"p2_{config.part}.json"
    (figures if config.part == "figures" else tradeoff)(config, file)
    print(file)


if __name__ == "__main__":
    run_script(main)
