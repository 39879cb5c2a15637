"""What tests of losses and augmentations share: images, streams, and a discriminator whose gradient is known."""

import torch
from torch import Tensor, nn

from common.device import generator
from common.streams import Stream


def images(count: int, size: int = 6, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def stream(count: int, seed: int = 0) -> Stream:
    return Stream(generator(seed), count)


class Linear(nn.Module):
    """Its score is w . x, or with `square` (w . x)^2 / 2, of an image x."""

    def __init__(self, weight: Tensor, square: bool = False):
        super().__init__()
        self.weight, self.square = nn.Parameter(weight), square

    def score(self, images: Tensor) -> Tensor:
        values = (images * self.weight).sum((1, 2, 3))
        return values.square() / 2 if self.square else values
