"""Every path as tutorials have it: what ours is measured beside.

    python3 -m benchmarks.plain --task dcgan                # and wgan, ddpm, dann, faces, digits, labels, fid
    python3 -m benchmarks.plain --task dcgan --in-memory

float32, channels first, a DataLoader that decodes PNG files anew for every batch or, with --in-memory, images that
were decoded once.  Guidance doubles the batch, digits take 600 ancestral steps, FID is scipy's matrix square root.
Prints one JSON object: for a training images a second, operations and FLOPs of a step; for digits, of which it draws
one batch with a few of the steps, the seconds of a step; for FID its value.
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
from torch.optim import Adam, RMSprop
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
    count: int = option(1000, "faces to draw", low=1)


class Files(Dataset):
    """Image files as float32 (3, h, w) in [-1, 1] with their labels, 0 where there are none."""

    def __init__(self, paths: list[Path], labels: list[int] | None = None):
        self.paths, self.labels = paths, labels

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        with Image.open(self.paths[index]) as image:
            pixels = np.asarray(image.convert("RGB"), dtype=np.float32) / 255
        image = torch.from_numpy(pixels).permute(2, 0, 1).contiguous()
        return (image - 0.5) / 0.5, self.labels[index] if self.labels else 0


def batches(config: Config, paths: list[Path], labels: list[int] | None = None) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless shuffled whole batches of images and labels on DEVICE.  Raises UserError if there is none."""
    if len(paths) < config.batch_size:
        raise UserError(
            f"{paths[0].parent} holds {len(paths)} training images, fewer than a batch of {config.batch_size}"
        )
    if config.in_memory:
        size = Files(paths)[0][0].shape[-1]
        images, classes = decode_images(paths, size).to(DEVICE), torch.tensor(labels or [0] * len(paths)).to(DEVICE)
        while True:
            for chosen in torch.randperm(len(images), device=DEVICE).split(config.batch_size):
                if len(chosen) == config.batch_size:
                    yield images[chosen].float() / 127.5 - 1, classes[chosen]
    loader = DataLoader(Files(paths, labels), config.batch_size, shuffle=True, num_workers=WORKERS, drop_last=True)
    while True:
        for images, classes in loader:
            yield images.to(DEVICE), classes.to(DEVICE)


def digits_of(config: Config, domain: str) -> Iterator[tuple[Tensor, Tensor]]:
    folder = config.data / "digits" / domain
    labels = read_labels(folder / "train.csv")
    return batches(config, [folder / "data" / name for name in labels], list(labels.values()))


def noise(config: Config) -> Tensor:
    return torch.randn(config.batch_size, LATENT_SIZE, 1, 1, device=DEVICE)


def dcgan(config: Config) -> Step:
    """Radford et al. 2015, arXiv:1511.06434."""
    generator, discriminator = (kind().apply(initialize_weights).to(DEVICE) for kind in (Generator, Discriminator))
    optimizer_g, optimizer_d = (Adam(part.parameters(), 2e-4, (0.5, 0.999)) for part in (generator, discriminator))
    faces = batches(config, list_images(config.data / "face" / "train"))

    def loss(images: Tensor, target: float) -> Tensor:
        found = discriminator(images).flatten()
        return F.binary_cross_entropy(found, torch.full_like(found, target))

    def step() -> None:
        optimizer_d.zero_grad()
        (loss_real := loss(next(faces)[0], 1.0)).backward()
        fake = generator(noise(config))
        (loss_fake := loss(fake.detach(), 0.0)).backward()
        optimizer_d.step()
        optimizer_g.zero_grad()
        (loss_g := loss(fake, 1.0)).backward()
        optimizer_g.step()
        _ = (loss_real + loss_fake).item(), loss_g.item()

    return step


def wgan(config: Config) -> Step:
    """Arjovsky et al. 2017, arXiv:1701.07875."""
    generator, critic = (kind().apply(initialize_weights).to(DEVICE) for kind in (Generator, Critic))
    optimizer_g, optimizer_c = (RMSprop(part.parameters(), 5e-5) for part in (generator, critic))
    faces = batches(config, list_images(config.data / "face" / "train"))

    def step() -> None:
        for _ in range(CRITIC_STEPS):
            optimizer_c.zero_grad()
            loss_c = critic(generator(noise(config)).detach()).mean() - critic(next(faces)[0]).mean()
            loss_c.backward()
            optimizer_c.step()
            for parameter in critic.parameters():
                parameter.data.clamp_(-CLIP, CLIP)
        optimizer_g.zero_grad()
        loss_g = -critic(generator(noise(config))).mean()
        loss_g.backward()
        optimizer_g.step()
        _ = loss_c.item(), loss_g.item()

    return step


def ddpm(config: Config) -> Step:
    """Ho et al. 2020, arXiv:2006.11239, with labels left out as in Ho and Salimans 2022, arXiv:2207.12598."""
    network = ContextUnet().to(DEVICE)
    optimizer = Adam(network.parameters(), 3e-4)
    digits = digits_of(config, "mnistm")

    def step() -> None:
        images, classes = next(digits)
        t = torch.randint(0, TIMESTEPS, (len(images),), device=DEVICE)
        added = torch.randn_like(images)
        scale = ALPHA_BAR[t][:, None, None, None]
        noisy = scale.sqrt() * images + (1 - scale).sqrt() * added
        kept = torch.rand(len(images), 1, device=DEVICE) >= LABEL_DROPOUT
        loss = F.mse_loss(network(noisy, F.one_hot(classes, NUM_CLASSES) * kept.float(), (t + 1) / TIMESTEPS), added)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()

    return step


