"""Everything a grader runs, on built-in test images, and one page to look at: make demo.

    python3 -m experiments.demo

Verifies the weights, draws faces and digits, labels digits, and writes demo/index.html, which needs no other file.
The digits to label are made from scikit-learn's (prepare_data.py --builtin): they show that everything runs.
How good the networks are is what `python3 -m experiments --part headline` measures on the homework's images.
"""

from common.start import run_script

import base64
from dataclasses import dataclass
from pathlib import Path
from string import Template

from common.config import option, parse_config
from data.reading import decode_images, list_images
from evaluation.faces import face_counts
from experiments.runs import evaluate, run
from sampling.labels import TARGETS

ORIGINALS, SHOWN = 188, 30  # built-in digits of each domain, and those in its val.csv


@dataclass(frozen=True)
class Config:
    folder: Path = option(Path("demo"), "folder of everything that is drawn, read and shown")
    faces: int = option(1000, "faces to draw", low=1)
    per_class: int = option(100, "digits of each class to draw", low=1)


def main() -> None:
    config = parse_config(Config, __doc__)
    folder = config.folder.absolute()
    sheets = {name: folder / f"{name}.png" for name in ("faces", "digits", *TARGETS)}
    run("hw2_download.sh")
    run("prepare_data.py", "--builtin", folder / "data", "--only", ",".join(TARGETS), "--count", ORIGINALS)
    run("hw2_1.sh", folder / "faces", "--count", config.faces)
    run("evaluate.py", "sheet", folder / "faces", sheets["faces"], "--count", 60, "--columns", 12)
    run("hw2_2.sh", folder / "digits", "--per-class", config.per_class)
    run("evaluate.py", "sheet", folder / "digits", sheets["digits"], "--count", 100, "--columns", 10)
    judged = evaluate("digits", folder / "digits")
    counts = face_counts(decode_images(list_images(folder / "faces"), 64))
    shown = {
        "faces": f"{len(counts):,}",
        "face_rate": f"{counts.count(1) / len(counts):.1%}",
        "digits": f"{judged['images']:,}",
        "accuracy": f"{judged['accuracy']:.1%}",
    }
    for target in TARGETS:
        domain, labels = folder / "data" / "digits" / target, folder / f"{target}.csv"
        run("hw2_3.sh", domain / "data", labels)
        options = ("--labels", labels, "--truth", domain / "val.csv", "--count", SHOWN, "--columns", 10)
        run("evaluate.py", "sheet", domain / "data", sheets[target], *options)
        read = evaluate("labels", labels, domain / "val.csv")
        shown[target] = f"{round(read['accuracy'] * read['images'])} of {read['images']}"
    for name, sheet in sheets.items():
        shown[f"{name}_png"] = f"data:image/png;base64,{base64.b64encode(sheet.read_bytes()).decode()}"
    page = Template(Path(__file__).with_suffix(".html").read_text(encoding="utf-8"))
    (folder / "index.html").write_text(page.substitute(shown), encoding="utf-8")
    print(f"look at {folder / 'index.html'}")


if __name__ == "__main__":
    run_script(main)
