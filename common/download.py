"""Verify the released checkpoints against checkpoints/SHA256SUMS and fetch those that are missing or broken.

    bash hw2_download.sh                          # verify; fetch from $HW2_CHECKPOINT_URL if need be
    bash hw2_download.sh --url https://host/dir   # fetch from dir/NAME; https, http or file

A file gets its name only when its SHA-256 is right.  One with another content stays until then, and is kept as
NAME.broken, so that no weights of the user's own are lost.
"""

import http.client
import os
import re
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

ROOT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    sys.path[0] = str(ROOT)  # run as a file, Python looks beside it and not above

from common.start import run_script  # noqa: E402

from common.config import UserError, option, parse_config  # noqa: E402
from common.files import locked, read_text, sha256  # noqa: E402

VARIABLE = "HW2_CHECKPOINT_URL"


@dataclass(frozen=True)
class Config:
    url: str = option("", f"address of the folder that holds the checkpoints, instead of ${VARIABLE}")
    timeout: float = option(30.0, "seconds without data after which a file is given up", low=0.1, high=3600)


def read_sums(file: Path) -> dict[str, str]:
    """The lines of a sha256sum file as {name: SHA-256 in lower case}.

    Raises UserError, naming the line, for what is not such a line or not the plain name of a file beside it.
    """
    sums: dict[str, str] = {}
    for number, line in enumerate(read_text(file).splitlines(), 1):
        if not line.strip():
            continue
        match = re.fullmatch(r"([0-9a-fA-F]{64}) [ *]([\w-][\w .-]*)", line)
        if not match:
            raise UserError(f"{file} line {number} is not a SHA-256, two spaces and the name of a file beside it")
        sums[match[2]] = match[1].lower()
    if not sums:
        raise UserError(f"{file} names no checkpoint")
    return sums


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
    return urlunsplit((scheme, host, path, query, ""))


def fetch(url: str, file: Path, digest: str) -> None:
    """Fetch `url` as `file`, which comes into being, or is replaced, only by what has the SHA-256 `digest`."""
    from torch.hub import download_url_to_file  # takes a second, so only when something must be fetched

    target = Path(os.path.realpath(file))  # a link stays
    new = target.with_name(f".{target.name}.part")
    parts = urlsplit(url)
    shown = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))  # the rest may be secret
    print(f"fetching {shown}", file=sys.stderr)
    try:
        download_url_to_file(url, str(new), hash_prefix=digest, progress=sys.stderr.isatty())
        if target.exists():
            os.replace(target, target.with_name(f"{target.name}.broken"))
            print(f"{file.name} had another SHA-256 than it should, kept as {file.name}.broken", file=sys.stderr)
        os.replace(new, target)
    except RuntimeError as error:  # another SHA-256
        what = f"{shown} is another file, perhaps a web page ({error})"
        raise UserError(f"{file.name} was not fetched: {what}") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or str(error) or type(error).__name__
        code = f"{error.code} " if hasattr(error, "code") else ""
        raise UserError(f"{file.name} was not fetched from {shown}: {code}{reason}") from None


def is_right(file: Path, digest: str) -> bool:
    return file.exists() and sha256(file) == digest


def main() -> None:
    config = parse_config(Config, __doc__)
    folder = ROOT / "checkpoints"
    sums = read_sums(folder / "SHA256SUMS")
    if wanted := [name for name, digest in sums.items() if not is_right(folder / name, digest)]:
        base = config.url or os.environ.get(VARIABLE, "")
        if not base:
            states = ", ".join(f"{name} is {'broken' if (folder / name).exists() else 'missing'}" for name in wanted)
            raise UserError(f"{states}: set {VARIABLE} to the address of the folder that holds the checkpoints")
        urls = {name: file_url(base, name) for name in wanted}
        socket.setdefaulttimeout(config.timeout)
        with locked(folder):
            for left in folder.glob(".*.partial"):  # of a call that was killed
                left.unlink()
            for name in wanted:
                if not is_right(folder / name, sums[name]):  # unless another call fetched it meanwhile
                    fetch(urls[name], folder / name, sums[name])
    print(f"{len(sums)} checkpoint{'s' if len(sums) > 1 else ''} verified")


if __name__ == "__main__":
    run_script(main)
