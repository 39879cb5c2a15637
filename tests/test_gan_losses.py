"""The losses, augmentations and averages of the four trainings against closed forms."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn

import p1_dcgan_train
import p1_wgan_train
import p2_ddpm_train
import p3_dann_train
from common.config import UserError
from common.device import generator
from common.images import make_grid, to_uint8
from data import augment
from data.reading import batch_indices, fingerprint, to_unit_range
from models.dcgan import Critic, Discriminator, Generator, initialize_weights
from sampling import faces as gan
from training.average import RAMP, make_ema, update_ema
from training.schedules import linear_decay

CPU = torch.device("cpu")


class Linear(nn.Module):
    """A discriminator w . x, or with `square` (w . x)^2 / 2, of an image x; its BatchNorm scales by 1 in eval mode."""

    def __init__(self, weight: Tensor, square: bool = False):
        super().__init__()
        self.weight, self.square = nn.Parameter(weight), square
        self.norm = nn.BatchNorm2d(3, eps=0, affine=False)

    def logits(self, images: Tensor) -> Tensor:
        values = (self.norm(images) * self.weight).sum((1, 2, 3))
        return values.square() / 2 if self.square else values

    scores = logits


def images(count: int, size: int = 6, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


# Gradient penalties


@pytest.mark.parametrize("joint", [False, True])
def test_r1_of_a_linear_discriminator(joint):
    """The gradient of w . x is w everywhere: |w|^2 / 2, and its gradient in w is w."""
    weight = images(1, seed=1)[0]
    discriminator = Linear(weight).eval()
    penalty = p1_dcgan_train.gradient_penalty(discriminator.logits, images(5), images(5, seed=2), joint, (1, 0))
    assert penalty.item() == pytest.approx(weight.square().sum().item() / 2)
    penalty.backward()
    torch.testing.assert_close(discriminator.weight.grad, weight)


@pytest.mark.parametrize("joint", [False, True])
def test_r1_of_a_quadratic_discriminator(joint):
    """The gradient of (w . x)^2 / 2 is (w . x) w: the mean over images of (w . x)^2 |w|^2 / 2."""
    weight, both = images(1, seed=1)[0], (images(5), images(5, seed=2))
    score, found = Linear(weight, square=True).eval().logits, []
    for weights, seen in (((1, 0), both[0]), ((0, 1), both[1])):
        found.append(p1_dcgan_train.gradient_penalty(score, *both, joint, weights).item())
        products = (seen * weight).sum((1, 2, 3))
        assert found[-1] == pytest.approx((products.square().mean() * weight.square().sum() / 2).item())
        assert not seen.requires_grad and seen.grad is None
    together = p1_dcgan_train.gradient_penalty(score, *both, joint, (0.3, 0.2)).item()
    assert together == pytest.approx(0.3 * found[0] + 0.2 * found[1]) and found[0] != pytest.approx(found[1])


def test_r1_of_joint_batches_is_that_of_the_loss():
    """By BatchNorm a generated image changes every real one's logit: R1 depends on them in joint batches alone."""
    torch.manual_seed(0)
    network = Discriminator().apply(initialize_weights)
    real = images(8, 64)
    for joint in (False, True):
        r1, r2, other = (
            p1_dcgan_train.gradient_penalty(network.logits, real, share * images(8, 64, seed=1), joint, weights)
            for share, weights in ((1, (1, 0)), (1, (0, 1)), (4, (1, 0)))
        )
        assert torch.equal(r1, other) != joint
        seen = [part.clone().requires_grad_() for part in (real, images(8, 64, seed=1))]
        logits = torch.cat(gan.judge_both(network.logits, *seen, joint))
        by_hand = [gradient.square().sum() / 16 for gradient in torch.autograd.grad(logits.sum(), seen)]
        torch.testing.assert_close([r1, r2], by_hand)


