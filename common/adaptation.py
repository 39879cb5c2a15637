"""What adaptation training and inference share: the network's input and its predictions."""

import torch
from torch import Tensor

from common.augment import standardize
from common.data import chunks, to_unit_range
from models.dann import DANN


def network_input(images: Tensor, standardized: bool) -> Tensor:
    """Images (batch, 3, 28, 28) in [-1, 1] as the network takes them, channels last."""
    return (standardize(images) if standardized else images).contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def predict(network: DANN, digits: Tensor, standardized: bool, device: torch.device, chunk: int = 500) -> Tensor:
    """Labels int64 (n,), on the CPU, of uint8 digits (n, 3, 28, 28), in float32.

    Chunk by chunk, the last one padded to its size, so that a label does not depend on how many are asked for.
    """
    labels = []
    for part in chunks(len(digits), chunk):
        padded = torch.zeros(chunk, *digits.shape[1:], dtype=torch.uint8)
        padded[: part.stop - part.start] = digits[part]
        logits, _ = network(network_input(to_unit_range(padded.to(device)), standardized))
        labels.append(logits[: part.stop - part.start].argmax(1).cpu())
    return torch.cat(labels)
