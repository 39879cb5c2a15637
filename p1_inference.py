"""Draw 1,000 faces (problem 1): what hw2_1.sh runs.

    python3 p1_inference.py OUT_DIR
    python3 p1_inference.py OUT_DIR --weights runs/dcgan/weights.safetensors --seed 1

Writes 0001.png ... 1000.png, 64x64 RGB.  Noise is drawn on the CPU with one generator per image, in
float32, in batches of one size: image i is the same on every run, however many are drawn.  Seven seconds
on two CPU cores, 0.5 GB of memory.
"""

from common.start import run_script

from dataclasses import dataclass
from pathlib import Path

import torch

from common.checkpoint import CHECKPOINTS, load_weights
from common.config import option, parse_config
from common.device import pick_device
from common.images import prepare_output_folder, write_images
from models.dcgan import Generator
from sampling.faces import latents, sample_images


@dataclass(frozen=True)
class Config:
    out_dir: Path = option(None, "folder for the images, made if missing")
    weights: Path = option(CHECKPOINTS / "p1_dcgan.safetensors", "generator's weights")
    count: int = option(1000, "number of images", low=1, high=1_000_000)
    truncation: float = option(1.0, "scale of the latents; below 1 is safer and less diverse", low=0, high=10)
    seed: int = option(0, "of the latents", low=0)
    device: str = option("auto", "auto, cpu, cuda, mps ...")


def main() -> None:
    config = parse_config(Config, __doc__)
    device = pick_device(config.device, repeatable=True)
    network = Generator()
    load_weights(network, config.weights)
    network.eval().to(device=device, memory_format=torch.channels_last)

    width = max(4, len(str(config.count)))
    names = [f"{number:0{width}d}.png" for number in range(1, config.count + 1)]
    prepare_output_folder(config.out_dir, names, r"\d{4,}\.png")
    images = sample_images(network, config.truncation * latents(config.count, config.seed))
    write_images(config.out_dir, names, images)
    print(f"{config.count} faces in {config.out_dir}")


if __name__ == "__main__":
    run_script(main)
