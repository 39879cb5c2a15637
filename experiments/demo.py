"""Everything a grader runs, on built-in test images, and one page to look at: make demo.

    python3 -m experiments.demo

Verifies the weights, draws faces and digits, labels digits, and writes demo/index.html, which needs no other file.
The digits to label are made from scikit-learn's (prepare_data.py --builtin): they show that everything runs.
How good the networks are is what `python3 -m experiments.headline` measures on the homework's images.
"""

from common.start import run_script

import base64
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from string import Template

from torch import Tensor

from common.config import UserError, option, parse_config
from common.images import encode_png, make_grid
from data.reading import decode_images, list_images
from evaluation.faces import face_counts
from experiments.headline import labelled_digits
from experiments.runs import ROOT
from sampling.labels import TARGETS

SHOWN = 30  # digits of each domain, fewer than its val.csv has
PAGE = Template("""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>What the networks make</title>
<style>
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
pre { overflow: auto }
img { max-width: 100%; image-rendering: pixelated }
</style>
<h1>What the networks make</h1>
<p>Drawn and read on this machine by <code>make demo</code>, with the released weights. README.md has the scores on real
images.</p>
<h2>1. Faces</h2>
<p>The first of $faces faces that <code>hw2_1.sh</code> drew: a DCGAN's, of nobody. dlib's detector finds exactly one
face in $face_rate of them.</p>
<img alt="generated faces" src="$faces_png">
<h2>2. Digits</h2>
<p>Of $digits digits that <code>hw2_2.sh</code> drew, a diffusion model's: each column is the class it was asked for. A
second network reads $accuracy of all as that class.</p>
<img alt="generated digits, a column for each class" src="$digits_png">
<h2>3. Labels</h2>
<p>What a network that saw labels of MNIST-M alone reads in other digits, by <code>hw2_3.sh</code>; wrong labels are in
brackets and in colour. These are <em>built-in test images</em>, made from scikit-learn's digits: they show that
everything runs, and say nothing of how well the network reads real ones.</p>
<h3>Like street numbers (SVHN): $svhn read right</h3>
<img alt="digits like SVHN's, each with its label beneath" src="$svhn_png">
<h3>Like postal codes (USPS): $usps read right</h3>
<img alt="digits like USPS's, each with its label beneath" src="$usps_png">
<h2>What next?</h2>
<p>Play with the networks: <code>make playground</code>. Train one: README.md says where images come from and what else
can be trained. This takes a minute or two and reads by the new weights, as every inference script can:</p>
<pre>source .venv/bin/activate
python3 p3_dann_train.py --recipe usps --target hw2_data/digits/usps \
    --images 200000 --run-dir runs/first
python3 p3_inference.py hw2_data/digits/usps/data runs/first.csv \
    --weights runs/first/weights.safetensors</pre>
</html>
""")


@dataclass(frozen=True)
class Config:
    folder: Path = option(Path("demo"), "folder of everything that is drawn, read and shown")
    faces: int = option(1000, "faces to draw", low=1)
    per_class: int = option(100, "digits of each class to draw", low=1)


def step(title: str, *command: object) -> str:
    """Run a command and say on one line what it does, a dot every other second, how long it took; returns its output.

    Raises UserError, with its stderr, if it fails.
    """
    print(f"{title} ", end="", flush=True)
    start, pipe = time.perf_counter(), subprocess.PIPE
    with subprocess.Popen(list(map(str, command)), cwd=ROOT, stdout=pipe, stderr=pipe, text=True) as process:
        while True:
            try:
                output, errors = process.communicate(timeout=2)
                break
            except subprocess.TimeoutExpired:
                print(".", end="", flush=True)
    print(f" {time.perf_counter() - start:.1f} s", flush=True)
    if process.returncode:
        raise UserError(f"{title} failed with exit code {process.returncode}: {errors.strip()}")
    return output


def source(sheet: Tensor) -> str:
    """A sheet uint8 (3, h, w) as the src of an HTML image."""
    return f"data:image/png;base64,{base64.b64encode(encode_png(sheet)).decode()}"


def page(folder: Path, accuracy: float) -> str:
    """The page as HTML, with pictures of what `folder` holds inside."""
    faces, digits = list_images(folder / "faces"), list_images(folder / "digits")
    one_face = face_counts(decode_images(faces, 64)).count(1)
    first = [path for number in range(1, 9) for path in digits if int(path.stem.split("_")[1]) == number]
    shown = {
        "faces": f"{len(faces):,}",
        "face_rate": f"{one_face / len(faces):.1%}",
        "faces_png": source(make_grid(decode_images(faces[:60], 64), 12)),
        "digits": f"{len(digits):,}",
        "accuracy": f"{accuracy:.1%}",
        "digits_png": source(make_grid(decode_images(first, 28), 10, scale=2)),
    }
    for target in TARGETS:
        domain = folder / "builtin" / "digits" / target
        sheet, right = labelled_digits(domain, folder / f"{target}.csv", SHOWN, 10)
        shown |= {target: f"{right} of {SHOWN}", f"{target}_png": source(sheet)}
    return PAGE.substitute(shown)


def main() -> None:
    config = parse_config(Config, __doc__)
    folder, python = config.folder.absolute(), sys.executable
    faces, digits = folder / "faces", folder / "digits"
    step("1/6 weights verified", "bash", "hw2_download.sh")
    data = ("--builtin", folder / "builtin", "--count", 7 * SHOWN, "--only", ",".join(TARGETS))
    step("2/6 built-in test images", python, "prepare_data.py", *data)
    step(f"3/6 hw2_1.sh: {config.faces:,} faces", "bash", "hw2_1.sh", faces, "--count", config.faces)
    title = f"4/6 hw2_2.sh: {10 * config.per_class:,} digits, the longest step, about a minute for 1,000"
    step(title, "bash", "hw2_2.sh", digits, "--per-class", config.per_class)
    for target in TARGETS:
        images = folder / "builtin" / "digits" / target / "data"
        step(f"5/6 hw2_3.sh: labels of {target}-like digits", "bash", "hw2_3.sh", images, folder / f"{target}.csv")
    result = json.loads(step("6/6 digits judged", python, "evaluate.py", "digits", digits, "--json"))
    (folder / "index.html").write_text(page(folder, result["accuracy"]), encoding="utf-8")
    print(f"look at {folder / 'index.html'}")


if __name__ == "__main__":
    run_script(main)
