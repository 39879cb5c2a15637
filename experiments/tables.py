"""Tables of README.md, docs/results.md and docs/benchmarks.md, made of the result files.

    python3 -m experiments.tables            # write them anew
    python3 -m experiments.tables --check    # exit with code 2 if one of them is not current

A table stands between the lines `<!-- NAME -->` and `<!-- /NAME -->`; the names are those of `tables`.
"""

from common.start import run_script

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import bench
from common.config import UserError, option, parse_config
from common.files import atomic_write
from experiments import headline, p1, p2, p3
from experiments.runs import RESULTS, ROOT, read_results, table

MARKED = re.compile(r"<!-- (\w+) -->\n.*?<!-- /\1 -->", re.DOTALL)
DOCUMENTS = (ROOT / "docs" / "results.md", ROOT / "docs" / "benchmarks.md", ROOT / "README.md")


@dataclass(frozen=True)
class Config:
    results: Path = option(RESULTS, "folder of the result files")
    check: bool = option(False, "write nothing, and fail if a table is not current")


def short_table(content: dict[str, Any], archived: dict[str, Any]) -> str:
    """Short trainings of problem 1, the archived rows after those that today's options can train."""
    rows = content["rows"] | {f"{name} (archive)": row for name, row in archived["rows"].items()}
    return p1.show({"rows": rows})


def long_table(runs: dict[str, Any]) -> str:
    """The WGAN's long trainings, BatchNorm or none in the critic."""
    rows = []
    for name, run in runs.items():
        options = run["options"]
        critic = "BatchNorm" if options["batch_norm"] else "none"
        rest = f"{options['penalty_weight']:g}", str(options["critic_steps"]), options["augment"].replace(",", ", ")
        rows.append([name, run["start"], critic, *rest, "{:,} - {:,}".format(*run["images"]), f"{run['fid']:.1f}"])
    header = ["training", "goes on from", "critic has", "penalty", "critic steps", "augmentation", "images", "FID"]
    return table(header, rows)


def held_out_table(curve: dict[str, Any], long: dict[str, Any]) -> str:
    """A and B when each last held training faces out: what chooses between them."""
    images, fid = curve["dcgan"]["fid"][-1]
    last = long["runs"]["nb_t_2"]
    rows = [["A, DCGAN", f"{images:,}", f"{fid:.1f}"], ["B, WGAN", f"{last['images'][1]:,}", f"{last['fid']:.1f}"]]
    return table(["method", "images seen", "FID against 1,000 held-out training faces"], rows)


def early_table(content: dict[str, Any]) -> str:
    """Samplers of problem 2 by the network of 0.8 million images."""
    rows = []
    for row in content["rows"]:
        sampler, spacing, steps, scale, (begin, end) = row["row"]
        if steps in (8, 20, 50, 600) and scale in (0, 4):
            about = [f"{sampler} {spacing}", str(steps), f"{scale:g}", f"{begin:g}-{end:g}"]
            judges = [f"{100 * row[name]:.1f}" for name in ("course", "judge")]
            rows.append([*about, *judges, f"{row['fid']:.1f}", f"{row['seconds_per_1000']:.0f}"])
    return table(["sampler", "steps", "w", "t / T guided", "course %", "judge %", "FID", "s per 1,000"], rows)


def networks_table(content: dict[str, Any], released: dict[str, Any]) -> str:
    """How the released networks came to be."""
    rows = []
    for name, network in content["networks"].items():
        images = network["trained_images"]
        rows.append([f"`{name}`", f"{images:,}", *released[name].get(str(images), ["-"] * 3)])
    return table(["network", "images seen", "data", "hardware", "time"], rows)


def tables(folder: Path) -> dict[str, str]:
    """The tables by name; one whose result file holds no row yet is a sentence that says so."""

    def read(name: str) -> dict[str, Any]:
        return read_results(folder / f"{name}.json")

    scores, made = read("headline"), {}
    made["headline"] = table(headline.COLUMNS, headline.rows(scores, read("p3_bounds")))
    made["networks"] = networks_table(scores, read_results(ROOT / "report" / "released.json"))
    for part in ("dcgan", "wgan"):
        made[f"p1_{part}"] = short_table(read(f"p1_{part}"), read(f"archive/p1_{part}"))
    made["p1_long"] = long_table(read("archive/p1_wgan_long")["runs"])
    made["p1_held_out"] = held_out_table(read("archive/p1_curve"), read("archive/p1_wgan_long"))
    made["p2_tradeoff"] = p2.show(read("p2_tradeoff"))
    made["p2_early"] = early_table(read("archive/p2_tradeoff"))
    for part in ("bounds", "collapse", "ladder", "rounds"):
        made[f"p3_{part}"] = p3.show(read(f"p3_{part}"), part)
    made["bench"] = bench.show(measured) if (measured := read("bench")) else ""
    return {name: text if text.count("\n") > 1 else "*Not measured yet.*" for name, text in made.items()}


def with_tables(text: str, made: dict[str, str], name: str) -> str:
    """A document's text with its tables made anew.  Raises UserError for a table that nobody makes."""
    if unknown := [found for found in MARKED.findall(text) if found not in made]:
        raise UserError(f"{name} wants a table {unknown[0]!r}, there are {', '.join(made)}")
    return MARKED.sub(lambda found: f"<!-- {found[1]} -->\n{made[found[1]]}\n<!-- /{found[1]} -->", text)


def main() -> None:
    config = parse_config(Config, __doc__)
    made = tables(config.results)
    for document in DOCUMENTS:
        before = document.read_text(encoding="utf-8")
        after = with_tables(before, made, document.name)
        if after != before and config.check:
            raise UserError(f"{document.relative_to(ROOT)} is not current, run: python3 -m experiments.tables")
        if after != before:
            atomic_write(document, after.encode())
            print(document.relative_to(ROOT))


if __name__ == "__main__":
    run_script(main)
