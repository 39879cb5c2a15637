"""Tables of README.md, docs/results.md and docs/benchmarks.md, made of the result files.

    python3 -m experiments.tables                     # write them anew
    python3 -m experiments.tables --check             # exit with code 2 if one of them is not current
    python3 -m experiments.tables --show p2_tradeoff  # print one of them

A table stands between the lines `<!-- NAME -->` and `<!-- /NAME -->`; the names are those of TABLES.
"""

from common.start import run_script

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from statistics import fmean
from typing import Any

from common.config import UserError, option, parse_config
from common.files import atomic_write
from experiments.p2 import ROWS, Row
from experiments.runs import METHODS, RESULTS, ROOT, percent, read_results, table
from models.diffusion import TIMESTEPS, time_grid
from sampling.labels import TARGETS

MARKED = re.compile(r"<!-- (\w+) -->\n.*?<!-- /\1 -->", re.DOTALL)
DOCUMENTS = (ROOT / "docs" / "results.md", ROOT / "docs" / "benchmarks.md", ROOT / "README.md")
CITED = json.loads((ROOT / "report" / "cited.json").read_text(encoding="utf-8"))  # what others have measured

Read = Callable[[str], dict[str, Any]]  # a result file's name without suffix to its content


@dataclass(frozen=True)
class Config:
    results: Path = option(RESULTS, "folder of the result files")
    check: bool = option(False, "write nothing, and fail if a table is not current")
    show: str = option("", "print this table, and write nothing")


def headline(read: Read) -> str:
    """Our scores beside the original's, the best of eighteen others, the course's baselines, and limits."""
    original, others, course = (CITED[who] for who in ("original_report", "eighteen_others", "course"))
    scores, rows = read("headline"), []
    data, networks, faces = scores["data"], scores["networks"], scores["faces"]

    def seen(name: str) -> str:
        return f"{networks[name]['trained_images'] / 1e6:.1f} M images seen"

    def baselines(values: dict[str, float]) -> str:
        return " / ".join(f"{100 * value:.0f} %" for value in values.values())

    best = {"dcgan": f"{others['fid_best']}", "wgan": "–"}
    for method, name in METHODS.items():
        title = f"FID, {name} ({data['face']['train']:,} faces, {seen(f'p1_{method}')})"
        fids = f"{faces[method]['fid']:.1f} | {original['fid'][method]} | {best[method]}"
        asked = " / ".join(map(str, course["fid"].values()))
        rows.append(f"1 | {title} | {fids} | {asked} | {faces[method]['floor']['fid']:.1f}")
    best = {"dcgan": f"{100 * others['face_rate_best']:.0f} %", "wgan": "–"}
    for method, name in METHODS.items():
        rates = f"{percent([faces[method]['face_rate']])} % | – | {best[method]} | {baselines(course['face_rate'])}"
        rows.append(f"1 | face rate, {name} | {rates} | {percent([scores['real_face_rate']])} %")
    title = f"accuracy by the course's classifier ({data['mnistm']['train']:,} digits, {seen('p2_ddpm')})"
    cited = f"{percent([others['digits_best']])} % | {baselines(course['digits'])}"
    for judge, name, rest in (("course", title, cited), ("judge", "accuracy by our judge", "– | –")):
        ours, real = (percent([scores["digits"][judge][of]]) for of in ("accuracy", "real_accuracy"))
        rows.append(f"2 | {name} | {ours} % | – | {rest} | {real} %")
    for target in TARGETS:
        title = f"{data[target]['train']:,} unlabelled digits, {seen(f'p3_dann_{target}')}"
        ours = scores["labels"][target]["accuracy"], original["dann"][target], others["dann_best"][target]
        shares = " | ".join(f"{percent([share])} %" for share in ours)
        limit = percent(run["accuracy"] for run in read("p3_bounds")[target]["target only"]["runs"])
        rest = f"{100 * course['dann'][target]:.0f} % | trained on {target.upper()}'s labels: {limit} %"
        rows.append(f"3 | MNIST-M → {target.upper()} ({title}) | {shares} | {rest}")
    who = "ours | original report | best of eighteen others | course's baselines"
    return table(f"problem | score | {who} | real images", rows)


def networks(read: Read) -> str:
    """How the released networks came to be."""
    released, rows = read_results(ROOT / "report" / "released.json"), []
    for name, network in read("headline")["networks"].items():
        seen = network["trained_images"]
        rows.append(f"`{name}` | {seen:,} | " + " | ".join(released[name].get(str(seen), ["-"] * 3)))
    return table("network | images seen | data | hardware | time", rows)


