"""The page: four tabs of gradio's components around playground/answers.py."""

import base64
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import torch
from torch import Tensor

import p2_inference
from common.config import UserError
from common.images import encode_png, make_grid
from data.reading import IMAGE_SUFFIXES
from models.diffusion import TIMESTEPS
from playground import answers
from playground.answers import Networks
from sampling.digits import six_of_600, time_reversed
from sampling.faces import BATCH, latents

MAX_SEED = 2**53 - 1  # beyond, the browser's numbers are not exact
FACES, LAST_FACE = 16, 1000  # shown at once; what hw2_1.sh draws
DIGITS = p2_inference.Config(Path())  # what hw2_2.sh does
ALL = "all ten"
SAMPLERS = {"DPM-Solver++ (2M)": "dpm", "DDIM": "ddim", f"DDPM, {TIMESTEPS} calls": "ancestral"}
FAST, FULL = f"{DIGITS.steps} calls", f"all {TIMESTEPS}, as in the original"
MOMENTS = 5  # of the reverse process
PER_SECOND = 3  # pictures of what is being drawn

FONTS = {
    "font": [gr.themes.Font(name) for name in ("Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif")],
    "font_mono": [gr.themes.Font(name) for name in ("Menlo", "Consolas", "DejaVu Sans Mono", "monospace")],
}
CSS = """
main { width: 100%; max-width: 1080px; margin: auto !important }
.html-container { padding: 0 !important }
.images { display: grid; gap: 4px; grid-template-columns: repeat(var(--columns), minmax(0, 128px)) }
.images div { font-size: 10px; text-align: center; white-space: nowrap }
.images a { display: block; padding: 0 !important; line-height: 0 }
.images img { display: block; width: 100%; margin: 0 !important; border-radius: 3px }
.pixels img { image-rendering: pixelated }
.images:has(> :only-child) { grid-template-columns: minmax(0, calc(var(--columns) * 132px)) }
@media (max-width: 600px) { .images:has(> :nth-child(10):last-child) { --columns: 5 !important } }
canvas { width: 280px; background: white; border: 1px solid #8888; border-radius: 8px; touch-action: none }
canvas + br + button { width: 280px; padding: 8px; border-radius: 6px; background: #8883 }
footer { display: none !important }
"""
# Ink on paper with mouse, pen or finger; after each stroke the drawing goes to the event `change`.
PAPER = """
<canvas width=280 height=280 aria-label="Paper for a digit"></canvas><br><button>Clear</button>
"""
DRAW = """
const canvas = element.querySelector("canvas"), pen = canvas.getContext("2d")
const tell = () => trigger("change", {drawing: canvas.toDataURL("image/png")})
const clear = () => { pen.fillStyle = "white"; pen.fillRect(0, 0, 280, 280) }
const move = event => {
    const box = canvas.getBoundingClientRect(), scale = 280 / box.width
    pen.lineTo((event.clientX - box.left) * scale, (event.clientY - box.top) * scale)
    pen.stroke()
}
canvas.onpointerdown = event => { canvas.setPointerCapture(event.pointerId); pen.beginPath(); move(event); move(event) }
canvas.onpointermove = event => { if (canvas.hasPointerCapture(event.pointerId)) move(event) }
canvas.onpointerup = tell
element.querySelector("button").onclick = () => { clear(); tell() }
Object.assign(pen, {lineWidth: 24, lineCap: "round", lineJoin: "round"})
clear()
"""
WHY = f"""
The two mistakes that left nothing but noise, beside what is right: the same network, noise and digits.

1. **Time reversed.** The network is told step *T* + 1 − *t* where *t* is meant.  It takes noise for an almost clean
   image, and what it leaves of it for pure noise.
2. **Six of {TIMESTEPS} steps.** Every hundredth step is made, each as small as ever, so nearly all of the noise stays.
   Few calls are no mistake as such: {DIGITS.steps} suffice where each step is as long as the gap to the next.
"""


def whole(value: float | None, name: str, low: int, high: int) -> int:
    """A number of the page as an integer; one sentence on the page if it is none from `low` to `high`."""
    if value is None or not low <= value <= high or value != int(value):
        raise gr.Error(f"The {name} must be a whole number from {low} to {high}.", print_exception=False)
    return int(value)


def show(images: Tensor, names: list[str], columns: int, captions: list[str] | None = None) -> str:
    """HTML of uint8 images (n, 3, h, w), `columns` in a row; a click saves one as the PNG file of its name."""
    kind = "images" if images.shape[2] == 64 else "images pixels"
    figures = []
    for image, name, caption in zip(images, names, captions or [""] * len(names), strict=True):
        source = f"data:image/png;base64,{base64.b64encode(encode_png(image)).decode()}"
        picture = f'<img src="{source}" alt="{name}">'
        figures.append(f'<div><a download="{name}" href="{source}" title="Save {name}">{picture}</a>{caption}</div>')
    return f'<div class="{kind}" style="--columns: {columns}">{"".join(figures)}</div>'


