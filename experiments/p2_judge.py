"""Train the second judge of problem 2: a small ResNet that tells MNIST-M digits apart better than the course's LeNet.

    python3 -m experiments.p2_judge --run-dir runs/judge

A weak judge errs on one real digit in twenty, and tuning to it would favour digits that it likes.
Expect 15 minutes on two CPU cores with bfloat16 units and 98 % or more on val, which trains nothing.
"""

from common.start import run_script

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch.nn import functional as F

from common.config import option, parse_config
from common.images import make_grid, to_uint8
from data.augment import affine
from data.batches import Images
from data.reading import load_digits
from evaluation.judges import classify
from models.classifier import Judge
from training.run import Options, Run
from training.schedules import warm_cosine


@dataclass(frozen=True)
class Config(Options):
    data: Path = option(Path("hw2_data/digits/mnistm"), "folder with data/, train.csv and val.csv", free=True)
    run_dir: Path = option(Path("runs/judge"), "folder of this run", free=True)
    images: int = option(270_000, "length of the training in images seen", low=1)
    batch_size: int = option(128, "images per step", low=2)
    learning_rate: float = option(2e-3, "Adam's highest learning rate", low=0, high=1)
    weight_decay: float = option(0.01, "decoupled weight decay", low=0, high=1)
    log_every: int = option(50, "steps between lines of metrics", low=1)
    sample_every: int = option(135_000, "images between accuracies on val and sheets of inputs", low=1, free=True)


def main() -> None:
    config = parse_config(Config, __doc__)
    run = Run(config)
    digits = Images(*load_digits(config.data, "train"), run.device)
    val_digits, val_labels = load_digits(config.data, "val")

    network = run.network(Judge())
    weights, rate = network.parameters(), config.learning_rate
    adam = torch.optim.AdamW(weights, rate, weight_decay=config.weight_decay, fused=True)
    run.restore(digits.fingerprint, network=network, optimizer=adam)
    run.release("weights.safetensors", lambda: network)
    judge = run.compiled(network)

    # Up over the first tenth, then down as half a cosine.
    for step in run.steps(partial(warm_cosine, warmup_steps=run.length / 10, decay_from=0.1)):
        images, labels = digits.batch(step)
        inputs = affine(images, step.random, (0.9, 1.1), 0.15, 0.1).contiguous(memory_format=torch.channels_last)
        network.train()
        with run.autocast():
            logits = judge(inputs)
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=0.05)
        run.minimize(loss, adam)

        if step.is_logged:
            run.log(step, loss=loss)
        if step.due(config.sample_every):
            found = classify(network.eval(), val_digits, run.device)
            run.log(step, val_accuracy=found.eq(val_labels).float().mean())
            run.sample(step, make_grid(to_uint8(inputs[:64].cpu()), 8))


if __name__ == "__main__":
    run_script(main)
