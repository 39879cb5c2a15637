"""Weight gradients of small maps: exact to second order, taken where they are meant to be, and by no one else."""

import pytest
import torch
from torch import nn

import models.dcgan
from common import small_maps
from common.device import autocast
from models.dcgan import Critic, Discriminator, Generator

CPU = torch.device("cpu")


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)), device=CPU)


@pytest.mark.parametrize(("height", "width"), [(4, 4), (2, 6)])
def test_gradients_are_those_of_the_definition(height, width):
    small, large, weight = draw(2, 2, height, width), draw(2, 3, 2 * height, 2 * width), draw(2, 3, 4, 4)
    for doubles, images, plain in ((False, large, torch.conv2d), (True, small, torch.conv_transpose2d)):
        inputs = [tensor.clone().requires_grad_() for tensor in (images, weight)]
        assert torch.autograd.gradcheck(small_maps.SmallMap.apply, (*inputs, doubles))
        assert torch.autograd.gradgradcheck(small_maps.SmallMap.apply, (*inputs, doubles))
        assert torch.equal(small_maps.SmallMap.apply(images, weight, doubles), plain(images, weight, None, 2, 1))


@pytest.fixture
def taken(monkeypatch):
    """The shapes of the weights whose gradients were matrix products."""
    shapes = []
    original = small_maps.patch_product

    def product(small, large):
        result = original(small, large)
        shapes.append(tuple(result.shape))
        return result

    monkeypatch.setattr(small_maps, "patch_product", product)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    return shapes


def test_layers_of_dcgan_on_small_maps_are_taken(taken, monkeypatch):
    monkeypatch.setattr(models.dcgan, "WIDTH", 8)
    generator, discriminator = Generator(), Discriminator()
    for precision in ("fp32", "bf16"):
        with autocast(CPU, precision):
            loss = discriminator.score(generator(torch.randn(2, 100, 1, 1))).float().sum()
        assert not taken
        loss.backward()
    assert sorted(taken) == [(32, 16, 4, 4), (64, 32, 4, 4), (64, 32, 4, 4), (128, 64, 4, 4)]


def test_gradients_differ_by_rounding_only(taken, monkeypatch):
    """From those in float32, by no more than bfloat16's own gradients do; those of a gradient penalty too."""
    torch.manual_seed(0)
    critic, images = Critic(), torch.rand(4, 3, 64, 64)

    def gradients(precision: str) -> torch.Tensor:
        with autocast(CPU, precision):
            inputs = images.clone().requires_grad_()
            (slope,) = torch.autograd.grad(critic.score(inputs).float().sum(), inputs, create_graph=True)
            penalty = slope.float().square().sum()
        return torch.cat([g.flatten() for g in torch.autograd.grad(penalty, critic.parameters())])

    exact, ours = gradients("fp32"), gradients("bf16")
    assert taken
    monkeypatch.setattr(small_maps, "LARGEST", 0)
    del taken[:]
    plain = gradients("bf16")
    assert not taken
    assert (ours - exact).norm() < 1.1 * (plain - exact).norm() < 0.1 * exact.norm()


HALVING, DOUBLING = nn.Conv2d(3, 2, 4, 2, 1, bias=False), nn.ConvTranspose2d(3, 2, 4, 2, 1, bias=False)


@pytest.mark.parametrize(
    ("layer", "side"),
    [
        (nn.Conv2d(3, 2, 4, 2, 1), 8),  # an offset
        (nn.Conv2d(3, 2, 4, 2, 1, bias=False, padding_mode="reflect"), 8),
        (nn.Conv2d(3, 2, 3, 2, 1, bias=False), 8),
        (nn.Conv2d(3, 3, 4, 2, 1, bias=False, groups=3), 8),
        (nn.ConvTranspose2d(3, 2, 4, 2, 1, output_padding=1, bias=False), 8),
        (HALVING, 9),  # an odd map
        (DOUBLING, 9),  # a large one
        (DOUBLING, 4),  # with AMX, which has a kernel of its own for this gradient
    ],
)
def test_all_else_is_left_alone(layer, side, taken, monkeypatch):
    if side == 4:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    with autocast(CPU, "bf16"):
        layer(torch.rand(2, 3, side, side)).float().sum().backward()
    assert not taken


def test_samples_keep_their_bits(monkeypatch):
    """Without gradients nothing is done differently, so released images do not depend on this."""
    generator, latent = Generator().eval(), torch.randn(2, 100, 1, 1)
    images = []
    for largest in (small_maps.LARGEST, 0):
        monkeypatch.setattr(small_maps, "LARGEST", largest)
        with torch.no_grad(), autocast(CPU, "bf16"):
            images.append(generator(latent))
    assert torch.equal(*images)
