"""The report's vector figures, from the result files that the other experiments write.

Lines differ by colour, of a palette that the colour-blind can tell apart (Okabe and Ito 2008), and by marker; digits
are drawn as digits.  The same result files give the same figures.  `python3 -m experiments.report` draws all of them.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from models.diffusion import TIMESTEPS

BLUE, ORANGE, GREEN, RED, BLACK = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#000000"
DIGITS = ["#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#8C564B", "#7F7F7F", "#B8A800", "#4B0082"]
STYLE = {
    "svg.hashsalt": "dlcv-hw2",
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.constrained_layout.use": True,
    "legend.frameon": False,
    "legend.fontsize": 7,
    "lines.markersize": 4,
}
WIDTH = 6.7  # inches, of the report's text

Results = dict[str, Any]  # the contents of result files by the files' names without suffix


def counted(images: float) -> str:
    return f"{images / 1e6:g} M" if images >= 1e6 else f"{images / 1000:g}k"


def log_axis(axes: Axes, label: str, ticks: Sequence[float], text: Callable[[float], str] = "{:g}".format) -> None:
    """A logarithmic x axis with these ticks alone."""
    axes.set(xscale="log", xlabel=label)
    axes.set_xticks(ticks, map(text, ticks), minor=False)
    axes.xaxis.minorticks_off()


def draw_long(found: Results) -> None:
    """B's critic with BatchNorm and without: FID over images seen, short trainings hollow; the gradient penalty."""
    _, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 2.5), width_ratios=(1.35, 1))
    runs, archived = found["archive/p1_wgan_long"]["runs"], found["archive/p1_wgan"]["rows"]
    for name, stages, short, color, marker in (
        ("with", ("bn_t", "bn_t_2"), archived["  1 and joint at 2e-4 and 4e-4"], ORANGE, "s"),
        ("without", ("nb_t", "nb_t_2"), found["p1_wgan"]["rows"]["penalty, no BatchNorm"], BLUE, "o"),
    ):
        label = f"B, critic {name} BatchNorm"
        ends = [(runs[stage]["images"][1], runs[stage]["fid"]) for stage in stages]
        left.plot(*zip(*ends, strict=True), color=color, marker=marker, markersize=5, label=label)
        fid, style = short["runs"][0]["fid"][-1], {"markersize": 5, "markerfacecolor": "none"}
        label_short = f"B after {counted(short['images'])} images, {name} BatchNorm"
        left.plot(short["images"], fid, marker, color=color, label=label_short, **style)
        log = [line for stage in stages for line in runs[stage]["log"]][2:]  # the first are of an unlearned critic
        right.plot([line[0] for line in log], [line[2] for line in log], color=color, label=label, linewidth=1)
    curve = found["archive/p1_curve"]["dcgan"]["fid"]
    left.plot(*zip(*curve, strict=True), color="0.6", linewidth=1, label="A, the released DCGAN")
    left.set(ylabel="FID against held-out faces", ylim=(20, 175))
    log_axis(left, "images seen", [5e4, 1e5, 2e5, 5e5, 1e6, 2e6, 5e6], counted)
    right.set(yscale="log", xlabel="images seen", ylabel="gradient penalty")
    right.set_yticks([0.003, 0.01, 0.03], ["0.003", "0.01", "0.03"])
    right.yaxis.set_minor_formatter("")
    right.xaxis.set_major_formatter(lambda images, _: counted(images))
    left.legend()
    right.legend()