def dann(config: Config) -> Step:
    """Ganin et al. 2016, arXiv:1505.07818: source and target one after the other through the network."""
    network = DANN().to(DEVICE)
    optimizer = Adam(network.parameters(), 1e-3)
    source, target = (digits_of(config, domain) for domain in ("mnistm", "svhn"))
    zeros = torch.zeros(config.batch_size, dtype=torch.long, device=DEVICE)
    done = 0

    def step() -> None:
        nonlocal done
        alpha = 2 / (1 + math.exp(-10 * min(1, done / (WARMUP + config.steps)))) - 1
        done += 1
        images, labels = next(source)
        logits, domain = network(images, alpha)
        loss = F.cross_entropy(logits, labels) + F.cross_entropy(domain, zeros)
        loss = loss + F.cross_entropy(network(next(target)[0], alpha)[1], zeros + 1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()

    return step


TRAININGS = {"dcgan": dcgan, "wgan": wgan, "ddpm": ddpm, "dann": dann}


def train(config: Config) -> dict[str, float]:
    step = TRAININGS[config.task](config)
    for _ in range(WARMUP):
        step()
    seconds = seconds_of(lambda: [step() for _ in range(config.steps)], DEVICE)
    return {"images/s": config.batch_size * config.steps / seconds, **count_work(step)}


def save_images(folder: Path, names: list[str], images: Tensor) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, image in zip(names, images, strict=True):
        pixels = image.cpu().add(1).mul(127.5).add(0.5).clamp(0, 255).to(torch.uint8).permute(1, 2, 0)
        Image.fromarray(pixels.numpy()).save(folder / name)


@torch.no_grad()
def faces(config: Config) -> dict[str, float]:
    generator = Generator()
    load_weights(generator, CHECKPOINTS / "p1_dcgan.safetensors")
    generator.eval().to(DEVICE)
    for numbers in torch.arange(1, config.count + 1).split(config.batch_size):
        save_images(config.out, [f"{number:04d}.png" for number in numbers], generator(noise(config)[: len(numbers)]))
    return {}


@torch.no_grad()
def digits(config: Config) -> dict[str, float]:
    network = ContextUnet()
    load_weights(network, CHECKPOINTS / "p2_ddpm.safetensors")
    network.eval().to(DEVICE)
    one_hot = F.one_hot(torch.arange(config.batch_size) % NUM_CLASSES, NUM_CLASSES).float().to(DEVICE)
    context = torch.cat((one_hot, torch.zeros_like(one_hot)))
    x = torch.randn(config.batch_size, *IMAGE_SHAPE, device=DEVICE)

    def step(t: int) -> None:
        nonlocal x
        times = torch.full((2 * config.batch_size,), (t + 1) / TIMESTEPS, device=DEVICE)
        eps, eps_free = network(x.repeat(2, 1, 1, 1), context, times).chunk(2)
        eps = (1 + GUIDANCE_SCALE) * eps - GUIDANCE_SCALE * eps_free
        mean = (x - BETA[t] / (1 - ALPHA_BAR[t]).sqrt() * eps) / (1 - BETA[t]).sqrt()
        x = mean + BETA[t].sqrt() * torch.randn_like(x)

    for t in range(WARMUP):
        step(TIMESTEPS - 1 - t)
    seconds = seconds_of(lambda: [step(TIMESTEPS - 1 - WARMUP - t) for t in range(config.steps)], DEVICE)
    save_images(config.out, [f"{number:04d}.png" for number in range(len(x))], x)
    return {"step": seconds / config.steps}


@torch.no_grad()
def labels(config: Config) -> dict[str, float]:
    network, standardized, _ = load_dann(CHECKPOINTS / "p3_dann_svhn.safetensors")
    network.to(DEVICE)
    paths = list_images(config.data)
    found = []
    for images, _ in DataLoader(Files(paths), config.batch_size, num_workers=WORKERS):
        images = images.to(DEVICE)
        found += network(standardize(images) if standardized else images)[0].argmax(1).tolist()
    with open(config.out, "w", newline="") as handle:
        rows = [["image_name", "label"], *zip([path.name for path in paths], found, strict=True)]
        csv.writer(handle).writerows(rows)
    return {}


@torch.no_grad()
def statistics(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Mean (2048,) and covariance (2048, 2048) of Inception's features of a folder's images."""
    network, features = inception_network(DEVICE), []
    for images, _ in DataLoader(Files(list_images(folder)), 50, num_workers=WORKERS):
        enlarged = F.interpolate(images.to(DEVICE), size=(299, 299), mode="bilinear", align_corners=False)
        features.append(network(enlarged).double().cpu().numpy())
    features = np.concatenate(features)
    return features.mean(0), np.cov(features, rowvar=False)


def frechet_distance(mu1: np.ndarray, sigma1: np.ndarray, mu2: np.ndarray, sigma2: np.ndarray) -> float:
    """As pytorch-fid has it."""
    root, _ = linalg.sqrtm(sigma1 @ sigma2, disp=False)
    if not np.isfinite(root).all():
        offset = 1e-6 * np.eye(len(sigma1))
        root = linalg.sqrtm((sigma1 + offset) @ (sigma2 + offset))
    return float(np.square(mu1 - mu2).sum() + np.trace(sigma1) + np.trace(sigma2) - 2 * np.trace(root.real))


def fid(config: Config) -> dict[str, float]:
    return {"fid": frechet_distance(*statistics(config.data), *statistics(config.out))}


def main() -> None:
    config = parse_config(Config, __doc__)
    tasks = {**dict.fromkeys(TRAININGS, train), "faces": faces, "digits": digits, "labels": labels, "fid": fid}
    print(json.dumps(tasks[config.task](config)))


if __name__ == "__main__":
    run_script(main)
