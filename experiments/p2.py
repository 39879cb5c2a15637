"""Problem 2 in numbers and figures: what samplers, steps and guidance are worth, and the original's mistakes.

    python3 -m experiments.p2 --part tradeoff    # sampler x steps x guidance: judges, FID, diversity, time
    python3 -m experiments.p2 --part figures     # grids, the reverse process as six images and a GIF, the mistakes

The trade-off draws --per-class digits of every class for each row, always from the same noise, and writes
results/p2_tradeoff.json after each, so that it can be killed and started again; a Markdown table is printed.
FID is against 2,000 val images, its floor that of as many training images.  About four hours on two CPU cores.

The figures are PNG and GIF files in results/ and take two minutes.
"""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import p2_inference
from common.checkpoint import load_weights
from common.config import option, parse_config, run_script
from common.device import autocast, pick_device
from common.images import make_grid, save_gif, save_image, to_uint8
from evaluation.judges import class_accuracies, classify, digit_quality, load_judge
from experiments.runs import RESULTS, read_results, table, write_results
from models.ddpm import ContextUnet
from models.diffusion import TIMESTEPS, alpha_bar_schedule, ancestral, final
from sampling.digits import digit_keys, draw_digits

HERE = Path(__file__).resolve().parent.parent
STEPS = (5, 8, 10, 12, 15, 20, 30, 50)
SCALES = (0.0, 0.5, 1.0, 2.0, 4.0)
DEFAULT = p2_inference.Config(Path())  # what hw2_2.sh does
SCALE = DEFAULT.guidance_scale
EVERYWHERE, EARLY, MIDDLE = (0.0, 1.0), (0.1, 1.0), (0.1, 0.8)  # where guidance acts, in t / T
SHOWN = [round(TIMESTEPS * share / 5) for share in range(6)]  # steps done in the six images of the reverse process
Row = tuple[str, str, int, float, tuple[float, float]]  # sampler, spacing, steps, guidance scale, interval


@dataclass(frozen=True)
class Config:
    part: str = option("tradeoff", "what to make", choices=("tradeoff", "figures"))
    data: Path = option(Path("hw2_data/digits/mnistm"), "MNIST-M: folder with data/, train.csv and val.csv")
    weights: Path = option(HERE / "checkpoints" / "p2_ddpm.safetensors", "network's weights")
    classifier: str = option("hw2_data/Classifier.pth", "the course's classifier, empty = our judge alone")
    results: Path = option(RESULTS, "folder of the result files")
    per_class: int = option(50, "images of each digit and row", low=2, high=10_000)
    rows: int = option(0, "only the first so many rows, 0 = all", low=0)
    device: str = option("auto", "auto, cpu, cuda, mps ...")
    precision: str = option("auto", "auto = bf16 where it is fast", choices=("auto", "bf16", "fp32"))


def grid() -> list[Row]:
    """The rows: 2M by steps and scale, intervals and other spacings; DDIM by steps; DDPM's own sampler."""
    rows: list[Row] = [("dpm", "karras", steps, scale, EVERYWHERE) for scale in SCALES for steps in STEPS]
    intervals = [(scale, interval) for interval in (EARLY, MIDDLE) for scale in (1.0, 2.0, 4.0)]
    rows += [("dpm", "karras", steps, scale, interval) for scale, interval in intervals for steps in (8, 10, 20)]
    rows += [("dpm", spacing, steps, SCALE, EVERYWHERE) for spacing in ("quadratic", "uniform") for steps in (8, 20)]
    rows += [("ddim", "quadratic", steps, SCALE, EVERYWHERE) for steps in STEPS]
    return [*rows, *(("ancestral", "uniform", TIMESTEPS, scale, EVERYWHERE) for scale in (SCALE, 0.0))]


def row_of(result: dict[str, Any]) -> Row:
    """The row that an entry of the result file is of; JSON has made lists of its tuples."""
    sampler, spacing, steps, scale, interval = result["row"]
    return sampler, spacing, steps, scale, tuple(interval)


def sampler_of(row: Row) -> Any:
    """The row's sampler as a function (denoise, x_T, noise) -> x_0."""
    sampler, spacing, steps, _, _ = row
    return p2_inference.make_sampler(replace(DEFAULT, sampler=sampler, spacing=spacing, steps=steps))


def load_network(config: Config, device: torch.device) -> ContextUnet:
    network = ContextUnet()
    load_weights(network, config.weights)
    return network.eval().to(device=device, memory_format=torch.channels_last)


