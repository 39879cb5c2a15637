"""Problem 1 as tutorials have it: DCGAN (arXiv:1511.06434), WGAN with clipping (arXiv:1701.07875), 1,000 faces.

    python3 -m benchmarks.plain_p1 --part dcgan     # and wgan, faces

float32, channels first, a DataLoader of PNG files, the loss on probabilities.  Prints one JSON object.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from benchmarks.plain import DEVICE, endless, images_per_second, loader, save_images
from common.checkpoint import load_weights
from common.config import option, parse_config, run_script
from data.reading import list_images
from models.dcgan import LATENT_SIZE, Critic, Discriminator, Generator, initialize_weights

CRITIC_STEPS = 5  # as many as ours, so that an image is as much work


@dataclass(frozen=True)
class Config:
    part: str = option("dcgan", "what to run", choices=("dcgan", "wgan", "faces"))
    data: Path = option(Path("hw2_data/face/train"), "folder of training faces")
    out_dir: Path = option(Path("faces"), "folder of --part faces")
    weights: Path = option(Path("checkpoints/p1_dcgan.safetensors"), "generator's weights of --part faces")
    batch_size: int = option(64, "images per step", low=2)
    warmup: int = option(2, "training steps before the clock starts", low=0)
    steps: int = option(8, "training steps by the clock", low=1)
    count: int = option(1000, "faces to draw", low=1)


def train_dcgan(config: Config) -> float:
    """Images a second."""
    generator = Generator().apply(initialize_weights).to(DEVICE)
    discriminator = Discriminator().apply(initialize_weights).to(DEVICE)
    optimizer_g = torch.optim.Adam(generator.parameters(), 2e-4, (0.5, 0.999))
    optimizer_d = torch.optim.Adam(discriminator.parameters(), 2e-4, (0.5, 0.999))
    criterion = nn.BCELoss()
    batches = endless(loader(list_images(config.data), config.batch_size))
    ones, zeros = (torch.full((config.batch_size,), value, device=DEVICE) for value in (1.0, 0.0))

    def step() -> None:
        real = next(batches)[0].to(DEVICE)
        discriminator.zero_grad()
        loss_real = criterion(discriminator(real).flatten(), ones)
        loss_real.backward()
        fake = generator(torch.randn(config.batch_size, LATENT_SIZE, 1, 1, device=DEVICE))
        loss_fake = criterion(discriminator(fake.detach()).flatten(), zeros)
        loss_fake.backward()
        optimizer_d.step()
        generator.zero_grad()
        loss_g = criterion(discriminator(fake).flatten(), ones)
        loss_g.backward()
        optimizer_g.step()
        _ = (loss_real + loss_fake).item(), loss_g.item()

    return images_per_second(step, config.batch_size, config.warmup, config.steps)


def train_wgan(config: Config) -> float:
    """Generated images a second."""
    generator = Generator().apply(initialize_weights).to(DEVICE)
    critic = Critic().apply(initialize_weights).to(DEVICE)
    optimizer_g = torch.optim.RMSprop(generator.parameters(), 5e-5)
    optimizer_c = torch.optim.RMSprop(critic.parameters(), 5e-5)
    batches = endless(loader(list_images(config.data), config.batch_size))

    def step() -> None:
        for _ in range(CRITIC_STEPS):
            real = next(batches)[0].to(DEVICE)
            fake = generator(torch.randn(config.batch_size, LATENT_SIZE, 1, 1, device=DEVICE)).detach()
            critic.zero_grad()
            loss_c = critic(fake).mean() - critic(real).mean()
            loss_c.backward()
            optimizer_c.step()
            for parameter in critic.parameters():
                parameter.data.clamp_(-0.01, 0.01)
        generator.zero_grad()
        loss_g = -critic(generator(torch.randn(config.batch_size, LATENT_SIZE, 1, 1, device=DEVICE))).mean()
        loss_g.backward()
        optimizer_g.step()
        _ = loss_c.item(), loss_g.item()

    return images_per_second(step, config.batch_size, config.warmup, config.steps)


@torch.no_grad()
def draw_faces(config: Config) -> None:
    generator = Generator()
    load_weights(generator, config.weights)
    generator.eval().to(DEVICE)
    torch.manual_seed(0)
    for first in range(0, config.count, config.batch_size):
        numbers = range(first + 1, min(first + config.batch_size, config.count) + 1)
        images = generator(torch.randn(len(numbers), LATENT_SIZE, 1, 1).to(DEVICE))
        save_images(config.out_dir, [f"{number:04d}.png" for number in numbers], images)


def main() -> None:
    config = parse_config(Config, __doc__)
    if config.part == "faces":
        draw_faces(config)
        print(json.dumps({"images": config.count}))
    else:
        train = train_dcgan if config.part == "dcgan" else train_wgan
        print(json.dumps({"images/s": train(config)}))


if __name__ == "__main__":
    run_script(main)