def draw_lesson(found: Results) -> None:
    """The share of images that the discriminator tells right, by normalisation: means over tenths of a training."""
    figure, axes = plt.subplots(figsize=(3.1, 2.2))
    for name, label, color, style in (
        ("tanh_range", "[−1, 1]", BLUE, "-"),
        ("imagenet", "ImageNet’s", RED, "-"),
        ("tanh_range_joint", "[−1, 1], joint batches", BLUE, "--"),
        ("imagenet_joint", "ImageNet’s, joint batches", RED, "--"),
    ):
        values = found["archive/p1_lesson"][name]["accuracy_d"]
        ends = [len(values) * tenth // 10 for tenth in range(11)]
        means = [fmean(values[begin:end]) for begin, end in zip(ends, ends[1:], strict=False)]
        axes.plot(range(5, 100, 10), means, style, color=color, label=label)
    axes.set(xlabel="training, %", ylabel="discriminator right", ylim=(0.45, 1.02))
    figure.legend(loc="outside upper center", ncols=2)


def draw_steps(found: Results) -> None:
    """FID by network calls for an image, of three samplers at a guidance scale of 4."""
    _, axes = plt.subplots(figsize=(3.3, 2.4))
    rows = found["archive/p2_tradeoff"]["rows"]
    for kind, label, color, marker in (
        (["dpm", "karras"], "DPM-Solver++(2M)", BLUE, "o"),
        (["ddim", "quadratic"], "DDIM", ORANGE, "s"),
        (["ancestral", "uniform"], "DDPM’s own", BLACK, "^"),
    ):
        points = [(row["row"][2], row["fid"]) for row in rows if row["row"] == [*kind, row["row"][2], 4.0, [0.0, 1.0]]]
        axes.plot(*zip(*sorted(points), strict=True), color=color, marker=marker, label=label)
    axes.axhline(rows[0]["fid_floor"], color="0.6", linewidth=2, label="as many real digits")
    log_axis(axes, "network calls for an image", [5, 8, 12, 20, 50, TIMESTEPS])
    axes.set_ylabel("FID")
    axes.legend()


def draw_guidance(found: Results) -> None:
    """By the scale of guidance, eight calls: what is read, and how much of the real digits' variety is there."""
    _, (top, below) = plt.subplots(2, 1, figsize=(3.3, 2.4), sharex=True)
    alike = {"steps": 8, "guidance_from": 0.1, "guidance_to": 1.0, "sampler": "dpm", "spacing": "karras"}
    rows = [row for row in found["p2_tradeoff"]["rows"] if alike.items() <= row["row"].items()]
    rows.sort(key=lambda row: row["row"]["guidance_scale"])
    scales = [row["row"]["guidance_scale"] for row in rows]
    for axes, name, label, unit, color, marker in (
        (top, "course", "the course’s classifier", 100, BLUE, "o"),
        (top, "judge", "our judge", 100, GREEN, "s"),
        (below, "coverage", "coverage", 1, ORANGE, "D"),
        (below, "recall", "recall", 1, RED, "v"),
    ):
        axes.plot(scales, [unit * row[name] for row in rows], color=color, marker=marker, label=label)
        axes.legend()
    top.set_ylabel("read, %")
    below.set(xlabel="scale of guidance, w", ylabel="variety")


def draw_features(found: Results, target: str) -> None:
    """t-SNE of features of source and target images by three networks, coloured by class and by domain."""
    _, grid = plt.subplots(3, 2, figsize=(WIDTH, 4.0))
    names = {"source only": "source only", "DANN": "DANN, plain recipe", "released": "ours, released"}
    domains = {"MNIST-M": "#A9BACB", target.upper(): BLACK}
    sides = {"class": dict(zip(map(str, range(10)), DIGITS, strict=True)), "domain": domains}
    for by, column in zip(sides, grid.T, strict=True):
        for axes, (name, title) in zip(column, names.items(), strict=True):
            points = found["p3_features"]["maps"][f"{target}, {name}"]
            for value, color in enumerate(sides[by].values()):
                chosen = [index for index, which in enumerate(points[by]) if which == value]
                x, y = ([points[axis][index] for index in chosen] for axis in "xy")
                marker, size = (f"${value}$", 10) if by == "class" else ("o", 2)
                axes.scatter(x, y, size, color=color, marker=marker, linewidths=0.2, rasterized=True)
            axes.axis("off")
            axes.set_title(title, fontsize=8)
        dots = [Line2D([], [], color=color, marker="o", linestyle="none", label=k) for k, color in sides[by].items()]
        place = {"loc": "upper center", "bbox_to_anchor": (0.5, 0), "ncols": 10}
        column[-1].legend(handles=dots, columnspacing=0.5, handletextpad=0, handlelength=1.2, **place)


def draw_collapse(found: Results) -> None:
    """Against alpha's cap: accuracies and the share of the commonest prediction; the norm of the features."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 2.3), width_ratios=(1.4, 1))
    rows = found["p3_collapse"]["svhn"]
    caps = [float(name.removeprefix("alpha to ")) for name in rows]

    def commonest(run: dict[str, Any]) -> float:
        return max(run["predictions"]) / sum(run["predictions"])

    for axes, label, color, marker, value in (
        (left, "accuracy on the source", GREEN, "^", lambda run: run["val_accuracy"]),
        (left, "accuracy on the target", BLUE, "o", lambda run: run["accuracy"]),
        (left, "share of the commonest prediction", ORANGE, "s", commonest),
        (right, "", BLUE, "o", lambda run: run["feature_norm"]),
    ):
        values = [[value(run) for run in row["runs"]] for row in rows.values()]
        for cap, runs in zip(caps, values, strict=True):
            axes.scatter([cap] * len(runs), runs, color=color, marker=marker, s=8, alpha=0.5)
        axes.plot(caps, list(map(fmean, values)), color=color, marker=marker, markersize=3, label=label)
    for axes in (left, right):
        log_axis(axes, "cap of α", [0.1, 0.2, 0.5, 1, 2, 4, 8])
    left.set(ylim=(0, 1.02), ylabel="share")
    right.set(ylim=(0, None), ylabel="mean norm of features")
    figure.legend(loc="outside lower center", ncols=3)


FIGURES: dict[str, Callable[[Results], None]] = {
    "p1_long": draw_long,
    "p1_lesson": draw_lesson,
    "p2_steps": draw_steps,
    "p2_guidance": draw_guidance,
    "p3_tsne_svhn": lambda found: draw_features(found, "svhn"),
    "p3_tsne_usps": lambda found: draw_features(found, "usps"),
    "p3_collapse": draw_collapse,
}


def draw_all(found: Results, build: Path) -> None:
    with plt.rc_context(STYLE):
        for name, draw in FIGURES.items():
            draw(found)
            plt.savefig(build / f"{name}.svg", metadata={"Date": None}, dpi=250)
            plt.close()
