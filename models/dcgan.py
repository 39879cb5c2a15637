"""DCGAN and WGAN networks for 64x64 RGB faces (problem 1).

Both methods share the generator; the discriminator is the WGAN's critic with a sigmoid at its end.
Source: Radford et al. 2016 (arXiv:1511.06434) and Arjovsky et al. 2017 (arXiv:1701.07875); the widths
are the homework's.  Every convolution is without bias, images lie in [-1, 1].
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

LATENT_SIZE = 100
WIDTH = 64  # channels of the discriminator's first layer; the generator's last has twice as many


def initialize_weights(module: nn.Module) -> None:
    """Draw DCGAN's initial weights: convolutions N(0, 0.02), BatchNorm scales N(1, 0.02), offsets 0."""
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)


class Generator(nn.Module):
    """Latents (batch, 100, 1, 1) from N(0, 1) to images (batch, 3, 64, 64) in [-1, 1]."""

    def __init__(self):
        super().__init__()
        layers = [nn.ConvTranspose2d(LATENT_SIZE, 16 * WIDTH, 4, bias=False)]
        for channels in (16 * WIDTH, 8 * WIDTH, 4 * WIDTH):
            layers += [nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
            layers += [nn.ConvTranspose2d(channels, channels // 2, 4, stride=2, padding=1, bias=False)]
        layers += [nn.BatchNorm2d(2 * WIDTH), nn.ReLU(inplace=True)]
        layers += [nn.ConvTranspose2d(2 * WIDTH, 3, 4, stride=2, padding=1, bias=False), nn.Tanh()]
        self.main = nn.Sequential(*layers)

    def forward(self, latent: Tensor) -> Tensor:
        return self.main(latent)


class Critic(nn.Module):
    """Images (batch, 3, 64, 64) in [-1, 1] to unbounded scores (batch, 1, 1, 1); higher is more real.

    Without `batch_norm` it is not the homework's, but judges every image by itself.
    """

    def __init__(self, batch_norm: bool = True):
        super().__init__()
        layers = [nn.Conv2d(3, WIDTH, 4, stride=2, padding=1, bias=False), nn.LeakyReLU(0.2, inplace=True)]
        for channels in (WIDTH, 2 * WIDTH, 4 * WIDTH):
            layers += [nn.Conv2d(channels, 2 * channels, 4, stride=2, padding=1, bias=False)]
            layers += [nn.BatchNorm2d(2 * channels)] if batch_norm else []
            layers += [nn.LeakyReLU(0.2, inplace=True)]
        self.main = nn.Sequential(*layers, nn.Conv2d(8 * WIDTH, 1, 4, bias=False))

    def forward(self, images: Tensor) -> Tensor:
        return self.main(images)

    def score(self, images: Tensor) -> Tensor:
        """The critic's score (batch,) of each image."""
        return self.main(images).flatten()


class Discriminator(Critic):
    """The same network with a sigmoid at its end: the probability (batch, 1, 1, 1) that each image is real."""

    def __init__(self, batch_norm: bool = True):
        super().__init__(batch_norm)
        self.main.append(nn.Sigmoid())

    def score(self, images: Tensor) -> Tensor:
        """The logit (batch,) before the sigmoid; losses on logits do not saturate in half precision."""
        return self.main[:-1](images).flatten()


def judge(
    score: Callable[[Tensor], Tensor], real: Tensor | None, fake: Tensor, joint: bool = True
) -> tuple[Tensor | None, Tensor]:
    """The scores (batch,) of real and of generated images (batch, 3, 64, 64) by a discriminator's or critic's `score`.

    BatchNorm removes a batch's scale and the convolutions have no bias, so a batch of generated images without
    contrast looks normal.  In a `joint` batch it shares its statistics with real images, which exposes it.
    """
    if joint:
        real_scores, fake_scores = score(torch.cat((real, fake))).float().chunk(2)
        return real_scores, fake_scores
    return None if real is None else score(real).float(), score(fake).float()
