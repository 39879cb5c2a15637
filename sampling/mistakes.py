"""The two mistakes with which the original's digits stayed noise, as changes to what is right."""

from collections.abc import Callable

from torch import Tensor

from models.diffusion import TIMESTEPS, Denoiser, alpha_bar_schedule


def time_reversed(denoise: Denoiser) -> Denoiser:
    """A denoiser that is told T + 1 - t where t is meant."""
    return lambda x, t: denoise(x, TIMESTEPS + 1 - t)


def six_of_600(denoise: Denoiser, x: Tensor, noise: Callable[[int], Tensor]) -> Tensor:
    """Six of the sampler's 600 steps, each as small as ever: nearly all of the noise of x (n, 3, 28, 28) stays."""
    alpha_bar = alpha_bar_schedule().tolist()
    for t in range(TIMESTEPS, 0, -TIMESTEPS // 6):
        alpha = alpha_bar[t] / alpha_bar[t - 1]
        x = (x - (1 - alpha) / (1 - alpha_bar[t]) ** 0.5 * denoise(x, t)) / alpha**0.5
        x = x + (1 - alpha) ** 0.5 * noise(t)
    return x
