"""Every path as tutorials have it, what ours is measured beside; the timer, and the counts of any code's work.

    python3 -m benchmarks.plain --task dcgan        # and wgan, ddpm, dann, faces, digits, labels, fid; --in-memory

float32, channels first, a DataLoader that decodes PNG files anew for every batch or, with --in-memory, images that
were decoded once.  Guidance doubles the batch, digits take 600 ancestral steps, FID is scipy's matrix square root.  A
training is an iterator of its steps.
Prints one JSON object: a training's images a second, operations and FLOPs of a step; the seconds that all digits would
take, of which it draws a few steps of one batch; the FID.

An operation is one that PyTorch's dispatcher sees: on a GPU about one kernel each.  FLOPs are those of matrix products
and convolutions, forward and backward, a multiplication and an addition counted as two.
"""

from common.start import run_script

import contextlib
import json
import math
import runpy
import sys
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
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.benchmark import Timer
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, TensorDataset
from torch.utils.flop_counter import flop_registry

from common.checkpoint import CHECKPOINTS, load_weights
from common.config import UserError, option, parse_config
from data.augment import standardize
from data.reading import decode_images, list_images, read_labels
from evaluation.inception import inception_network
from models.dann import DANN
from models.dcgan import LATENT_SIZE, Critic, Discriminator, Generator, initialize_weights
from models.ddpm import IMAGE_SHAPE, NUM_CLASSES, ContextUnet
from models.diffusion import TIMESTEPS, add_noise, alpha_bar_schedule, ancestral

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
WARMUP = 2  # calls before the clock starts: Timer.timeit's
WORKERS = 2  # processes of a DataLoader, as most tutorials have
CRITIC_STEPS, CLIP = 5, 0.01  # of the WGAN's paper
GUIDANCE_SCALE, LABEL_DROPOUT = 1.0, 0.1
FACES, MNISTM, SVHN = "face/train", "digits/mnistm", "digits/svhn"
TRAININGS = ("dcgan", "wgan", "ddpm", "dann")


Values = dict[str, float]


@dataclass(frozen=True)
class Config:
    task: str = option("dcgan", "what to run", choices=(*TRAININGS, "faces", "digits", "labels", "fid"))
    data: Path = option(Path("hw2_data"), "the data tree; of labels and fid the folder of images")
    out: Path = option(Path("out"), "folder or csv to write; of fid the other folder of images")
    in_memory: bool = option(False, "decode the training images once")
    batch_size: int = option(64, "images at once", low=2)
    steps: int = option(8, "steps by the clock", low=1)
    count: int = option(1000, "faces or digits to draw", low=1)


class Work(TorchDispatchMode):
    operations = flops = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        self.operations += 1
        if formula := flop_registry.get(function.overloadpacket):
            self.flops += formula(*args, **(kwargs or {}), out_val=result)
        return result


def count_work(function: Callable[[], object]) -> Values:
    with Work() as work:
        function()
    return {"operations": work.operations, "FLOPs": work.flops}


def count_script() -> None:
    """Print the work of the script and options in sys.argv[1:]."""
    del sys.argv[0]
    with contextlib.redirect_stdout(sys.stderr):
        work = count_work(lambda: runpy.run_path(sys.argv[0], run_name="__main__"))
    print(json.dumps(work))


def seconds_of(step: Callable[[], object], steps: int) -> float:
    """Seconds of a step by the clock, the mean of `steps` after WARMUP others, on a GPU until all is done."""
    return Timer("step()", globals={"step": step}, num_threads=torch.get_num_threads()).timeit(steps).mean


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


def batches(config: Config, name: str) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless shuffled whole batches of a training set's images and labels on DEVICE.  Raises UserError without one."""
    folder = config.data / name
    labels = {} if name == FACES else read_labels(folder / "train.csv")
    paths = [folder / "data" / image for image in labels] or list_images(folder)
    if len(paths) < config.batch_size:
        raise UserError(f"{folder} holds {len(paths)} images, fewer than a batch of {config.batch_size}")
    files = Files(paths, list(labels.values()))
    loader = DataLoader(files, config.batch_size, shuffle=True, num_workers=WORKERS, drop_last=True)
    if config.in_memory:
        images = decode_images(paths, files[0][0].shape[-1]).float() / 127.5 - 1
        kept = TensorDataset(images.to(DEVICE), torch.tensor(files.labels, device=DEVICE))
        sampler = BatchSampler(RandomSampler(kept), config.batch_size, drop_last=True)
        loader = DataLoader(kept, batch_size=None, sampler=sampler)
    while True:
        for images, classes in loader:
            yield images.to(DEVICE), classes.to(DEVICE)


def noise(config: Config) -> Tensor:
    return torch.randn(config.batch_size, LATENT_SIZE, 1, 1, device=DEVICE)


def update(optimizer: Optimizer, loss: Tensor) -> float:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def dcgan(config: Config) -> Iterator[object]:
    """Radford et al. 2015, arXiv:1511.06434."""
    generator, discriminator = (kind().apply(initialize_weights).to(DEVICE) for kind in (Generator, Discriminator))
    optimizer_g, optimizer_d = (Adam(part.parameters(), 2e-4, (0.5, 0.999)) for part in (generator, discriminator))

    def loss(images: Tensor, target: float) -> Tensor:
        scores = discriminator(images).flatten()
        return F.binary_cross_entropy(scores, torch.full_like(scores, target))

    for real, _ in batches(config, FACES):
        fake = generator(noise(config))
        update(optimizer_d, loss(real, 1.0) + loss(fake.detach(), 0.0))
        yield update(optimizer_g, loss(fake, 1.0))


