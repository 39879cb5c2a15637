"""Verify the released checkpoints against checkpoints/SHA256SUMS and fetch those that are missing or broken.

    bash hw2_download.sh                          # verify; fetch from $HW2_CHECKPOINT_URL if need be
    bash hw2_download.sh --url https://host/dir   # fetch from dir/NAME; https, http or file

A file is fetched into NAME.part, continued there after an interruption, and gets its name only when its
SHA-256 is right.  Before a file with another content is fetched anew, it is renamed to NAME.broken, so that
nothing wrong stays under NAME and no weights of the user's own are lost.  Needs nothing but Python's
standard library.
"""

import contextlib
import fcntl
import hashlib
import http.client
import os
import re
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # run as a file, Python looks beside it and not above

from common.config import UserError, option, parse_config, run_script  # noqa: E402

VARIABLE = "HW2_CHECKPOINT_URL"
BLOCK = 1 << 18  # bytes read at a time
LONGEST_WAIT = 30.0  # seconds between two attempts


@dataclass(frozen=True)
class Config:
    url: str = option("", f"address of the folder that holds the checkpoints, instead of ${VARIABLE}")
    retries: int = option(4, "further attempts for each file after a failure that may pass", low=0, high=100)
    timeout: float = option(30.0, "seconds without data after which an attempt has failed", low=0.1, high=3600)


class TemporaryFailure(Exception):
    """An attempt failed in a way that may pass; the message is the reason."""


def read_sums(file: Path) -> dict[str, str]:
    """The lines of a sha256sum file as {name: SHA-256 in lower case}.

    Raises UserError, naming the line, for what is not such a line or not the plain name of a file beside it.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read: {getattr(error, 'strerror', None) or 'it is not text'}") from None
    sums: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = re.fullmatch(r"([0-9a-fA-F]{64}) [ *](.+)", line)
        if not match:
            raise UserError(f"{file} line {number} is not a SHA-256, two spaces and a name")
        digest, name = match.groups()
        if re.search(r"[/\\\x00-\x1f]|\.\.|^\.|\.(part|broken)$", name) or name == file.name:
            raise UserError(f"{file} line {number}: {name!r} is refused as the name of a checkpoint")
        if name in sums:
            raise UserError(f"{file} line {number}: {name} stands twice")
        sums[name] = digest.lower()
    if not sums:
        raise UserError(f"{file} names no checkpoint")
    return sums


def sha256(file: Path) -> str:
    """The SHA-256 of a file, or "" if there is none."""
    digest = hashlib.sha256()
    try:
        with open(file, "rb") as handle:
            while block := handle.read(BLOCK):
                digest.update(block)
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}") from None
    return digest.hexdigest()


def file_url(base: str, name: str) -> str:
    """The address of file `name` in the folder `base`, whose query string, if any, stays behind the name.

    Raises UserError unless `base` is an https, http or file address.
    """
    try:
        scheme, host, path, query, _ = urlsplit(base.strip())
    except ValueError:
        scheme = host = path = query = ""
    if scheme not in ("https", "http", "file") or (scheme != "file" and not host):
        raise UserError(f"'{base}' is not an address that begins with https://, http:// or file://")
    path = quote(path.rstrip("/"), safe="/%:@!$&'()*+,;=~") + "/" + quote(name)  # spaces and letters beyond ASCII
    return urlunsplit((scheme, host, path, quote(query, safe="/%:@!$&'()*+,;=~?"), ""))


def shown(url: str) -> str:
    """An address for messages: without a query string or password, which may be secrets."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def reason(error: Exception, timeout: float) -> str:
    """Why a connection failed, in a few words."""
    cause = getattr(error, "reason", error)
    if isinstance(cause, TimeoutError):
        return f"no data for {timeout:g} s"
    return getattr(cause, "strerror", None) or str(cause) or type(cause).__name__


