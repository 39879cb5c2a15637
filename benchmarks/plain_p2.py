"""Problem 2 as tutorials have it: DDPM (arXiv:2006.11239) with classifier-free guidance (arXiv:2207.12598).

    python3 -m benchmarks.plain_p2 --part ddpm      # and digits

float32, channels first, a DataLoader of PNG files; 600 ancestral steps with the batch doubled for guidance.
All digits would take an hour or more, so `--part digits` takes the first --steps steps of the first batch and
says what a step takes.  Prints one JSON object.
"""

import json
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional as F

from benchmarks.plain import DEVICE, images_per_second, save_images, training_digits
from common.checkpoint import load_weights
from common.config import option, parse_config, run_script
from models.ddpm import DDPM, IMAGE_SHAPE, NUM_CLASSES, ContextUnet

TIMESTEPS, GUIDANCE_SCALE, LABEL_DROPOUT = 600, 1.0, 0.1


@dataclass(frozen=True)
class Config:
    part: str = option("ddpm", "what to run", choices=("ddpm", "digits"))
    data: Path = option(Path("hw2_data/digits/mnistm"), "folder with data/ and train.csv")
    out_dir: Path = option(Path("digits"), "folder of --part digits")
    weights: Path = option(Path("checkpoints/p2_ddpm.safetensors"), "network's weights of --part digits")
    batch_size: int = option(128, "training images per step, or digits drawn at once", low=2)
    warmup: int = option(2, "steps before the clock starts", low=1)
    steps: int = option(8, "steps by the clock", low=1)


def train(config: Config) -> float:
    """Images a second."""
    ddpm = DDPM().to(DEVICE)
    optimizer = torch.optim.Adam(ddpm.parameters(), 3e-4)
    alpha_bar = torch.cumprod(1 - torch.linspace(1e-4, 0.02, TIMESTEPS), 0).to(DEVICE)
    batches = training_digits(config.data, config.batch_size)

    def step() -> None:
        images, classes = (part.to(DEVICE) for part in next(batches))
        t = torch.randint(0, TIMESTEPS, (len(images),), device=DEVICE)
        noise = torch.randn_like(images)
        scale = alpha_bar[t][:, None, None, None]
        kept = torch.rand(len(images), 1, device=DEVICE) >= LABEL_DROPOUT
        context = F.one_hot(classes, NUM_CLASSES).float() * kept
        loss = ddpm.loss_mse(
            ddpm(scale.sqrt() * images + (1 - scale).sqrt() * noise, context, (t + 1) / TIMESTEPS), noise
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()

    return images_per_second(step, config.batch_size, config.warmup, config.steps)


@torch.no_grad()
def draw(config: Config) -> dict[str, float]:
    """The first steps of one batch: seconds a step, seconds to save the batch, and how many steps were taken."""
    network = ContextUnet()
    load_weights(network, config.weights)
    network.eval().to(DEVICE)
    beta = torch.linspace(1e-4, 0.02, TIMESTEPS, device=DEVICE)
    alpha_bar = torch.cumprod(1 - beta, 0)
    torch.manual_seed(0)
    classes = torch.arange(config.batch_size) % NUM_CLASSES
    one_hot = F.one_hot(classes, NUM_CLASSES).float().to(DEVICE)
    context = torch.cat((one_hot, torch.zeros_like(one_hot)))
    x = torch.randn(config.batch_size, *IMAGE_SHAPE).to(DEVICE)
    taken = 0
    for t in reversed(range(TIMESTEPS)):
        if taken == config.warmup:
            start = time.perf_counter()
        if taken == config.warmup + config.steps:
            break
        time_input = torch.full((2 * config.batch_size,), (t + 1) / TIMESTEPS, device=DEVICE)
        eps, eps_free = network(x.repeat(2, 1, 1, 1), context, time_input).chunk(2)
        eps = (1 + GUIDANCE_SCALE) * eps - GUIDANCE_SCALE * eps_free
        x = (x - beta[t] / (1 - alpha_bar[t]).sqrt() * eps) / (1 - beta[t]).sqrt()
        if t > 0:
            x = x + beta[t].sqrt() * torch.randn_like(x)
        x[0, 0, 0, 0].item()  # a step ends when its result is there, on a GPU too
        taken += 1
    seconds = (time.perf_counter() - start) / (taken - config.warmup)
    start = time.perf_counter()
    names = [f"{digit}_{number // NUM_CLASSES + 1:03d}.png" for number, digit in enumerate(classes.tolist())]
    save_images(config.out_dir, names, x)
    return {"step": seconds, "save": time.perf_counter() - start, "steps": taken}


def main() -> None:
    config = parse_config(Config, __doc__)
    print(json.dumps(draw(config) if config.part == "digits" else {"images/s": train(config)}))


if __name__ == "__main__":
    run_script(main)
