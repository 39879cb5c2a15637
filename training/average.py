"""Exponential moving average of weights, its length given as a half-life in images (Karras et al. 2024, EDM2)."""

import copy

import torch
from torch import nn

RAMP = 0.05  # early in training the half-life is at most this share of the images seen (EDM, arXiv:2206.00364)


def make_ema(model: nn.Module) -> nn.Module:
    """A copy of `model` that `update_ema` turns into its moving average; in eval mode, without gradients."""
    return copy.deepcopy(model).eval().requires_grad_(False)


@torch.no_grad()
def update_ema(ema: nn.Module, model: nn.Module, batch_size: int, images_seen: int, half_life: float) -> None:
    """Move `ema` towards `model` after a step of `batch_size` images, the `images_seen`-th of training included.

    Weights and BatchNorm statistics are averaged, counters copied.  `half_life` is in images; 0 copies.
    """
    half_life = min(half_life, RAMP * images_seen)
    weight = 1.0 if half_life <= 0 else 1.0 - 0.5 ** (batch_size / half_life)
    for average, current in zip(ema.state_dict().values(), model.state_dict().values(), strict=True):
        if average.is_floating_point():
            average.lerp_(current, weight)
        else:
            average.copy_(current)
