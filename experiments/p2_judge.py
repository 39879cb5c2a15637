"""Train the second judge of problem 2: a small ResNet that tells MNIST-M digits apart better than the course's LeNet.

    python3 -m experiments.p2_judge --run-dir runs/judge

A weak judge errs on one real digit in twenty, and tuning to it would favour digits that it likes.
Expect 15 minutes on two CPU cores with bfloat16 units and 98 % or more on val, which trains nothing.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional as F
from tqdm import trange

from common.checkpoint import export_weights
from common.config import option, parse_config, run_script
from common.device import autocast, generator, pick_device
from common.images import make_grid, to_uint8
from data.augment import affine
from data.reading import batch_indices, fingerprint, load_digits, to_unit_range
from evaluation.judges import classify
from models.classifier import Judge
from training.run import Run


@dataclass(frozen=True)
class Config:
    data: Path = option(Path("hw2_data/digits/mnistm"), "folder with data/, train.csv and val.csv", free=True)
    run_dir: Path = option(Path("runs/judge"), "folder of this run", free=True)
    images: int = option(270_000, "length of the training in images seen", low=1)
    batch_size: int = option(128, "images per step", low=2)
    learning_rate: float = option(2e-3, "Adam's highest learning rate", low=0, high=1)
    weight_decay: float = option(0.01, "decoupled weight decay", low=0, high=1)
    seed: int = option(0, "of initial weights, order and augmentation", low=0)
    device: str = option("auto", "auto, cpu, cuda, mps ...", free=True)
    precision: str = option("auto", "auto = bf16 where it is fast", choices=("auto", "bf16", "fp32"))
    log_every: int = option(50, "steps between lines of metrics", low=1)
    sample_every: int = option(135_000, "images between accuracies on val and sheets of inputs", low=1, free=True)
    save_minutes: float = option(2.0, "minutes between checkpoints", low=0, free=True)
    resume: bool = option(False, "continue the run in --run-dir exactly where its checkpoint is", free=True)


def main() -> None:
    config = parse_config(Config, __doc__)
    device = pick_device(config.device)
    digits, labels = load_digits(config.data, "train")
    val_digits, val_labels = load_digits(config.data, "val")
    run = Run(config, fingerprint(digits, labels))

    torch.manual_seed(config.seed)
    network = Judge().to(device=device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), config.learning_rate, weight_decay=config.weight_decay)
    parts = {"network": network, "optimizer": optimizer}
    first_step = run.restore(parts)

    def save(step: int) -> None:
        run.save(step, parts)
        export_weights(run.folder / "weights.safetensors", network, images=step * config.batch_size)

    steps = run.steps
    step = first_step
    progress = trange(first_step, steps, initial=first_step, total=steps, unit="step")
    for step in progress:
        images_seen = (step + 1) * config.batch_size
        # Up over the first tenth, then down to zero as half a cosine.
        done = step / steps
        share = done / 0.1 if done < 0.1 else 0.5 * (1 + math.cos(math.pi * (done - 0.1) / 0.9))
        optimizer.param_groups[0]["lr"] = config.learning_rate * share
        random = generator(config.seed, "step", step)
        chosen = batch_indices(len(digits), config.batch_size, step, config.seed)
        inputs = affine(to_unit_range(digits[chosen].to(device)), random, (0.9, 1.1), 0.15, 0.1)
        network.train()
        with autocast(device, config.precision):
            logits = network(inputs.contiguous(memory_format=torch.channels_last))
        loss = F.cross_entropy(logits.float(), labels[chosen].to(device), label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

        if (step + 1) % config.log_every == 0:
            values = run.log(step + 1, images_seen, {"loss": loss})
            progress.set_postfix(loss=f"{values['loss']:.3f}")
        if run.sample_due(images_seen) or step + 1 == steps:
            predicted = classify(network.eval(), val_digits, device)
            run.log(step + 1, images_seen, {"val_accuracy": predicted.eq(val_labels).float().mean()})
            run.sample(step + 1, images_seen, make_grid(to_uint8(inputs[:64].cpu()), 8))
        if run.save_due():
            save(step + 1)
        if run.stopping:
            break
    else:
        save(steps)
    run.close(step + 1)


if __name__ == "__main__":
    run_script(main)
