"""Device choice, bfloat16 where the hardware has it, and random numbers that do not depend on the device."""

import contextlib
import ctypes
import hashlib
import os
from collections.abc import Iterator

import torch

from common.config import UserError, first_sentence, warn
from common.small_maps import SmallMaps


def processes() -> int:
    """How many processes torchrun started, on all machines; 1 without it."""
    return int(os.environ["WORLD_SIZE"]) if "TORCHELASTIC_RUN_ID" in os.environ else 1


def keep_freed_memory() -> None:
    """Reuse freed memory: glibc gives arrays above 32 MB back to the system, which clears the next one page by page."""
    with contextlib.suppress(AttributeError, OSError, TypeError):  # not glibc: macOS, musl, Windows
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(-4, 0)  # M_MMAP_MAX
        mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD


def pick_device(name: str, *, repeatable: bool = False) -> torch.device:
    """The device called `name`, or for "auto" the accelerator if there is one that computes, else the CPU.

    Each of several processes (torchrun) has the accelerator of its number.  `repeatable` asks for the same bits always.
    Raises UserError if the device does not compute; for "auto" that is a warning, unless processes are several.
    """
    if repeatable:  # cuDNN may else choose an algorithm for ConvTranspose2d that adds in another order every time
        torch.backends.cudnn.deterministic = True
    try:
        there = name == "auto" and torch.accelerator.is_available()
        found = torch.accelerator.current_accelerator() if there else torch.device("cpu" if name == "auto" else name)
        device = _of_this_process(found)
        # A card may be there and be full, another process's alone, or too old: so it computes, and that is read back.
        bool(torch.empty(1, device=device) == 1)
        return device
    except (RuntimeError, AssertionError, ImportError) as error:
        if name != "auto":
            raise UserError(f"device '{name}' is not available here, use auto or cpu") from None
        reason = f"the accelerator cannot be used ({first_sentence(error)})"
    if processes() > 1:  # the others may have taken theirs
        raise UserError(f"{reason}, use --device cpu for all processes")
    warn(f"{reason}, so the CPU is")
    return _of_this_process(torch.device("cpu"))


def _of_this_process(device: torch.device) -> torch.device:
    if device.type == "cpu":
        keep_freed_memory()
        return device
    if processes() == 1:
        return device
    number, count = int(os.environ["LOCAL_RANK"]), torch.accelerator.device_count()
    if device.index is not None:
        raise UserError(f"device '{device}' cannot serve several processes, leave its number out")
    if int(os.environ["LOCAL_WORLD_SIZE"]) > count:
        raise UserError(f"--nproc-per-node {os.environ['LOCAL_WORLD_SIZE']} is more than the {count} devices here")
    torch.accelerator.set_device_index(number)
    return torch.device(device.type, number)


def _cpu_capabilities() -> dict[str, bool]:
    """The CPU's instruction sets; none known to PyTorch 2.6, which computes in float32 there."""
    return getattr(torch.cpu, "get_capabilities", dict)()


def has_fast_bf16(device: torch.device) -> bool:
    """Whether bfloat16 is faster than float32 there: a CPU with avx512_bf16 or AMX, an NVIDIA GPU from Ampere on."""
    if device.type == "cpu":
        capabilities = _cpu_capabilities()
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


@contextlib.contextmanager
def autocast(device: torch.device, precision: str) -> Iterator[None]:
    """The autocast context of a `precision` option: "bf16", "fp32", or "auto" for bf16 where it is fast."""
    enabled = precision == "bf16" or (precision == "auto" and has_fast_bf16(device))
    slow = enabled and device.type == "cpu" and not _cpu_capabilities().get("amx_bf16")
    with torch.autocast(device.type, torch.bfloat16, enabled), SmallMaps() if slow else contextlib.nullcontext():
        yield


def generator(*key: int | str | tuple[int, int]) -> torch.Generator:
    """A CPU generator for the stream `key`, for example (seed, "latent", step).

    A training draws all its numbers so: the step's number is enough to continue exactly, and all devices see the same.
    """
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)
