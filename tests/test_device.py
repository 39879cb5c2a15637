"""The CPU's memory: what a process frees it uses again, where the C library can be told so."""

import ctypes
import platform
import subprocess
import sys

import pytest

from common.device import keep_freed_memory

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


@pytest.mark.parametrize("library", [object, None], ids=["without mallopt", "not to be opened"])
def test_other_c_libraries_are_left_alone(library, monkeypatch):
    def load(name):
        assert name is None
        if library is None:
            raise TypeError("no name")
        return library()

    monkeypatch.setattr(ctypes, "CDLL", load)
    assert keep_freed_memory() is False
