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
TIMEOUT = 30  # seconds without data after which a file is given up


@dataclass(frozen=True)
class Config:
    url: str = option("", f"address of the folder that holds the checkpoints, instead of ${VARIABLE}")


def read_sums(file: Path) -> dict[str, str]:
    """{name: SHA-256 in lower case} of a sha256sum file.  Raises UserError for a line that is of no file beside it."""
    sums: dict[str, str] = {}
    for number, line in enumerate(read_text(file).splitlines(), 1):
        match = re.fullmatch(r"([0-9a-fA-F]{64}) [ *]([\w-][\w .-]*)", line)
        if not match:
            raise UserError(f"{file} line {number} is not a SHA-256, two spaces and the name of a file beside it")
        sums[match[2]] = match[1].lower()
    if not sums:
        raise UserError(f"{file} names no checkpoint")
    return sums


def fetch(folder: str, file: Path, digest: str) -> None:
    """Fetch `file` from the address `folder`, whose query stays behind the name; only the right SHA-256 replaces it."""
    from torch.hub import download_url_to_file  # takes a second, so only when something must be fetched

    if not folder.startswith(("https://", "http://", "file://")):
        raise UserError(f"'{folder}' is not an address that begins with https://, http:// or file://")
    target = Path(os.path.realpath(file))  # a link stays
    new = target.with_name(f".{target.name}.part")
    print(f"fetching {file.name}", file=sys.stderr)
    try:
        parts = urlsplit(folder, allow_fragments=False)
        path = quote(f"{parts.path.rstrip('/')}/{file.name}", safe="/%:@!$&'()*+,;=~")  # spaces, letters beyond ASCII
        url = urlunsplit(parts._replace(path=path))
        download_url_to_file(url, str(new), hash_prefix=digest, progress=sys.stderr.isatty())
        if target.exists():
            os.replace(target, target.with_name(f"{target.name}.broken"))
            print(f"{file.name} had another SHA-256 than it should, kept as {file.name}.broken", file=sys.stderr)
        os.replace(new, target)
    except RuntimeError as error:  # another SHA-256
        raise UserError(f"{file.name} was not fetched: what is there is another file ({error})") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        code = f"{error.code} " if hasattr(error, "code") else ""
        reason = getattr(error, "reason", None) or str(error) or type(error).__name__
        raise UserError(f"{file.name} was not fetched: {code}{reason}") from None


def is_right(file: Path, digest: str) -> bool:
    return file.exists() and sha256(file) == digest


def main() -> None:
    config = parse_config(Config, __doc__)
    folder = ROOT / "checkpoints"
    sums = read_sums(folder / "SHA256SUMS")
    if wanted := [name for name, digest in sums.items() if not is_right(folder / name, digest)]:
        url = config.url or os.environ.get(VARIABLE, "")
        if not url:
            states = ", ".join(f"{name} is {'broken' if (folder / name).exists() else 'missing'}" for name in wanted)
            raise UserError(f"{states}: set {VARIABLE} to the address of the folder that holds the checkpoints")
        socket.setdefaulttimeout(TIMEOUT)
        with locked(folder):
            for left in folder.glob(".*.partial"):  # of a call that was killed
                left.unlink()
            for name in wanted:
                if not is_right(folder / name, sums[name]):  # unless another call fetched it meanwhile
                    fetch(url, folder / name, sums[name])
    print(f"{len(sums)} checkpoints verified")


if __name__ == "__main__":
    run_script(main)
