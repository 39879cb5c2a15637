"""From latents to faces, as the sheets of a training and inference draw them."""

import copy

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from common.device import generator
from common.images import make_grid, to_uint8
from data.reading import chunks
from models.dcgan import LATENT_SIZE

SAMPLE_SEED = 0
STATISTICS = (10, 128)  # batches of latents, and their size, behind re-estimated BatchNorm statistics
SHEET = 64  # faces
BATCH = 50  # images at once; one size, as sums of floats differ between sizes and images must not


def latents(count: int, seed: int = SAMPLE_SEED, first: int = 0) -> Tensor:
    """Latents (count, 100, 1, 1) from N(0, 1), number `first` onwards; each drawn by a generator of its own."""
    rows = [torch.randn(LATENT_SIZE, generator=generator(seed, "latent", first + i)) for i in range(count)]
    return torch.stack(rows)[:, :, None, None]


def slerp(first: Tensor, second: Tensor, count: int) -> Tensor:
    """`count` latents (count, 100, 1, 1) on the great circle from one (100, 1, 1) to another, ends included."""
    angle = torch.acos((first / first.norm() * second / second.norm()).sum().clamp(-1, 1))
    shares = torch.linspace(0, 1, count)[:, None, None, None]
    return (torch.sin((1 - shares) * angle) * first + torch.sin(shares * angle) * second) / torch.sin(angle)


def with_fresh_batch_norm(network: nn.Module) -> nn.Module:
    """A copy of a generator, its BatchNorm statistics re-estimated from its own activations.

    Averaged weights have other activations than the averages of the statistics; the plain mean over
    batches of fixed latents is exact for them (Brock et al. 2019, arXiv:1809.11096, appendix C.1).
    """
    network, (batches, batch_size) = copy.deepcopy(network).requires_grad_(False), STATISTICS
    drawn = (latents(batch_size, SAMPLE_SEED + 1, batch * batch_size) for batch in range(batches))
    update_bn(drawn, network, next(network.parameters()).device)
    return network.eval()


@torch.no_grad()
def sample_images(network: nn.Module, latent: Tensor) -> Tensor:
    """Images uint8 (n, 3, 64, 64), on the CPU, of latents (n, 100, 1, 1), each the same however many are drawn."""
    images, device = [], next(network.parameters()).device
    for part in chunks(len(latent), BATCH):
        padded = torch.zeros(BATCH, LATENT_SIZE, 1, 1)
        padded[: part.stop - part.start] = latent[part]
        output = network(padded.to(device).contiguous(memory_format=torch.channels_last))
        images.append(to_uint8(output[: part.stop - part.start]).cpu())
    return torch.cat(images)


def face_sheet(network: nn.Module) -> Tensor:
    """A sheet of fixed latents' faces, eight to a row, by an averaged generator."""
    return make_grid(sample_images(with_fresh_batch_norm(network), latents(SHEET)), 8)
