"""The diffusion process of problem 2: noise schedule, training loss and samplers.

Notation of Ho et al. 2020 (arXiv:2006.11239): x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps, with
t = 1 ... T and x_0 in [-1, 1]; alpha_bar_0 = 1.  A denoiser is a function (x, step) -> eps, with x a batch
of noisy images and `step` an integer or real time from 0 to T.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from models.ddpm import NUM_CLASSES

TIMESTEPS = 600
BETA_FIRST, BETA_LAST = 1e-4, 0.02

Denoiser = Callable[[Tensor, float], Tensor]


def alpha_bar_schedule(timesteps: int = TIMESTEPS) -> Tensor:
    """alpha_bar (T + 1,) in float64 for linear betas; entry 0 is exactly 1."""
    betas = torch.linspace(BETA_FIRST, BETA_LAST, timesteps, dtype=torch.float64)
    return torch.cat((torch.ones(1, dtype=torch.float64), torch.cumprod(1 - betas, 0)))


def add_noise(images: Tensor, noise: Tensor, alpha_bar: Tensor) -> Tensor:
    """x_t from x_0 (batch, c, h, w), eps of the same shape and alpha_bar_t (batch,)."""
    alpha_bar = alpha_bar.to(images)[:, None, None, None]
    return alpha_bar.sqrt() * images + (1 - alpha_bar).sqrt() * noise


def steps_of(uniform: Tensor) -> Tensor:
    """Whole steps t (batch,) from 1 to T of numbers uniform in [0, 1)."""
    return (uniform * TIMESTEPS).long().clamp(max=TIMESTEPS - 1) + 1


def one_hot(labels: Tensor) -> Tensor:
    """Labels (batch,) to float (batch, 10); -1, no class, to zeros."""
    return (labels[:, None] == torch.arange(NUM_CLASSES, device=labels.device)).float()


def guided_denoiser(
    network: nn.Module, labels: Tensor, guidance_scale: float, interval: tuple[float, float]
) -> Denoiser:
    """A denoiser with classifier-free guidance (Ho & Salimans 2022, arXiv:2207.12598).

    eps = (1 + w) eps(x, class) - w eps(x, no class), w the guidance scale; w = 0 needs one pass only.
    Outside `interval`, in t / T, w is 0 (Kynkaanniemi et al. 2024, arXiv:2404.07724).  The encoder does
    not see the class and runs once for both predictions.
    """
    context = one_hot(labels)

    def denoise(x: Tensor, step: float) -> Tensor:
        time = torch.full((len(x),), step / TIMESTEPS, device=x.device)
        encoded = network.encode(x)
        conditional = network.decode(encoded, context, time).float()
        if guidance_scale == 0 or not interval[0] <= step / TIMESTEPS <= interval[1]:
            return conditional
        unconditional = network.decode(encoded, torch.zeros_like(context), time).float()
        return (1 + guidance_scale) * conditional - guidance_scale * unconditional

    return denoise


def ancestral(
    denoise: Denoiser, x: Tensor, noise: Callable[[int], Tensor], timesteps: int = TIMESTEPS
) -> Iterator[tuple[int, Tensor]]:
    """The sampler of DDPM, T steps from x_T (batch, c, h, w); yields (t, x_t) from t = T - 1 to 0.

    `noise(t)` is the standard normal noise of the way to t - 1, its variance the homework's, sigma_t^2 = beta_t.
    """
    alpha_bar = alpha_bar_schedule(timesteps).tolist()
    for t in range(timesteps, 0, -1):
        alpha = alpha_bar[t] / alpha_bar[t - 1]
        x = (x - (1 - alpha) / (1 - alpha_bar[t]) ** 0.5 * denoise(x, t)) / alpha**0.5
        if t > 1:
            x = x + (1 - alpha) ** 0.5 * noise(t)
        yield t - 1, x


def interpolated_alpha_bar(times: Tensor) -> Tensor:
    """alpha_bar at real times (n,) in [0, T]: log alpha_bar is interpolated linearly between whole steps."""
    log_alpha_bar = alpha_bar_schedule().log()
    below = times.double().floor().clamp(0, TIMESTEPS - 1).long()
    share = times.double() - below
    return ((1 - share) * log_alpha_bar[below] + share * log_alpha_bar[below + 1]).exp()


def time_grid(steps: int, spacing: str = "karras") -> Tensor:
    """Times (steps + 1,) from T down to 1, then 0, of a sampler with `steps` network calls, in float64.

    "uniform" in t, "quadratic" in t, or "karras": sigma = sqrt(1 / alpha_bar - 1) spaced with rho = 7
    (Karras et al. 2022, arXiv:2206.00364, equation 5) and mapped back to t.
    """
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    if spacing == "uniform":
        times = TIMESTEPS + ramp * (1 - TIMESTEPS)
    elif spacing == "quadratic":
        times = (TIMESTEPS**0.5 + ramp * (1 - TIMESTEPS**0.5)) ** 2
    else:
        dense = torch.linspace(1, TIMESTEPS, 100 * TIMESTEPS, dtype=torch.float64)
        sigmas = (1 / interpolated_alpha_bar(dense) - 1).sqrt()
        high, low = sigmas[-1] ** (1 / 7), sigmas[0] ** (1 / 7)
        nearest = torch.searchsorted(sigmas, (high + ramp * (low - high)) ** 7).clamp(max=len(dense) - 1)
        times = dense[nearest]
        times[-1], times[0] = 1, TIMESTEPS
    return torch.cat((times, torch.zeros(1, dtype=torch.float64)))


def ddim(
    denoise: Denoiser, x: Tensor, times: Tensor, eta: float = 0.0, noise: Callable[[int], Tensor] | None = None
) -> Iterator[tuple[float, Tensor]]:
    """DDIM (Song et al. 2021, arXiv:2010.02502, equations 12 and 16) over `times`; yields (t, x_t) after each step.

    eta = 0 is deterministic; eta = 1 has the variance of DDPM's posterior, with `noise(i)` for call i.
    """
    alpha_bar = interpolated_alpha_bar(times).tolist()
    for i in range(len(times) - 1):
        now, following = alpha_bar[i], alpha_bar[i + 1]
        eps = denoise(x, float(times[i]))
        image = (x - (1 - now) ** 0.5 * eps) / now**0.5
        sigma = eta * ((1 - following) / (1 - now) * (1 - now / following)) ** 0.5
        x = following**0.5 * image + max(1 - following - sigma**2, 0.0) ** 0.5 * eps
        if sigma > 0:
            x = x + sigma * noise(i)
        yield float(times[i + 1]), x


def dpm_solver(denoise: Denoiser, x: Tensor, times: Tensor) -> Iterator[tuple[float, Tensor]]:
    """DPM-Solver++(2M) (Lu et al. 2022, arXiv:2211.01095, algorithm 2) over `times`; yields (t, x_t) after each step.

    With lambda = log(sqrt(alpha_bar) / sqrt(1 - alpha_bar)) the step from time s to t is
    x_t = sigma_t / sigma_s x_s - alpha_t (exp(-h) - 1) D, h = lambda_t - lambda_s, where D extrapolates the
    last two predictions of x_0.  The first and the last step are of first order; the last, to
    t = 0 where sigma is 0, returns the prediction of x_0 itself.
    """
    alpha_bar = interpolated_alpha_bar(times)
    alphas, sigmas = alpha_bar.sqrt().tolist(), (1 - alpha_bar).sqrt().tolist()
    lambdas = (0.5 * (alpha_bar / (1 - alpha_bar)).log()).tolist()
    previous = None
    for i in range(len(times) - 2):
        image = (x - sigmas[i] * denoise(x, float(times[i]))) / alphas[i]
        step, direction = lambdas[i + 1] - lambdas[i], image
        if previous is not None:
            ratio = step / (lambdas[i] - lambdas[i - 1])
            direction = image + 0.5 * ratio * (image - previous)
        x = sigmas[i + 1] / sigmas[i] * x - alphas[i + 1] * math.expm1(-step) * direction
        previous = image
        yield float(times[i + 1]), x
    yield 0.0, (x - sigmas[-2] * denoise(x, float(times[-2]))) / alphas[-2]


def final(trajectory: Iterator[tuple[float, Tensor]]) -> Tensor:
    """The last images of a sampler, x_0; keeps no earlier ones in memory."""
    return deque(trajectory, maxlen=1).pop()[1]
