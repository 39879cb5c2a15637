"""Writing files whole or not at all, one process in a folder at a time, and reading text that others wrote."""

import codecs
import contextlib
import fcntl
import hashlib
import os
import re
import secrets
import socket
import stat
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from common.config import UserError


def atomic_write(path: Path, content: bytes | Callable[[BinaryIO], None]) -> None:
    """Write bytes, or what a function writes into the open file, to `path`, or to what this links to.

    Readers see the old file or the new one, never a part, also after a crash.  Missing parents are made.  Raises
    UserError, naming the file, the old one kept, if it cannot be written or is no file (a folder, /dev/null).
    """
    require_file(path, new=True)
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.name[:50]}.{secrets.token_hex(4)}.part")  # a name has at most 255 bytes
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "xb") as handle:
            with contextlib.suppress(OSError):  # not every network file system can
                fcntl.flock(handle, fcntl.LOCK_EX)
            if isinstance(content, bytes):
                handle.write(content)
            else:
                content(handle)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise UserError(f"{path} cannot be written: {error.strerror or error}") from None
        raise


def remove_parts(folder: Path, names: str = r".+") -> None:
    """Remove what `atomic_write` of killed processes left of files that match `names`; one being written is locked."""
    for part in list(folder.iterdir()):
        if re.fullmatch(rf"\.{names}\.[0-9a-f]{{8}}\.part", part.name):
            with contextlib.suppress(OSError), open(part, "rb") as handle:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                part.unlink()


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes out of `folder`, made if missing, by a lock file that says who holds it.

    Raises UserError with that, at once, if another process holds it.  The system frees the lock of a process that dies.
    """
    file, made = folder / ".lock", not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        while True:
            handle = open(file, "a+b")
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                handle.seek(0)
                holder = handle.read(500).decode(errors="replace").strip() or "another process"
                raise UserError(f"{folder} is in use by {holder}") from None
            except OSError:
                break  # a file system without locks: nothing can be known
            if os.path.exists(file) and os.path.samestat(os.fstat(handle.fileno()), os.stat(file)):
                break
            handle.close()  # its holder removed it meanwhile
        handle.truncate(0)
        holder = f"{Path(sys.argv[0]).name}, process {os.getpid()} on {socket.gethostname()}"
        handle.write(f"{holder} since {time.strftime('%Y-%m-%d %H:%M:%S')}\n".encode(errors="replace"))
        handle.flush()
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror or error}") from None
    with handle:
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                file.unlink()
                if made:
                    folder.rmdir()  # if nothing came into it


def require_file(path: Path, new: bool = False) -> None:
    """Raise UserError unless `path` is a file, or nothing yet if `new`: a named pipe would block, or be replaced."""
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        if new:
            return
        raise UserError(f"{path} is missing") from None
    except OSError as error:
        raise UserError(f"{path} cannot be {'written' if new else 'read'}: {error.strerror}") from None
    except ValueError:  # a NUL, or another locale
        raise UserError(f"{path} is missing: no file can have this name here") from None
    if not stat.S_ISREG(mode):
        raise UserError(f"{path} is {'a folder, expected a file' if stat.S_ISDIR(mode) else 'not a regular file'}")


def read_bytes(path: Path) -> bytes:
    """What is in a file.  Raises UserError, naming the file, if it is missing, is no file or cannot be read."""
    require_file(path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None


def read_text(path: Path) -> str:
    """A text file, UTF-8 or with the byte-order mark of UTF-16 as some programs of Windows write it.

    Raises UserError as `read_bytes` does, and for what is not text, or holds NUL, as a crash leaves it.
    """
    content = read_bytes(path)
    try:
        utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = content.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not text ({error.reason} at byte {error.start})") from None
    if "\0" in text:
        raise UserError(f"{path} is damaged: line {text[: text.index(chr(0))].count(chr(10)) + 1} holds a NUL byte")
    return text


def sha256(path: Path) -> str:
    """The SHA-256 of a file in lower-case hexadecimal digits.  Raises UserError as `read_bytes` does."""
    return hashlib.sha256(read_bytes(path)).hexdigest()
