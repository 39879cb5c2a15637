"""What DCGAN and WGAN training and inference share: latents, averaged generators, samples."""

import torch
from torch import Tensor, nn

from common.data import chunks, to_unit_range
from common.device import generator
from common.ema import make_ema
from common.images import make_grid, to_uint8
from models.dcgan import LATENT_SIZE

SAMPLE_SEED = 0


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
    network = make_ema(network)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # a cumulative average
    network.train()
    for batch in range(batches):
        network(latents(batch_size, seed=SAMPLE_SEED + 1, first=batch * batch_size).to(device))
    return network.eval()


@torch.no_grad()
def sample_images(network: nn.Module, latent: Tensor, device: torch.device, chunk: int = 50) -> Tensor:
    """The images uint8 (n, 3, 64, 64) of latents (n, 100, 1, 1), in float32 and on the CPU.

    Every chunk has the same size, the last one padded, so an image does not depend on how many are drawn.
    """
    images = []
    for part in chunks(len(latent), chunk):
        padded = torch.zeros(chunk, LATENT_SIZE, 1, 1)
        padded[: part.stop - part.start] = latent[part]
        output = network(padded.to(device).contiguous(memory_format=torch.channels_last))
        images.append(to_uint8(output[: part.stop - part.start]).cpu())
    return torch.cat(images)


def sample_sheet(network: nn.Module, device: torch.device, count: int = 64) -> Tensor:
    """A sheet of fixed latents' images, eight to a row, BatchNorm statistics re-estimated."""
    return make_grid(sample_images(with_fresh_batch_norm(network, device), latents(count), device), 8)


def real_batch(images: Tensor, indices: Tensor, device: torch.device) -> Tensor:
    """The chosen images of a uint8 (n, 3, 64, 64) cache as float [-1, 1] on `device`, channels last."""
    return to_unit_range(images[indices].to(device)).contiguous(memory_format=torch.channels_last)