def short(read: Read, method: str) -> str:
    """Short trainings of problem 1, the archived rows after those that today's options can train."""
    trained, archived = read(f"p1_{method}")["rows"], read(f"archive/p1_{method}")["rows"]
    rows = []
    for name, row in (trained | {f"{name} (archive)": row for name, row in archived.items()}).items():
        which = (("fid", 0), ("fid", -1), ("kid_x1000", -1))
        scores = (f"{fmean(run[score][place] for run in row['runs']):.1f}" for score, place in which)
        rows.append(f"{name} | {len(row['runs'])} | {row['images']:,} | " + " | ".join(scores))
    return table("training | seeds | images | FID half-way | FID at the end | KID x 1000", rows)


def long(read: Read) -> str:
    """The WGAN's long trainings, BatchNorm or none in the critic."""
    row = "{0} | {start} | {1} | {penalty_weight:g} | {critic_steps} | {augment} | {images[0]:,} - {images[1]:,} | "
    rows = []
    for name, run in read("archive/p1_wgan_long")["runs"].items():
        critic = "BatchNorm" if run["options"]["batch_norm"] else "none"
        rows.append(row.format(name, critic, **run["options"], **run) + f"{run['fid']:.1f}")
    return table("training | goes on from | critic has | penalty | critic steps | augmentation | images | FID", rows)


def held_out(read: Read) -> str:
    """A and B when each last held training faces out: what chooses between them."""
    (images, fid), last = read("archive/p1_curve")["dcgan"]["fid"][-1], read("archive/p1_wgan_long")["runs"]["nb_t_2"]
    rows = [f"A, DCGAN | {images:,} | {fid:.1f}", f"B, WGAN | {last['images'][1]:,} | {last['fid']:.1f}"]
    return table("method | images seen | FID against 1,000 held-out training faces", rows)


SAMPLERS = "sampler | steps | w | t / T guided | course % | judge % | FID"


def sampled(row: Row, result: dict[str, Any]) -> str:
    interval = f"{row.guidance_from:g}-{row.guidance_to:g}"
    judges = f"{percent([result['course']])} | {percent([result['judge']])} | {result['fid']:.1f}"
    return f"{row.sampler} {row.spacing} | {row.steps} | {row.guidance_scale:g} | {interval} | {judges}"


def decoded(row: Row) -> int:
    """How often the network's decoder runs for an image, its larger part: twice in a call with guidance."""
    times = time_grid(row.steps, row.spacing)[:-1] / TIMESTEPS
    guided = (times >= row.guidance_from) & (times <= row.guidance_to) & (row.guidance_scale != 0)
    return row.steps + int(guided.sum())


def tradeoff(read: Read) -> str:
    """Samplers of problem 2 by the released network, by their number in p2.ROWS."""
    rows, results = [], {Row(**result["row"]): result for result in read("p2_tradeoff")["rows"]}
    scores = "{floor[fid]:.1f} | {kid_x1000:.1f} | {density:.2f} | {coverage:.2f} | {recall:.2f}"
    for number, row in enumerate(ROWS, 1):
        if result := results.get(row):
            rows.append(f"{number} | {sampled(row, result)} | {scores.format(**result)} | {decoded(row)}")
    return table(f"row | {SAMPLERS} | floor | KID x 1000 | density | coverage | recall | decoded", rows)


def early(read: Read) -> str:
    """Samplers of problem 2 by the network of 0.8 million images."""
    rows = []
    for result in read("archive/p2_tradeoff")["rows"]:
        sampler, spacing, steps, scale, interval = result["row"]
        if steps in (8, 20, 50, 600) and scale in (0, 4):
            row = Row(scale, steps, *interval, sampler, spacing)
            rows.append(f"{sampled(row, result)} | {result['seconds_per_1000']:.0f}")
    return table(f"{SAMPLERS} | s per 1,000", rows)


def shares(value: Callable[[Any], float]) -> Callable[[Any], str]:
    return lambda row: percent(map(value, row["runs"]))


def mean(name: str, digits: int) -> Callable[[Any], str]:
    return lambda row: f"{fmean(run[name] for run in row['runs']):.{digits}f}" if name in row["runs"][0] else "-"


