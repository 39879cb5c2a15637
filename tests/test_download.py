"""hw2_download.sh as a grader calls it, in a clone of its own, against a server that misbehaves."""

import hashlib
import http.server
import random
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from small_originals import contents

from common.config import UserError
from common.download import fetch, read_sums

REPOSITORY = Path(__file__).resolve().parent.parent
FILES = {name: random.Random(name).randbytes(200_000) for name in ("dcgan.safetensors", "two words é.safetensors")}
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
        data = FILES[unquote(parts.path).rpartition("/")[2]]
        assert parts.query == "token=a%2Fb", self.path
        if mode == "page":
            data = b"<!DOCTYPE html><html><body>Sign in to continue</body></html>"
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
    server.url = f"http://127.0.0.1:{server.server_port}/ä folder/?token=a%2Fb"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def folder(tmp_path) -> Path:
    """The checkpoints of a clone in a folder with a space and letters beyond ASCII in its name; NAME is missing."""
    root = tmp_path / "Hausaufgabe Zwei – löschen, 作業"
    folder = root / "checkpoints"
    folder.mkdir(parents=True)
    shutil.copytree(REPOSITORY / "common", root / "common", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "hw2_download.sh", root)
    sums = [f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in FILES.items()]
    (folder / "SHA256SUMS").write_text("".join(sums), encoding="utf-8")
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
    """From a server and from a folder; what is right is only verified, what is wrong is kept beside."""
    (folder / OTHER).write_bytes(b"my own weights")
    assert end(start(url=server.url))[:2] == (0, VERIFIED)
    assert weights(folder) == FILES | {f"{OTHER}.broken": b"my own weights"}
    assert end(start()) == (0, VERIFIED, "")
    stick = folder.parent / "USB Stick ü #2"
    stick.mkdir()
    (folder / NAME).rename(stick / NAME)
    assert end(start("--url", f"file://{stick}"))[:2] == (0, VERIFIED)
    assert weights(folder)[NAME] == FILES[NAME]


@pytest.mark.parametrize(
    ("mode", "words"),
    [("404", "404 Not Found"), ("page", "is another file"), ("cut", "is another file"), ("silent", "timed out")],
)
def test_what_is_not_the_file_is_not_saved(tmp_path, server, mode, words):
    server.mode = mode
    socket.setdefaulttimeout(0.5)
    try:
        for before in ({}, {NAME: b"broken"}):
            for name, data in before.items():
                (tmp_path / name).write_bytes(data)
            with pytest.raises(UserError, match=f"{NAME} was not fetched.*{words}"):
                fetch(server.url, tmp_path / NAME, "a" * 64)
            assert contents(tmp_path) == before
    finally:
        socket.setdefaulttimeout(None)


@pytest.mark.parametrize("url", ["example.org/files", "ftp://example.org", " ", "http://", "http://[x"])
def test_what_is_no_address(url, tmp_path):
    words = "was not fetched" if url.startswith("http") else "is not an address"
    with pytest.raises(UserError, match=words):
        fetch(url, tmp_path / NAME, "a" * 64)
    assert not contents(tmp_path)


def test_without_an_address_the_files_are_named(folder, start):
    (folder / OTHER).write_bytes(b"broken")
    code, out, error = end(start())
    assert (code, out) == (2, "") and f"{NAME} is missing, {OTHER} is broken: set HW2_CHECKPOINT_URL" in error


def test_two_at_once_and_ctrl_c(folder, server, start):
    """The second is told of the first; Ctrl-C, and what a killed call left, leave no half file."""
    server.mode = "silent"
    (folder / f".{NAME}.part.0123.partial").write_bytes(b"half")
    first = start(url=server.url)
    while [path.name for path in folder.glob(".*.partial")] in ([], [f".{NAME}.part.0123.partial"]):
        assert first.poll() is None
    assert f"is in use by download.py, process {first.pid}" in end(start(url=server.url))[2]
    first.send_signal(signal.SIGINT)
    assert end(first) == (130, "", "download.py: interrupted") and weights(folder) == {OTHER: FILES[OTHER]}


def test_names_that_leave_the_folder_are_refused(tmp_path):
    for name in ("../x", "a/b", ".hidden", "a\\b", "/etc/x"):
        (tmp_path / "SHA256SUMS").write_text(f"{'a' * 64}  good\n{'b' * 64}  {name}\n")
        with pytest.raises(UserError, match="line 2 is not a SHA-256"):
            read_sums(tmp_path / "SHA256SUMS")
    (tmp_path / "SHA256SUMS").write_text("")
    with pytest.raises(UserError, match="names no checkpoint"):
        read_sums(tmp_path / "SHA256SUMS")
