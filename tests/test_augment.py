"""Augmentations in closed form: which pixels move where, and how colours change."""

import pytest
import torch
from closed_forms import images, stream
from torch import Tensor, nn

from data.augment import (
    POLICIES,
    affine,
    blur,
    diff_augment,
    domain_augment,
    flip,
    jitter_color,
    paste_neighbors,
    standardize,
    translate,
)


def test_translation_is_a_shift():
    """Each image shifted by whole pixels, up to an eighth of its size, zeros moving in."""
    batch = images(300, size=16)
    moved = translate(batch, stream(300))
    assert moved.shape == batch.shape
    shifts = set()
    for before, after in zip(batch, moved, strict=True):
        padded = nn.functional.pad(before, (2, 2, 2, 2))
        found = [(y, x) for y in range(5) for x in range(5) if torch.equal(padded[:, y : y + 16, x : x + 16], after)]
        assert len(found) == 1
        shifts.update(found)
    assert len(shifts) == 25


def test_flip():
    batch = images(400)
    flipped = flip(batch, stream(400))
    kept = (flipped == batch).all(3).all(2).all(1)
    mirrored = (flipped == batch.flip(3)).all(3).all(2).all(1)
    assert torch.equal(kept, ~mirrored) and abs(kept.sum() - 200) < 4 * 10


def test_color_jitter():
    """An affine map of each image: of its grey, its colour and its mean each by a factor of the image's own."""
    batch = images(64)
    changed = jitter_color(batch, stream(64))
    random = stream(64)
    brightness, saturation, contrast = (random.rand(1, 1, 1) for _ in range(3))
    grey = batch.mean(1, keepdim=True)
    mean = batch.mean((1, 2, 3), keepdim=True)
    factor = contrast + 0.5
    expected = mean + brightness - 0.5 + factor * (grey - mean) + factor * 2 * saturation * (batch - grey)
    torch.testing.assert_close(changed, expected)


@pytest.fixture
def in_float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("policy", POLICIES)
def test_diff_augment_is_linear_and_differentiable(policy, in_float64):
    """The steps of the policy in turn; affine in the images, and its gradient is that of an affine map."""
    batch, direction = images(8, size=16).double(), images(8, size=16, seed=2).double()

    def apply(x: Tensor) -> Tensor:
        return diff_augment(x, policy, stream(8))

    output, weight = apply(batch.requires_grad_()), images(8, size=16, seed=3).double()
    (gradient,) = torch.autograd.grad(output, batch, weight)
    difference = (weight * (apply(batch + direction) - output)).sum()
    assert (gradient * direction).sum().item() == pytest.approx(difference.item()) and abs(difference) > 1e-3
    if policy == "none":
        assert output is batch or torch.equal(output, batch)
    else:
        steps = [jitter_color] * ("color" in policy) + [translate] * ("translation" in policy)
        random, expected = stream(8), batch
        for step in steps:
            expected = step(expected, random)
        assert torch.equal(output, expected) and not torch.equal(output, batch)


def test_standardize():
    batch = images(4) * torch.tensor([0.1, 1, 3, 0])[:, None, None, None] + 5
    output = standardize(batch)
    torch.testing.assert_close(output.mean((1, 2, 3)), torch.zeros(4), rtol=0, atol=1e-4)
    torch.testing.assert_close(output.std((1, 2, 3), correction=0), torch.tensor([1.0, 1, 1, 0]), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(output[1], (batch[1] - batch[1].mean()) / batch[1].std(correction=0))


def test_domain_augment_without_geometry_is_affine():
    """No zoom, shear, shift, neighbour: a factor and an offset on the image, or on its blurred self, plus noise."""
    batch = images(50, size=28)
    output = domain_augment(batch, stream(50), (1.0, 1.0), 0.0, 0.0, 0.0, True, False)
    signs = []
    for before, after in zip(batch, output, strict=True):
        fits = []
        for candidate in (before, blur(before[None], stream(1), 1.0)[0]):
            centred = candidate - candidate.mean((1, 2), keepdim=True)
            factor = (centred * after).sum() / centred.square().sum()
            rest = after - after.mean((1, 2), keepdim=True) - factor * centred
            fits.append((rest.square().mean().sqrt().item(), factor.item()))
        error, factor = min(fits)
        assert error == pytest.approx(0.05, rel=0.1) and 0.24 < abs(factor) < 1.51
        signs.append(factor > 0)
    assert 10 < sum(signs) < 40
    grey = domain_augment(batch, stream(50), (1.0, 1.2), 0.1, 0.1, 0.5, False, True)
    assert (grey - grey.mean(1, keepdim=True)).abs().max() < 0.05 * 6


def test_affine_zoom_and_shift():
    """The identity leaves an image alone; a zoom of 2 shows its middle half."""
    batch = images(2, size=8)
    torch.testing.assert_close(affine(batch, stream(2), (1, 1), 0, 0), batch, rtol=0, atol=1e-5)
    ramp = torch.linspace(-0.875, 0.875, 8).expand(1, 1, 8, 8)
    zoomed = affine(ramp, stream(1), (2, 2), 0, 0)
    torch.testing.assert_close(zoomed, ramp / 2, rtol=0, atol=1e-5)


def test_neighbours_cover_the_sides_only():
    batch = torch.arange(40.0)[:, None, None, None].expand(40, 3, 28, 28)
    assert torch.equal(paste_neighbors(batch, stream(40), 0.0), batch)
    output = paste_neighbors(batch, stream(40), 1.0)
    assert torch.equal(output[..., 7:21], batch[..., 7:21])
    own = output[:, 0, 0] == batch[:, 0, 0]
    left, right = own.int().argmax(1), own.flip(1).int().argmax(1)
    assert set(left.tolist()) >= {3, 4, 5, 6, 7} and set(right.tolist()) >= {3, 4, 5, 6, 7}
