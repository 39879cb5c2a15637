"""hw2_download.sh as a grader calls it, in a clone of its own, against a server that misbehaves."""

import hashlib
import http.server
import random
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from small_originals import contents

REPOSITORY = Path(__file__).resolve().parent.parent
FILES = {name: random.Random(name).randbytes(200_000) for name in ("dcgan.safetensors", "wgan.safetensors")}
NAME, OTHER = FILES
VERIFIED = "2 checkpoints verified\n"


class Server(http.server.ThreadingHTTPServer):
    """Serves FILES on a free port, as `mode` says."""

    daemon_threads = True
    mode = "whole"


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *arguments):
        pass

    def do_GET(self):
        parts, mode = urlsplit(self.path), self.server.mode
        folder, _, name = unquote(parts.path).rpartition("/")
        assert (folder, parts.query) == ("/a folder", "token=a%2Fb"), self.path
        data = b"<!DOCTYPE html><html><body>Sign in to continue</body></html>" if mode == "page" else FILES[name]
        self.send_response(404 if mode == "404" else 200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if mode in ("cut", "silent") else data)
        if mode == "silent":
            self.wfile.flush()
            time.sleep(5)


@pytest.fixture
def server():
    server = Server(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{server.server_port}/a folder/?token=a%2Fb"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def folder(tmp_path) -> Path:
    """The checkpoints of a clone in a folder with a space and letters beyond ASCII in its name; NAME is missing."""
    folder = tmp_path / "Hausaufgabe Zwei – löschen, 作業" / "checkpoints"
    folder.mkdir(parents=True)
    shutil.copy(REPOSITORY / "hw2_download.sh", folder.parent)
    sums = [f"{hashlib.sha256(data).hexdigest()}  {name}" for name, data in FILES.items()]
    (folder / "SHA256SUMS").write_text("\n".join(sums))
    (folder / OTHER).write_bytes(FILES[OTHER])
    return folder


@pytest.fixture
def start(folder, environment) -> Callable[..., subprocess.Popen]:
    def start(*arguments: str, url: str = "") -> subprocess.Popen:
        env = {name: value for name, value in environment.items() if not name.lower().endswith("_proxy")}
        command = ["bash", str(folder.parent / "hw2_download.sh"), *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, cwd=folder.parent.parent, env=env | {"HW2_CHECKPOINT_URL": url}, **pipes)

    return start


def end(process: subprocess.Popen) -> tuple[int, str, str]:
    """The exit code, stdout and the last line of stderr."""
    out, err = process.communicate(timeout=60)
    return process.returncode, out, (err.splitlines() or [""])[-1]


def weights(folder: Path) -> dict[str, bytes]:
    return {name: data for name, data in contents(folder).items() if name != "SHA256SUMS"}


def test_missing_and_broken_files_are_fetched(folder, server, start):
    """From a server and from a folder; what is right is only verified, what is wrong is kept beside; a link stays."""
    (folder / OTHER).write_bytes(b"my own weights")
    assert end(start(url=server.url))[:2] == (0, VERIFIED)
    assert weights(folder) == FILES | {f"{OTHER}.broken": b"my own weights"}
    assert end(start()) == (0, VERIFIED, "")
    stick = folder.parent / "USB Stick ü #2 [1]"
    stick.mkdir()
    (folder / NAME).rename(stick / NAME)
    (folder / NAME).symlink_to(folder.parent / "elsewhere")
    assert end(start(f"--url=file://{stick}"))[:2] == (0, VERIFIED)
    assert (folder / NAME).is_symlink() and (folder.parent / "elsewhere").read_bytes() == FILES[NAME]


@pytest.mark.parametrize(("mode", "words"), [("404", "404"), ("page", "is another file"), ("cut", "")])
def test_what_is_not_the_file_is_not_saved(folder, server, start, mode, words):
    server.mode = mode
    for before in (b"", b"broken"):
        if before:
            (folder / NAME).write_bytes(before)
        kept = weights(folder)
        code, out, error = end(start(url=server.url))
        assert (code, out) == (2, "") and error.startswith(f"hw2_download.sh: error: {NAME} was not fetched: ")
        assert words in error and weights(folder) == kept


@pytest.mark.parametrize("arguments", [("x",), ("--url",), ("--url", "ftp://example.org"), ("--url", "http://")])
def test_what_is_no_address(arguments, folder, start):
    code, out, error = end(start(*arguments))
    assert (code, out) == (2, "") and error.startswith("hw2_download.sh: error: ")
    assert weights(folder) == {OTHER: FILES[OTHER]}


def test_sums_of_other_programs(folder, start):
    """Capitals, a star for binary files, line ends of Windows; none at all is an error."""
    sums = folder / "SHA256SUMS"
    _, other = sums.read_text().splitlines()
    sums.write_bytes(other.replace("  ", " *").upper().replace(OTHER.upper(), OTHER).encode() + b"\r\n")
    assert end(start()) == (0, "1 checkpoints verified\n", "")
    sums.write_bytes(b"")
    assert end(start())[0] == 2


@pytest.mark.parametrize("line", ["../x", "a/b", ".hidden", "a\\b", "/etc/x", ""])
def test_names_that_leave_the_folder_are_refused(line, folder, server, start):
    with open(folder / "SHA256SUMS", "a") as sums:
        sums.write(f"\n{'b' * 64}  {line}\n")
    code, out, error = end(start(url=server.url))
    assert (code, out) == (2, "") and "not a SHA-256 and the name of a file beside it" in error
    assert weights(folder) == FILES  # those before the line


def test_without_an_address_the_file_is_named(start):
    code, out, error = end(start())
    assert (code, out) == (2, "") and f"{NAME} is missing or broken: set HW2_CHECKPOINT_URL" in error


def test_ctrl_c_leaves_no_half_file(folder, server, start):
    server.mode = "silent"
    process = start(url=server.url)
    while not any(path.stat().st_size for path in folder.glob(f".{NAME}.*")):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    subprocess.run(["pkill", "-INT", "-P", str(process.pid)], check=False)  # a terminal sends it to both
    assert end(process)[0] != 0 and weights(folder) == {OTHER: FILES[OTHER]}
