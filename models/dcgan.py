"""DCGAN and WGAN networks for 64x64 RGB faces (problem 1).

Both methods share the generator; the WGAN critic is the discriminator without its final sigmoid.
Source: Radford et al. 2016 (arXiv:1511.06434) and Arjovsky et al. 2017 (arXiv:1701.07875); the widths
are the homework's.  Every convolution is without bias, images lie in [-1, 1].
"""

from torch import Tensor, nn

LATENT_SIZE = 100


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
            nn.ConvTranspose2d(LATENT_SIZE, 1024, 4, bias=False),
            nn.BatchNorm2d(1024),
            nn.ReLU(inplace=True),
            nn.ConvTranspose2d(1024, 512, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(512),
            nn.ReLU(inplace=True),
            nn.ConvTranspose2d(512, 256, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(256),
            nn.ReLU(inplace=True),
            nn.ConvTranspose2d(256, 128, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(128),
            nn.ReLU(inplace=True),
            nn.ConvTranspose2d(128, 3, 4, stride=2, padding=1, bias=False),
            nn.Tanh(),
        )

    def forward(self, latent: Tensor) -> Tensor:
        return self.main(latent)


def _discriminator_layers(batch_norm: bool) -> list[nn.Module]:
    layers = [
        nn.Conv2d(3, 64, 4, stride=2, padding=1, bias=False),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(64, 128, 4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(128),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(128, 256, 4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(256),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(256, 512, 4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(512),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(512, 1, 4, bias=False),
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

    def logits(self, images: Tensor) -> Tensor:
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

    def scores(self, images: Tensor) -> Tensor:
        """The critic's score (batch,) of each image."""
        return self.main(images).flatten()