def watch(frames: Iterator[Tensor], step: Callable[[list[Tensor], bool], Any]) -> Iterator[Any]:
    """`step(frames so far, whether these are all)` of a process, a few times a second and at its end."""
    seen, shown = [], time.monotonic()
    for frame in frames:
        seen.append(frame)
        if time.monotonic() > shown + 1 / PER_SECOND:
            yield step(seen, False)
            shown = time.monotonic()
    yield step(seen, True)


def add_faces(networks: Networks) -> list[tuple]:
    """The first tab; what fills it at first: functions with their inputs and outputs."""
    with gr.Row():
        seed = gr.Number(0, label="Seed", precision=0, min_width=100)
        first = gr.Number(1, label=f"First (1 to {LAST_FACE - FACES + 1})", precision=0, min_width=100)
        truncation = gr.Slider(0, 2, 1, step=0.05, label="Truncation", min_width=240)
    button = gr.Button("Draw", variant="primary")
    galleries = []
    with gr.Row():
        for name in ("A, DCGAN", "B, WGAN"):
            with gr.Column(min_width=300):
                gr.Markdown(f"**{name}**")
                galleries.append(gr.HTML())
    gr.Markdown("### From one face to another")
    with gr.Row():
        start = gr.Number(4, label="From image", precision=0, min_width=100)
        end = gr.Number(6, label="To image", precision=0, min_width=100)
        place = gr.Slider(0, 100, 50, step=1, label="How far, in %", min_width=240)
    with gr.Row():
        faces = [gr.HTML(min_width=140) for _ in networks.faces]
    way = gr.State()

    def draw(seed: float, first: float, truncation: float) -> list[str]:
        seed, first = whole(seed, "seed", 0, MAX_SEED), whole(first, "first image", 1, LAST_FACE - FACES + 1)
        names = [f"{number:04d}.png" for number in range(first, first + FACES)]
        latent = truncation * latents(FACES, seed, first - 1)
        return [show(images, names, 4) for images in answers.faces(networks, latent).values()]

    def walk(seed: float, start: float, end: float, truncation: float, place: float) -> list[Any]:
        seed = whole(seed, "seed", 0, MAX_SEED)
        numbers = (whole(start, "image to start from", 1, LAST_FACE), whole(end, "image to end at", 1, LAST_FACE))
        way = answers.between(networks, seed, numbers, truncation)
        return [way, *go(way, place)]

    def go(way: dict[str, Tensor], place: float) -> list[str]:
        index = round(place / 100 * (BATCH - 1))
        return [show(images[index : index + 1], [f"{name}_{place}.png"], 2) for name, images in way.items()]

    walking = (walk, [seed, start, end, truncation, place], [way, *faces])
    drawing = (draw, [seed, first, truncation], galleries)
    for trigger in (button.click, seed.submit, first.submit, truncation.release):
        trigger(*drawing).success(*walking)
    gr.on([start.submit, end.submit, start.blur, end.blur], *walking)
    place.input(go, [way, place], faces, show_progress="hidden", trigger_mode="always_last")
    return [drawing, walking]


def add_digits(networks: Networks) -> list[tuple]:
    with gr.Row():
        digit = gr.Dropdown([ALL, *map(str, range(10))], label="Digit", min_width=100)
        seed = gr.Number(0, label="Seed", precision=0, min_width=100)
        sampler = gr.Dropdown(list(SAMPLERS), label="Sampler", min_width=200)
    with gr.Row():
        calls = gr.Slider(1, 50, DIGITS.steps, step=1, label="Network calls", min_width=200)
        scale = gr.Slider(0, 10, DIGITS.guidance_scale, step=0.5, label="Guidance scale", min_width=200)
    with gr.Row():
        button, stop = gr.Button("Draw", variant="primary", min_width=120), gr.Button("Stop", min_width=120)
    took, gallery = gr.Markdown(), gr.HTML()
    gr.Markdown("**From noise to digit**, a column each")
    process = gr.HTML()

    def draw(digit: str, seed: float, sampler: str, calls: float, scale: float) -> Iterator[list[str]]:
        seed, calls = whole(seed, "seed", 0, MAX_SEED), whole(calls, "number of calls", 1, 50)
        keys = [(key, 1) for key in range(10)] if digit == ALL else [(int(digit), number) for number in range(1, 11)]
        names = [f"{key}_{number:03d}.png" for key, number in keys]
        config = replace(DIGITS, sampler=SAMPLERS[sampler], steps=calls)
        calls = TIMESTEPS if config.sampler == "ancestral" else calls
        start = time.monotonic()

        def step(frames: list[Tensor], done: bool) -> list[str]:
            said = f"Ten digits, {calls} calls" if done else f"Call {len(frames)} of {calls}"
            moments = [frames[round(moment)] for moment in torch.linspace(0, len(frames) - 1, MOMENTS).tolist()]
            sheet = make_grid(torch.cat(moments), len(keys), scale=4)
            took = f"{said}: {time.monotonic() - start:.1f} s"
            return [took, show(frames[-1], names, 10), show(sheet[None], ["process.png"], 10)]

        interval = (DIGITS.guidance_from, DIGITS.guidance_to)
        sample = p2_inference.make_sampler(config)
        yield from watch(answers.denoising(networks, keys, scale, interval, sample, seed), step)

    drawing = (draw, [digit, seed, sampler, calls, scale], [took, gallery, process])
    stop.click(None, cancels=gr.on([button.click, seed.submit], *drawing, show_progress="hidden"))
    return [drawing]