def test_gradient_penalty_of_a_linear_critic():
    """(|w| - 1)^2, BatchNorm's statistics fixed and left as they were."""
    weight = images(1, seed=1)[0]
    critic = Linear(weight).train()
    before = critic.norm.running_var.clone()
    penalty = p1_wgan_train.gradient_penalty(critic, images(5), images(5, seed=2), torch.rand(5, 1, 1, 1))
    norm = weight.square().sum().sqrt()
    assert penalty.item() == pytest.approx((norm.item() - 1) ** 2)
    assert critic.norm.training and torch.equal(critic.norm.running_var, before)
    penalty.backward()
    torch.testing.assert_close(critic.weight.grad, 2 * (norm - 1) * weight / norm)


def test_gradient_penalty_lies_between_real_and_generated():
    """With the critic (w . x)^2 / 2 the norm is |w . x| |w| at x = u real + (1 - u) fake, u uniform in [0, 1]."""
    weight = 0.1 * images(1, seed=1)[0]
    real, fake = images(400), images(400, seed=2)
    share = torch.rand(400, 1, 1, 1, generator=generator(0))
    penalty = p1_wgan_train.gradient_penalty(Linear(weight, square=True).train(), real, fake, share).item()
    between = share * real + (1 - share) * fake
    norms = (between * weight).sum((1, 2, 3)).abs() * weight.square().sum().sqrt()
    assert penalty == pytest.approx((norms - 1).square().mean().item(), rel=1e-5)
    zero = p1_wgan_train.gradient_penalty(Linear(torch.zeros(3, 6, 6)).train(), real, fake, share)
    zero.backward()
    assert zero.item() == pytest.approx(1, abs=1e-5)  # no slope at all, and no NaN from its root


# BatchNorm over real and generated images


@pytest.mark.parametrize("kind", [Discriminator, Critic])
def test_contrast_is_seen_in_joint_batches_only(kind):
    """Of generated images in a batch of their own, the scores and the generator's gradient do not depend on it."""
    torch.manual_seed(0)
    network = kind().apply(initialize_weights)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-12
    score = network.logits if kind is Discriminator else network.scores
    real, fake = images(8, 64), images(8, 64, seed=1)
    for joint in (False, True):
        contrast = torch.tensor(0.5, requires_grad=True)
        (_, full), (_, half) = (gan.judge_both(score, real, share * fake, joint) for share in (1, contrast))
        (gradient,) = torch.autograd.grad(half.square().mean() / half.detach().square().mean(), contrast)
        assert torch.allclose(full, half, rtol=1e-2, atol=1e-3) != joint
        assert (gradient.abs() > 0.1) == joint
        assert torch.equal(gan.judge_fake(score, real, fake, joint), full)
    alone = gan.judge_both(score, real, fake, False)
    assert torch.equal(alone[0], score(real)) and torch.equal(alone[1], score(fake))


@pytest.mark.parametrize("kind", [Discriminator, Critic])
def test_without_batch_norm_every_image_is_judged_by_itself(kind):
    """The score of an image is the same in any batch, and half of it at half the contrast."""
    torch.manual_seed(0)
    network = kind(batch_norm=False).apply(initialize_weights)
    score = network.logits if kind is Discriminator else network.scores
    shown = images(8, 64)
    torch.testing.assert_close(score(shown)[3:5], score(shown[3:5]))
    torch.testing.assert_close(score(shown) / 2, score(shown / 2))
    assert not list(network.buffers()) and score(shown).std() > 0
    printed = [layer for layer in kind().main if not isinstance(layer, nn.BatchNorm2d)]
    assert list(map(str, network.main)) == list(map(str, printed))


# Augmentation


def test_translation_is_a_shift():
    """Each image shifted by whole pixels, up to an eighth of its size, zeros moving in."""
    batch = images(300, size=16)
    moved = augment.translate(batch, generator(0))
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
    flipped = augment.flip(batch, generator(0))
    kept = (flipped == batch).all(3).all(2).all(1)
    mirrored = (flipped == batch.flip(3)).all(3).all(2).all(1)
    assert torch.equal(kept, ~mirrored) and abs(kept.sum() - 200) < 4 * 10


def test_color_jitter():
    """An affine map of each image: of its grey, its colour and its mean each by a factor of the image's own."""
    batch = images(64)
    changed = augment.jitter_color(batch, generator(0))
    random = generator(0)
    brightness, saturation, contrast = (torch.rand(64, 1, 1, 1, generator=random) for _ in range(3))
    grey = batch.mean(1, keepdim=True)
    mean = batch.mean((1, 2, 3), keepdim=True)
    factor = contrast + 0.5
    expected = mean + brightness - 0.5 + factor * (grey - mean) + factor * 2 * saturation * (batch - grey)
    torch.testing.assert_close(changed, expected)


