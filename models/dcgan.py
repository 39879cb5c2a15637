"""DCGAN and WGAN networks for 64x64 RGB faces (problem 1).

Both methods share the generator; the WGAN critic is the discriminator without its final sigmoid.
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
        self.main = nn.Sequential(
            nn.ConvTranspose2d(LATENT_SIZE, 16 * WIDTH, 4, bias=False),
            nn.BatchNorm2d(16 * WIDTH),
            nn.ReLU(inplace=True),
            nn.ConvTranspose2d(16 * WIDTH, 8 * WIDTH, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(8 * WIDTH),
            nn.ReLU(inplace=True),
            nn.ConvTranspose2d(8 * WIDTH, 4 * WIDTH, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(4 * WIDTH),
            nn.ReLU(inplace=True),
            nn.ConvTranspose2d(4 * WIDTH, 2 * WIDTH, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(2 * WIDTH),
            nn.ReLU(inplace=True),
            nn.ConvTranspose2d(2 * WIDTH, 3, 4, stride=2, padding=1, bias=False),
            nn.Tanh(),
        )

    def forward(self, latent: Tensor) -> Tensor:
        return self.main(latent)


def _discriminator_layers(batch_norm: bool) -> list[nn.Module]:
    layers = [
        nn.Conv2d(3, WIDTH, 4, stride=2, padding=1, bias=False),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(WIDTH, 2 * WIDTH, 4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(2 * WIDTH),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(2 * WIDTH, 4 * WIDTH, 4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(4 * WIDTH),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(4 * WIDTH, 8 * WIDTH, 4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(8 * WIDTH),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(8 * WIDTH, 1, 4, bias=False),
    ]
    return [layer for layer in layers if batch_norm or not isinstance(layer, nn.BatchNorm2d)]


class Discriminator(nn.Module):
    """Images (batch, 3, 64, 64) in [-1, 1] to the probability (batch, 1, 1, 1) that each is real.

    Without `batch_norm` it is not the homework's, but judges every image by itself.
    """

    def __init__(self, batch_norm: bool = True):
        super().__init__()
        self.main = nn.Sequential(*_discriminator_layers(batch_norm), nn.Sigmoid())

    def forward(self, images: Tensor) -> Tensor:
        return self.main(images)

    def score(self, images: Tensor) -> Tensor:
        """The logit (batch,) before the sigmoid; losses on logits do not saturate in half precision."""
        return self.main[:-1](images).flatten()


class Critic(nn.Module):
    """Images (batch, 3, 64, 64) in [-1, 1] to unbounded scores (batch, 1, 1, 1); higher is more real.

    Without `batch_norm` it is not the homework's, but judges every image by itself.
    """

    def __init__(self, batch_norm: bool = True):
        super().__init__()
        self.main = nn.Sequential(*_discriminator_layers(batch_norm))

    def forward(self, images: Tensor) -> Tensor:
        return self.main(images)

    def score(self, images: Tensor) -> Tensor:
        """The critic's score (batch,) of each image."""
        return self.main(images).flatten()


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
