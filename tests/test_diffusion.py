"""The diffusion process against closed forms: for Gaussian data denoiser and samplers are known exactly."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from models import diffusion
from models.diffusion import TIMESTEPS, ancestral, ddim, dpm_solver, interpolated_alpha_bar, steps_of, time_grid
from p2_ddpm_train import loss_by_quarter
from training.processes import Share

ALPHA_BAR = diffusion.alpha_bar_schedule()
MEAN, DEVIATION = 0.3, 0.5  # of the Gaussian data
SPACINGS = ("uniform", "quadratic", "karras")


def last(trajectory: Iterator[tuple[float, Tensor]]) -> Tensor:
    """The end of a trajectory, x_0."""
    *_, (time, x) = trajectory
    assert time == 0
    return x


# The schedule and the training inputs


def test_schedule():
    """alpha_bar_t is the product of 1 - beta, beta linear from 1e-4 to 0.02; log alpha_bar_T is about -6.06."""
    betas = 1e-4 + (0.02 - 1e-4) * torch.arange(600, dtype=torch.float64) / 599
    assert ALPHA_BAR.shape == (601,) and ALPHA_BAR.dtype == torch.float64 and ALPHA_BAR[0] == 1
    torch.testing.assert_close(ALPHA_BAR[1:], (1 - betas).log().cumsum(0).exp(), rtol=1e-12, atol=0)
    assert (ALPHA_BAR.diff() < 0).all() and ALPHA_BAR[-1].sqrt().item() == pytest.approx(0.048, abs=5e-4)


def test_noisy_images():
    """Each image with its own alpha_bar; the moments are sqrt(alpha_bar) x_0 and 1 - alpha_bar."""
    clean = torch.tensor([0.5, -1.0, 0.25])[:, None, None, None].repeat(1, 3, 60, 60)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    times = torch.tensor([1, 300, 600])
    noisy = diffusion.add_noise(clean, noise, ALPHA_BAR[times])
    assert noisy.dtype == torch.float32
    for image, mean, alpha_bar in zip(noisy, (0.5, -1.0, 0.25), ALPHA_BAR[times].tolist(), strict=True):
        error = ((1 - alpha_bar) / image.numel()) ** 0.5  # the standard error of the mean
        assert image.mean().item() == pytest.approx(alpha_bar**0.5 * mean, abs=4 * error)
        assert image.var().item() == pytest.approx(1 - alpha_bar, rel=4 * (2 / image.numel()) ** 0.5)
    assert torch.equal(diffusion.add_noise(clean, noise, torch.ones(3)), clean)
    assert torch.equal(diffusion.add_noise(clean, noise, torch.zeros(3)), noise)


def test_steps_of_uniform_numbers():
    """1 to T, each for a slice of as many; also of a number that float32 rounds up to 1."""
    assert steps_of((torch.arange(601) + 0.5) / 600).tolist() == [*range(1, 601), 600]


def test_loss_by_quarter_of_the_times():
    """The mean error of the images in each quarter; of a quarter that the batch misses there is none."""
    run = SimpleNamespace(share=Share(slice(0, 4)))
    errors = loss_by_quarter(torch.tensor([1.0, 3.0, 5.0, 7.0]), torch.tensor([1, 150, 151, 600]), run)
    assert {name: error.item() for name, error in errors.items()} == {"loss_t1of4": 2, "loss_t2of4": 5, "loss_t4of4": 7}


def test_one_hot():
    expected = torch.zeros(4, 10)
    expected[0, 3], expected[2, 0], expected[3, 9] = 1, 1, 1
    encoded = diffusion.one_hot(torch.tensor([3, -1, 0, 9]))
    assert encoded.dtype == torch.float32 and torch.equal(encoded, expected)


# Guidance


class Stub(nn.Module):
    """A network whose prediction is 1000 t + 10 (label + 1) + x, or 1000 t + x without a class."""

    def __init__(self):
        super().__init__()
        self.encoded = 0

    def encode(self, x: Tensor) -> Tensor:
        self.encoded += 1
        return x

    def decode(self, encoded: Tensor, label: Tensor, t: Tensor) -> Tensor:
        classes = (label * torch.arange(1, 11)).sum(1) * 10
        return encoded + (1000 * t + classes)[:, None, None, None]


@pytest.mark.parametrize("step", [0, 150, 300, 450.5, 600])
@pytest.mark.parametrize("scale", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("interval", [(0.0, 1.0), (0.25, 0.5), (0.6, 0.6)])
def test_guidance(step, scale, interval):
    """(1 + w) conditional - w unconditional within the interval, both ends included; conditional elsewhere."""
    network, labels = Stub(), torch.tensor([0, 4, 9])
    x = torch.randn(3, 3, 2, 2)
    predicted = diffusion.guided_denoiser(network, labels, scale, interval)(x, step)
    weight = scale if interval[0] <= step / 600 <= interval[1] else 0
    expected = x + 1000 * step / 600 + ((1 + weight) * 10 * (labels + 1))[:, None, None, None]
    torch.testing.assert_close(predicted, expected)
    assert network.encoded == 1


# Samplers on Gaussian data


def best_denoiser(x: Tensor, step: float) -> Tensor:
    """E[eps | x_t] for x_0 ~ N(MEAN, DEVIATION^2)."""
    alpha_bar = interpolated_alpha_bar(torch.tensor([step], dtype=torch.float64)).item()
    variance = alpha_bar * DEVIATION**2 + 1 - alpha_bar
    return (1 - alpha_bar) ** 0.5 * (x - alpha_bar**0.5 * MEAN) / variance


def exact_map(x: Tensor, time: float) -> Tensor:
    """x at `time` of the probability flow from x_T: both have the same standard score."""
    alpha_bars = interpolated_alpha_bar(torch.tensor([TIMESTEPS, time], dtype=torch.float64))
    before, after = (alpha_bars * DEVIATION**2 + 1 - alpha_bars).sqrt()
    means = alpha_bars.sqrt() * MEAN
    return means[1] + after / before * (x - means[0])


START = torch.linspace(-3, 3, 13, dtype=torch.float64)[:, None, None, None]


def flow_error(sampler: Callable[..., Iterator[tuple[float, Tensor]]], steps: int, spacing: str = "uniform") -> float:
    """The largest error of x at t = 1: the step from there to 0 is one of first order at any number of steps."""
    *_, (time, x), _ = sampler(best_denoiser, START, time_grid(steps, spacing))
    return (x - exact_map(START, time)).abs().max().item()


@pytest.mark.parametrize(("spacing", "steps"), [("uniform", 800), ("quadratic", 200), ("karras", 100)])
@pytest.mark.parametrize(("sampler", "order"), [(ddim, 1), (dpm_solver, 2)])
def test_order_of_the_solvers(sampler, order, spacing, steps):
    """Twice the steps: an error 2^order times smaller."""
    coarse, fine = (flow_error(sampler, number, spacing) for number in (steps, 2 * steps))
    assert coarse / fine == pytest.approx(2**order, rel=0.1)


@pytest.mark.parametrize("sampler", [ddim, dpm_solver])
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_solvers_call_the_denoiser_once_a_step(sampler, steps):
    """At the grid's times but 0, and x_0 known, whatever the times, if the denoiser knows the image."""
    calls, image = [], torch.full_like(START, 0.7)

    def knowing(x: Tensor, step: float) -> Tensor:
        calls.append(step)
        alpha_bar = interpolated_alpha_bar(torch.tensor([step], dtype=torch.float64)).item()
        return (x - alpha_bar**0.5 * image) / (1 - alpha_bar) ** 0.5

    times = time_grid(steps)
    trajectory = list(sampler(knowing, START, times))
    assert calls == times[:-1].tolist() and [time for time, _ in trajectory] == times[1:].tolist()
    torch.testing.assert_close(trajectory[-1][1], image, rtol=0, atol=1e-12)
    for (_, x), alpha_bar in zip(trajectory, interpolated_alpha_bar(times[1:]).tolist(), strict=True):
        # On the way, x keeps the noise that x_T had.
        noise = (START - ALPHA_BAR[-1].sqrt() * image) / (1 - ALPHA_BAR[-1]).sqrt()
        torch.testing.assert_close(x, alpha_bar**0.5 * image + (1 - alpha_bar) ** 0.5 * noise, rtol=0, atol=1e-9)


