"""Devices that are not there or do not compute; the CPU's memory: what a process frees it uses again."""

import platform
import subprocess
import sys

import pytest
import torch

import p1_inference
from common.config import UserError
from common.device import pick_device

SECOND_ARRAY = """
import resource
import sys

import torch

from common.device import pick_device

if sys.argv[1] == "kept":
    pick_device("cpu")


def page_faults(size: int) -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.empty(size, dtype=torch.uint8).fill_(1)  # and is freed
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


page_faults(2**27)
print(page_faults(2**26))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_a_second_large_array_takes_the_memory_of_the_first():
    faults = {
        how: int(subprocess.check_output([sys.executable, "-c", SECOND_ARRAY, how], text=True))
        for how in ("kept", "returned")
    }
    assert faults["returned"] > 20 and faults["kept"] < faults["returned"] / 4, faults


FULL = "CUDA out of memory. Tried to allocate 2.00 MiB. GPU 0 has a total capacity of 10.75 GiB"


@pytest.fixture(params=["no kernel", "full"])
def unusable(request, monkeypatch) -> str:
    """An accelerator that is there and gives memory, but whose first kernel fails; the reason."""
    message = "CUDA error: no kernel image is available for execution on the device\nCUDA kernel errors might be ..."
    error = torch.OutOfMemoryError(FULL) if request.param == "full" else RuntimeError(message)

    class Memory:
        def __eq__(self, other):
            raise error

    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    monkeypatch.setattr(torch.accelerator, "set_device_index", lambda number: None)
    monkeypatch.setattr(torch, "empty", lambda *shape, device: Memory())
    return "CUDA out of memory" if request.param == "full" else message.splitlines()[0]


def test_an_accelerator_that_does_not_compute(unusable, monkeypatch, capsys):
    """auto says so and takes the CPU, but not in one of several processes; who names it is refused."""
    assert pick_device("auto") == torch.device("cpu")
    warning = f"warning: the accelerator cannot be used ({unusable}), so the CPU is\n"
    assert capsys.readouterr().err == warning
    with pytest.raises(UserError, match="^device 'cuda' is not available here, use auto or cpu$"):
        pick_device("cuda")
    for name in ("TORCHELASTIC_RUN_ID", "WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.setenv(name, "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(UserError) as caught:
        pick_device("auto")
    assert str(caught.value) == f"the accelerator cannot be used ({unusable}), use --device cpu for all processes"


@pytest.mark.parametrize("name", ["hpu", "meta", "warp", "cuda:99", ""])
def test_devices_that_are_not_there(name):
    with pytest.raises(UserError, match=f"device '{name}' is not available here"):
        pick_device(name)


def test_repeatable_results_are_asked_of_cudnn(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)
    pick_device("cpu")
    assert not torch.backends.cudnn.deterministic
    pick_device("cpu", repeatable=True)
    assert torch.backends.cudnn.deterministic


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError(FULL), RuntimeError("MPS backend out of memory (MPS allocated: 9.00 GB). Tried")]
)
def test_a_device_whose_memory_is_full(error, refused_inside, weights, tmp_path, monkeypatch):
    def draw(*_):
        raise error

    monkeypatch.setattr(p1_inference, "sample_images", draw)
    sentence = refused_inside("p1_inference.py", tmp_path, "--count", 1, "--weights", weights["generator"])
    reason = str(error).split(". ")[0]
    assert sentence.endswith(f"error: the device's memory is full ({reason}), free some or use another --device")
    assert list(tmp_path.iterdir()) == []
