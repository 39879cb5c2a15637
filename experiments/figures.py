"""The report's vector figures, from the result files that the other experiments write.

Lines differ by colour, of a palette that the colour-blind can tell apart (Okabe and Ito 2008), and by marker; digits
are drawn as digits.  The same result files give the same figures.  `python3 -m experiments.report` draws all of them.
"""

from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from data.reading import NUM_CLASSES
from models.diffusion import TIMESTEPS

BLUE, ORANGE, GREEN, RED, BLACK = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#000000"
DIGITS = ["#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#8C564B", "#7F7F7F", "#B8A800", "#000000"]
STYLE = {"svg.hashsalt": "dlcv-hw2", "font.size": 8, "axes.spines.top": False, "axes.spines.right": False}
WIDTH = 6.7  # inches, of the report's text


def counted(images: float, _: int = 0) -> str:
    """The label of a tick that counts images."""
    return f"{images / 1e6:g} M" if images >= 1e6 else f"{images / 1000:g}k"


def draw_long(long: dict[str, Any], curves: dict[str, Any], short: dict[str, float]) -> Figure:
    """BatchNorm or none: FID over images seen, beside a short training's answer; the size of the gradient penalty."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 2.5), layout="constrained", width_ratios=(1.35, 1))
    runs = long["runs"]
    for label, stages, color, marker in (
        ("B, critic with BatchNorm", ("bn_t", "bn_t_2"), ORANGE, "s"),
        ("B, critic without", ("nb_t", "nb_t_2"), BLUE, "o"),
    ):
        ends = [(runs[name]["images"][1], runs[name]["fid"]) for name in stages]
        left.plot(*zip(*ends, strict=True), color=color, marker=marker, markersize=5, label=label)
        log = [line for name in stages for line in runs[name]["log"]][2:]  # the first lines are of an unlearned critic
        right.plot([line[0] for line in log], [line[2] for line in log], color=color, label=label, linewidth=1)
    left.plot(*zip(*curves["dcgan"]["fid"], strict=True), color="0.6", linewidth=1, label="A, the released DCGAN")
    for name, color, marker in (("with", ORANGE, "s"), ("without", BLUE, "o")):
        label = f"A after {counted(short['images'])} images, {name} BatchNorm"
        style = {"markerfacecolor": "none", "linestyle": "none", "markersize": 5}
        left.plot(short["images"], short[name], color=color, marker=marker, label=label, **style)
    left.set(xscale="log", xlabel="images seen", ylabel="FID against held-out faces", ylim=(20, 175))
    left.legend(frameon=False, fontsize=7)
    right.set(yscale="log", xlabel="images seen", ylabel="gradient penalty")
    right.legend(frameon=False, fontsize=7)
    left.set_xticks([5e4, 1e5, 2e5, 5e5, 1e6, 2e6, 5e6], minor=False)
    for axes in (left, right):
        axes.xaxis.set_major_formatter(counted)
    left.minorticks_off()
    return figure


def draw_lesson(content: dict[str, Any]) -> Figure:
    """The share of images that the discriminator tells right, by normalisation: means over tenths of a training."""
    figure, axes = plt.subplots(figsize=(3.1, 2.2), layout="constrained")
    labels = {
        "tanh_range": "[−1, 1]",
        "imagenet": "ImageNet’s",
        "tanh_range_joint": "[−1, 1], joint batches",
        "imagenet_joint": "ImageNet’s, joint batches",
    }
    for name, label in labels.items():
        color, style = RED if "imagenet" in name else BLUE, "--" if "joint" in name else "-"
        values = content[name]["accuracy_d"]
        tenths: dict[int, list[float]] = {}
        for i, value in enumerate(values):
            tenths.setdefault(10 * i // len(values), []).append(value)
        axes.plot(
            [10 * tenth + 5 for tenth in tenths], list(map(fmean, tenths.values())), style, color=color, label=label
        )
    axes.set(xlabel="training, %", ylabel="share told right", ylim=(0.45, 1.02))
    figure.legend(frameon=False, loc="outside upper center", ncols=2, fontsize=7)
    return figure


def draw_steps(content: dict[str, Any], scale: float = 4.0) -> Figure:
    """FID by network calls for an image, of three samplers at one guidance scale."""
    figure, axes = plt.subplots(figsize=(3.3, 2.4), layout="constrained")
    for (sampler, spacing), label, color, marker in (
        (("dpm", "karras"), "DPM-Solver++(2M)", BLUE, "o"),
        (("ddim", "quadratic"), "DDIM", ORANGE, "s"),
        (("ancestral", "uniform"), "DDPM’s own", BLACK, "^"),
    ):
        points = [
            (row["row"][2], row["fid"])
            for row in content["rows"]
            if row["row"][:2] == [sampler, spacing] and row["row"][3] == scale and row["row"][4] == [0, 1]
        ]
        axes.plot(*zip(*sorted(points), strict=True), color=color, marker=marker, markersize=3.5, label=label)
    axes.axhline(content["rows"][0]["fid_floor"], color="0.6", linewidth=2, label="as many real digits")
    axes.set(xscale="log", xlabel="network calls for an image", ylabel="FID")
    axes.set_xticks([5, 8, 12, 20, 50, TIMESTEPS], [5, 8, 12, 20, 50, TIMESTEPS], minor=False)
    axes.minorticks_off()
    axes.legend(frameon=False, fontsize=7)
    return figure


def draw_guidance(rows: list[dict[str, Any]]) -> Figure:
    """By the scale of guidance: what is read, and how much of the real digits' variety is there.

    `rows` have "scale", "course" and "judge", and either "coverage" and "recall" or only "fid".
    """
    figure, (top, below) = plt.subplots(2, 1, figsize=(3.3, 2.4), layout="constrained", sharex=True)
    rows = sorted(rows, key=lambda row: row["scale"])
    scales = [row["scale"] for row in rows]
    lines = [
        (top, "course", "the course’s classifier", BLUE, "o"),
        (top, "judge", "our judge", GREEN, "s"),
        (below, "coverage", "coverage", ORANGE, "D"),
        (below, "recall", "recall", RED, "v"),
    ]
    if "recall" not in rows[0]:
        lines[2:] = [(below, "fid", "FID", ORANGE, "D")]
    for axes, name, label, color, marker in lines:
        axes.plot(scales, [row[name] for row in rows], color=color, marker=marker, markersize=3.5, label=label)
        axes.legend(frameon=False, fontsize=7)
    top.set(ylabel="share read")
    below.set(xlabel="scale of guidance, w", ylabel="FID" if "recall" not in rows[0] else "variety")
    return figure


def draw_points(axes: Axes, points: dict[str, Any], by: str) -> None:
    """One t-SNE map, coloured by "class" or by "domain"."""
    for value in range(NUM_CLASSES) if by == "class" else range(2):
        chosen = [index for index, found in enumerate(points[by]) if found == value]
        style = {"marker": f"${value}$", "s": 11, "linewidths": 0.2} if by == "class" else {"marker": ".", "s": 7}
        x, y = ([points[axis][index] for index in chosen] for axis in "xy")
        color = DIGITS[value] if by == "class" else (BLUE, ORANGE)[value]
        axes.scatter(x, y, color=color, rasterized=True, **style)
    axes.set(xticks=[], yticks=[])


def draw_features(maps: dict[str, Any], target: str) -> Figure:
    """Four t-SNE maps of one scenario: before and after adaptation, by class and by domain."""
    figure, grid = plt.subplots(2, 2, figsize=(WIDTH, 4.5), layout="constrained")
    names = {"source only": "source only", "released": "DANN and mean teacher"}
    for row, (name, title) in zip(grid, names.items(), strict=True):
        for axes, by in zip(row, ("class", "domain"), strict=True):
            draw_points(axes, maps[f"{target}, {name}"], by)
            axes.set_title(f"{title}: coloured by {by}", fontsize=9)
    dot = {"marker": "o", "linestyle": "none", "markersize": 5}
    handles = [Line2D([], [], color=color, label=str(digit), **dot) for digit, color in enumerate(DIGITS)]
    domains = zip((BLUE, ORANGE), ("MNIST-M", target.upper()), strict=True)
    handles += [Line2D([], [], color=color, label=label, **(dot | {"marker": "s"})) for color, label in domains]
    figure.legend(
        handles=handles, loc="outside lower center", ncols=12, frameon=False, columnspacing=0.9, handletextpad=0
    )
    return figure


def draw_collapse(rows: dict[str, Any]) -> Figure:
    """Against alpha's cap: accuracies and the share of the commonest prediction; the norm of the features."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 2.3), layout="constrained", width_ratios=(1.4, 1))
    caps = [float(name.removeprefix("alpha to ")) for name in rows]
    for axes, label, color, marker, value in (
        (left, "accuracy on the source", GREEN, "^", lambda run: run["val_accuracy"]),
        (left, "accuracy on the target", BLUE, "o", lambda run: run["accuracy"]),
        (
            left,
            "share of the commonest prediction",
            ORANGE,
            "s",
            lambda run: max(run["predictions"]) / sum(run["predictions"]),
        ),
        (right, "", BLUE, "o", lambda run: run["feature_norm"]),
    ):
        values = [[value(run) for run in row["runs"]] for row in rows.values()]
        for cap, runs in zip(caps, values, strict=True):
            axes.scatter([cap] * len(runs), runs, color=color, marker=marker, s=8, alpha=0.5)
        axes.plot(caps, list(map(fmean, values)), color=color, marker=marker, markersize=3, label=label)
    for axes in (left, right):
        axes.set(xscale="log", xlabel="cap of α")
        axes.set_xticks(caps, [f"{cap:g}" for cap in caps], minor=False, rotation=60)
        axes.minorticks_off()
    left.set(ylim=(0, 1.02), ylabel="share")
    right.set(ylim=(0, None), ylabel="mean norm of features")
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=7)
    return figure


