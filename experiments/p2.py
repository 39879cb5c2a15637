"""Problem 2 in numbers and figures: what samplers, steps and guidance are worth, and the original's mistakes.

    p2_tradeoff   a row of scores for each of ROWS, four minutes each on two CPU cores
    p2_figures    the reverse process in six images, the original's mistakes; two minutes

A row of the trade-off is 1,000 digits of p2_inference.py by other options, from the same noise, scored by evaluate.py
against *training* digits: so val has no part in the choice of the default and only reports what was chosen.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import p2_inference
from common.checkpoint import CHECKPOINTS, load_weights
from common.device import autocast, pick_device
from common.images import make_grid, save_image, to_uint8
from experiments.headline import SCORES, score_digits
from experiments.runs import Config, digests, read_results, run, stale, write_results
from models.ddpm import ContextUnet
from models.diffusion import TIMESTEPS, ancestral, final
from sampling.digits import digit_keys, draw_digits, six_of_600, time_reversed

SHOWN = [round(TIMESTEPS * share / 5) for share in range(6)]  # steps done in the six images of the reverse process
PER_CLASS = 100  # images of each digit and row
# Options of p2_inference.py; guidance acts where t / T is from `guidance_from` to `guidance_to`.
FIRST: dict[str, Any] = {
    "guidance_scale": 2.0,
    "steps": 8,
    "guidance_from": 0.1,
    "guidance_to": 1.0,
    "sampler": "dpm",
    "spacing": "karras",
}
ROWS = [
    *(FIRST | {"guidance_scale": scale} for scale in (2.0, 2.5, 1.0, 0.0, 4.0)),
    FIRST | {"guidance_to": 0.8},
    FIRST | {"guidance_to": 0.8, "guidance_scale": 1.5},
    FIRST | {"guidance_from": 0.25, "steps": 10},
    FIRST | {"guidance_from": 0.25, "steps": 9},
]


def draw_and_score(config: Config, row: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Draw a row's digits into a folder and score them against training digits; its entry of the result file."""
    options = [part for name, value in row.items() for part in (f"--{name.replace('_', '-')}", value)]
    run("p2_inference.py", folder, *options, "--per-class", PER_CLASS)
    scores = score_digits(folder, config.classifier, config.data / "digits" / "mnistm", "train")
    judged = {judge: scores[judge]["accuracy"] for judge in ("course", "judge")}
    found, floor = ({name: round(of[name], 4) for name in SCORES} for of in (scores, scores["floor"]))
    return {"row": row, **judged, **found, "floor": floor}


def tradeoff(config: Config) -> None:
    """Measure the rows that the result file does not hold yet."""
    content = read_results(config.file)
    if not content or stale(content):
        content = {"weights": digests("p2_ddpm"), "per_class": PER_CLASS, "rows": []}
    for number, row in enumerate(ROWS, 1):
        if not any(measured["row"] == row for measured in content["rows"]):
            content["rows"].append(draw_and_score(config, row, config.runs / "p2" / str(number)))
            write_results(config.file, content)


def figures(config: Config) -> None:
    """Draw the figures of the report."""
    device = pick_device("auto")
    network = ContextUnet()
    load_weights(network, CHECKPOINTS / "p2_ddpm.safetensors")
    network.eval().to(device=device, memory_format=torch.channels_last)

    def draw(keys: list[tuple[int, int]], sample: Any) -> Tensor:
        with autocast(device, "auto"):
            return draw_digits(network, keys, p2_inference.Config.guidance_scale, (0.0, 1.0), sample, chunk=len(keys))

    path: list[Tensor] = []

    def recorded(denoise: Any, x: Tensor, noise: Any) -> Tensor:
        path.extend((x, *(x for _, x in ancestral(denoise, x, noise))))
        return path[-1]

    # The reverse process of the first zero: x_t of DDPM's own sampler, every t of it.
    draw([(0, 1)], recorded)
    frames = [to_uint8(x)[0] for x in path]  # frames[k] is x_t of t = T - k
    save_image(config.results / "p2_reverse.png", make_grid(torch.stack([frames[done] for done in SHOWN]), 6, scale=4))
    mistakes = {
        "reversed_time": lambda denoise, x, noise: final(ancestral(time_reversed(denoise), x, noise)),
        "six_steps": six_of_600,
    }
    for name, sample in mistakes.items():
        save_image(config.results / f"p2_{name}.png", make_grid(draw(digit_keys(1), sample), 10, scale=2))
    write_results(config.file, {"weights": digests("p2_ddpm")})
