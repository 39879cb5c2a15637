"""Every path as tutorials have it: what ours is measured beside.

    python3 -m benchmarks.plain --task dcgan                # and wgan, ddpm, dann, faces, digits, labels, fid
    python3 -m benchmarks.plain --task dcgan --in-memory

float32, channels first, a DataLoader that decodes PNG files anew for every batch or, with --in-memory, images that
were decoded once.  Guidance doubles the batch, digits take 600 ancestral steps, FID is scipy's matrix square root.
Prints one JSON object: for a training images a second, operations and FLOPs of a step; for digits, of which it draws
one batch with a few of the steps, the seconds that all would take; for FID its value.
"""

from common.start import run_script

import csv
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy import linalg
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Adam, Optimizer, RMSprop
from torch.utils.data import DataLoader, Dataset

from benchmarks.measure import count_work, seconds_of
from common.checkpoint import load_weights
from common.config import UserError, option, parse_config
from data.augment import standardize
from data.reading import decode_images, list_images, read_labels
from evaluation.inception import inception_network
from models.dann import DANN
from models.dcgan import LATENT_SIZE, Critic, Discriminator, Generator, initialize_weights
from models.ddpm import IMAGE_SHAPE, NUM_CLASSES, ContextUnet
from sampling.labels import load_dann

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
WORKERS = 2  # processes of a DataLoader, as most tutorials have
CRITIC_STEPS, CLIP = 5, 0.01  # of the WGAN's paper
WARMUP = 2  # steps before the clock starts
TIMESTEPS, GUIDANCE_SCALE, LABEL_DROPOUT = 600, 1.0, 0.1
BETA = torch.linspace(1e-4, 0.02, TIMESTEPS, device=DEVICE)
ALPHA_BAR = torch.cumprod(1 - BETA, 0)
CHECKPOINTS = Path(__file__).resolve().parent.parent / "checkpoints"

Step = Callable[[], object]


@dataclass(frozen=True)
class Config:
    task: str = option("dcgan", "what to run: a training, faces, digits, labels or fid")
    data: Path = option(Path("hw2_data"), "the data tree; of labels and fid the folder of images")
    out: Path = option(Path("out"), "folder or csv to write; of fid the other folder of images")
    in_memory: bool = option(False, "decode the training images once")
    batch_size: int = option(64, "images at once", low=2)
    steps: int = option(8, "steps by the clock", low=1)
    count: int = option(1000, "faces or digits to draw", low=1)


class Files(Dataset):
    """Image files as float32 (3, h, w) in [-1, 1] with their labels, 0 where there are none."""

    def __init__(self, paths: list[Path], labels: list[int] | None = None):
        self.paths, self.labels = paths, labels or [0] * len(paths)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        with Image.open(self.paths[index]) as image:
            pixels = np.asarray(image.convert("RGB"), dtype=np.float32)
        return torch.from_numpy(pixels).permute(2, 0, 1).contiguous() / 127.5 - 1, self.labels[index]