ADAPTATION: dict[str, Callable[[Any], str]] = {
    "accuracy": shares(itemgetter("accuracy")),
    "of views": shares(itemgetter("accuracy_of_views")),
    "together": lambda row: percent([row["accuracy_together"]]),
    "best seen": shares(itemgetter("best_accuracy_seen")),
    "agreement": mean("agreement", 3),
    "chosen seed": lambda row: str(max(row["runs"], key=lambda run: run.get("agreement", 0.0))["seed"]),
    "commonest class": shares(lambda run: max(run["predictions"]) / sum(run["predictions"])),
    "on the source": shares(itemgetter("val_accuracy")),
    "norm of features": mean("feature_norm", 0),
    "domain loss": mean("loss_domain", 2),
}
SHOWN = {
    "bounds": ("accuracy",),
    "collapse": ("accuracy", "commonest class", "on the source", "norm of features", "domain loss"),
    "ladder": ("accuracy", "best seen", "agreement"),
    "rounds": ("accuracy", "of views", "together", "agreement", "chosen seed"),
}


def adaptation(read: Read, part: str) -> str:
    """A part of problem 3: mean and standard deviation over seeds, accuracies in per cent."""
    content, rows = read(f"p3_{part}"), []
    for name in dict.fromkeys(name for trainings in content.values() for name in trainings):
        found = [trainings.get(name) for trainings in content.values()]
        cells = (ADAPTATION[column](row) if row else "-" for row in found for column in SHOWN[part])
        rows.append(" | ".join((f"round {name}" if part == "rounds" else name, *cells)))
    columns = (f"{target.upper()}: {column}" for target in content for column in SHOWN[part])
    return table(" | ".join(("training", *columns)), rows)


def benchmark(read: Read) -> str:
    """The machine in a sentence, and ours beside the plain references, a line for each side of ours."""
    content, plain, rows = read("bench"), ("plain", "in memory"), []

    def text(value: float) -> str:
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"

    for row in content["rows"].values():
        unit, sides = row["unit"], row["sides"]
        medians = {side: values[unit]["median"] for side, values in sides.items()}
        shown = {side: f"{text(medians[side])} ± {text(sides[side][unit]['spread'])} {unit}" for side in sides}
        for side in [side for side in sides if side not in plain]:
            faster = {name: medians[side] / medians[name] for name in plain if name in sides}
            if unit == "s":
                faster = {name: 1 / ratio for name, ratio in faster.items()}
            cells = [row["title"] + ("" if side == "ours" else f", {side}")]
            cells += [shown.get(name, "") for name in (*plain, side)]
            cells += [f"{text(faster[name])} ×" if name in faster else "" for name in plain]
            if work := row.get("work", {}).get(side):
                operations = sides["plain"]["operations"]["median"], work["operations"]
                cells += [" / ".join(map(text, operations)), f"{work['FLOPs'] * medians[side] / content['peak']:.0%}"]
            rows.append(" | ".join(cells + [""] * (8 - len(cells))))
    about = ", ".join(map(str, content["machine"].values()))
    about += f", peak {text(content['peak'] / 1e9)} GFLOP/s; {content['options']['repeats']} measurements"
    header = "what | plain | in memory | ours | to plain | to in memory | operations a step | of the peak"
    return f"{about}\n\n{table(header, rows)}"


TABLES: dict[str, Callable[[Read], str]] = {
    "headline": headline,
    "networks": networks,
    **{f"p1_{method}": lambda read, method=method: short(read, method) for method in METHODS},
    "p1_long": long,
    "p1_held_out": held_out,
    "p2_tradeoff": tradeoff,
    "p2_early": early,
    **{f"p3_{part}": lambda read, part=part: adaptation(read, part) for part in SHOWN},
    "bench": benchmark,
}


def made(name: str, folder: Path) -> str:
    """A table, of the result files in a folder.  Raises UserError if nobody makes it, or a file is missing."""
    if name not in TABLES:
        raise UserError(f"there is no table {name!r}, there are {', '.join(TABLES)}")

    def read(file: str) -> dict[str, Any]:
        if content := read_results(folder / f"{file}.json"):
            return content
        raise UserError(f"table {name} needs {folder / file}.json")

    return TABLES[name](read)


def with_tables(text: str, folder: Path) -> str:
    """A document's text with its tables made anew."""
    return MARKED.sub(lambda found: f"<!-- {found[1]} -->\n{made(found[1], folder)}\n<!-- /{found[1]} -->", text)


def main() -> None:
    config = parse_config(Config, __doc__)
    if config.show:
        print(made(config.show, config.results))
        return
    for document in DOCUMENTS:
        before = document.read_text(encoding="utf-8")
        after = with_tables(before, config.results)
        if after != before and config.check:
            raise UserError(f"{document.relative_to(ROOT)} is not current, run: python3 -m experiments.tables")
        if after != before:
            atomic_write(document, after.encode())
            print(document.relative_to(ROOT))


if __name__ == "__main__":
    run_script(main)