def wgan(config: Config) -> Iterator[object]:
    """Arjovsky et al. 2017, arXiv:1701.07875."""
    generator, critic = (kind().apply(initialize_weights).to(DEVICE) for kind in (Generator, Critic))
    optimizer_g, optimizer_c = (RMSprop(part.parameters(), 5e-5) for part in (generator, critic))
    for turn, (real, _) in enumerate(batches(config, FACES), 1):
        update(optimizer_c, critic(generator(noise(config)).detach()).mean() - critic(real).mean())
        for parameter in critic.parameters():
            parameter.data.clamp_(-CLIP, CLIP)
        if turn % CRITIC_STEPS == 0:
            yield update(optimizer_g, -critic(generator(noise(config))).mean())


def ddpm(config: Config) -> Iterator[object]:
    """Ho et al. 2020, arXiv:2006.11239, with labels left out as in Ho and Salimans 2022, arXiv:2207.12598."""
    network = ContextUnet().to(DEVICE)
    optimizer, alpha_bar = Adam(network.parameters(), 3e-4), alpha_bar_schedule().float().to(DEVICE)
    for images, classes in batches(config, MNISTM):
        t = torch.randint(1, TIMESTEPS + 1, (len(images),), device=DEVICE)
        noise = torch.randn_like(images)
        kept = torch.rand(len(images), 1, device=DEVICE) >= LABEL_DROPOUT
        context = F.one_hot(classes, NUM_CLASSES) * kept.float()
        predicted = network(add_noise(images, noise, alpha_bar[t]), context, t / TIMESTEPS)
        yield update(optimizer, F.mse_loss(predicted, noise))


def dann(config: Config) -> Iterator[object]:
    """Ganin et al. 2016, arXiv:1505.07818: source and target one after the other through the network."""
    network = DANN().to(DEVICE)
    optimizer = Adam(network.parameters(), 1e-3)
    zeros = torch.zeros(config.batch_size, dtype=torch.long, device=DEVICE)
    both = zip(batches(config, MNISTM), batches(config, SVHN), strict=True)
    for done, ((images, labels), (others, _)) in enumerate(both):
        alpha = 2 / (1 + math.exp(-10 * min(1, done / (WARMUP + config.steps)))) - 1
        logits, domain = network(images, alpha)
        loss = F.cross_entropy(logits, labels) + F.cross_entropy(domain, zeros)
        yield update(optimizer, loss + F.cross_entropy(network(others, alpha)[1], zeros + 1))


def train(config: Config) -> Values:
    steps = {"dcgan": dcgan, "wgan": wgan, "ddpm": ddpm, "dann": dann}[config.task](config)
    seconds = seconds_of(steps.__next__, config.steps)
    return {"images/s": config.batch_size / seconds, **count_work(steps.__next__)}


@torch.no_grad()
def faces(config: Config) -> Values:
    generator = Generator().to(DEVICE).eval()
    load_weights(generator, CHECKPOINTS / "p1_dcgan.safetensors")
    config.out.mkdir(parents=True, exist_ok=True)
    for first in range(0, config.count, config.batch_size):
        for number, image in enumerate(generator(noise(config)[: config.count - first]).cpu(), first):
            pixels = image.add(1).mul(127.5).add(0.5).clamp(0, 255).to(torch.uint8).permute(1, 2, 0)
            Image.fromarray(pixels.numpy()).save(config.out / f"{number:04d}.png")
    return {}


@torch.no_grad()
def digits(config: Config) -> Values:
    """Guidance is in a batch twice as large."""
    network = ContextUnet().to(DEVICE).eval()
    load_weights(network, CHECKPOINTS / "p2_ddpm.safetensors")
    one_hot = F.one_hot(torch.arange(config.batch_size) % NUM_CLASSES, NUM_CLASSES).float().to(DEVICE)
    context = torch.cat((one_hot, torch.zeros_like(one_hot)))

    def denoise(x: Tensor, step: float) -> Tensor:
        times = torch.full((len(context),), step / TIMESTEPS, device=DEVICE)
        eps, eps_free = network(x.repeat(2, 1, 1, 1), context, times).chunk(2)
        return (1 + GUIDANCE_SCALE) * eps - GUIDANCE_SCALE * eps_free

    x = torch.randn(config.batch_size, *IMAGE_SHAPE, device=DEVICE)
    steps = ancestral(denoise, x, lambda _: torch.randn_like(x))
    return {"s": seconds_of(steps.__next__, config.steps) * TIMESTEPS * config.count / config.batch_size}


@torch.no_grad()
def labels(config: Config) -> Values:
    network = DANN().to(DEVICE).eval()
    load_weights(network, CHECKPOINTS / "p3_dann_svhn.safetensors")
    files, found = Files(list_images(config.data)), []
    for images, _ in DataLoader(files, config.batch_size, num_workers=WORKERS):
        found += network(standardize(images.to(DEVICE)))[0].argmax(1).tolist()
    rows = [f"{path.name},{label}" for path, label in zip(files.paths, found, strict=True)]
    config.out.write_text("\n".join(["image_name,label", *rows]))
    return {}


@torch.no_grad()
def inception_features(folder: Path) -> np.ndarray:
    """Inception's features (n, 2048) of a folder's images, as pytorch-fid computes them."""
    network, features = inception_network(DEVICE), []
    for images, _ in DataLoader(Files(list_images(folder)), 50, num_workers=WORKERS):
        enlarged = F.interpolate(images.to(DEVICE), (299, 299), mode="bilinear")
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


def fid(config: Config) -> Values:
    return {"fid": frechet_distance(inception_features(config.data), inception_features(config.out))}


def main() -> None:
    config = parse_config(Config, __doc__)
    tasks = {"faces": faces, "digits": digits, "labels": labels, "fid": fid}
    print(json.dumps(tasks.get(config.task, train)(config)))


if __name__ == "__main__":
    run_script(main)
