"""The losses of the three problems' trainings in closed form, and what sharing a batch means to a GAN's networks."""

import math

import pytest
import torch
from closed_forms import Linear, images
from torch import nn

from common.device import generator
from models.dcgan import Critic, Discriminator, initialize_weights, judge
from p1_dcgan_train import accuracy, discriminator_loss, generator_loss, gradient_penalties
from p1_wgan_train import distance, gradient_penalty
from p3_dann_train import balance_loss, reversal_strength, teacher_loss

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


# WGAN


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


# Adaptation


def test_reversal_strength():
    """cap (2 / (1 + exp(-10 p)) - 1) = cap tanh(5 p)."""
    for progress in (0.0, 0.1, 0.5, 1.0):
        assert reversal_strength(progress, 0.5) == pytest.approx(0.5 * math.tanh(5 * progress))


def test_teacher_loss():
    """Sure: the labels of the sure images only, divided by the number of all.  Soft: p^2 / sum p^2, times max p."""
    teacher = torch.tensor([[0.95, 0.05], [0.5, 0.5], [0.08, 0.92], [0.89, 0.11]])
    student = torch.tensor([[0.3, 0.7], [0.1, 0.9], [0.6, 0.4], [0.5, 0.5]])
    logits = student.log() + 3
    expected = -(math.log(0.3) + math.log(0.4)) / 4
    assert teacher_loss(logits, teacher, "sure").item() == pytest.approx(expected)
    expected = 0.0
    for seen, said in zip(teacher.tolist(), student.tolist(), strict=True):
        total = seen[0] ** 2 + seen[1] ** 2
        expected -= max(seen) * sum(p**2 / total * math.log(q) for p, q in zip(seen, said, strict=True)) / 4
    assert teacher_loss(logits, teacher, "soft").item() == pytest.approx(expected, rel=1e-5)


def test_balance_loss():
    """0 for equally frequent classes, whether each prediction is sure or not; log-mean of 1 / (10 mean) otherwise."""
    sure = torch.eye(10) * 40
    assert balance_loss(sure.softmax(1).mean(0)).item() == pytest.approx(0, abs=1e-5)
    assert balance_loss(torch.full((10,), 0.1)).item() == pytest.approx(0, abs=1e-6)
    mean = [0.46, 0.46] + [0.01] * 8
    expected = sum(math.log(0.1 / share) for share in mean) / 10
    assert balance_loss(torch.tensor(mean)).item() == pytest.approx(expected, rel=1e-5)
