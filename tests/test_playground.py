"""The page to play with: in a browser, where gradio, playwright and a Chromium are; its parts without."""

import csv
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from common.images import encode_png
from data.reading import MAX_PIXELS
from models.diffusion import TIMESTEPS, alpha_bar_schedule
from playground import answers
from sampling.digits import six_of_600, time_reversed

ROOT = Path(__file__).resolve().parent.parent
TABS = ("Faces", "Digits", "Labels", "Why")
# Python's own record of the addresses that the server connects to, or asks for.
WITNESS = """
import os, sys
def witness(event, arguments):
    address = arguments[1] if event == "socket.connect" else arguments[0] if event == "socket.getaddrinfo" else None
    if isinstance(address, (tuple, str)):
        with open(os.environ["WITNESS"], "a") as file:
            print(address if isinstance(address, str) else address[0], file=file)
sys.addaudithook(witness)
"""


def test_time_is_reversed_for_the_network_alone():
    told = []
    denoise = time_reversed(lambda x, t: told.append(t) or x)
    assert [denoise(step, step) for step in (TIMESTEPS, 2, 1)] == [TIMESTEPS, 2, 1]
    assert told == [1, TIMESTEPS - 1, TIMESTEPS]


def test_six_steps_are_every_hundredth_one_and_each_is_as_small_as_ever():
    told = []

    def nothing(x, t):
        told.append(t)
        return torch.zeros_like(x)

    alpha = (alpha_bar_schedule()[1:] / alpha_bar_schedule()[:-1])[[t - 1 for t in (600, 500, 400, 300, 200, 100)]]
    x = six_of_600(nothing, torch.ones(1, 3, 2, 2, dtype=torch.float64), lambda t: torch.zeros(1, 3, 2, 2))
    assert told == [600, 500, 400, 300, 200, 100]
    torch.testing.assert_close(x, alpha.prod().rsqrt().expand_as(x))


def test_a_drawing_becomes_white_on_black_and_fills_the_image():
    paper = torch.full((3, 280, 280), 255, dtype=torch.uint8)
    assert answers.drawn_image(encode_png(paper)) is None
    paper[:, 200:260, 30:60] = 0
    digit = answers.drawn_image(encode_png(paper))
    expected = torch.zeros(3, 28, 28, dtype=torch.uint8)
    expected[:, 2:26, 8:20] = 255
    assert torch.equal(digit, expected)


def test_what_is_shown_of_a_reading_is_what_it_averages(weights):
    networks = answers.Networks(torch.device("cpu"), {}, None, {"svhn": answers.load_dann(weights["dann"])})
    digit = torch.randint(256, (3, 28, 28), generator=torch.Generator().manual_seed(0)).byte()
    mean, of_views, views = answers.read_digit(networks, "svhn", digit)
    assert torch.equal(views[0], digit) and len(views) == 18
    assert torch.equal(views[9], 255 - digit)
    network, standardized, _ = networks.labels["svhn"]
    as_images = answers.probabilities(network, answers.to_unit_range(views), standardized, answers.VIEWS[:1])
    torch.testing.assert_close(as_images.detach(), of_views, rtol=0, atol=1e-4)
    torch.testing.assert_close(of_views.mean(0), mean)


def test_a_process_that_nobody_watches_ends(weights):
    network = answers.ContextUnet()
    answers.load_weights(network, weights["unet"])
    networks = answers.Networks(torch.device("cpu"), {}, network.eval(), {})
    calls = []

    def endless(denoise, x, noise):
        while True:
            calls.append(x)
            x = denoise(x, 300)

    frames = answers.denoising(networks, [(0, 1)], 0.0, (0.0, 1.0), endless, 0)
    threads = threading.active_count()
    first = next(frames)
    assert first.shape == (1, 3, 28, 28) and threading.active_count() == threads + 1
    frames.close()
    assert threading.active_count() == threads


def test_a_drop_that_is_no_image_is_one_sentence_without_its_folder(tmp_path):
    (tmp_path / "note.png").write_text("a note")
    with pytest.raises(answers.UserError) as caught:
        answers.dropped_image(tmp_path / "note.png")
    assert str(caught.value) == "note.png cannot be decoded"


def test_without_gradio_it_says_what_to_install(tmp_path, environment):
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['gradio'] = None\n")
    command = [sys.executable, "-m", "playground", "--no-browser"]
    result = subprocess.run(
        command, cwd=ROOT, env=environment | {"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == ("playground: error: gradio is missing, run: pip install -r requirements-playground.txt\n")


@pytest.fixture(scope="module")
def chromium() -> str:
    pytest.importorskip("gradio", reason="gradio is not installed: pip install -r requirements-playground.txt")
    pytest.importorskip("playwright", reason="playwright is not installed: pip install -r requirements-playground.txt")
    found = [path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))]
    if not found:
        pytest.skip("no Chromium is installed: apt-get install chromium")
    return found[0]