def moments(run: Callable[[Tensor, Callable[[int], Tensor]], Iterator[tuple[float, Tensor]]]) -> tuple[float, float]:
    """The exact mean and variance of x_0 for x_T ~ N(0, 1), of a sampler that is affine in x_T and in each noise.

    Component 0 runs with all of them 0, component 1 with x_T = 1, and component 2 + i with noise i = 1.
    """
    draws: list[int] = []
    size = 2 + TIMESTEPS
    start = torch.zeros(size, 1, 1, 1, dtype=torch.float64)
    start[1] = 1

    def noise(number: int) -> Tensor:
        draws.append(number)
        one = torch.zeros_like(start)
        one[1 + len(draws)] = 1
        return one

    result = last(run(start, noise)).flatten()
    assert len(set(draws)) == len(draws)  # no noise is drawn twice
    return result[0].item(), (result[1:] - result[0]).square().sum().item()


def test_moments_of_the_ancestral_sampler():
    """The recursion of mean and variance with sigma_t^2 = beta_t, started from N(0, 1); about those of the data."""
    mean, variance = 0.0, 1.0
    for t in range(TIMESTEPS, 0, -1):
        alpha_bar = ALPHA_BAR[t].item()
        beta = 1 - alpha_bar / ALPHA_BAR[t - 1].item()
        slope = (1 - alpha_bar) ** 0.5 / (alpha_bar * DEVIATION**2 + 1 - alpha_bar)
        share = beta / (1 - alpha_bar) ** 0.5
        mean = (mean * (1 - share * slope) + share * slope * alpha_bar**0.5 * MEAN) / (1 - beta) ** 0.5
        variance = variance * (1 - share * slope) ** 2 / (1 - beta) + (beta if t > 1 else 0)
    found = moments(lambda x, noise: ancestral(best_denoiser, x, noise))
    assert found == pytest.approx((mean, variance), rel=1e-9)
    assert found == pytest.approx((MEAN, DEVIATION**2), rel=0.03)