def tradeoff(config: Config, device: torch.device) -> dict[str, Any]:
    """Draw and score the digits of every row that the result file does not hold yet; its content."""
    file = config.results / "p2_tradeoff.json"
    network = load_network(config, device)
    metadata = load_weights(ContextUnet(), config.weights)
    content = read_results(file)
    if content.get("trained_images") != metadata.get("images") or content.get("per_class") != config.per_class:
        content = {"trained_images": metadata.get("images"), "per_class": config.per_class, "rows": []}
    keys = digit_keys(config.per_class)
    labels = torch.tensor([digit for digit, _ in keys])
    judges = {"judge": load_judge(None, device)}
    if config.classifier:
        judges["course"] = load_judge(Path(config.classifier), device)
    rows = grid()[: config.rows or None]
    order = {row: place for place, row in enumerate(grid())}
    for number, row in enumerate(rows, 1):
        if any(row_of(done) == row for done in content["rows"]):
            continue
        start = time.perf_counter()
        with autocast(device, config.precision):
            digits = draw_digits(network, keys, row[3], row[4], sampler_of(row))
        seconds = time.perf_counter() - start
        scores = digit_quality(digits, config.data, judges, "auto", device)
        result = {
            "row": row,
            **{name: class_accuracies(classify(judge, digits, device), labels)[0] for name, judge in judges.items()},
            "fid": scores["fid"],
            "fid_floor": scores["floor"]["fid"],
            "kid_x1000": scores["kid_x1000"],
            **{name: scores[name] for name in ("density", "coverage", "recall")},
            "nearest_training_image": scores["nearest_training_image"],
            "seconds_per_1000": 1000 * seconds / len(keys),
        }
        content["rows"].append(result)
        content["rows"].sort(key=lambda done: order.get(row_of(done), len(order)))  # others, of an older grid, last
        content["real_accuracy"] = scores["real_accuracy"]
        write_results(file, content)
        print(f"{number} of {len(rows)}: {result}")
    return content


def show(content: dict[str, Any]) -> str:
    """The trade-off as a Markdown table."""
    header = [
        "sampler",
        "steps",
        "w",
        "interval",
        "course %",
        "judge %",
        "FID",
        "floor",
        "KID x 1000",
        "recall",
        "s",
    ]
    rows = []
    for result in content["rows"]:
        sampler, spacing, steps, scale, interval = result["row"]
        accuracies = [f"{100 * result[name]:.1f}" if name in result else "-" for name in ("course", "judge")]
        row = [f"{sampler} {spacing}", str(steps), f"{scale:g}", f"{interval[0]:g}-{interval[1]:g}", *accuracies]
        row += [f"{result[name]:.1f}" for name in ("fid", "fid_floor", "kid_x1000")]
        rows.append([*row, f"{result.get('recall', float('nan')):.2f}", f"{result['seconds_per_1000']:.0f}"])
    return table(header, rows)


def figures(config: Config, device: torch.device) -> None:
    """Write the figures of the report."""
    network = load_network(config, device)

    def draw(keys: list[tuple[int, int]], sample: Any, interval: tuple[float, float] = EVERYWHERE) -> Tensor:
        with autocast(device, config.precision):
            return draw_digits(network, keys, SCALE, interval, sample, chunk=min(100, len(keys)))

    digits = draw(digit_keys(10), p2_inference.make_sampler(DEFAULT), (DEFAULT.guidance_from, DEFAULT.guidance_to))
    save_image(config.results / "p2_grid.png", make_grid(digits, 10, scale=2))

    # The reverse process of the first zero: x_t of DDPM's own sampler, every t of it.
    path: list[Tensor] = []

    def record(denoise: Any, x: Tensor, noise: Any) -> Tensor:
        path.append(x)
        path.extend(x for _, x in ancestral(denoise, x, noise))
        return path[-1]

    draw([(0, 1)], record)
    frames = [to_uint8(x)[0] for x in path]  # frames[k] is x_t of t = T - k
    save_image(config.results / "p2_reverse.png", make_grid(torch.stack([frames[done] for done in SHOWN]), 6, scale=4))
    large = [frame.repeat_interleave(4, 1).repeat_interleave(4, 2) for frame in [*frames[::10], *[frames[-1]] * 20]]
    save_gif(config.results / "p2_reverse.gif", large, milliseconds=60)

    def reversed_time(denoise: Any, x: Tensor, noise: Any) -> Tensor:
        return final(ancestral(lambda x, t: denoise(x, TIMESTEPS + 1 - t), x, noise))

    def six_of_600(denoise: Any, x: Tensor, noise: Any) -> Tensor:
        """Six of the sampler's 600 steps, each as small as ever: nearly all of the noise stays."""
        alpha_bar = alpha_bar_schedule().tolist()
        for t in range(TIMESTEPS, 0, -TIMESTEPS // 6):
            alpha = alpha_bar[t] / alpha_bar[t - 1]
            x = (x - (1 - alpha) / (1 - alpha_bar[t]) ** 0.5 * denoise(x, t)) / alpha**0.5
            x = x + (1 - alpha) ** 0.5 * noise(t)
        return x

    save_image(config.results / "p2_reversed_time.png", make_grid(draw(digit_keys(1), reversed_time), 10, scale=2))
    save_image(config.results / "p2_six_steps.png", make_grid(draw(digit_keys(1), six_of_600), 10, scale=2))


def main() -> None:
    config = parse_config(Config, __doc__)
    device = pick_device(config.device)
    if config.part == "figures":
        figures(config, device)
    else:
        print(show(tradeoff(config, device)))


if __name__ == "__main__":
    run_script(main)
