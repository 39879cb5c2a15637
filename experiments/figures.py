"""The report's vector figures, from the result files that the other experiments write.

    python3 -m experiments.figures     # build/p3_tsne_svhn.svg and so on, of what is in results/ already

Lines differ by colour, of a palette that the colour-blind can tell apart (Okabe and Ito 2008), and by marker; digits
are drawn as digits.  The same result files give the same figures.  `python3 -m experiments.report` draws all of them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from common.config import UserError, option, parse_config, run_script
from data.reading import NUM_CLASSES
from experiments.runs import METHODS, RESULTS, ROOT, mean_and_spread, read_results

BLUE, ORANGE, GREEN, PURPLE, RED, BLACK = "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#000000"
DOMAINS = {0: ("MNIST-M", BLUE), 1: ("target", ORANGE)}
STYLE = {"svg.hashsalt": "dlcv-hw2", "font.size": 8, "axes.spines.top": False, "axes.spines.right": False}
LINES = {"dcgan": (BLUE, "o"), "wgan": (ORANGE, "s")}


@dataclass(frozen=True)
class Config:
    results: Path = option(RESULTS, "folder of the result files")
    build: Path = option(ROOT / "build", "folder of the figures")


def thousands(images: float, _: int) -> str:
    """The label of a tick that counts images."""
    return f"{images / 1000:,.0f}k"


def draw_curves(content: dict[str, Any]) -> Figure:
    """FID over a training, and what the discriminator or critic says of faces it trains on and of held-out ones."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(6.7, 2.2), layout="constrained")
    for name, run in content.items():
        label, (color, marker) = METHODS[name], LINES[name]
        left.plot(*zip(*run["fid"], strict=True), color=color, marker=marker, markersize=3, label=label)
        images = [images for images, _ in run["train"]]
        gaps = [seen - unseen for (_, seen), (_, unseen) in zip(run["train"], run["held_out_faces"], strict=True)]
        right.plot(images, gaps, color=color, marker=marker, markersize=3, label=label)
    left.set(xlabel="images seen", ylabel="FID against held-out faces")
    right.set(xlabel="images seen", ylabel="training minus held-out faces")
    right.axhline(0, color="0.6", linewidth=0.7)
    for axes in (left, right):
        axes.set_xscale("log")  # one of them may be ten times as long as the other
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
        axes.xaxis.set_major_formatter(thousands)
        axes.xaxis.set_minor_locator(NullLocator())
        axes.legend(frameon=False)
    return figure


def draw_distances(content: dict[str, Any]) -> Figure:
    """The critic's distance in a training whose generator learns too fast, and in the default's."""
    figure, axes = plt.subplots(figsize=(3.9, 2.2), layout="constrained")
    for name, label, color, style in (("default", "the default", BLUE, "-"), ("fast", "twice as fast", RED, "--")):
        axes.plot(*zip(*content[name]["distance"], strict=True), style, color=color, label=label)
    axes.axhline(0, color="0.6", linewidth=0.7)
    lowest = min(distance for name in ("fast", "default") for _, distance in content[name]["distance"])
    axes.set(xlabel="generated images of training", ylabel="critic’s distance", ylim=(min(lowest, 0) - 0.5, 4))
    axes.xaxis.set_major_formatter(thousands)
    axes.legend(frameon=False)
    return figure


def draw_lesson(content: dict[str, Any]) -> Figure:
    """The share of images that the discriminator tells right, by normalisation: means over tenths of a training."""
    figure, axes = plt.subplots(figsize=(3.9, 2.2), layout="constrained")
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
        middles = [10 * tenth + 5 for tenth in tenths]
        axes.plot(middles, list(map(fmean, tenths.values())), style, color=color, label=label)
    axes.set(xlabel="training, %", ylabel="the discriminator is right", ylim=(0.45, 1.02))
    figure.legend(frameon=False, loc="outside upper center", ncols=2)
    return figure


