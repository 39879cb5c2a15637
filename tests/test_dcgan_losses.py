"""DCGAN's losses and penalties in closed form, and what sharing a batch means to its networks."""

import math

import pytest
import torch
from closed_forms import Linear, images
from torch import nn

from models.dcgan import Critic, Discriminator, initialize_weights, judge
from p1_dcgan_train import accuracy, discriminator_loss, generator_loss, gradient_penalties

REAL, FAKE = [3.0, 1.0, 0.0, -2.0], [1.0, 1.0, -1.0, 0.0]  # logits


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def test_losses():
    """Standard: -log D(x) - log(1 - D(G(z))), and the non-saturating -log D(G(z)) (Goodfellow et al. 2014).

    Relativistic: -log of the probability that a real image is above the generated one beside it, and the reverse.
    """
    real, fake, pairs = torch.tensor(REAL), torch.tensor(FAKE), list(zip(REAL, FAKE, strict=True))
    for loss, of_discriminator, of_generator, right in (
        ("standard", lambda r, f: sigmoid(r) * (1 - sigmoid(f)), lambda r, f: sigmoid(f), (2 / 4 + 1 / 4) / 2),
        ("relativistic", lambda r, f: sigmoid(r - f), lambda r, f: 1 - sigmoid(r - f), 2 / 4),
    ):
        expected = -sum(math.log(of_discriminator(*pair)) for pair in pairs) / 4
        assert discriminator_loss(real, fake, loss).item() == pytest.approx(expected)
        expected = -sum(math.log(of_generator(*pair)) for pair in pairs) / 4
        assert generator_loss(real, fake, loss).item() == pytest.approx(expected)
        assert accuracy(real, fake, loss).item() == right


# R1 + R2


@pytest.mark.parametrize("joint", [False, True])
@pytest.mark.parametrize("square", [False, True])
def test_penalties_in_closed_form(square, joint):
    """Slopes: w of w . x, (w . x) w of (w . x)^2 / 2; halved, the mean square over the images of both kinds."""
    weight, real, fake = images(1, seed=1)[0].requires_grad_(), images(5), images(5, seed=2)
    factors = [(seen * weight).sum((1, 2, 3)) if square else torch.ones(5) for seen in (real, fake)]
    expected = sum(factor.square().mean() for factor in factors) * weight.square().sum() / 2
    discriminator = Linear(weight.detach(), square)
    penalty = gradient_penalties(discriminator, real, fake, joint)
    torch.testing.assert_close(penalty, expected)
    found = torch.autograd.grad(penalty, discriminator.weight)
    torch.testing.assert_close(found, torch.autograd.grad(expected, weight))
    assert not real.requires_grad and not fake.requires_grad


def test_penalties_of_joint_batches_are_those_of_the_loss():
    """By BatchNorm a generated image changes every real one's logit; in joint batches the penalties know it."""
    torch.manual_seed(0)
    network = Discriminator().apply(initialize_weights)
    real, fake = images(4, 64), images(4, 64, seed=1)
    found = []
    for joint in (False, True):
        seen = [part.clone().requires_grad_() for part in (real, fake)]
        logits = torch.cat(judge(network.score, *seen, joint))
        by_hand = sum(gradient.square().sum() / 8 for gradient in torch.autograd.grad(logits.sum(), seen))
        found.append(gradient_penalties(network, real, fake, joint))
        torch.testing.assert_close(found[-1], by_hand)
    assert found[0].item() != pytest.approx(found[1].item())


# Real and generated images in one batch


@pytest.mark.parametrize("kind", [Discriminator, Critic])
def test_contrast_is_seen_in_joint_batches_only(kind):
    """Of generated images in a batch of their own, the scores and the generator's gradient do not depend on it."""
    torch.manual_seed(0)
    network = kind().apply(initialize_weights)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-12
    real, fake = images(4, 64), images(4, 64, seed=1)
    for joint in (False, True):
        contrast = torch.tensor(0.5, requires_grad=True)
        (_, full), (_, half) = (judge(network.score, real, share * fake, joint) for share in (1, contrast))
        (gradient,) = torch.autograd.grad(half.square().mean() / half.detach().square().mean(), contrast)
        assert torch.allclose(full, half, rtol=1e-2, atol=1e-3) != joint
        assert (gradient.abs() > 0.1) == joint
    alone = judge(network.score, real, fake, False)
    assert torch.equal(alone[0], network.score(real)) and torch.equal(alone[1], network.score(fake))
    assert judge(network.score, None, fake, False)[0] is None
    assert torch.equal(judge(network.score, None, fake, False)[1], alone[1])


@pytest.mark.parametrize("kind", [Discriminator, Critic])
def test_without_batch_norm_every_image_is_judged_by_itself(kind):
    """The score of an image is the same in any batch, and half of it at half the contrast."""
    torch.manual_seed(0)
    network, shown = kind(batch_norm=False).apply(initialize_weights), images(4, 64)
    score = network.score
    torch.testing.assert_close(score(shown)[2:4], score(shown[2:4]))
    torch.testing.assert_close(score(shown) / 2, score(shown / 2))
    assert not list(network.buffers()) and score(shown).std() > 0
    printed = [layer for layer in kind().main if not isinstance(layer, nn.BatchNorm2d)]
    assert list(map(str, network.main)) == list(map(str, printed))
