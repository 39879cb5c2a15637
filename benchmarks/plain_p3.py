"""Problem 3 as tutorials have it: DANN (arXiv:1409.7495), and the labels of a folder.

    python3 -m benchmarks.plain_p3 --part dann      # and labels

float32, channels first, two DataLoaders of PNG files, source and target one after the other through the network.
Prints one JSON object.
"""

import csv
import json
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional as F

from benchmarks.plain import DEVICE, images_per_second, loader, training_digits
from common.config import option, parse_config, run_script
from data.augment import standardize
from data.reading import list_images
from models.dann import DANN
from sampling.labels import load_dann


@dataclass(frozen=True)
class Config:
    part: str = option("dann", "what to run", choices=("dann", "labels"))
    source: Path = option(Path("hw2_data/digits/mnistm"), "labelled domain: folder with data/ and train.csv")
    target: Path = option(Path("hw2_data/digits/svhn"), "domain to adapt to")
    image_dir: Path = option(Path("hw2_data/digits/svhn/data"), "images of --part labels")
    out_csv: Path = option(Path("labels.csv"), "table of --part labels")
    weights: Path = option(Path("checkpoints/p3_dann_svhn.safetensors"), "network's weights of --part labels")
    batch_size: int = option(128, "images of each domain per step", low=2)
    warmup: int = option(10, "training steps before the clock starts", low=0)
    steps: int = option(40, "training steps by the clock", low=1)


def train(config: Config) -> float:
    """Labelled images a second; each comes with one of the target."""
    network = DANN().to(DEVICE)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    batches = [training_digits(domain, config.batch_size) for domain in (config.source, config.target)]
    zeros = torch.zeros(config.batch_size, dtype=torch.long, device=DEVICE)
    done = 0

    def step() -> None:
        nonlocal done
        alpha = 2 / (1 + math.exp(-10 * done / (config.warmup + config.steps))) - 1
        done += 1
        (images, labels), (target, _) = next(batches[0]), next(batches[1])
        logits, domain = network(images.to(DEVICE), alpha)
        loss = F.cross_entropy(logits, labels.to(DEVICE)) + F.cross_entropy(domain, zeros)
        _, domain = network(target.to(DEVICE), alpha)
        loss = loss + F.cross_entropy(domain, zeros + 1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()

    return images_per_second(step, config.batch_size, config.warmup, config.steps)


@torch.no_grad()
def write_labels(config: Config) -> int:
    """How many rows were written."""
    network, standardized, _ = load_dann(config.weights)
    network.to(DEVICE)
    paths = list_images(config.image_dir)
    labels = []
    for images, _ in loader(paths, config.batch_size, train=False):
        images = images.to(DEVICE)
        labels += network(standardize(images) if standardized else images)[0].argmax(1).tolist()
    with open(config.out_csv, "w", newline="") as handle:
        rows = csv.writer(handle)
        rows.writerow(["image_name", "label"])
        rows.writerows((path.name, label) for path, label in zip(paths, labels, strict=True))
    return len(labels)


def main() -> None:
    config = parse_config(Config, __doc__)
    print(json.dumps({"images": write_labels(config)} if config.part == "labels" else {"images/s": train(config)}))


if __name__ == "__main__":
    run_script(main)
