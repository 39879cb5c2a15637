"""What DCGAN and WGAN training and inference share: latents, averaged generators, samples."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from common.config import UserError
from common.device import generator
from common.images import make_grid, to_uint8
from data.reading import chunks, to_unit_range
from models.dcgan import LATENT_SIZE

SAMPLE_SEED = 0
BATCH = 50  # images at once; one size, as sums of floats differ between sizes and images must not


def latents(count: int, seed: int = SAMPLE_SEED, first: int = 0) -> Tensor:
    """Latents (count, 100, 1, 1) from N(0, 1), number `first` onwards; each drawn by a generator of its own."""
    rows = [torch.randn(LATENT_SIZE, generator=generator(seed, "latent", first + i)) for i in range(count)]
    return torch.stack(rows)[:, :, None, None]


@torch.no_grad()
def with_fresh_batch_norm(
    network: nn.Module, device: torch.device, batches: int = 10, batch_size: int = 128
) -> nn.Module:
    """A copy of a generator, its BatchNorm statistics re-estimated from its own activations.

    Averaged weights have other activations than the averages of the statistics; the plain mean over
    batches of fixed latents is exact for them (Brock et al. 2019, arXiv:1809.11096, appendix C.1).
    """
    network = copy.deepcopy(network).requires_grad_(False)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # a cumulative average
    network.train()
    for batch in range(batches):
        network(latents(batch_size, seed=SAMPLE_SEED + 1, first=batch * batch_size).to(device))
    return network.eval()


@torch.no_grad()
def sample_images(network: nn.Module, latent: Tensor, device: torch.device, chunk: int = BATCH) -> Tensor:
    """The images uint8 (n, 3, 64, 64) of latents (n, 100, 1, 1), in float32 and on the CPU.

    The last chunk is padded to its size: with one `chunk` an image is the same however many are drawn.
    """
    images = []
    for part in chunks(len(latent), chunk):
        padded = torch.zeros(chunk, LATENT_SIZE, 1, 1)
        padded[: part.stop - part.start] = latent[part]
        output = network(padded.to(device).contiguous(memory_format=torch.channels_last))
        images.append(to_uint8(output[: part.stop - part.start]).cpu())
    return torch.cat(images)


def hold_out(count: int, held_out: int) -> tuple[Tensor, Tensor]:
    """Indices of the training and of the `held_out` images of `count`, always the same ones, each in order.

    Raises UserError if none would be left for training.
    """
    if held_out >= count:
        raise UserError(f"--held-out {held_out} leaves none of {count} images for training")
    order = torch.randperm(count, generator=generator("held out"))
    return order[held_out:].sort().values, order[:held_out].sort().values


@torch.no_grad()
def overfitting(
    network: nn.Module,
    score: str,
    training: Tensor,
    held_out: Tensor,
    device: torch.device,
    network_g: nn.Module | None = None,
) -> dict[str, Tensor]:
    """What a discriminator or critic says on average of uint8 images it trains on, and of held-out ones.

    `score` is the name of its method.  The further apart the two, the more it knows by heart.  It works on
    copies, with the statistics of the batch as in training, so that watching changes nothing: each kind in a
    batch of its own, or, with the generator of a training in joint batches, both in one with as many of its images.
    Of a batch of its own BatchNorm takes out what all its images share, so there a difference is seen less.
    """
    network = copy.deepcopy(network).train()
    real = [real_batch(images, torch.arange(min(len(images), 256)), device) for images in (training, held_out)]
    if network_g is None:
        found = [getattr(network, score)(images) for images in real]
    else:
        fake = copy.deepcopy(network_g).train()(latents(sum(map(len, real))).to(device))
        found = judge_both(getattr(network, score), torch.cat(real), fake, True)[0].split([*map(len, real)])
    return {f"{score}_{name}": of.float().mean() for name, of in zip(("train", "held_out"), found, strict=True)}


def sample_sheet(network: nn.Module, device: torch.device, count: int = 64) -> Tensor:
    """A sheet of fixed latents' images, eight to a row, BatchNorm statistics re-estimated."""
    return make_grid(sample_images(with_fresh_batch_norm(network, device), latents(count), device), 8)


def judge_both(score: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, joint: bool) -> tuple[Tensor, Tensor]:
    """What a discriminator or critic in train mode says (batch,) of real and of generated images.

    BatchNorm takes the scale out of a batch, and no convolution of the printed networks has a bias.  So of generated
    images in a batch of their own the network cannot see that all have too little contrast, and their generator never
    learns it.  In `joint` batches real and generated images share the statistics.
    """
    if not joint:
        return score(real).float(), score(fake).float()
    of_real, of_fake = score(torch.cat((real, fake))).float().chunk(2)
    return of_real, of_fake


def judge_fake(score: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, joint: bool) -> Tensor:
    """The second part of `judge_both`, for losses that need no more; real images only where needed."""
    return judge_both(score, real, fake, joint)[1] if joint else score(fake).float()


def real_batch(images: Tensor, indices: Tensor, device: torch.device) -> Tensor:
    """The chosen images of a uint8 (n, 3, 64, 64) cache as float [-1, 1] on `device`, channels last."""
    return to_unit_range(images[indices.to(images.device)].to(device)).contiguous(memory_format=torch.channels_last)
