"""What surrounds a script: Ctrl-C while its libraries load, and errors in one sentence.

Scripts import this first.  Loading torch takes seconds, in which Ctrl-C would end in a page of traceback.
"""

import errno
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
CANNOT_WRITE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}  # to a full disk, or to one that fails


def _interrupted(*_: Any) -> None:
    os.write(2, f"{Path(sys.argv[0]).name}: interrupted\n".encode(errors="replace"))
    os._exit(130)


def _is_script() -> bool:
    """Whether this process runs a script of ours, and not pytest or somebody's program that imports one."""
    file = getattr(sys.modules["__main__"], "__file__", None)
    return file is not None and ROOT in Path(file).resolve().parents[:2]


def _missing(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """A library that is not installed is one sentence: scripts import them before `run_script` can catch anything."""
    if not isinstance(error, ModuleNotFoundError):
        return sys.__excepthook__(kind, error, trace)
    advice = "run: source .venv/bin/activate, which make demo makes, or pip3 install -r requirements.txt"
    os.write(2, f"{Path(sys.argv[0]).name}: error: {error.name} is not installed, {advice}\n".encode(errors="replace"))
    os._exit(2)


if _is_script():
    sys.excepthook = _missing
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupted)


def run_script(main: Callable[[], None]) -> None:
    """Run a script's main: one sentence and exit code 2 for a UserError, full memory or a full disk behind stdout;
    130 for Ctrl-C, 141 for a closed pipe.
    """
    from common.config import UserError, first_sentence, in_one_line

    program = Path(sys.argv[0]).name

    def refuse(reason: str) -> None:
        print(f"{program}: error: {in_one_line(reason)}", file=sys.stderr)
        sys.exit(2)

    if sys.stdout:  # paths may hold what the terminal's encoding lacks
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        if signal.getsignal(signal.SIGINT) is _interrupted:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            main()
        finally:
            if sys.stdout:
                sys.stdout.flush()  # here what fails is one sentence; at Python's end it would be several
    except UserError as error:
        refuse(str(error))
    except KeyboardInterrupt:
        if _is_script():
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C cannot hurry the end
        print(f"{program}: interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        _drop_output()
        sys.exit(141)
    except (MemoryError, RuntimeError, OSError) as error:
        if _is_memory(error):
            # torch's CPU allocator first says where in the code it happened
            reason = first_sentence(str(error).partition("DefaultCPUAllocator: ")[2] or error)
            if "out of memory" in str(error):
                refuse(f"the device's memory is full ({reason}), free some or use another --device")
            refuse(f"the machine's memory is full ({reason}), free some or ask for less at once")
        elif isinstance(error, OSError) and error.filename is None and error.errno in CANNOT_WRITE and sys.stdout:
            _drop_output()  # no file's name: it is standard output
            refuse(f"standard output cannot be written: {error.strerror or error}")
        raise


def _is_memory(error: Exception) -> bool:
    """Whether a device's or the machine's memory is full: torch, its CPU allocator, Python or the system say so."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    told = ("out of memory", "DefaultCPUAllocator", "bad_alloc", "can't start new thread", "could not create a memory")
    return isinstance(error, MemoryError) or any(words in str(error) for words in told)


def _drop_output() -> None:
    """What stdout still holds goes nowhere, so that Python does not try again, and complain, at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
