"""Label a folder of target-domain digits (problem 3): what hw2_3.sh runs.

    python3 p3_inference.py IMAGE_DIR OUT_CSV
    python3 p3_inference.py IMAGE_DIR OUT_CSV --target usps

Writes one row for every image, sorted by name, under the header image_name,label; stderr names what else lies in
the folder.  docs/data.md says how images of other kinds are read.  The target domain is read from the folder's path,
the last component that is svhn or usps; if there is none, from the images (USPS is grey), and stderr says so.  A label
is the likeliest class of the mean over the views of an image that the weights' metadata name (sampling/labels.py).
2,000 images of SVHN take five seconds on two CPU cores.
"""

from common.start import run_script

import csv
import io
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from common.config import in_one_line, option, parse_config
from common.device import pick_device
from common.files import atomic_write, refuse_others
from data.reading import decode_images, list_images, warn_of_others
from sampling.labels import TARGETS, load_dann, predict

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Config:
    image_dir: Path = option(None, "folder of 28x28 digits; other sizes are scaled")
    out_csv: Path = option(None, "csv file to write, its folder made if missing")
    target: str = option("auto", "domain of the images", choices=("auto", *TARGETS))
    weights: str = option("", "weights instead of checkpoints/p3_dann_<target>.safetensors")
    device: str = option("auto", "auto, cpu, cuda, mps ...")


def target_domain(folder: Path, digits: Tensor) -> str:
    """The domain, svhn or usps, of a folder and its digits, uint8 (n, 3, h, w)."""
    for part in reversed(Path(os.path.abspath(folder)).parts):  # without "..", symbolic links as they are called
        if part.lower() in TARGETS:
            return part.lower()
    grey = digits.amax(1).eq(digits.amin(1)).all(2).all(1).float().mean().item()
    target = "usps" if grey > 0.5 else "svhn"
    taken = f"names no domain; {grey:.0%} of its images are grey, so they are taken for {target}"
    print(in_one_line(f"{folder} {taken}"), file=sys.stderr)
    return target


def main() -> None:
    config = parse_config(Config, __doc__)
    refuse_others(config.out_csv)
    device = pick_device(config.device, repeatable=True)
    paths = list_images(config.image_dir)
    warn_of_others(config.image_dir, paths, "without a row in the table")
    digits = decode_images(paths, 28, resize=True)
    target = config.target if config.target != "auto" else target_domain(config.image_dir, digits)

    weights = Path(config.weights) if config.weights else HERE / "checkpoints" / f"p3_dann_{target}.safetensors"
    network, standardized, views = load_dann(weights)
    network.to(device=device, memory_format=torch.channels_last)
    labels = predict(network, digits, standardized, views).tolist()

    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(["image_name", "label"])
    rows.writerows((path.name, label) for path, label in zip(paths, labels, strict=True))
    atomic_write(config.out_csv, table.getvalue().encode("utf-8", "surrogateescape"))
    print(f"{len(labels)} labels in {config.out_csv}")


if __name__ == "__main__":
    run_script(main)