@pytest.fixture(scope="module")
def server(chromium, environment, tmp_path_factory) -> Iterator[tuple[int, Path]]:
    """The port of a running page, and the file with the addresses that its process connected to."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "sitecustomize.py").write_text(WITNESS)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "playground", "--no-browser", "--port", str(port)]
    env = environment | {"PYTHONPATH": str(folder), "WITNESS": str(folder / "addresses")}
    with (
        open(folder / "errors", "w") as errors,
        subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        line = process.stdout.readline()
        assert line == f"http://127.0.0.1:{port} (Ctrl-C ends it)\n", (folder / "errors").read_text()
        yield port, folder / "addresses"
        process.send_signal(2)
        assert process.wait(timeout=30) in (0, 130)
    assert "Traceback" not in (folder / "errors").read_text()


@pytest.fixture(scope="module")
def page_and_complaints(server, chromium):
    """The page in a browser, and a list of the console's errors and of requests to other hosts."""
    from playwright.sync_api import sync_playwright

    complaints: list[str] = []
    home = f"http://127.0.0.1:{server[0]}/"
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(120_000)  # the machine may be busy
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "request",
            lambda request: None
            if request.url.startswith((home, "data:", "blob:"))
            else complaints.append(request.url),
        )
        page.goto(home)
        page.get_by_role("tab", name="Why").click()
        page.get_by_text("Six of 600 steps, 6 calls").wait_for()  # the last thing that is drawn by itself
        yield page, complaints
        browser.close()


@pytest.fixture
def page(page_and_complaints):
    """The page, with nothing to complain of when the test ends."""
    page, complaints = page_and_complaints
    yield page
    assert complaints == []


def panel(page, name: str):
    """The panel of a tab, which is opened."""
    page.get_by_role("tab", name=name).click()
    return page.get_by_role("tabpanel").filter(visible=True)


def saved(page, link) -> bytes:
    with page.expect_download() as download:
        link.click()
    assert download.value.suggested_filename == link.get_attribute("download")
    return Path(download.value.path()).read_bytes()


def complaint(page) -> str:
    """The sentence in the corner, which is closed."""
    sentence = page.get_by_test_id("toast-text")
    said = sentence.inner_text()
    page.get_by_test_id("toast-close").click()
    sentence.wait_for(state="detached")
    return said


def read_as(tab) -> list[str]:
    """What the two networks read, once both have."""
    headings = tab.get_by_test_id("label-output-value")
    headings.nth(1).wait_for()
    return [text.strip() for text in headings.all_inner_texts()]


def clear_paper(tab) -> None:
    tab.get_by_role("button", name="Clear").last.click()
    tab.get_by_test_id("label-output-value").first.wait_for(state="detached")


def test_faces_are_those_of_the_wrapper(page, call, tmp_path):
    tab = panel(page, "Faces")
    tab.get_by_label("Seed").fill("3")
    tab.get_by_label("First").fill("2")
    tab.get_by_role("button", name="Draw").click()
    link = tab.get_by_title("Save 0017.png")
    link.first.wait_for()
    assert call("p1_inference.py", tmp_path / "A", "--seed", 3, "--count", 17).returncode == 0
    weights = ROOT / "checkpoints" / "p1_wgan.safetensors"
    assert call("p1_inference.py", tmp_path / "B", "--seed", 3, "--count", 17, "--weights", weights).returncode == 0
    assert saved(page, link.first) == (tmp_path / "A" / "0017.png").read_bytes()
    assert saved(page, link.last) == (tmp_path / "B" / "0017.png").read_bytes()


def test_the_slider_goes_from_one_face_to_another(page):
    tab = panel(page, "Faces")
    slider = tab.get_by_label("range slider for How far, in %")
    sources = []
    for place in (0, 40, 100):
        slider.fill(str(place))
        link = tab.get_by_title(f"Save A_{place}.png")
        link.wait_for()
        sources.append(link.get_attribute("href"))
    assert len(set(sources)) == 3


