"""Everything a grader runs, on built-in test images, and one page to look at: make demo.

    python3 -m experiments.demo

Verifies the weights, draws faces and digits, labels digits, and writes demo/index.html, which needs no other file.
The digits to label are made from scikit-learn's (prepare_data.py --builtin): they show that everything runs.
How good the networks are is what `python3 -m experiments.headline` measures on the homework's images.
"""

from common.start import run_script

import base64
import html
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from common.config import UserError, option, parse_config
from common.images import make_grid, save_image
from data.reading import decode_images, list_images, read_labels
from evaluation.faces import face_counts
from experiments.runs import ROOT

STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
img { max-width: 100%; image-rendering: pixelated }
code, pre { background: #8882; padding: .1em .3em; border-radius: .2em } pre { overflow-x: auto; padding: .8em }
.labels { display: flex; flex-wrap: wrap; gap: .4rem }
figure { margin: 0; text-align: center } figure img { width: 56px; display: block }
.wrong { color: #d55e00; font-weight: bold }
"""
SHOWN = 30  # digits of each domain, as many as its val.csv has
LABELS = {"svhn": "street numbers", "usps": "postal codes"}


@dataclass(frozen=True)
class Config:
    folder: Path = option(Path("demo"), "folder of everything that is drawn, read and shown")
    faces: int = option(1000, "faces to draw", low=1)
    per_class: int = option(100, "digits of each class to draw", low=1)


def step(title: str, *command: object, folder: Path | None = None, total: int = 0) -> str:
    """Run a command, say on one line what it does, how far it is and how long it took; returns its output.

    How far is told by the images that it writes into `folder`, each fifth of `total`.  Its stderr is shown if it fails.
    """
    print(f"{title} ...", end="", flush=True)
    start, shown = time.time(), 1
    process = subprocess.Popen(
        list(map(str, command)), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while True:
        try:
            output, errors = process.communicate(timeout=0.5)
            break
        except subprocess.TimeoutExpired:
            drawn = sum(path.stat().st_mtime >= start for path in folder.glob("*.png")) if total else 0
            while shown < 5 and 5 * drawn >= shown * total > 0:
                print(f" {shown}/5", end="", flush=True)
                shown += 1
    print(f" {time.time() - start:.1f} s", flush=True)
    if process.returncode:
        raise UserError(f"{title} failed with exit code {process.returncode}: {errors.strip()}")
    return output


def picture(file: Path, alt: str) -> str:
    data = base64.b64encode(file.read_bytes()).decode()
    return f'<img src="data:image/png;base64,{data}" alt="{html.escape(alt)}">'


def labelled(folder: Path, labels: dict[str, int], truth: dict[str, int]) -> str:
    """The first digits of `truth`, each with its label beneath, a wrong one marked."""
    figures, names = [], sorted(truth)[:SHOWN]
    for name in names:
        right = labels[name] == truth[name]
        shown = labels[name] if right else f'<span class="wrong">{labels[name]}, is {truth[name]}</span>'
        image = picture(folder / name, f"a {truth[name]}")
        figures.append(f"<figure>{image}<figcaption>{shown}</figcaption></figure>")
    right = sum(labels[name] == truth[name] for name in names)
    return f'<p>{right} of these {len(names)} are read right:</p><div class="labels">{"".join(figures)}</div>'


def page(folder: Path, judged: float) -> str:
    """The page as HTML: what `folder` holds, its pictures inside, and what they are."""
    faces, digits = list_images(folder / "faces"), list_images(folder / "digits")
    one_face = face_counts(decode_images(faces, 64)).count(1)
    save_image(folder / "faces.png", make_grid(decode_images(faces[:60], 64), 12))
    columns = [path for number in range(1, 9) for path in digits if int(path.stem.split("_")[1]) == number]
    save_image(folder / "digits.png", make_grid(decode_images(columns, 28), 10, scale=2))
    parts = [
        "<h1>What the networks make</h1>",
        "<p>Drawn and read on this machine by <code>make demo</code>, with the released weights.</p>",
        "<h2>1. Faces</h2>",
        f"<p>The first of {len(faces):,} faces that <code>hw2_1.sh</code> drew: a DCGAN's, of nobody. "
        f"dlib's detector finds exactly one face in {one_face / len(faces):.1%} of them.</p>",
        picture(folder / "faces.png", "generated faces"),
        "<h2>2. Digits</h2>",
        f"<p>Of {len(digits):,} digits that <code>hw2_2.sh</code> drew, a diffusion model's: each column is the class "
        f"it was asked for. A second network reads {judged:.1%} of all as that class.</p>",
        picture(folder / "digits.png", "generated digits, a column for each class"),
        "<h2>3. Labels</h2>",
        "<p>A network that saw labels of MNIST-M alone reads other digits, by <code>hw2_3.sh</code>. These are "
        "<em>built-in test images</em>, made from scikit-learn's digits to look like street numbers (SVHN) and postal "
        "codes (USPS): they show that everything runs, and say nothing of how well the network reads real ones.</p>",
    ]
    for domain, name in LABELS.items():
        digits_folder = folder / "builtin" / "digits" / domain
        labels, truth = read_labels(folder / f"{domain}.csv"), read_labels(digits_folder / "val.csv")
        parts += [f"<h3>Like {domain.upper()}, {name}</h3>", labelled(digits_folder / "data", labels, truth)]
    parts += [
        "<h2>And then</h2>",
        "<p>README.md has the scores on real images, and a training of a few minutes. To see your own weights:</p>",
        "<pre>python3 p1_inference.py OUT_DIR --weights runs/dcgan/weights.safetensors\n"
        "python3 evaluate.py sheet OUT_DIR sheet.png</pre>",
    ]
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>What the networks make</title>'
    )
    return f'<!doctype html>\n<html lang="en">{head}<style>{STYLE}</style>\n' + "\n".join(parts) + "\n</html>\n"


def main() -> None:
    config = parse_config(Config, __doc__)
    folder, python = config.folder.absolute(), sys.executable
    count = 10 * config.per_class
    step("1/6  weights verified", "bash", "hw2_download.sh")
    step("2/6  built-in test images", python, "prepare_data.py", "--builtin", folder / "builtin", "--count", 3 * SHOWN)
    faces, digits = folder / "faces", folder / "digits"
    step(f"3/6  hw2_1.sh: {config.faces:,} faces", "bash", "hw2_1.sh", faces, "--count", config.faces)
    title = f"4/6  hw2_2.sh: {count:,} digits, the longest step"
    step(title, "bash", "hw2_2.sh", digits, "--per-class", config.per_class, folder=digits, total=count)
    for letter, domain in zip("ab", LABELS, strict=True):
        images = folder / "builtin" / "digits" / domain / "data"
        step(
            f"5{letter}/6 hw2_3.sh: labels of {domain}-like digits",
            "bash",
            "hw2_3.sh",
            images,
            folder / f"{domain}.csv",
        )
    result = json.loads(step("6/6  digits judged", python, "evaluate.py", "digits", digits, "--json"))
    (folder / "index.html").write_text(page(folder, result["accuracy"]), encoding="utf-8")
    print(f"look at {folder / 'index.html'}")


if __name__ == "__main__":
    run_script(main)