def draw_tradeoff(content: dict[str, Any]) -> Figure:
    """Accuracy and FID by steps, for guidance scales of DPM-Solver++ and for DDIM, beside DDPM's own sampler."""
    judge = "course" if all("course" in row for row in content["rows"]) else "judge"
    figure, panels = plt.subplots(1, 2, figsize=(6.7, 2.9), layout="constrained")
    lines: dict[str, list[tuple[int, dict[str, Any]]]] = {}
    for result in content["rows"]:
        sampler, spacing, steps, scale, interval = result["row"]
        if tuple(interval) == (0, 1) and (sampler, spacing) != ("dpm", "quadratic") and spacing != "uniform":
            lines.setdefault(f"{sampler}, w = {scale:g}", []).append((steps, result))
    styles = zip((BLACK, BLUE, GREEN, ORANGE, RED, PURPLE), "ovs^DX", strict=True)
    colors = {}
    for (label, results), (color, marker) in zip(lines.items(), styles, strict=False):
        colors[label] = color
        for axes, score in zip(panels, (judge, "fid"), strict=True):
            x, y = [steps for steps, _ in results], [result[score] for _, result in results]
            dashes = "--" if label.startswith("ddim") else "-"
            axes.plot(x, y, dashes, color=color, marker=marker, markersize=3.5, label=label, linewidth=1.1)
    for result in (result for result in content["rows"] if result["row"][0] == "ancestral"):
        color = colors[f"dpm, w = {result['row'][3]:g}"]
        for axes, score in zip(panels, (judge, "fid"), strict=True):
            label = f"ancestral ({result['row'][2]}), w = {result['row'][3]:g}"
            axes.axhline(result[score], color=color, linestyle=":", linewidth=1, label=label)
    floor = mean_and_spread([result["fid_floor"] for result in content["rows"]])[0]
    panels[1].axhline(floor, color="0.6", linewidth=2, label="floor: real digits")
    steps = sorted({steps for results in lines.values() for steps, _ in results})
    for axes in panels:
        axes.set(xscale="log", xlabel="network calls per image")
        axes.set_xticks(steps, [str(count) for count in steps], minor=False)
        axes.minorticks_off()
    panels[0].set_ylabel(f"accuracy by {'the course’s classifier' if judge == 'course' else 'our judge'}")
    panels[1].set_ylabel("FID")
    figure.legend(*panels[1].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    return figure


def draw_confusion(confusions: dict[str, list[list[int]]]) -> Figure:
    """Counts of digits by their true class (rows) and by what each judge says (columns)."""
    figure, panels = plt.subplots(1, len(confusions), figsize=(6.7, 3.3), layout="constrained")
    for axes, (title, counts) in zip(panels, confusions.items(), strict=True):
        highest = max(map(max, counts))
        shades = [[(count / highest) ** 0.5 if count else 0 for count in row] for row in counts]
        axes.pcolormesh(shades, cmap="Blues", vmin=0, vmax=1.15, edgecolors="white", linewidth=0.6)
        for row, values in enumerate(counts):
            for column, count in enumerate(values):
                if count:
                    color = "white" if shades[row][column] > 0.6 else "black"
                    place = {"ha": "center", "va": "center", "fontsize": 6.5, "color": color}
                    axes.text(column + 0.5, row + 0.5, str(count), **place)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_ticks([digit + 0.5 for digit in range(NUM_CLASSES)], range(NUM_CLASSES))
            axis.set_tick_params(length=0)
        axes.invert_yaxis()
        axes.set(title=title, xlabel="taken for", ylabel="class", aspect="equal")
        axes.spines[:].set_visible(False)
    return figure


def draw_points(axes: Axes, points: dict[str, Any], by: str, target: str) -> None:
    """One t-SNE map, coloured by "class" or by "domain"."""
    for value in range(NUM_CLASSES) if by == "class" else DOMAINS:
        chosen = [index for index, found in enumerate(points[by]) if found == value]
        label, color = (str(value), f"C{value}") if by == "class" else DOMAINS[value]
        label = target.upper() if label == "target" else label
        style = {"marker": f"${value}$", "s": 14, "linewidths": 0.2} if by == "class" else {"marker": ".", "s": 6}
        x, y = ([points[axis][index] for index in chosen] for axis in "xy")
        axes.scatter(x, y, color=color, label=label, rasterized=True, **style)
    axes.set_xticks([])
    axes.set_yticks([])


def draw_features(content: dict[str, Any], target: str) -> Figure:
    """Four t-SNE maps of one scenario: before and after adaptation, by class and by domain."""
    figure, grid = plt.subplots(2, 2, figsize=(6.7, 4.7), layout="constrained")
    for row, name in zip(grid, ("source only", "DANN"), strict=True):
        for axes, by in zip(row, ("class", "domain"), strict=True):
            draw_points(axes, content[f"{target}, {name}"], by, target)
            axes.set_title(f"{name}, by {by}")
    grid[1][1].legend(markerscale=3, frameon=False)
    return figure


def draw_collapse(rows: dict[str, Any]) -> Figure:
    """Against alpha's cap: accuracies and the share of the commonest prediction; the norm of the features."""
    figure, panels = plt.subplots(1, 2, figsize=(6.7, 2.3), layout="constrained")
    caps = [float(name.removeprefix("alpha to ")) for name in rows]
    commonest = [[max(run["predictions"]) / sum(run["predictions"]) for run in row["runs"]] for row in rows.values()]
    accuracies, source, norms = (
        [[run[key] for run in row["runs"]] for row in rows.values()]
        for key in ("accuracy", "val_accuracy", "feature_norm")
    )
    for axes, values, label, color, marker in (
        (panels[0], source, "accuracy on the source", GREEN, "^"),
        (panels[0], accuracies, "accuracy on the target", BLUE, "o"),
        (panels[0], commonest, "share of the commonest prediction", ORANGE, "s"),
        (panels[1], norms, "", BLUE, "o"),
    ):
        for cap, runs in zip(caps, values, strict=True):
            axes.scatter([cap] * len(runs), runs, color=color, marker=marker, s=10, alpha=0.6)
        axes.plot(caps, [mean_and_spread(runs)[0] for runs in values], color=color, marker=marker, ms=3, label=label)
    for axes in panels:
        axes.set(xscale="log", xlabel="cap of the gradient reversal's strength alpha")
        axes.set_xticks(caps, [f"{cap:g}" for cap in caps], minor=False, rotation=60)
        axes.minorticks_off()
    panels[0].set_ylim(0, 1.02)
    panels[1].set(ylim=(0, None), ylabel="mean norm of features")
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


def save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None}, dpi=200)
    plt.close(figure)


