"""Random image transformations of a batch, each image by its own numbers of a `Stream`."""

import torch
from torch import Tensor
from torch.nn import functional as F

from common.streams import Stream

POLICIES = ("none", "translation", "color", "color,translation")  # of `diff_augment`
BINOMIAL = torch.tensor([[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]]) / 16
# Brightness, saturation and contrast: from where, and how far.
JITTER = torch.tensor([[-0.5], [0.0], [0.5]]), torch.tensor([[1.0], [2.0], [1.0]])


def flip(images: Tensor, random: Stream) -> Tensor:
    """Mirror each image (rows, c, h, w) left to right with probability one half."""
    return torch.where(random.rand(1, 1, 1) < 0.5, images.flip(3), images)


def translate(images: Tensor, random: Stream) -> Tensor:
    """Shift each image (rows, c, size, size) by up to an eighth of its size, zeros moving in; differentiable."""
    count, size = len(images), images.shape[2]
    shift = int(size / 8 + 0.5)
    index, pixels = (torch.arange(number, device=images.device) for number in (count, size))
    rows = pixels.view(-1, 1) + random.randint(0, 2 * shift + 1, 1, 1)
    columns = pixels + random.randint(0, 2 * shift + 1, 1, 1)
    return F.pad(images, [shift] * 4)[index.view(-1, 1, 1), :, rows, columns].permute(0, 3, 1, 2)


def jitter_color(images: Tensor, random: Stream) -> Tensor:
    """Brightness +-0.5, saturation x0-2, contrast x0.5-1.5 on images (rows, 3, h, w) in [-1, 1]; differentiable."""
    brightness, saturation, contrast = random.rands(*JITTER).unflatten(1, (-1, 1, 1, 1))
    images = images + brightness
    grey = images.mean(1, keepdim=True)
    images = torch.lerp(grey, images, saturation)
    mean = images.mean((1, 2, 3), keepdim=True)
    return torch.lerp(mean, images, contrast)


def diff_augment(images: Tensor, policy: str, random: Stream) -> Tensor:
    """Differentiable augmentation for GANs, by one of POLICIES (Zhao et al. 2020, arXiv:2006.10738)."""
    if "color" in policy:
        images = jitter_color(images, random)
    if "translation" in policy:
        images = translate(images, random)
    return images


def standardize(images: Tensor) -> Tensor:
    """Each image (batch, c, h, w) to mean 0 and standard deviation 1 over all of its values."""
    std, mean = torch.std_mean(images, (1, 2, 3), keepdim=True, correction=0)
    return (images - mean) / std.clamp(min=1e-3)


def affine(images: Tensor, random: Stream, zoom: tuple[float, float], shear: float, shift: float) -> Tensor:
    """Zoom (factor range), turn and shear (at most), and shift (share of half the size) images (rows, c, h, w)."""
    ranges = [zoom, zoom, *[(-shear, shear)] * 2, *[(-shift, shift)] * 2]
    low, span = torch.tensor([(low, high - low) for low, high in ranges]).split(1, 1)
    zoom_x, zoom_y, shear_x, shear_y, shift_x, shift_y = random.rands(low, span)
    theta = torch.stack((1 / zoom_x, shear_x, shift_x, shear_y, 1 / zoom_y, shift_y), 1).view(-1, 2, 3)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def paste_neighbors(images: Tensor, random: Stream, probability: float) -> Tensor:
    """Cover a strip at the left or right of an image (batch, c, h, w) with the edge of another image of the batch.

    Street numbers are cropped from rows of digits.  `random` is of the whole batch: neighbours come from all of it.
    """
    if probability == 0:
        return images
    width = images.shape[3]
    others = images[random.permutation().to(images.device)]
    columns = torch.arange(width, device=images.device)
    for side in (-1, 1):
        strip = random.randint(3, 8, 1, 1, 1)
        chosen = random.rand(1, 1, 1) < probability
        covered = (columns < strip if side < 0 else columns >= width - strip) & chosen
        # The neighbour's inner part shows: at the left its right half, at the right its left half.
        neighbor = others.roll(side * (width - 10), 3)
        images = torch.where(covered, neighbor, images)
        others = others.roll(1, 0)
    return images


def blur(images: Tensor, random: Stream, probability: float) -> Tensor:
    """Smooth some of the images (rows, c, h, w) with a 3 x 3 binomial kernel."""
    channels = images.shape[1]
    kernel = BINOMIAL.to(images, non_blocking=True).expand(channels, 1, 3, 3)
    smooth = F.conv2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), kernel, groups=channels)
    return torch.where(random.rand(1, 1, 1) < probability, smooth, images)


def domain_augment(
    images: Tensor,
    random: Stream,
    zoom: tuple[float, float],
    shear: float,
    shift: float,
    neighbors: float,
    invert: bool,
    grey: bool,
) -> Tensor:
    """Random changes of a whole batch of digits (batch, 3, 28, 28) in [-1, 1], which change the domain, not the class.

    Inversion, contrast x0.25-1.5 and offset +-0.5 per colour channel, geometry, neighbours, blur and noise.
    """
    images = paste_neighbors(affine(images, random, zoom, shear, shift), random, neighbors)
    images = blur(images, random, 0.3)
    if grey:
        images = images.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    if invert:
        images = images * (random.randint(0, 2, 1, 1, 1) * 2 - 1)
    images = images * random.uniform(0.25, 1.5, 1, 1, 1)
    images = images + random.uniform(-0.5, 0.5, 1 if grey else 3, 1, 1)
    return images + 0.05 * random.randn(*images.shape[1:])