def batches(config: Config, files: Files) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless shuffled whole batches of images and labels on DEVICE.  Raises UserError if there is none."""
    if len(files) < config.batch_size:
        place = files.paths[0].parent
        raise UserError(f"{place} holds {len(files)} training images, fewer than a batch of {config.batch_size}")
    loader = DataLoader(files, config.batch_size, shuffle=True, num_workers=WORKERS, drop_last=True)
    if config.in_memory:
        images, classes = decode_images(files.paths, files[0][0].shape[-1]).to(DEVICE), torch.tensor(files.labels)
    while True:
        if config.in_memory:
            order = torch.randperm(len(images), device=DEVICE)
            for chosen in order[: len(order) // config.batch_size * config.batch_size].split(config.batch_size):
                yield images[chosen] / 127.5 - 1, classes.to(DEVICE)[chosen]
        else:
            for batch in loader:
                yield batch[0].to(DEVICE), batch[1].to(DEVICE)


def faces_of(config: Config) -> Iterator[tuple[Tensor, Tensor]]:
    return batches(config, Files(list_images(config.data / "face" / "train")))


def digits_of(config: Config, domain: str) -> Iterator[tuple[Tensor, Tensor]]:
    folder = config.data / "digits" / domain
    labels = read_labels(folder / "train.csv")
    return batches(config, Files([folder / "data" / name for name in labels], list(labels.values())))


def noise(config: Config) -> Tensor:
    return torch.randn(config.batch_size, LATENT_SIZE, 1, 1, device=DEVICE)


def update(optimizer: Optimizer, loss: Tensor) -> float:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def dcgan(config: Config) -> Step:
    """Radford et al. 2015, arXiv:1511.06434."""
    generator, discriminator = (kind().apply(initialize_weights).to(DEVICE) for kind in (Generator, Discriminator))
    optimizer_g, optimizer_d = (Adam(part.parameters(), 2e-4, (0.5, 0.999)) for part in (generator, discriminator))
    faces = faces_of(config)

    def loss(images: Tensor, target: float) -> Tensor:
        scores = discriminator(images).flatten()
        return F.binary_cross_entropy(scores, torch.full_like(scores, target))

    def step() -> None:
        fake = generator(noise(config))
        update(optimizer_d, loss(next(faces)[0], 1.0) + loss(fake.detach(), 0.0))
        update(optimizer_g, loss(fake, 1.0))

    return step


def wgan(config: Config) -> Step:
    """Arjovsky et al. 2017, arXiv:1701.07875."""
    generator, critic = (kind().apply(initialize_weights).to(DEVICE) for kind in (Generator, Critic))
    optimizer_g, optimizer_c = (RMSprop(part.parameters(), 5e-5) for part in (generator, critic))
    faces = faces_of(config)

    def step() -> None:
        for _ in range(CRITIC_STEPS):
            update(optimizer_c, critic(generator(noise(config)).detach()).mean() - critic(next(faces)[0]).mean())
            for parameter in critic.parameters():
                parameter.data.clamp_(-CLIP, CLIP)
        update(optimizer_g, -critic(generator(noise(config))).mean())

    return step


def ddpm(config: Config) -> Step:
    """Ho et al. 2020, arXiv:2006.11239, with labels left out as in Ho and Salimans 2022, arXiv:2207.12598."""
    network = ContextUnet().to(DEVICE)
    optimizer = Adam(network.parameters(), 3e-4)
    digits = digits_of(config, "mnistm")

    def step() -> None:
        images, classes = next(digits)
        t = torch.randint(0, TIMESTEPS, (len(images),), device=DEVICE)
        added, scale = torch.randn_like(images), ALPHA_BAR[t][:, None, None, None]
        noisy = scale.sqrt() * images + (1 - scale).sqrt() * added
        kept = torch.rand(len(images), 1, device=DEVICE) >= LABEL_DROPOUT
        predicted = network(noisy, F.one_hot(classes, NUM_CLASSES) * kept.float(), (t + 1) / TIMESTEPS)
        update(optimizer, F.mse_loss(predicted, added))

    return step


def dann(config: Config) -> Step:
    """Ganin et al. 2016, arXiv:1505.07818: source and target one after the other through the network."""
    network = DANN().to(DEVICE)
    optimizer = Adam(network.parameters(), 1e-3)
    source, target = (digits_of(config, domain) for domain in ("mnistm", "svhn"))
    zeros = torch.zeros(config.batch_size, dtype=torch.long, device=DEVICE)
    done = iter(torch.linspace(0, 1, WARMUP + config.steps + 1).tolist())

    def step() -> None:
        alpha = 2 / (1 + math.exp(-10 * next(done))) - 1
        images, labels = next(source)
        logits, domain = network(images, alpha)
        loss = F.cross_entropy(logits, labels) + F.cross_entropy(domain, zeros)
        update(optimizer, loss + F.cross_entropy(network(next(target)[0], alpha)[1], zeros + 1))

    return step


TRAININGS = {"dcgan": dcgan, "wgan": wgan, "ddpm": ddpm, "dann": dann}


def seconds_of_steps(config: Config, step: Step) -> float:
    for _ in range(WARMUP):
        step()
    return seconds_of(lambda: [step() for _ in range(config.steps)], DEVICE)


def train(config: Config) -> dict[str, float]:
    step = TRAININGS[config.task](config)
    seconds = seconds_of_steps(config, step)
    return {"images/s": config.batch_size * config.steps / seconds, **count_work(step)}


def save_images(folder: Path, first: int, images: Tensor) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images.cpu(), first):
        pixels = image.add(1).mul(127.5).add(0.5).clamp(0, 255).to(torch.uint8).permute(1, 2, 0)
        Image.fromarray(pixels.numpy()).save(folder / f"{number:04d}.png")


@torch.no_grad()
def faces(config: Config) -> dict[str, float]:
    generator = Generator()
    load_weights(generator, CHECKPOINTS / "p1_dcgan.safetensors")
    generator.eval().to(DEVICE)
    for first in range(0, config.count, config.batch_size):
        save_images(config.out, first, generator(noise(config)[: config.count - first]))
    return {}


@torch.no_grad()
def digits(config: Config) -> dict[str, float]:
    """Some steps of one batch; the seconds are those of as many batches and steps as `count` digits take."""
    network = ContextUnet()
    load_weights(network, CHECKPOINTS / "p2_ddpm.safetensors")
    network.eval().to(DEVICE)
    one_hot = F.one_hot(torch.arange(config.batch_size) % NUM_CLASSES, NUM_CLASSES).float().to(DEVICE)
    context = torch.cat((one_hot, torch.zeros_like(one_hot)))
    x, times = torch.randn(config.batch_size, *IMAGE_SHAPE, device=DEVICE), iter(range(TIMESTEPS - 1, -1, -1))

    def step() -> None:
        nonlocal x
        t = next(times)
        now = torch.full((2 * config.batch_size,), (t + 1) / TIMESTEPS, device=DEVICE)
        eps, eps_free = network(x.repeat(2, 1, 1, 1), context, now).chunk(2)
        eps = (1 + GUIDANCE_SCALE) * eps - GUIDANCE_SCALE * eps_free
        mean = (x - BETA[t] / (1 - ALPHA_BAR[t]).sqrt() * eps) / (1 - BETA[t]).sqrt()
        x = mean + BETA[t].sqrt() * torch.randn_like(x)

    seconds = seconds_of_steps(config, step)
    save_images(config.out, 0, x)
    return {"s": seconds / config.steps * TIMESTEPS * config.count / config.batch_size}


@torch.no_grad()
def labels(config: Config) -> dict[str, float]:
    network, standardized, _ = load_dann(CHECKPOINTS / "p3_dann_svhn.safetensors")
    network.to(DEVICE)
    files, found = Files(list_images(config.data)), []
    for images, _ in DataLoader(files, config.batch_size, num_workers=WORKERS):
        images = images.to(DEVICE)
        found += network(standardize(images) if standardized else images)[0].argmax(1).tolist()
    with open(config.out, "w", newline="") as handle:
        rows = zip([path.name for path in files.paths], found, strict=True)
        csv.writer(handle).writerows([["image_name", "label"], *rows])
    return {}


@torch.no_grad()
def inception_features(folder: Path) -> np.ndarray:
    """Inception's features (n, 2048) of a folder's images, as pytorch-fid computes them."""
    network, features = inception_network(DEVICE), []
    for images, _ in DataLoader(Files(list_images(folder)), 50, num_workers=WORKERS):
        enlarged = F.interpolate(images.to(DEVICE), size=(299, 299), mode="bilinear", align_corners=False)
        features.append(network(enlarged).double().cpu().numpy())
    return np.concatenate(features)


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """As pytorch-fid has it, of features (n, d) and (m, d)."""
    sigma1, sigma2 = (np.cov(features, rowvar=False) for features in (first, second))
    root, _ = linalg.sqrtm(sigma1 @ sigma2, disp=False)
    if not np.isfinite(root).all():
        offset = 1e-6 * np.eye(len(sigma1))
        root = linalg.sqrtm((sigma1 + offset) @ (sigma2 + offset))
    return float(np.square(first.mean(0) - second.mean(0)).sum() + np.trace(sigma1 + sigma2 - 2 * root.real))


def fid(config: Config) -> dict[str, float]:
    return {"fid": frechet_distance(inception_features(config.data), inception_features(config.out))}


def main() -> None:
    config = parse_config(Config, __doc__)
    tasks = {**dict.fromkeys(TRAININGS, train), "faces": faces, "digits": digits, "labels": labels, "fid": fid}
    print(json.dumps(tasks[config.task](config)))


if __name__ == "__main__":
    run_script(main)
