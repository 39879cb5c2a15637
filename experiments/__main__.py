"""Measure a part of the report: its result file, results/PART.json, and its pictures.

    python3 -m experiments --part headline     # what hw2_1.sh, hw2_2.sh, hw2_3.sh reach
    python3 -m experiments --part p1_dcgan     # and p1_wgan, p1_figures
    python3 -m experiments --part p2_tradeoff  # and p2_figures
    python3 -m experiments --part p3_bounds    # and p3_collapse, p3_ladder, p3_rounds, p3_features, p3_hardest

experiments/headline.py, p1.py, p2.py and p3.py say what the parts measure and how long they take.  A part trains and
draws what its file does not hold yet and writes it after each row, so it can be killed and started again at will.
"""

from common.start import run_script

from common.config import UserError, parse_config
from experiments import headline, p1, p2, p3
from experiments.runs import Config

PARTS = {
    "headline": headline.measure,
    **dict.fromkeys(p1.ROWS, p1.trainings),
    "p1_figures": p1.figures,
    "p2_tradeoff": p2.tradeoff,
    "p2_figures": p2.figures,
    **dict.fromkeys(p3.ROWS, p3.trainings),
    "p3_features": p3.embed,
    "p3_hardest": p3.hardest,
}


def main() -> None:
    config = parse_config(Config, __doc__)
    if config.part not in PARTS:
        raise UserError(f"--part: {config.part!r} is not one of {', '.join(PARTS)}")
    PARTS[config.part](config)
    print(config.file)


if __name__ == "__main__":
    run_script(main)