@pytest.mark.parametrize(("eta", "steps"), [(1.0, 600), (1.0, 20), (0.5, 50), (0.0, 50)])
def test_moments_of_ddim(eta, steps):
    """The recursion of mean and variance; all of DDPM's steps with eta = 1 end at the data's."""
    times = time_grid(steps, "uniform")
    alpha_bars = interpolated_alpha_bar(times).tolist()
    mean, variance = 0.0, 1.0
    for now, following in zip(alpha_bars, alpha_bars[1:], strict=False):
        total = now * DEVIATION**2 + 1 - now
        sigma = eta * ((1 - following) / (1 - now) * (1 - now / following)) ** 0.5
        # E[x_0 | x] and E[eps | x] are both affine in x - sqrt(alpha_bar) MEAN.
        image, eps = now**0.5 * DEVIATION**2 / total, (1 - now) ** 0.5 / total
        slope = following**0.5 * image + (1 - following - sigma**2) ** 0.5 * eps
        mean = following**0.5 * MEAN + slope * (mean - now**0.5 * MEAN)
        variance = slope**2 * variance + sigma**2
    found = moments(lambda x, noise: ddim(best_denoiser, x, times, eta, noise))
    assert found == pytest.approx((mean, variance), rel=1e-9)
    if steps == 600:
        assert found == pytest.approx((MEAN, DEVIATION**2), rel=0.03)


# Times


def test_alpha_bar_between_steps():
    """Exact at whole steps; half way, the geometric mean."""
    whole = interpolated_alpha_bar(torch.arange(601))
    torch.testing.assert_close(whole, ALPHA_BAR, rtol=1e-12, atol=0)
    assert whole[0] == 1 and whole.dtype == torch.float64
    half = interpolated_alpha_bar(torch.arange(600) + 0.5)
    torch.testing.assert_close(half, (ALPHA_BAR[1:] * ALPHA_BAR[:-1]).sqrt(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("steps", [1, 2, 3, 20, 600])
def test_times(spacing, steps):
    """From T down to 1, then 0; one step goes from T to 0 at once."""
    times = time_grid(steps, spacing)
    assert times.shape == (steps + 1,) and times.dtype == torch.float64
    assert times[0] == 600 and times[-1] == 0 and (times.diff() < 0).all()
    if steps > 1:
        assert times[-2].item() == pytest.approx(1, abs=1e-9)
    if steps > 2:
        warped = {
            "uniform": lambda t: t,
            "quadratic": torch.sqrt,
            "karras": lambda t: (1 / interpolated_alpha_bar(t) - 1) ** (1 / 14),
        }[spacing](times[:-1])
        differences = warped.diff()
        torch.testing.assert_close(differences, differences.mean().expand(steps - 1), rtol=0.02, atol=2e-3)
    if spacing == "uniform" and steps == 600:  # the steps themselves
        torch.testing.assert_close(times, torch.arange(600, -1, -1, dtype=torch.float64))
