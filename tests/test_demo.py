"""What a newcomer looks at: the demo's page, in a browser too, and a training in TensorBoard."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BROWSER = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), "")


@pytest.fixture(scope="session")
def demo(environment, made_once) -> Path:
    """The folder that a small demo fills."""

    def make(folder: Path) -> None:
        command = [sys.executable, "-m", "experiments.demo", "--folder", folder, "--faces", "12", "--per-class", "1"]
        result = subprocess.run(command, check=False, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert (result.returncode, result.stdout) == (0, f"look at {folder / 'index.html'}\n"), result

    return made_once("demo", make)


def test_the_demos_page_needs_no_other_file(demo):
    """Its pictures are inside: faces, digits in columns of a class, 30 digits of each domain with their labels."""
    pictures, links = [], []

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attributes):
            links.extend(value for name, value in attributes if name in ("src", "href"))
            if tag == "img":
                pictures.append(dict(attributes))

    text = (demo / "index.html").read_text(encoding="utf-8")
    Reader().feed(text)
    assert len(pictures) == 4
    assert all(link.startswith("data:image/png;base64,") for link in links)
    assert all(picture["alt"] for picture in pictures)
    assert len(re.findall(r": \d+ of 30 read right</h3>", text)) == 2


@pytest.mark.skipif(not BROWSER, reason="no Chromium here")
def test_the_demos_page_in_a_browser(demo, tmp_path):
    """All pictures are shown, nothing is wider than the window, of a telephone too."""
    page = (demo / "index.html").read_text(encoding="utf-8")
    script = """<script>addEventListener("load", () => document.body.dataset.seen = JSON.stringify({
        broken: [...document.images].filter(image => !image.naturalWidth).length,
        overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth}))</script>"""
    (tmp_path / "page.html").write_text(page.replace("</html>", script + "</html>"), encoding="utf-8")
    browser = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    for width in (500, 1000):
        command = [*browser, f"--window-size={width},800", "--dump-dom", (tmp_path / "page.html").as_uri()]
        shown = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout
        found = re.search(r"data-seen=\"(.*?)\"", shown)[1].replace("&quot;", '"')
        assert json.loads(found) == {"broken": 0, "overflow": 0}


@pytest.mark.skipif(not importlib.util.find_spec("tensorboard"), reason="no tensorboard here")
def test_tensorboard_serves_a_training(call, environment, builtin, tmp_path):
    """Its scalars and its sheets, of the folder that README names."""
    digits = builtin / "digits"
    options = ("--images", 64, "--batch-size", 16, "--log-every", 1, "--sample-every", 32)
    data = ("--source", digits / "mnistm", "--target", digits / "usps")
    result = call("p3_dann_train.py", *data, *options, "--run-dir", tmp_path / "runs" / "dann")
    assert result.returncode == 0, result.stderr

    command = [sys.executable, "-m", "tensorboard.main", "--logdir", tmp_path / "runs", "--host", "127.0.0.1"]
    with (
        open(tmp_path / "log", "w+") as log,
        subprocess.Popen([*command, "--port", "0"], env=environment, stdout=log, stderr=log) as server,
    ):
        try:
            deadline = time.monotonic() + 120
            while not (address := re.search(r"http://127\.0\.0\.1:\d+/", (tmp_path / "log").read_text())):
                assert server.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()
                time.sleep(0.2)

            def read(plugin: str) -> dict:
                with urllib.request.urlopen(f"{address[0]}data/plugin/{plugin}/tags", timeout=60) as reply:
                    return json.load(reply)

            while not (images := read("images")):  # it reads the files beside serving
                assert time.monotonic() < deadline
                time.sleep(0.2)
            (run,) = images
            assert run == "dann/tensorboard" and list(images[run]) == ["samples"]
            assert any(name.startswith("loss") for name in read("scalars")[run])
        finally:
            server.terminate()