@pytest.mark.parametrize("policy", augment.POLICIES)
def test_diff_augment_is_linear_and_differentiable(policy):
    """The steps of the policy in turn; affine in the images, and its gradient is that of an affine map."""
    batch, direction = images(8, size=16).double(), images(8, size=16, seed=2).double()

    def apply(x: Tensor) -> Tensor:
        return augment.diff_augment(x, policy, generator(0))

    output, weight = apply(batch.requires_grad_()), images(8, size=16, seed=3).double()
    (gradient,) = torch.autograd.grad(output, batch, weight)
    difference = (weight * (apply(batch + direction) - output)).sum()
    assert (gradient * direction).sum().item() == pytest.approx(difference.item()) and abs(difference) > 1e-3
    if policy == "none":
        assert output is batch or torch.equal(output, batch)
    else:
        steps = [augment.jitter_color] * ("color" in policy) + [augment.translate] * ("translation" in policy)
        random, expected = generator(0), batch
        for step in steps:
            expected = step(expected, random)
        assert torch.equal(output, expected) and not torch.equal(output, batch)


def test_standardize():
    batch = images(4) * torch.tensor([0.1, 1, 3, 0])[:, None, None, None] + 5
    output = augment.standardize(batch)
    torch.testing.assert_close(output.mean((1, 2, 3)), torch.zeros(4), rtol=0, atol=1e-4)
    torch.testing.assert_close(output.std((1, 2, 3), correction=0), torch.tensor([1.0, 1, 1, 0]), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(output[1], (batch[1] - batch[1].mean()) / batch[1].std(correction=0))


def test_domain_augment_without_geometry_is_affine():
    """No zoom, shear, shift, neighbour: a factor and an offset on the image, or on its blurred self, plus noise."""
    batch = images(50, size=28)
    output = augment.domain_augment(batch, generator(0), (1.0, 1.0), 0.0, 0.0, 0.0, True, False)
    signs = []
    for before, after in zip(batch, output, strict=True):
        fits = []
        for candidate in (before, augment.blur(before[None], generator(0), 1.0)[0]):
            centred = candidate - candidate.mean((1, 2), keepdim=True)
            factor = (centred * after).sum() / centred.square().sum()
            rest = after - after.mean((1, 2), keepdim=True) - factor * centred
            fits.append((rest.square().mean().sqrt().item(), factor.item()))
        error, factor = min(fits)
        assert error == pytest.approx(0.05, rel=0.1) and 0.24 < abs(factor) < 1.51
        signs.append(factor > 0)
    assert 10 < sum(signs) < 40
    grey = augment.domain_augment(batch, generator(0), (1.0, 1.2), 0.1, 0.1, 0.5, False, True)
    assert (grey - grey.mean(1, keepdim=True)).abs().max() < 0.05 * 6


def test_affine_zoom_and_shift():
    """The identity leaves an image alone; a zoom of 2 shows its middle half."""
    batch = images(2, size=8)
    torch.testing.assert_close(augment.affine(batch, generator(0), (1, 1), 0, 0), batch, rtol=0, atol=1e-5)
    ramp = torch.linspace(-0.875, 0.875, 8).expand(1, 1, 8, 8)
    zoomed = augment.affine(ramp, generator(0), (2, 2), 0, 0)
    torch.testing.assert_close(zoomed, ramp / 2, rtol=0, atol=1e-5)


def test_neighbours_cover_the_sides_only():
    batch = torch.arange(40.0)[:, None, None, None].expand(40, 3, 28, 28)
    assert torch.equal(augment.paste_neighbors(batch, generator(0), 0.0), batch)
    output = augment.paste_neighbors(batch, generator(0), 1.0)
    assert torch.equal(output[..., 7:21], batch[..., 7:21])
    own = output[:, 0, 0] == batch[:, 0, 0]
    left, right = own.int().argmax(1), own.flip(1).int().argmax(1)
    assert set(left.tolist()) >= {3, 4, 5, 6, 7} and set(right.tolist()) >= {3, 4, 5, 6, 7}


# Averages


def test_batch_norm_is_re_estimated_as_the_plain_statistics():
    """The mean over batches of each batch's mean and unbiased variance, of latents of their own."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(100, 5, 1), nn.BatchNorm2d(5))
    network[1].running_mean.fill_(99)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    fresh = gan.with_fresh_batch_norm(network, CPU, batches=3, batch_size=7)
    drawn = network[0](gan.latents(21, seed=gan.SAMPLE_SEED + 1)).detach().unflatten(0, (3, 7))
    torch.testing.assert_close(fresh[1].running_mean, drawn.mean((1, 3, 4)).mean(0))
    torch.testing.assert_close(fresh[1].running_var, drawn.var((1, 3, 4)).mean(0))
    assert not fresh.training and network.training
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name])
    again = gan.with_fresh_batch_norm(fresh, CPU, batches=3, batch_size=7)
    assert torch.equal(again[1].running_mean, fresh[1].running_mean)


@pytest.mark.parametrize("seen", [100, 10_000])
def test_half_life_of_the_average(seen):
    """After a half-life of images the old value counts one half; the half-life is at most RAMP of the images seen."""
    model, half_life, batch = nn.Linear(3, 2), 60, 5
    ema = make_ema(model)
    assert not ema.training and not any(parameter.requires_grad for parameter in ema.parameters())
    old = ema.weight.clone()
    nn.init.normal_(model.weight)
    length = min(half_life, RAMP * seen)
    assert length == {100: 5, 10_000: 60}[seen]
    for _ in range(int(length) // batch):
        update_ema(ema, model, batch, seen, half_life)
    torch.testing.assert_close(ema.weight, (old + model.weight.detach()) / 2)
    update_ema(ema, model, batch, seen, 0)
    assert torch.equal(ema.weight, model.weight)


def test_the_average_takes_statistics_and_counters():
    model = nn.BatchNorm2d(2)
    ema = make_ema(model)
    model(torch.randn(4, 2, 3, 3) + 7)
    update_ema(ema, model, 4, 10_000, 4)
    torch.testing.assert_close(ema.running_mean, model.running_mean / 2)
    torch.testing.assert_close(ema.running_var, (model.running_var + 1) / 2)
    assert ema.num_batches_tracked == 1


# Random numbers and order


def test_latents_do_not_depend_on_how_many_are_drawn():
    all_of_them = gan.latents(12, seed=3)
    assert all_of_them.shape == (12, 100, 1, 1)
    assert torch.equal(gan.latents(5, seed=3), all_of_them[:5])
    assert torch.equal(gan.latents(4, seed=3, first=8), all_of_them[8:])
    many = gan.latents(300, seed=3).flatten()
    assert len(many.unique()) > 0.999 * len(many) and abs(many.mean()) < 4 / len(many) ** 0.5
    assert many.var().item() == pytest.approx(1, abs=4 * (2 / len(many)) ** 0.5)
    assert not torch.equal(gan.latents(5, seed=4), all_of_them[:5])


def test_images_do_not_depend_on_the_batch_size():
    torch.manual_seed(0)
    network = nn.Sequential(nn.ConvTranspose2d(100, 3, 64), nn.Tanh()).eval()
    latent = gan.latents(7)
    drawn = gan.sample_images(network, latent, CPU, chunk=3)
    assert drawn.dtype == torch.uint8 and drawn.shape == (7, 3, 64, 64)
    assert (drawn.int() - to_uint8(network(latent).detach()).int()).abs().max() <= 1
    assert torch.equal(gan.sample_images(network, latent[:4], CPU, chunk=3), drawn[:4])


@pytest.mark.parametrize(("count", "batch"), [(10, 4), (4, 10), (7, 7), (1, 3)])
def test_every_image_is_visited_equally_often(count, batch):
    """The batches are one stream of permutations, each epoch another; other seeds and streams have other ones."""
    visits = torch.cat([batch_indices(count, batch, step, 5) for step in range(count)])
    assert torch.equal(visits.bincount(minlength=count), torch.full((count,), batch))
    for epoch in visits.split(count):
        assert torch.equal(epoch.sort().values, torch.arange(count))
    if count > 4:
        assert len({tuple(epoch.tolist()) for epoch in visits.split(count)}) == batch
        for other in ((6, "order"), (5, "target order")):
            assert not torch.equal(batch_indices(count, batch, 0, *other), batch_indices(count, batch, 0, 5))


def test_generators_are_streams_of_their_own():
    draws = {
        key: torch.rand(3, generator=generator(*key)).tolist() for key in [(0, "a"), (0, "b"), (1, "a"), ("0", "a")]
    }
    assert len({tuple(draw) for draw in draws.values()}) == 4
    assert torch.rand(3, generator=generator(0, "a")).tolist() == draws[0, "a"]


def test_fingerprint_tells_data_apart():
    first = torch.arange(24, dtype=torch.uint8).view(2, 3, 4)
    prints = [fingerprint(first), fingerprint(first.view(4, 6)), fingerprint(first.flip(0)), fingerprint(first, first)]
    assert len(set(prints)) == 4 and fingerprint(first.clone()) == prints[0]


# Learning rates


@pytest.mark.parametrize(
    ("step", "share"), [(0, 0.01), (49, 0.5), (99, 1), (500, 1), (749, 1), (875, 0.5), (937, None), (999, None)]
)
def test_learning_rate_of_diffusion(step, share):
    """Linear to 1 over the first 100 steps of 1,000, then 1, and from 3/4 on half a cosine to 0."""
    config = p2_ddpm_train.Config(batch_size=10, warmup_images=1000, decay_from=0.75, learning_rate=0.002)
    if share is None:
        share = 0.5 * (1 + math.cos(math.pi * (step - 750) / 250))
    assert p2_ddpm_train.learning_rate(config, step, 1000) == pytest.approx(0.002 * share)


def test_learning_rate_without_warm_up_or_decay():
    config = p2_ddpm_train.Config(warmup_images=0, decay_from=1.0, learning_rate=0.5)
    assert {p2_ddpm_train.learning_rate(config, step, 50) for step in range(50)} == {0.5}


@pytest.mark.parametrize(
    ("decay_from", "factors"),
    [
        (0.0, [1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]),
        (0.5, [1, 1, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2]),
        (0.95, [1] * 10),
        (1.0, [1] * 10),
    ],
)
def test_learning_rate_of_the_others(decay_from, factors):
    assert [linear_decay(step, 10, decay_from) for step in range(10)] == pytest.approx(factors)
    assert linear_decay(0, 1, decay_from) == 1


# Problem 3's losses


def test_reversal_strength():
    """cap (2 / (1 + exp(-10 p)) - 1) = cap tanh(5 p)."""
    for progress in (0.0, 0.1, 0.5, 1.0):
        assert p3_dann_train.reversal_strength(progress, 0.5) == pytest.approx(0.5 * math.tanh(5 * progress))


def test_teacher_loss():
    """Sure: the labels of the sure images only, divided by the number of all.  Soft: p^2 / sum p^2, times max p."""
    teacher = torch.tensor([[0.95, 0.05], [0.5, 0.5], [0.08, 0.92], [0.89, 0.11]])
    student = torch.tensor([[0.3, 0.7], [0.1, 0.9], [0.6, 0.4], [0.5, 0.5]])
    logits = student.log() + 3
    expected = -(math.log(0.3) + math.log(0.4)) / 4
    assert p3_dann_train.teacher_loss(logits, teacher, "sure").item() == pytest.approx(expected)
    expected = 0.0
    for seen, said in zip(teacher.tolist(), student.tolist(), strict=True):
        total = seen[0] ** 2 + seen[1] ** 2
        expected -= max(seen) * sum(p**2 / total * math.log(q) for p, q in zip(seen, said, strict=True)) / 4
    assert p3_dann_train.teacher_loss(logits, teacher, "soft").item() == pytest.approx(expected, rel=1e-5)


def test_balance_loss():
    """0 for equally frequent classes, whether each prediction is sure or not; log-mean of 1 / (10 mean) otherwise."""
    sure = torch.eye(10) * 40
    assert p3_dann_train.balance_loss(sure.softmax(1).mean(0)).item() == pytest.approx(0, abs=1e-5)
    assert p3_dann_train.balance_loss(torch.full((10,), 0.1)).item() == pytest.approx(0, abs=1e-6)
    mean = [0.46, 0.46] + [0.01] * 8
    expected = sum(math.log(0.1 / share) for share in mean) / 10
    assert p3_dann_train.balance_loss(torch.tensor(mean)).item() == pytest.approx(expected, rel=1e-5)


# Pixels


def test_to_uint8_rounds_and_clamps():
    values = torch.tensor(
        [-9, -1, -1 + 0.49 / 127.5, -1 + 0.51 / 127.5, 0.0, 1 - 0.49 / 127.5, 1 - 0.51 / 127.5, 1, 9.0]
    )
    assert to_uint8(values).tolist() == [0, 0, 0, 1, 128, 255, 254, 255, 255]  # 127.5 rounds to the even 128
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(to_unit_range(levels)), levels)
    assert to_unit_range(levels)[[0, 255]].tolist() == [-1, 1]
    assert to_uint8(torch.tensor([0.25], dtype=torch.bfloat16)).item() == 159


def test_grid():
    """Row by row, white between and where images are missing, each pixel enlarged."""
    tiles = torch.tensor([10, 20, 30], dtype=torch.uint8)[:, None, None, None].expand(3, 3, 1, 2)
    sheet = make_grid(tiles, 2, gap=1, scale=2)
    assert sheet.shape == (3, 5, 9)
    row = [10] * 4 + [255] + [20] * 4
    expected = torch.tensor([row, row, [255] * 9, [30] * 4 + [255] * 5, [30] * 4 + [255] * 5], dtype=torch.uint8)
    assert torch.equal(sheet, expected.expand(3, -1, -1))


def test_held_out_faces():
    training, held_out = gan.hold_out(20, 6)
    assert len(training) == 14 and len(held_out) == 6
    assert sorted([*training.tolist(), *held_out.tolist()]) == list(range(20))
    assert gan.hold_out(20, 6)[1].tolist() == held_out.tolist() and held_out.tolist() != list(range(6))
    assert gan.hold_out(20, 0)[0].tolist() == list(range(20))
    with pytest.raises(UserError, match="--held-out 20 leaves none of 20 images"):
        gan.hold_out(20, 20)


def test_watching_a_discriminator_changes_nothing():
    torch.manual_seed(0)
    network = Discriminator()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    images = torch.randint(0, 256, (6, 3, 64, 64), dtype=torch.uint8)
    found = gan.overfitting(network, "logits", images, images[:4], CPU)
    assert found.keys() == {"logits_train", "logits_held_out"}
    expected = network.logits(images.float() / 127.5 - 1).mean()  # in training mode: the batch's own statistics
    network.load_state_dict(before)
    torch.testing.assert_close(found["logits_train"], expected.detach(), rtol=1e-4, atol=1e-5)
    gan.overfitting(network, "logits", images, images, CPU)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_watching_a_discriminator_that_trains_in_joint_batches():
    """Both kinds of faces and as many generated ones share the statistics; the generator is not changed either."""
    torch.manual_seed(0)
    networks = Discriminator(), Generator()
    before = [copy.deepcopy(network.state_dict()) for network in networks]
    faces = torch.randint(0, 256, (10, 3, 64, 64), dtype=torch.uint8)
    found = gan.overfitting(networks[0], "logits", faces[:6], faces[6:], CPU, networks[1])
    for network, state in zip(networks, before, strict=True):
        assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())
    logits = networks[0].logits(torch.cat((faces.float() / 127.5 - 1, networks[1](gan.latents(10)))))
    for name, mean in (("train", logits[:6].mean()), ("held_out", logits[6:10].mean())):
        torch.testing.assert_close(found[f"logits_{name}"], mean.detach(), rtol=1e-4, atol=1e-5)
    alone = gan.overfitting(networks[0], "logits", faces[:6], faces[6:], CPU)
    assert (alone["logits_train"] - found["logits_train"]).abs() > 1e-3