def guidance_rows(found: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of `draw_guidance`: of the new trade-off if it has enough of them, else of the archived one."""
    rows = [
        row | {"scale": row["row"]["guidance_scale"]}
        for row in found.get("p2_tradeoff", {}).get("rows", ())
        if (row["row"]["sampler"], row["row"]["spacing"], row["row"]["steps"]) == ("dpm", "karras", 8)
        and (row["row"]["guidance_from"], row["row"]["guidance_to"]) == (0.1, 1.0)
    ]
    if len(rows) > 2:
        return rows
    alike = [row for row in found["archive/p2_tradeoff"]["rows"] if row["row"][:3] == ["dpm", "karras", 8]]
    return [row | {"scale": row["row"][3]} for row in alike if row["row"][4] == [0, 1]]


def draw_all(found: dict[str, Any], build: Path) -> list[Path]:
    """Draw the figures of the contents of result files, by the files' names without suffix; the figures' paths."""
    plt.rcParams.update(STYLE)
    joint = found["p1_dcgan"]["rows"]["  joint batches"]["runs"][0]["fid"][-1]
    without = found["archive/p1_dcgan"]["rows"]["  no BatchNorm but R1"]["runs"][0]["fid"][-1]
    short = {"images": found["p1_dcgan"]["images"], "with": joint, "without": without}
    figures: dict[str, Callable[[], Figure]] = {
        "p1_long": lambda: draw_long(found["archive/p1_wgan_long"], found["archive/p1_curve"], short),
        "p1_lesson": lambda: draw_lesson(found["p1_lesson"]),
        "p2_steps": lambda: draw_steps(found["archive/p2_tradeoff"]),
        "p2_guidance": lambda: draw_guidance(guidance_rows(found)),
        "p3_tsne_svhn": lambda: draw_features(found["p3_features"]["maps"], "svhn"),
        "p3_tsne_usps": lambda: draw_features(found["p3_features"]["maps"], "usps"),
        "p3_collapse": lambda: draw_collapse(found["p3_collapse"]["svhn"]),
    }
    for name, draw in figures.items():
        figure = draw()
        figure.savefig(build / f"{name}.svg", metadata={"Date": None}, dpi=200)
        plt.close(figure)
    return [build / f"{name}.svg" for name in figures]