def confusions(headline: dict[str, Any]) -> dict[str, list[list[int]]]:
    """What the two judges say of the digits of hw2_2.sh, by the title of their panel."""
    titles = {"course": "the course’s classifier", "judge": "our judge"}
    return {title: headline["digits"][judge]["confusion"] for judge, title in titles.items()}


def draw_all(found: dict[str, Any], build: Path) -> list[Path]:
    """Draw the figures of the contents of result files, by the files' names without suffix; the figures' paths."""
    plt.rcParams.update(STYLE)
    figures: dict[str, Callable[[], Figure]] = {
        "p1_curve": lambda: draw_curves(found["p1_curve"]),
        "p1_collapse": lambda: draw_distances(found["p1_collapse"]),
        "p1_lesson": lambda: draw_lesson(found["p1_lesson"]),
        "p2_tradeoff": lambda: draw_tradeoff(found["p2_tradeoff"]),
        "p2_confusion": lambda: draw_confusion(confusions(found["headline"])),
    }
    needs = {name: "headline" if name == "p2_confusion" else name for name in figures}
    figures = {name: draw for name, draw in figures.items() if needs[name] in found}
    for target in dict.fromkeys(name.split(", ")[0] for name in found.get("p3_features", {})):
        figures[f"p3_tsne_{target}"] = lambda target=target: draw_features(found["p3_features"], target)
    for target, rows in found.get("p3_collapse", {}).items():
        figures[f"p3_collapse_{target}"] = lambda rows=rows: draw_collapse(rows)
    for name, draw in figures.items():
        save(draw(), build / f"{name}.svg")
    return [build / f"{name}.svg" for name in figures]


def main() -> None:
    config = parse_config(Config, __doc__)
    names = ("headline", "p1_curve", "p1_collapse", "p1_lesson", "p2_tradeoff", "p3_features", "p3_collapse")
    found = {name: content for name in names if (content := read_results(config.results / f"{name}.json"))}
    drawn = draw_all(found, config.build)
    if not drawn:
        raise UserError(f"{config.results} holds no result file that a figure is drawn of, run the other experiments")
    print("\n".join(map(str, drawn)))


if __name__ == "__main__":
    run_script(main)
