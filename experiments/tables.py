"""The tables of README.md and docs/benchmarks.md, made of the result files.

    python3 -m experiments.tables

A table stands between the lines `<!-- NAME -->` and `<!-- /NAME -->`, the names are those of TABLES.  All others are in
report.pdf, which reads the result files itself.
"""

from common.start import run_script

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from common.config import Parser
from common.files import atomic_write, read_text
from experiments.runs import RESULTS, ROOT

DOCUMENTS = (ROOT / "README.md", ROOT / "docs" / "benchmarks.md")


def table(header: str, rows: Iterable[Iterable[object]]) -> str:
    """A Markdown table; the header's cells stand between " | "."""
    lines = (header, " | ".join(["---"] * (header.count(" | ") + 1)), *(" | ".join(map(str, row)) for row in rows))
    return "\n".join(f"| {line} |" for line in lines)


def headline(folder: Path) -> str:
    """Our scores beside the original's, the best of eighteen others, the course's baselines, and real images'."""
    import typst  # the benchmarks do without

    found = {name: read_text(folder / f"{name}.json") for name in ("headline", "p3_bounds")}
    rows = typst.query(ROOT / "report" / "headline.typ", "<rows>", field="value", one=True, sys_inputs=found)
    who = "ours | original report | best of eighteen others | course's baselines | real images"
    return table(f"problem | score | {who}", json.loads(rows))


def benchmark(folder: Path) -> str:
    """The machine in a sentence, and ours beside the plain references, a line for each side of ours."""
    content, plain, rows = json.loads(read_text(folder / "bench.json")), ("plain", "in memory"), []

    def text(value: float) -> str:
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"

    for row in content["rows"].values():
        unit, medians = row["unit"], {side: values[row["unit"]]["median"] for side, values in row["sides"].items()}
        spreads = {side: values[unit]["spread"] for side, values in row["sides"].items()}
        for side in [side for side in medians if side not in plain]:
            cells = [row["title"] + ("" if side == "ours" else f", {side}")]
            for name in (*plain, side):
                cells.append(f"{text(medians[name])} ± {text(spreads[name])} {unit}" if name in medians else "")
            for name in plain:
                more, less = (name, side) if unit == "s" else (side, name)
                cells.append(f"{text(medians[more] / medians[less])} ×" if name in medians else "")
            work = row.get("work", {}).get(side)
            operations = work and (row["sides"]["plain"]["operations"]["median"], work["operations"])
            cells.append(" / ".join(map(text, operations)) if work else "")
            cells.append(f"{work['FLOPs'] * medians[side] / content['peak']:.0%}" if work else "")
            rows.append(cells)
    about = ", ".join(map(str, content["machine"].values()))
    about += f", peak {text(content['peak'] / 1e9)} GFLOP/s; {content['options']['repeats']} measurements"
    header = "what | plain | in memory | ours | to plain | to in memory | operations a step | of the peak"
    return f"{about}\n\n{table(header, rows)}"


def speed(folder: Path) -> str:
    """How many times as fast as the plain references, in a sentence."""
    content = json.loads(read_text(folder / "bench.json"))
    names = {"dcgan": "DCGAN", "wgan": "WGAN", "ddpm": "diffusion", "dann": "DANN", "digits": "a thousand digits"}
    ratios = []
    for name, title in names.items():
        row = content["rows"][name]
        plain, ours = (row["sides"][side][row["unit"]]["median"] for side in ("plain", "ours"))
        ratios.append(f"{title} {plain / ours if row['unit'] == 's' else ours / plain:.3g} ×")
    machine = content["machine"]
    where = f"{machine['cpu']}, {machine['threads']} threads, {machine['dtype']}"
    return f"Beside plain references of the same work ({where}): {', '.join(ratios)}."


TABLES: dict[str, Callable[[Path], str]] = {"headline": headline, "speed": speed, "bench": benchmark}
MARKED = re.compile(rf"(<!-- ({'|'.join(TABLES)}) -->\n).*?(\n<!-- /\2 -->)", re.DOTALL)


def with_tables(text: str, folder: Path) -> str:
    """A document's text with its tables made anew, of the result files in a folder."""
    return MARKED.sub(lambda found: found[1] + TABLES[found[2]](folder) + found[3], text)


def main() -> None:
    Parser(description=__doc__).parse_args()
    for document in DOCUMENTS:
        atomic_write(document, with_tables(read_text(document), RESULTS).encode())
        print(document.relative_to(ROOT))


if __name__ == "__main__":
    run_script(main)
