"""Import torchvision also where it was built for CUDA and stands beside a CPU torch, which fails otherwise.

python tests/with_torchvision.py MODULE ARGUMENTS    # python -m MODULE ARGUMENTS
"""

import runpy
import sys

try:
    import torchvision
except RuntimeError:  # its operators must be declared first
    import torch

    for name in [name for name in sys.modules if name.startswith("torchvision")]:
        del sys.modules[name]
    LIBRARY = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        LIBRARY.define(name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchvision  # noqa: F401

if __name__ == "__main__":
    runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
