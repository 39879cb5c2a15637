"""Random image transformations, batched and driven by explicit generators."""

import torch
from torch import Tensor
from torch.nn import functional as F

POLICIES = ("none", "translation", "color", "color,translation")  # of `diff_augment`


def _uniform(shape: tuple[int, ...], low: float, high: float, images: Tensor, generator: torch.Generator) -> Tensor:
    return (torch.rand(shape, generator=generator) * (high - low) + low).to(images.device)


def flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror each image (batch, c, h, w) left to right with probability one half."""
    chosen = torch.rand(len(images), generator=generator).lt(0.5).to(images.device)
    return torch.where(chosen[:, None, None, None], images.flip(3), images)


def translate(images: Tensor, generator: torch.Generator, share: float = 0.125) -> Tensor:
    """Shift each image (batch, c, h, w) by up to `share` of its size, zeros moving in; differentiable."""
    batch, _, height, width = images.shape
    shift_y, shift_x = int(height * share + 0.5), int(width * share + 0.5)
    rows = torch.randint(-shift_y, shift_y + 1, (batch, 1), generator=generator) + torch.arange(height) + shift_y
    columns = torch.randint(-shift_x, shift_x + 1, (batch, 1), generator=generator) + torch.arange(width) + shift_x
    padded = F.pad(images, (shift_x, shift_x, shift_y, shift_y)).permute(0, 2, 3, 1)
    index = torch.arange(batch, device=images.device)[:, None, None]
    shifted = padded[index, rows.to(images.device)[:, :, None], columns.to(images.device)[:, None, :]]
    return shifted.permute(0, 3, 1, 2)


def jitter_color(images: Tensor, generator: torch.Generator) -> Tensor:
    """Brightness +-0.5, saturation x0-2, contrast x0.5-1.5 on images (batch, 3, h, w) in [-1, 1]; differentiable."""
    shape = (len(images), 1, 1, 1)
    images = images + _uniform(shape, -0.5, 0.5, images, generator)
    grey = images.mean(1, keepdim=True)
    images = grey + (images - grey) * _uniform(shape, 0.0, 2.0, images, generator)
    mean = images.mean((1, 2, 3), keepdim=True)
    return mean + (images - mean) * _uniform(shape, 0.5, 1.5, images, generator)


def diff_augment(images: Tensor, policy: str, generator: torch.Generator) -> Tensor:
    """Differentiable augmentation of what a discriminator sees (Zhao et al. 2020, arXiv:2006.10738).

    `policy` is one of POLICIES.
    """
    if "color" in policy:
        images = jitter_color(images, generator)
    if "translation" in policy:
        images = translate(images, generator)
    return images


def standardize(images: Tensor) -> Tensor:
    """Each image (batch, c, h, w) to mean 0 and standard deviation 1 over all of its values."""
    std, mean = torch.std_mean(images, (1, 2, 3), keepdim=True, correction=0)
    return (images - mean) / std.clamp(min=1e-3)


def affine(images: Tensor, generator: torch.Generator, zoom: tuple[float, float], shear: float, shift: float) -> Tensor:
    """Zoom (factor range), turn and shear (at most), and shift (share of half the size) images (batch, c, h, w)."""
    batch = len(images)

    def draw(low: float, high: float) -> Tensor:
        return torch.rand(batch, generator=generator) * (high - low) + low

    theta = torch.zeros(batch, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = 1 / draw(*zoom), 1 / draw(*zoom)
    theta[:, 0, 1], theta[:, 1, 0] = draw(-shear, shear), draw(-shear, shear)
    theta[:, 0, 2], theta[:, 1, 2] = draw(-shift, shift), draw(-shift, shift)
    grid = F.affine_grid(theta.to(images.device), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def paste_neighbors(images: Tensor, generator: torch.Generator, probability: float) -> Tensor:
    """Cover a strip at the left or right of an image (batch, c, h, w) with the edge of another image of the batch.

    Street numbers are cropped from rows of digits: parts of neighbours are seen beside the labelled one.
    """
    batch, _, _, width = images.shape
    others = images[torch.randperm(batch, generator=generator).to(images.device)]
    columns = torch.arange(width)
    for side in (-1, 1):
        strip = torch.randint(3, 8, (batch, 1), generator=generator)
        chosen = torch.rand(batch, 1, generator=generator) < probability
        covered = (columns < strip if side < 0 else columns >= width - strip) & chosen
        # The neighbour's inner part shows: at the left its right half, at the right its left half.
        neighbor = others.roll(side * (width - 10), 3)
        images = torch.where(covered.to(images.device)[:, None, None, :], neighbor, images)
        others = others.roll(1, 0)
    return images


def blur(images: Tensor, generator: torch.Generator, probability: float) -> Tensor:
    """Smooth some of the images (batch, c, h, w) with a 3 x 3 binomial kernel."""
    channels = images.shape[1]
    row = torch.tensor([0.25, 0.5, 0.25], device=images.device)
    kernel = (row[:, None] * row).expand(channels, 1, 3, 3)
    smooth = F.conv2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), kernel, groups=channels)
    chosen = torch.rand(len(images), generator=generator).lt(probability).to(images.device)
    return torch.where(chosen[:, None, None, None], smooth, images)


def domain_augment(
    images: Tensor,
    generator: torch.Generator,
    zoom: tuple[float, float],
    shear: float,
    shift: float,
    neighbors: float,
    invert: bool,
    grey: bool,
) -> Tensor:
    """Random changes of digits (batch, 3, 28, 28) in [-1, 1] that leave the class alone but not the domain.

    Inversion, contrast x0.25-1.5 and offset +-0.5 per colour channel, geometry, neighbours, blur and noise.
    """
    batch = len(images)
    images = paste_neighbors(affine(images, generator, zoom, shear, shift), generator, neighbors)
    images = blur(images, generator, 0.3)
    if grey:
        images = images.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    if invert:
        images = images * (torch.randint(0, 2, (batch, 1, 1, 1), generator=generator) * 2 - 1).to(images.device)
    images = images * _uniform((batch, 1, 1, 1), 0.25, 1.5, images, generator)
    channels = 1 if grey else 3
    images = images + _uniform((batch, channels, 1, 1), -0.5, 0.5, images, generator)
    return images + 0.05 * torch.randn(images.shape, generator=generator).to(images.device)
