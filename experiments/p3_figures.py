"""Figures of problem 3 from the result files that experiments.p3 writes.

    python3 -m experiments.p3_figures     # results/p3_tsne_svhn.svg, p3_tsne_usps.svg, p3_collapse_svhn.svg

Digits are drawn as digits and domains in two colours that the colour-blind can tell apart.  The same result
files give the same figures.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from common.config import UserError, option, parse_config, run_script
from common.data import NUM_CLASSES
from experiments.runs import RESULTS, mean_and_spread, read_results

DOMAINS = {0: ("MNIST-M", "#0072B2"), 1: ("target", "#E69F00")}
STYLE = {"svg.hashsalt": "dlcv-hw2", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}


@dataclass(frozen=True)
class Config:
    results: Path = option(RESULTS, "folder of the result files and of the figures")


def save(figure: Figure, path: Path) -> None:
    figure.savefig(path, metadata={"Date": None}, dpi=200)
    plt.close(figure)
    print(path)


def draw_points(axes: Axes, points: dict[str, Any], by: str) -> None:
    """One t-SNE map, coloured by "class" or by "domain"."""
    for value in range(NUM_CLASSES) if by == "class" else DOMAINS:
        chosen = [index for index, found in enumerate(points[by]) if found == value]
        label, color = (str(value), f"C{value}") if by == "class" else DOMAINS[value]
        style = {"marker": f"${value}$", "s": 14, "linewidths": 0.2} if by == "class" else {"marker": ".", "s": 6}
        x, y = ([points[axis][index] for index in chosen] for axis in "xy")
        axes.scatter(x, y, color=color, label=label, rasterized=True, **style)
    axes.set_xticks([])
    axes.set_yticks([])


def draw_features(content: dict[str, Any], target: str) -> Figure:
    """Four t-SNE maps of one scenario: before and after adaptation, by class and by domain."""
    figure, grid = plt.subplots(2, 2, figsize=(7, 7), layout="constrained")
    for row, name in zip(grid, ("source only", "DANN"), strict=True):
        for axes, by in zip(row, ("class", "domain"), strict=True):
            draw_points(axes, content[f"{target}, {name}"], by)
            axes.set_title(f"{name}, by {by}")
    grid[1][1].legend(markerscale=3, frameon=False)
    return figure


def draw_collapse(rows: dict[str, Any]) -> Figure:
    """Accuracy on the target, and the share of the commonest prediction, against alpha's cap."""
    figure, axes = plt.subplots(figsize=(5, 3), layout="constrained")
    caps = [float(name.removeprefix("alpha to ")) for name in rows]
    accuracies = [[run["accuracy"] for run in row["runs"]] for row in rows.values()]
    commonest = [[max(run["predictions"]) / sum(run["predictions"]) for run in row["runs"]] for row in rows.values()]
    for values, label, color, marker in (
        (accuracies, "accuracy on the target", "#0072B2", "o"),
        (commonest, "share of the commonest prediction", "#E69F00", "s"),
    ):
        for cap, runs in zip(caps, values, strict=True):
            axes.scatter([cap] * len(runs), runs, color=color, marker=marker, s=10, alpha=0.6)
        axes.plot(caps, [mean_and_spread(runs)[0] for runs in values], color=color, label=label)
    axes.set(xscale="log", xlabel="cap of the reversal's strength alpha", ylim=(0, 1))
    axes.set_xticks(caps, [f"{cap:g}" for cap in caps], minor=False)
    axes.minorticks_off()
    axes.legend(frameon=False)
    return figure


def main() -> None:
    config = parse_config(Config, __doc__)
    plt.rcParams.update(STYLE)
    features, collapse = (read_results(config.results / f"p3_{part}.json") for part in ("features", "collapse"))
    if not features and not collapse:
        raise UserError(f"{config.results} holds neither p3_features.json nor p3_collapse.json, run experiments.p3")
    for target in dict.fromkeys(name.split(", ")[0] for name in features):
        save(draw_features(features, target), config.results / f"p3_tsne_{target}.svg")
    for target, rows in collapse.items():
        save(draw_collapse(rows), config.results / f"p3_collapse_{target}.svg")


if __name__ == "__main__":
    run_script(main)
