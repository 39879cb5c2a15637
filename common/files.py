"""Writing files whole or not at all."""

import contextlib
import fcntl
import os
import re
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from common.config import UserError


def atomic_write(path: Path, content: bytes | Callable[[BinaryIO], None]) -> None:
    """Write bytes, or what a function writes into the open file, to `path`.

    Readers see the old file or the new one, never a part, also after a crash.  Missing parents are made.
    Raises UserError, naming the file, if it cannot be written or what is there is no file (a folder, /dev/null);
    the old file is then as it was.
    """
    refuse_others(path)
    temporary = path.with_name(f".{path.name[:50]}.{secrets.token_hex(4)}.part")  # a name has at most 255 bytes
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "xb") as handle:
            with contextlib.suppress(OSError):  # not every network file system can
                fcntl.flock(handle, fcntl.LOCK_EX)
            if isinstance(content, bytes):
                handle.write(content)
            else:
                content(handle)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise UserError(f"{path} cannot be written: {error.strerror or error}") from None
        raise


def refuse_others(path: Path) -> None:
    """Raise UserError if there is something at `path` that is not a file, which writing would replace."""
    if os.path.isdir(path):
        raise UserError(f"{path} is a folder, expected a file")
    if os.path.exists(path) and not os.path.isfile(path):  # unlike path.exists(), without errors for odd names
        raise UserError(f"{path} is not a regular file and is left alone")


def remove_parts(folder: Path, names: str = r".+") -> None:
    """Remove what `atomic_write` of processes that were killed left of files whose names match `names`.

    What another process is writing at this moment stays: it holds a lock.
    """
    for part in list(folder.iterdir()):
        if re.fullmatch(rf"\.{names}\.[0-9a-f]{{8}}\.part", part.name):
            with contextlib.suppress(OSError), open(part, "rb") as handle:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                part.unlink()