def add_labels(networks: Networks) -> None:
    with gr.Row():
        with gr.Column(min_width=260):
            gr.Markdown("**Draw a digit**")
            paper = gr.HTML(html_template=PAPER, js_on_load=DRAW)
            file = gr.File(label="or drop an image", file_types=sorted(IMAGE_SUFFIXES), height=140)
            gr.Markdown("**What the networks see**")
            seen = gr.HTML()
        outputs = [seen]
        for target, (_, _, views) in networks.labels.items():
            with gr.Column(min_width=260):
                outputs.append(gr.Label(label=f"The network for {target.upper()}", num_top_classes=5))
                gr.Markdown(f"Averaged over {views} views:")
                outputs.append(gr.HTML())

    def answer(digit: Tensor | None) -> list[Any]:
        if digit is None:
            return [None] * len(outputs)
        results: list[Any] = [show(digit[None], ["digit.png"], 1)]
        for target in networks.labels:
            mean, of_views, views = answers.read_digit(networks, target, digit)
            captions = [f"{of_view.argmax()} {of_view.max():.0%}" for of_view in of_views]
            names = [f"view_{number}.png" for number in range(len(views))]
            results += [{str(label): share for label, share in enumerate(mean.tolist())}]
            results += [show(views, names, 6, captions)]
        return results

    def of_drawing(event: gr.EventData) -> list[Any]:
        return answer(answers.drawn_image(base64.b64decode(event.drawing.partition(",")[2])))

    def of_file(name: str) -> list[Any]:
        try:
            return [None, *answer(answers.dropped_image(Path(name)))]
        except UserError as error:
            raise gr.Error(f"{error}.", print_exception=False) from None

    paper.change(of_drawing, None, outputs, show_progress="hidden", trigger_mode="always_last")
    reading = file.upload(of_file, file, [file, *outputs], show_progress="hidden")
    reading.failure(lambda: [None] * (1 + len(outputs)), None, [file, *outputs])


def add_why(networks: Networks) -> list[tuple]:
    gr.Markdown(WHY)
    with gr.Row():
        seed = gr.Number(0, label="Seed", precision=0, min_width=100)
        length = gr.Radio([FAST, FULL], value=FAST, label="Calls of the first two", min_width=260)
    with gr.Row():
        button, stop = gr.Button("Run", variant="primary", min_width=120), gr.Button("Stop", min_width=120)
    names = ("As it should be", "Time reversed", f"Six of {TIMESTEPS} steps")
    outputs = [component for name in names for component in (gr.Markdown(f"**{name}**"), gr.HTML())]

    def run(seed: float, length: str) -> Iterator[list[str]]:
        seed = whole(seed, "seed", 0, MAX_SEED)
        keys = [(digit, 1) for digit in range(5)]
        right = p2_inference.make_sampler(replace(DIGITS, sampler="ancestral" if length == FULL else "dpm"))
        samplers = (right, lambda denoise, x, noise: right(time_reversed(denoise), x, noise), six_of_600)
        shown = [text for name in names for text in (f"**{name}**", "")]
        for row, sample in enumerate(samplers):
            start = time.monotonic()

            def step(frames: list[Tensor], done: bool, row: int = row, start: float = start) -> list[str]:
                shown[2 * row] = f"**{names[row]}**, {len(frames) - done} calls: {time.monotonic() - start:.1f} s"
                shown[2 * row + 1] = show(frames[-1], [f"{names[row]}, {key}.png" for key, _ in keys], 5)
                return shown

            frames = answers.denoising(networks, keys, DIGITS.guidance_scale, (0.0, 1.0), sample, seed)
            yield from watch(frames, step)

    running = (run, [seed, length], outputs)
    stop.click(None, cancels=gr.on([button.click, seed.submit], *running, show_progress="hidden"))
    return [running]


def build(networks: Networks) -> gr.Blocks:
    """The page of these networks."""
    with gr.Blocks(title="Faces, digits, labels", analytics_enabled=False, fill_width=True) as page:
        gr.Markdown(
            "# Faces, digits, labels\nThe networks of the three problems, on this computer.  A click saves an image."
        )
        with gr.Tab("Faces"):
            at_first = add_faces(networks)
        with gr.Tab("Digits"):
            at_first += add_digits(networks)
        with gr.Tab("Labels"):
            add_labels(networks)
        with gr.Tab("Why"):
            at_first += add_why(networks)
        event = page.load(*at_first[0])
        for drawing in at_first[1:]:
            event = event.success(*drawing, show_progress="hidden")
    return page
