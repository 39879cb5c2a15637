"""How many operations a step hands to the device: on a GPU a small network's step takes as long as they do."""

import pytest
from smaller import FEWER, NARROW, set_constants
from torch.utils._python_dispatch import TorchDispatchMode

FACES = ("--data", "face/train", "--batch-size", 3)  # of 15: no batch is made of two epochs
DIGITS = ("--source", "digits/mnistm", "--target", "digits/usps", "--batch-size", 5)
TRAININGS = {
    "p1_dcgan_train.py": (FACES, 320),
    "p1_wgan_train.py": (FACES, 380),
    "p2_ddpm_train.py": (("--data", "digits/mnistm", "--batch-size", 5), 530),
    "p3_dann_train.py": (DIGITS, 390),
}


class Counter(TorchDispatchMode):
    """Counts operations, those of the backward pass too."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += 1
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("script", TRAININGS)
def test_operations_of_a_step(script, inside, builtin, tmp_path, monkeypatch):
    """A run of eight steps less one of four, over four; no step is logged, and both end with the same sheet."""
    monkeypatch.setattr("signal.signal", lambda number, handler: None)
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"amx_bf16": True})  # no CPU's detours (small_maps.py)
    set_constants(monkeypatch, FEWER | NARROW)
    options, limit = TRAININGS[script]
    options = [builtin / option if str(option).startswith(("face/", "digits/")) else option for option in options]
    options += ["--device", "cpu", "--precision", "bf16", "--log-every", 1000, "--sample-every", 1000]
    batch_size = int(options[options.index("--batch-size") + 1])
    counts = []
    for steps in (4, 8):
        run = ("--images", batch_size * steps, "--save-minutes", 1000, "--run-dir", tmp_path / str(steps))
        with Counter() as counter:
            code, _, errors = inside(script, *options, *run)
        assert code == 0, errors
        counts.append(counter.count)
    operations = (counts[1] - counts[0]) / 4
    assert 0.9 * limit < operations <= limit, "fewer by far: lower the limit"
