"""Build report.pdf from the result files of the other experiments.

    python3 -m experiments.report     # `make report` does the same in a fresh environment

Draws the figures (experiments/figures.py), writes every number that the text needs to build/numbers.json
(experiments/report_numbers.py) and typesets report/report.typ with Typst.  The text holds no number of its own, and
what others have measured is in report/cited.json.  A result file or a number that is missing stops the build with the
command that makes it.  The same result files and weights give the same PDF to the byte.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

import typst

from common.config import UserError, option, parse_config, run_script
from common.files import atomic_write
from experiments import figures
from experiments.report_numbers import MADE_BY, need, numbers, refuse_stale
from experiments.runs import RESULTS, ROOT, write_results


@dataclass(frozen=True)
class Config:
    results: Path = option(RESULTS, "folder of the result files")
    build: Path = option(ROOT / "build", "folder of the figures and of what Typst reads")
    pdf: Path = option(ROOT / "report.pdf", "file to write")
    pages: bool = option(False, "write the pages as images too, build/page-1.png and so on")


def main() -> None:
    config = parse_config(Config, __doc__)
    results = need(config.results)
    refuse_stale(results)
    write_results(config.build / "numbers.json", numbers(results))
    figures.draw_all(results, config.build)
    for source in [*sorted((ROOT / "report").iterdir()), *(config.results / n for n in MADE_BY if n.endswith(".png"))]:
        shutil.copyfile(source, config.build / source.name)
    options = {"root": config.build, "ignore_system_fonts": True, "timestamp": 0}
    try:
        pdf = typst.compile(config.build / "report.typ", **options)
        if config.pages:
            typst.compile(config.build / "report.typ", config.build / "page-{p}.png", format="png", ppi=100, **options)
    except typst.TypstError as error:
        raise UserError(f"report.typ cannot be typeset: {error}") from None
    atomic_write(config.pdf, pdf)
    print(config.pdf)


if __name__ == "__main__":
    run_script(main)
