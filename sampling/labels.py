"""From views of a digit to its label: what adaptation's training and inference share."""

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from common.checkpoint import load_weights
from common.streams import Stream
from data.augment import standardize
from data.reading import NUM_CLASSES, chunks, to_unit_range
from models.dann import DANN

TARGETS = ("svhn", "usps")
BATCH = 100  # digits at once, each by all of its views; one size, as sums of floats differ between sizes


def network_input(images: Tensor, standardized: bool) -> Tensor:
    """Images (batch, 3, 28, 28) in [-1, 1] as the network takes them, channels last."""
    return (standardize(images) if standardized else images).contiguous(memory_format=torch.channels_last)


# Views of an image whose predictions are averaged: shifts by up to a pixel (right, down) with the colours as they
# are (1), the first of them the image itself, then the same with colours inverted (-1).
VIEWS = [(right, down, sign) for sign in (1, -1) for down in (0, -1, 1) for right in (0, -1, 1)]
KEEPING_COLORS = len(VIEWS) // 2  # the first so many keep the colours


def load_dann(weights: Path) -> tuple[DANN, bool, int]:
    """A released network in eval mode, whether its input is standardised, and how many VIEWS its labels average."""
    network = DANN().eval()
    metadata = load_weights(network, weights)
    return network, metadata["standardized"] == "True", int(metadata.get("views", 1))


def random_views(count: int, among: int, random: Stream) -> list[tuple[int, int, int]]:
    """`count` different ones of the first `among` VIEWS; of one, the image itself."""
    order = torch.randperm(among, generator=random.generator).tolist() if count > 1 else [0]
    return [VIEWS[index] for index in order[:count]]


def probabilities(network: DANN, images: Tensor, standardized: bool, views: list[tuple[int, int, int]]) -> Tensor:
    """The class probabilities (batch, 10) of images (batch, 3, 28, 28) in [-1, 1], averaged over their views."""
    height, width = images.shape[2:]
    padded = F.pad(images, (1, 1, 1, 1), mode="replicate")
    shifted = [padded[:, :, 1 - down :, 1 - right :][:, :, :height, :width] * sign for right, down, sign in views]
    logits, _ = network(network_input(torch.cat(shifted), standardized))
    return logits.float().softmax(1).view(len(views), len(images), NUM_CLASSES).mean(0)


@torch.no_grad()
def mean_probabilities(network: DANN, digits: Tensor, standardized: bool, views: int = 1) -> Tensor:
    """The class probabilities (n, 10), on the CPU, of uint8 digits (n, 3, 28, 28), averaged over the first VIEWS.

    In float32 on the network's device; the last BATCH is padded, so that they do not depend on how many there are.
    """
    rows, device = [], next(network.parameters()).device
    for part in chunks(len(digits), BATCH):
        padded = torch.zeros(BATCH, *digits.shape[1:], dtype=torch.uint8)
        padded[: part.stop - part.start] = digits[part]
        found = probabilities(network, to_unit_range(padded.to(device)), standardized, VIEWS[:views])
        rows.append(found[: part.stop - part.start].cpu())
    return torch.cat(rows)


def predict(network: DANN, digits: Tensor, standardized: bool, views: int = 1) -> Tensor:
    """The likeliest classes int64 (n,), on the CPU, of uint8 digits (n, 3, 28, 28), by `mean_probabilities`."""
    return mean_probabilities(network, digits, standardized, views).argmax(1)
