"""WGAN's distance, gradient penalty and clipping in closed form."""

import pytest
import torch
from closed_forms import Linear, images
from torch import nn

from common.device import generator
from p1_wgan_train import Config, clip_weights, distance, gradient_penalty, optimizers


def test_distance():
    assert distance(torch.tensor([3.0, 1.0]), torch.tensor([-1.0, 2.0])).item() == 1.5


@pytest.mark.parametrize("square", [False, True])
def test_penalty_in_closed_form(square):
    """(norm - 1)^2 at x = u real + (1 - u) fake: the norm is |w| for w . x and |w . x| |w| for (w . x)^2 / 2."""
    weight, real, fake = (0.1 * images(1, seed=1)[0]).requires_grad_(), images(400), images(400, seed=2)
    share = torch.rand(400, 1, 1, 1, generator=generator(0))
    between = share * real + (1 - share) * fake
    factors = (between * weight).sum((1, 2, 3)).abs() if square else torch.ones(400)
    expected = (factors * weight.square().sum().sqrt() - 1).square().mean()
    critic = Linear(weight.detach(), square)
    penalty = gradient_penalty(critic, real, fake, share)
    torch.testing.assert_close(penalty, expected)
    found = torch.autograd.grad(penalty, critic.weight)
    torch.testing.assert_close(found, torch.autograd.grad(expected, weight))


def test_penalty_without_a_slope():
    """1, and no NaN from the root's gradient."""
    critic = Linear(torch.zeros(3, 6, 6))
    penalty = gradient_penalty(critic, images(5), images(5, seed=2), torch.rand(5, 1, 1, 1))
    penalty.backward()
    assert penalty.item() == pytest.approx(1, abs=1e-5) and critic.weight.grad.isfinite().all()


def test_clipping():
    network = nn.Linear(2, 2)
    network.weight.data = torch.tensor([[0.5, -0.5], [0.005, -0.01]])
    clip_weights(network, 0.01)
    assert torch.equal(network.weight, torch.tensor([[0.01, -0.01], [0.005, -0.01]])) and network.weight.requires_grad


@pytest.mark.parametrize(("recipe", "kind"), [("original", torch.optim.RMSprop), ("improved", torch.optim.Adam)])
def test_optimizers_of_the_two_papers(recipe, kind):
    networks = nn.Linear(2, 2), nn.Linear(3, 3)
    found = optimizers(*networks, Config(recipe=recipe, learning_rate_g=0.1, learning_rate_c=0.2))
    for optimizer, network, rate in zip(found, networks, (0.1, 0.2), strict=True):
        (group,) = optimizer.param_groups
        assert type(optimizer) is kind and group["lr"] == rate and group["params"] == list(network.parameters())
