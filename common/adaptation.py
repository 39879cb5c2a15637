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
    """Labels int64 (n,), on the CPU, of uint8 digits (n, 3, 28, 28); float32, chunk by chunk."""
    labels = []
    for part in chunks(len(digits), chunk):
        logits, _ = network(network_input(to_unit_range(digits[part].to(device)), standardized))
        labels.append(logits.argmax(1).cpu())
    return torch.cat(labels)
