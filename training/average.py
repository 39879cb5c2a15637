"""Exponential moving average of weights, its length given as a half-life in images (Karras et al. 2024, EDM2)."""

import copy

import torch
from torch import nn

from training.run import Step

RAMP = 0.05  # early in training the half-life is at most this share of the images seen (EDM, arXiv:2206.00364)


class Average:
    """`network` is a copy of `model`, in eval mode and without gradients, that `update` turns into its moving average.

    Weights and BatchNorm statistics are averaged, counters copied.  `half_life` is in images; 0 copies.
    """

    def __init__(self, model: nn.Module, half_life: float):
        self.network = copy.deepcopy(model).eval().requires_grad_(False)
        self.half_life = half_life
        pairs = list(zip(self.network.state_dict().values(), model.state_dict().values(), strict=True))
        self._floats = [pair for pair in pairs if pair[0].is_floating_point()]
        self._counters = [pair for pair in pairs if not pair[0].is_floating_point()]

    @torch.no_grad()
    def update(self, step: Step) -> None:
        """Move the average towards the model, which a step has changed."""
        half_life = min(self.half_life, RAMP * step.images)
        weight = 1.0 if half_life <= 0 else 1.0 - 0.5 ** (step.batch_size / half_life)
        averages, values = zip(*self._floats, strict=True)
        torch._foreach_lerp_(averages, values, weight)
        if self._counters:
            averages, values = zip(*self._counters, strict=True)
            torch._foreach_copy_(averages, values)
