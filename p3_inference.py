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

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from common.checkpoint import CHECKPOINTS
from common.config import in_one_line, option, parse_config, warn
from common.device import pick_device
from common.files import atomic_write, require_file
from data.reading import decode_image, decode_images, list_images, warn_of_others
from sampling.labels import TARGETS, load_dann, predict

DIGIT_SIZE, FAR = 28, 4  # pixels; a side as many times longer or shorter is far from it


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


def warn_of_sizes(paths: list[Path]) -> None:
    """Say on stderr if the first images are far from digits' size: scaled to 28x28, not much is left of them."""
    sizes = [decode_image(path).shape[1::-1] for path in paths[:10]]
    odd = [size for size in sizes if max(size) > FAR * DIGIT_SIZE or FAR * min(size) < DIGIT_SIZE]
    if odd:
        width, height = odd[0]
        warn(f"{len(odd)} of the first {len(sizes)} images are far from a digit's 28x28, one has {width}x{height}")


def cell(name: str) -> bytes:
    """A file's name in a csv, as the bytes that it is in the folder; Python 3.11's csv leaves a CR without quotes."""
    raw = os.fsencode(name)
    return b'"%s"' % raw.replace(b'"', b'""') if re.search(rb'[",\r\n]', raw) else raw


def main() -> None:
    config = parse_config(Config, __doc__)
    require_file(config.out_csv, new=True)
    device = pick_device(config.device, repeatable=True)
    paths = list_images(config.image_dir)
    warn_of_others(config.image_dir, paths, "without a row in the table")
    warn_of_sizes(paths)
    digits = decode_images(paths, DIGIT_SIZE, resize=True)
    target = config.target if config.target != "auto" else target_domain(config.image_dir, digits)

    weights = Path(config.weights) if config.weights else CHECKPOINTS / f"p3_dann_{target}.safetensors"
    network, standardized, views = load_dann(weights)
    network.to(device=device, memory_format=torch.channels_last)
    labels = predict(network, digits, standardized, views).tolist()

    rows = [b"%s,%d\n" % (cell(path.name), label) for path, label in zip(paths, labels, strict=True)]
    atomic_write(config.out_csv, b"image_name,label\n" + b"".join(rows))
    print(f"{len(labels)} labels in {config.out_csv}")


if __name__ == "__main__":
    run_script(main)