def test_digits_are_those_of_the_wrapper(page, call, tmp_path):
    tab = panel(page, "Digits")
    tab.get_by_label("Seed").fill("5")
    tab.get_by_label("number input for Network calls").fill("2")
    tab.get_by_role("button", name="Draw").click()
    tab.get_by_text("Ten digits, 2 calls").wait_for()
    assert call("p2_inference.py", tmp_path / "digits", "--seed", 5, "--steps", 2, "--per-class", 1).returncode == 0
    for digit in range(10):
        name = f"{digit}_001.png"
        assert saved(page, tab.get_by_title(f"Save {name}")) == (tmp_path / "digits" / name).read_bytes(), name
    assert tab.get_by_title("Save process.png").count() == 1


def test_a_long_process_is_seen_and_stopped(page):
    tab = panel(page, "Digits")
    tab.get_by_label("Sampler").click()
    page.get_by_role("option", name="DDPM").click()
    tab.get_by_role("button", name="Draw").click()
    calls = tab.get_by_text(re.compile(r"Call \d+ of 600"))
    calls.wait_for()
    tab.get_by_role("button", name="Stop").click()
    page.wait_for_timeout(1500)
    stopped = calls.inner_text()
    page.wait_for_timeout(1500)
    assert calls.inner_text() == stopped
    tab.get_by_label("Sampler").click()
    page.get_by_role("option", name="DPM").first.click()


def test_a_number_out_of_range_is_one_sentence(page):
    tab = panel(page, "Digits")
    for wrong in ("-1", "1e300", ""):
        tab.get_by_label("Seed").fill(wrong)
        tab.get_by_role("button", name="Draw").click()
        assert complaint(page) == f"The seed must be a whole number from 0 to {2**53 - 1}."
    tab.get_by_label("Seed").fill("0")


def test_a_drawn_seven_is_read(page):
    tab = panel(page, "Labels")
    box = tab.locator("canvas").bounding_box()
    points = [(80, 60), (200, 60), (130, 230)]
    for number, (x, y) in enumerate(points):
        page.mouse.move(box["x"] + x, box["y"] + y, steps=5)
        if number == 0:
            page.mouse.down()
    page.mouse.up()
    assert read_as(tab) == ["7", "7"]
    assert tab.get_by_title("Save view_").count() == 18 + 9
    clear_paper(tab)


@pytest.mark.parametrize("target", ["svhn", "usps"])
def test_an_image_is_read_as_the_wrapper_reads_it(page, builtin, call, tmp_path, target):
    tab = panel(page, "Labels")
    image = sorted((builtin / "digits" / target / "data").glob("*.png"))[0]
    shutil.copy(image, tmp_path)
    assert call("p3_inference.py", tmp_path, tmp_path / "labels.csv", "--target", target).returncode == 0
    label = next(csv.DictReader(open(tmp_path / "labels.csv")))["label"]
    tab.locator("input[type=file]").set_input_files(image)
    assert read_as(tab)[["svhn", "usps"].index(target)] == label
    clear_paper(tab)


def test_bad_uploads_are_one_sentence(page, tmp_path):
    tab = panel(page, "Labels")
    (tmp_path / "note.png").write_text("a note")
    (tmp_path / "large.png").write_bytes(bytes(33 * 2**20))
    side = int(MAX_PIXELS**0.5) + 1
    bomb = tmp_path / "bomb.png"
    bomb.write_bytes(encode_png(torch.zeros(3, 1, 1, dtype=torch.uint8).expand(3, side, side)))
    for file, said in (
        (bomb, f"bomb.png is too large: {side}x{side} pixels."),
        (tmp_path / "note.png", "note.png cannot be decoded."),
        (tmp_path / "large.png", 'File(s) exceed the maximum allowed size of 32.0 Mb: "large.png"'),
    ):
        tab.locator("input[type=file]").set_input_files(file)
        assert complaint(page) == said
    assert tab.get_by_test_id("label-output-value").count() == 0  # what was read before is gone


def test_the_mistakes_are_made_live(page):
    tab = panel(page, "Why")
    first = tab.get_by_title("Save As it should be, 0.png")
    before = first.get_attribute("href")
    tab.get_by_label("Seed").fill("1")
    tab.get_by_role("button", name="Run").click()
    page.wait_for_function("([link, before]) => link.href != before", arg=[first.element_handle(), before])
    tab.get_by_text("Six of 600 steps, 6 calls").wait_for()
    assert tab.locator(".images img").count() == 15


@pytest.mark.parametrize("width", [1280, 390])
def test_no_tab_is_wider_than_the_window(page, width):
    page.set_viewport_size({"width": width, "height": 900})
    for name in TABS:
        panel(page, name)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name


def test_it_is_served_to_this_computer_alone_and_asks_nobody(page, server):
    port, addresses = server
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.2", port), timeout=2)
    assert set(addresses.read_text().split()) <= {"127.0.0.1", "localhost"}
