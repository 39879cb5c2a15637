"""WGAN's distance, gradient penalty and clipping in closed form."""

import pytest
import torch
from closed_forms import Linear, images
from torch import nn

from common.device import generator
from p1_wgan_train import Config, clip_weights, distance, gradient_penalty, optimizers


def test_distance():
    assert distance(torch.tensor([3.0, 1.0]), torch.tensor([-1.0, 2.0])).item() == 1.5


def test_penalty_of_a_linear_critic():
    """(|w| - 1)^2, and its gradient in w is 2 (|w| - 1) w / |w|."""
    weight = images(1, seed=1)[0]
    critic, norm = Linear(weight), weight.square().sum().sqrt()
    penalty = gradient_penalty(critic, images(5), images(5, seed=2), torch.rand(5, 1, 1, 1))
    assert penalty.item() == pytest.approx((norm.item() - 1) ** 2)
    penalty.backward()
    torch.testing.assert_close(critic.weight.grad, 2 * (norm - 1) * weight / norm)


def test_penalty_lies_between_real_and_generated():
    """With the critic (w . x)^2 / 2 the norm is |w . x| |w| at x = u real + (1 - u) fake, u uniform in [0, 1]."""
    weight, real, fake = 0.1 * images(1, seed=1)[0], images(400), images(400, seed=2)
    share = torch.rand(400, 1, 1, 1, generator=generator(0))
    penalty = gradient_penalty(Linear(weight, square=True), real, fake, share).item()
    norms = ((share * real + (1 - share) * fake) * weight).sum((1, 2, 3)).abs() * weight.square().sum().sqrt()
    assert penalty == pytest.approx((norms - 1).square().mean().item(), rel=1e-5)


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
