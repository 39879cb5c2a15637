"""hw2_download.sh as a grader calls it, against servers on the loopback interface that misbehave in every way."""

import hashlib
import http.client
import http.server
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from common.config import UserError
from common.download import file_url, read_sums, reason, shown

REPOSITORY = Path(__file__).resolve().parent.parent
FILES = {name: random.Random(name).randbytes(200_000) for name in ("dcgan.safetensors", "two words é.safetensors")}
NAME, OTHER = FILES
HTML = b"<!DOCTYPE html><html><body>Sign in to continue</body></html>"


class Server(http.server.ThreadingHTTPServer):
    """Serves FILES on a free port; `modes` says how the next requests are answered, the last mode for ever."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = dict(FILES)
        self.modes = ["range"]
        self.requests: list[tuple[str, str | None]] = []  # (path with query, Range header)
        self.released = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request, client_address):
        pass  # a client that goes away is part of the tests


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *arguments):
        pass

    def answer(self, status: int, body: bytes, announced: int | None = None, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if announced is None else announced))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        server = self.server
        asked = self.headers["Range"]
        server.requests.append((self.path, asked))
        mode = server.modes.pop(0) if len(server.modes) > 1 else server.modes[0]
        data = server.files.get(unquote(urlsplit(self.path).path).rpartition("/")[2])
        start = int(re.fullmatch(r"bytes=(\d+)-", asked).group(1)) if asked else 0
        if mode == "busy":
            self.answer(503, b"later")
        elif mode == "page":
            self.answer(200, HTML, Content_Type="text/html")
        elif mode == "404" or data is None:
            self.answer(404, HTML, Content_Type="text/html")
        elif mode == "cut":
            self.answer(200, data[: len(data) // 2], announced=len(data))
        elif mode == "stall":
            self.answer(200, data[: len(data) // 2], announced=len(data))
            server.released.wait(20)
        elif mode == "unannounced":  # HTTP/1.0: the end of the connection is the end of the file
            self.send_response(200)
            self.end_headers()
            self.wfile.write(data)
        elif mode == "other range":
            self.answer(206, data[5:], Content_Range=f"bytes 5-{len(data) - 1}/{len(data)}")
        elif asked and mode == "range":
            if start >= len(data):
                self.answer(416, b"", Content_Range=f"bytes */{len(data)}")
            else:
                self.answer(206, data[start:], Content_Range=f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            if mode == "slow":
                time.sleep(0.5)
            self.answer(200, data)


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    thread.join()
    server.server_close()


class Clone:
    """A copy of what the script needs, in a folder whose name has a space and letters beyond ASCII."""

    def __init__(self, root: Path):
        self.elsewhere = root / "elsewhere"  # the caller's folder, with a package of the same name
        self.root = self.elsewhere / "Hausaufgabe Zwei – löschen, 作業"
        self.checkpoints = self.root / "checkpoints"
        self.decoys = root / "decoys"  # where CDPATH points
        (self.decoys / self.root.name).mkdir(parents=True)
        (self.elsewhere / "common").mkdir(parents=True)
        (self.elsewhere / "common" / "__init__.py").write_text("raise SystemExit('the wrong package')")
        (self.root / "common").mkdir(parents=True)
        self.checkpoints.mkdir()
        shutil.copy(REPOSITORY / "hw2_download.sh", self.root)
        for name in ("__init__.py", "config.py", "download.py"):
            shutil.copy(REPOSITORY / "common" / name, self.root / "common")
        for name, data in FILES.items():
            (self.checkpoints / name).write_bytes(data)
        sums = [f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in FILES.items()]
        (self.checkpoints / "SHA256SUMS").write_text("".join(sums), encoding="utf-8")

    def start(self, *arguments: str, url: str | None = None) -> subprocess.Popen:
        dropped = ("http_proxy", "https_proxy", "all_proxy", "hw2_checkpoint_url", "pythonpath")
        environment = {name: value for name, value in os.environ.items() if name.lower() not in dropped}
        environment["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
        environment["CDPATH"] = str(self.decoys)
        environment |= {"HW2_CHECKPOINT_URL": url} if url is not None else {}
        script = os.path.relpath(self.root / "hw2_download.sh", self.elsewhere)
        # A shell that runs the tests in the background ignores SIGINT, and so would its children.
        start = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execvp('bash', sys.argv[1:])"
        command = [sys.executable, "-c", start, "bash", script, *arguments]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=self.elsewhere, env=environment, stdout=pipe, stderr=pipe, text=True)

    def run(self, *arguments: str, url: str | None = None) -> tuple[int, str, str]:
        """The exit code, stdout and stderr of the script."""
        process = self.start(*arguments, url=url)
        out, err = process.communicate(timeout=30)
        assert "Traceback" not in err
        assert {path.name for path in self.elsewhere.iterdir()} == {"common", self.root.name}
        return process.returncode, out, err

    def intact(self) -> bool:
        return all((self.checkpoints / name).read_bytes() == data for name, data in FILES.items())

    def names(self) -> set[str]:
        return {path.name for path in self.checkpoints.iterdir()} - {"SHA256SUMS", ".lock.part"}


@pytest.fixture
def clone(tmp_path):
    return Clone(tmp_path)


@pytest.fixture
def gap(clone):
    """A clone that lacks one checkpoint."""
    (clone.checkpoints / NAME).unlink()
    return clone


def assert_fetched(clone: Clone, result: tuple[int, str, str]) -> None:
    assert result[:2] == (0, "2 checkpoints verified\n"), result
    assert clone.intact()
    assert clone.names() == set(FILES)


def assert_failed(clone: Clone, result: tuple[int, str, str], *words: str) -> None:
    """Exit code 2, one last sentence with `words`, and nothing under the final name."""
    code, out, err = result
    last = err.splitlines()[-1]
    assert (code, out) == (2, ""), result
    assert last.startswith("download.py: error: ")
    assert all(word in last for word in words), last
    assert not (clone.checkpoints / NAME).exists()
    assert (clone.checkpoints / OTHER).read_bytes() == FILES[OTHER]


def test_present_files_are_only_verified(clone, server):
    before = {path: path.stat().st_mtime_ns for path in clone.checkpoints.iterdir()}
    assert clone.run(url=server.url) == (0, "2 checkpoints verified\n", "")
    assert clone.run() == (0, "2 checkpoints verified\n", "")
    assert {path: path.stat().st_mtime_ns for path in clone.checkpoints.iterdir()} == before
    assert server.requests == []


def test_missing_files_are_fetched(clone, server):
    for name in FILES:
        (clone.checkpoints / name).unlink()
    assert_fetched(clone, clone.run("--url", server.url + "/a folder/v1/"))
    paths = ["/a%20folder/v1/dcgan.safetensors", "/a%20folder/v1/two%20words%20%C3%A9.safetensors"]
    assert server.requests == [(path, None) for path in paths]


def test_a_flipped_bit_is_found_and_the_file_fetched_anew(clone, server):
    wrong = bytes([FILES[NAME][0] ^ 1]) + FILES[NAME][1:]
    (clone.checkpoints / NAME).write_bytes(wrong)
    code, out, err = clone.run()
    assert (code, out) == (2, "")
    assert f"{NAME} is broken: set HW2_CHECKPOINT_URL" in err
    code, out, _ = clone.run(url=server.url)
    assert (code, out) == (0, "2 checkpoints verified\n")
    assert clone.intact()
    assert (clone.checkpoints / f"{NAME}.broken").read_bytes() == wrong


def test_a_broken_file_does_not_keep_its_name_when_fetching_fails(clone, server):
    (clone.checkpoints / NAME).write_bytes(FILES[NAME][:1000])
    server.modes = ["404"]
    assert_failed(clone, clone.run(url=server.url), "404")
    assert (clone.checkpoints / f"{NAME}.broken").read_bytes() == FILES[NAME][:1000]


def test_without_an_address_the_missing_files_are_named(clone):
    for name in FILES:
        (clone.checkpoints / name).unlink()
    code, out, err = clone.run()
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert all(f"{name} is missing" in err for name in FILES)
    assert "HW2_CHECKPOINT_URL" in err
    assert clone.names() == set()


def test_an_error_page_is_not_saved(gap, server):
    server.modes = ["404"]
    assert_failed(gap, gap.run(url=server.url), "404", NAME)
    assert len(server.requests) == 1  # another attempt would not help
    server.modes = ["page"]
    digest = hashlib.sha256(HTML).hexdigest()
    assert_failed(gap, gap.run(url=server.url), NAME, "a web page", digest[:12])
    assert gap.names() == {OTHER}


def test_wrong_content_is_not_saved(gap, server):
    server.files[NAME] = b"something else"
    wanted, found = (hashlib.sha256(data).hexdigest()[:12] for data in (FILES[NAME], server.files[NAME]))
    assert_failed(gap, gap.run(url=server.url), NAME, f"SHA-256 {found} instead of {wanted}")
    assert gap.names() == {OTHER}


def test_a_cut_connection_is_continued(gap, server):
    server.modes = ["cut", "range"]
    result = gap.run(url=server.url)
    assert_fetched(gap, result)
    assert server.requests == [(f"/{NAME}", None), (f"/{NAME}", "bytes=100000-")]
    assert "closed after 100000 of 200000 bytes" in result[2]


def test_the_next_call_continues_too(gap, server):
    server.modes = ["cut"]
    assert_failed(gap, gap.run("--retries", "0", url=server.url), NAME, "closed after 100000 of 200000 bytes")
    server.modes = ["range"]
    assert_fetched(gap, gap.run(url=server.url))
    assert server.requests[-1] == (f"/{NAME}", "bytes=100000-")


def test_a_server_without_ranges_sends_the_whole_file(gap, server):
    server.modes = ["cut", "whole"]
    assert_fetched(gap, gap.run(url=server.url))
    assert server.requests[-1] == (f"/{NAME}", "bytes=100000-")


def test_a_server_that_announces_no_length(gap, server):
    server.modes = ["unannounced"]
    assert_fetched(gap, gap.run(url=server.url))


def test_another_range_than_asked_for_is_not_appended(gap, server):
    (gap.checkpoints / f"{NAME}.part").write_bytes(FILES[NAME][:50])
    server.modes = ["other range", "range"]
    assert_fetched(gap, gap.run(url=server.url))


@pytest.mark.parametrize(
    ("part", "requests"),
    [(FILES[NAME], 0), (FILES[NAME] + b"more", 2), (bytes(len(FILES[NAME])), 2), (b"stale", 2), (b"", 1)],
    ids=["whole", "too long", "as long", "stale", "empty"],
)
def test_whatever_an_earlier_call_left(gap, server, part, requests):
    (gap.checkpoints / f"{NAME}.part").write_bytes(part)
    assert_fetched(gap, gap.run("--retries", "0", url=server.url))
    assert len(server.requests) == requests


def test_a_busy_server_is_asked_again(gap, server):
    server.modes = ["busy", "range"]
    assert_fetched(gap, gap.run(url=server.url))
    server.modes = ["busy"]
    (gap.checkpoints / NAME).unlink()
    assert_failed(gap, gap.run("--retries", "0", url=server.url), "503")


def test_a_silent_server_times_out_and_what_came_is_kept(gap, server):
    server.modes = ["stall"]
    assert_failed(gap, gap.run("--timeout", "0.5", "--retries", "0", url=server.url), NAME, "no data for 0.5 s")
    assert (gap.checkpoints / f"{NAME}.part").read_bytes() == FILES[NAME][:100_000]


def test_a_refused_connection_is_tried_again_and_reported(gap):
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as closed:
        port = closed.server_port
    result = gap.run("--retries", "1", url=f"http://127.0.0.1:{port}")
    assert_failed(gap, result, NAME, "refused")
    assert "attempt 2 in 1 s" in result[2]
    assert gap.names() == {OTHER}


def test_two_at_once(clone, server):
    for name in FILES:
        (clone.checkpoints / name).unlink()
    server.modes = ["slow"]
    processes = [clone.start(url=server.url) for _ in range(2)]
    results = [(*process.communicate(timeout=30), process.returncode) for process in processes]
    assert [(out, code) for out, _, code in results] == [("2 checkpoints verified\n", 0)] * 2, results
    assert len(server.requests) == 2  # each file once
    assert clone.intact()
    assert clone.names() == set(FILES)


def test_a_query_string_stays_whole_and_secret(gap, server):
    server.modes = ["404", "range"]
    url = server.url + "/a?id=1&key=s%26cret&export=download"
    assert "cret" not in gap.run(url=url)[2]
    assert_fetched(gap, gap.run(url=url))
    assert server.requests[-1] == (f"/a/{NAME}?id=1&key=s%26cret&export=download", None)


@pytest.mark.parametrize("quoted", [True, False])
def test_a_file_address(gap, tmp_path, quoted):
    folder = tmp_path / "USB Stick ü"
    folder.mkdir()
    url = folder.as_uri() if quoted else f"file://{folder}"
    assert_failed(gap, gap.run(url=url), "No such file or directory")
    (folder / NAME).write_bytes(FILES[NAME])
    (gap.checkpoints / f"{NAME}.part").write_bytes(FILES[NAME][:50])
    assert_fetched(gap, gap.run(url=url))


@pytest.mark.parametrize("url", ["example.org/files", "ftp://example.org", "http://", "https://[broken", " "])
def test_an_address_of_another_kind_is_refused(gap, url):
    assert_failed(gap, gap.run("--url", url), "is not an address")


def test_ctrl_c_leaves_no_traceback_and_what_came(gap, server):
    server.modes = ["stall"]
    process = gap.start(url=server.url)
    part = gap.checkpoints / f"{NAME}.part"
    until = time.monotonic() + 20
    while not (part.exists() and part.stat().st_size > 50_000) and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (130, "")
    assert err.splitlines()[-1] == "download.py: interrupted"
    assert gap.names() == {OTHER, part.name}


def test_a_folder_in_the_way_is_named(gap, server):
    (gap.checkpoints / f"{NAME}.part").mkdir()
    assert_failed(gap, gap.run(url=server.url), f"{NAME}.part", "Is a directory")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("options", [(), ("--dry-run",)])
def test_stdout_that_cannot_be_written(clone, options, unbuffered, monkeypatch):
    """A full disk is one sentence, a closed pipe the exit code that the shell knows; as of every script."""
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    command = [sys.executable, clone.root / "common" / "download.py", *options]

    def run(stdout: int) -> tuple[int, str]:
        result = subprocess.run(command, check=False, stdout=stdout, stderr=subprocess.PIPE, text=True)
        os.close(stdout)
        return result.returncode, result.stderr

    sentence = "download.py: error: standard output cannot be written: No space left on device\n"
    assert run(os.open("/dev/full", os.O_WRONLY)) == (2, sentence)
    reading, writing = os.pipe()
    os.close(reading)
    assert run(writing) == (141, "")


@pytest.mark.parametrize("option", [("--retries", "-1"), ("--timeout", "0"), ("--timeout", "soon"), ("--nothing",)])
def test_wrong_options(clone, option):
    code, out, err = clone.run(*option)
    assert (code, out, len(err.splitlines())) == (2, "", 1)


@pytest.mark.parametrize(
    "name", ["../x", "a/b", "..", "a..b", ".hidden", "a\\b", "/etc/x", "SHA256SUMS", "x.part", "a\tb"]
)
def test_names_that_leave_the_folder_are_refused(tmp_path, name):
    file = tmp_path / "SHA256SUMS"
    file.write_text(f"{'a' * 64}  good\n{'b' * 64}  {name}\n")
    with pytest.raises(UserError, match="line 2: .* is refused"):
        read_sums(file)


def test_sums(tmp_path):
    file = tmp_path / "SHA256SUMS"
    file.write_bytes(f"# comment\r\n{'A' * 64} *one.bin\r\n\r\n{'b' * 64}  two words\r\n".encode())
    assert read_sums(file) == {"one.bin": "a" * 64, "two words": "b" * 64}
    for text, words in (
        ("", "names no checkpoint"),
        ("abc  x\n", "line 1 is not a SHA-256"),
        (f"{'a' * 64}  x\n{'b' * 64}  x\n", "line 2: x stands twice"),
        ("\udcff", "is not text"),
    ):
        file.write_bytes(text.encode("utf-8", "surrogateescape"))
        with pytest.raises(UserError, match=words):
            read_sums(file)
    file.unlink()
    with pytest.raises(UserError, match="No such file"):
        read_sums(file)


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        ("https://host/dir", "https://host/dir/a%20b%26.bin"),
        ("https://host", "https://host/a%20b%26.bin"),
        ("http://host:8080/d%20e/?x=1&y=a/b", "http://host:8080/d%20e/a%20b%26.bin?x=1&y=a/b"),
        ("https://host/ü x#part", "https://host/%C3%BC%20x/a%20b%26.bin"),
        ("file:///media/usb stick/", "file:///media/usb%20stick/a%20b%26.bin"),
    ],
)
def test_file_url(base, expected):
    assert file_url(base, "a b&.bin") == expected


def test_messages_hide_secrets_and_give_reasons():
    assert shown("https://user:secret@host/a?token=secret") == "https://host/a"
    assert reason(TimeoutError(), 3.0) == "no data for 3 s"
    assert reason(ConnectionResetError(104, "Connection reset by peer"), 3.0) == "Connection reset by peer"
    assert reason(http.client.BadStatusLine("x"), 3.0) == "x"