def transfer(url: str, part: Path, timeout: float) -> None:
    """Fetch `url` into the file `part`, continuing what is there if the server can.

    Raises TemporaryFailure for failures that may pass, with what has come so far in `part`, and UserError for others.
    Leaves no `part` if the server says that what is there is longer than the file.
    """
    offset = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "hw2-download", "Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as error:
        error.close()
        status = f"{error.code} {error.reason}".rstrip()
        if error.code == 416 and offset:
            part.unlink()
            return
        if error.code >= 500 or error.code in (408, 425, 429):
            raise TemporaryFailure(f"the server answered {status}") from None
        raise UserError(f"{shown(url)} cannot be fetched: the server answered {status}") from None
    except (http.client.InvalidURL, ValueError) as error:
        raise UserError(f"{shown(url)} is not a valid address: {error}") from None
    except (OSError, http.client.HTTPException) as error:
        if url.startswith("file:"):
            raise UserError(f"{shown(url)} cannot be fetched: {reason(error, timeout)}") from None
        raise TemporaryFailure(reason(error, timeout)) from None

    with response:
        if response.status != 206:
            offset = 0  # the whole file comes: the server ignored the range
        elif not (response.headers["Content-Range"] or "").startswith(f"bytes {offset}-"):
            part.unlink(missing_ok=True)
            raise TemporaryFailure("the server answered with another range than asked for")
        length = response.headers["Content-Length"]
        total = offset + int(length) if length and length.isdigit() else None
        megabytes = "" if total is None else f", {total / 1e6:.1f} MB"
        resumed = f", from {offset / 1e6:.1f} MB on" if offset else ""
        print(f"fetching {shown(url)}{megabytes}{resumed}", file=sys.stderr)
        with open(part, "ab" if offset else "wb") as handle:
            while True:
                try:
                    block = response.read1(BLOCK)
                except (OSError, http.client.HTTPException) as error:
                    raise TemporaryFailure(reason(error, timeout)) from None
                if not block:
                    break
                handle.write(block)
                offset += len(block)
            handle.flush()
            os.fsync(handle.fileno())
    if total is not None and offset < total:
        raise TemporaryFailure(f"the connection closed after {offset} of {total} bytes")


def fetch(url: str, file: Path, digest: str, retries: int, timeout: float) -> None:
    """Fetch `url` as `file`, which comes into being only with the SHA-256 `digest`.

    Raises UserError if that fails; what came of the right file stays in its .part for the next call.
    """
    part = file.with_name(file.name + ".part")
    if file.exists():
        os.replace(file, file.with_name(file.name + ".broken"))
        print(f"{file.name} has another SHA-256 than it should, kept as {file.name}.broken", file=sys.stderr)
    failures = 0
    found = sha256(part)
    while found != digest:  # right at once if an earlier call ended just before the renaming
        fresh = not found
        try:
            transfer(url, part, timeout)
        except TemporaryFailure as error:
            failures += 1
            if failures > retries:
                raise UserError(f"{file.name} was not fetched from {shown(url)}: {error}") from None
            wait = min(2.0 ** (failures - 1), LONGEST_WAIT)
            print(f"{file.name}: {error}; attempt {failures + 1} in {wait:g} s", file=sys.stderr)
            time.sleep(wait)
            found = sha256(part)
            continue
        found = sha256(part)
        if found == digest:
            break
        web_page = fresh and part.read_bytes()[:99].lstrip().lower().startswith((b"<!doctype", b"<html"))
        part.unlink(missing_ok=True)
        if fresh:
            kind = "a web page" if web_page else "another file"
            raise UserError(
                f"{file.name} was not fetched: {shown(url)} is {kind}, SHA-256 {found[:12]} instead of {digest[:12]}"
            )
        print(f"{file.name}: what an earlier attempt fetched does not fit, starting again", file=sys.stderr)
        found = ""
    os.replace(part, file)


def unverified(folder: Path, sums: dict[str, str]) -> list[str]:
    """The names whose files in `folder` are missing or have another SHA-256."""
    return [name for name, digest in sums.items() if sha256(folder / name) != digest]


def main() -> None:
    config = parse_config(Config, __doc__)
    folder = ROOT / "checkpoints"
    sums = read_sums(folder / "SHA256SUMS")
    wanted = unverified(folder, sums)
    base = config.url or os.environ.get(VARIABLE, "")
    if wanted and not base:
        states = ", ".join(f"{name} is {'broken' if (folder / name).exists() else 'missing'}" for name in wanted)
        raise UserError(f"{states}: set {VARIABLE} to the address of the folder that holds the checkpoints")
    urls = {name: file_url(base, name) for name in wanted}
    try:
        with contextlib.ExitStack() as stack:
            if wanted:
                lock = stack.enter_context(open(folder / ".lock.part", "wb"))  # stays: removing it would be a race
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    print("waiting for another hw2_download.sh to end", file=sys.stderr)
                    fcntl.flock(lock, fcntl.LOCK_EX)
            for name in wanted:
                if sha256(folder / name) != sums[name]:  # unless the other one fetched it meanwhile
                    fetch(urls[name], folder / name, sums[name], config.retries, config.timeout)
    except OSError as error:
        raise UserError(f"{error.filename or folder} cannot be written: {error.strerror or error}") from None
    print(f"{len(sums)} checkpoint{'s' if len(sums) > 1 else ''} verified")


if __name__ == "__main__":
    run_script(main)
