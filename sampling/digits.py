"""What diffusion training and inference share: noise, sampling in chunks, sheets; and the original's two mistakes."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from common.device import generator
from common.images import make_grid, to_uint8
from data.reading import chunks
from models.ddpm import IMAGE_SHAPE, NUM_CLASSES
from models.diffusion import TIMESTEPS, Denoiser, alpha_bar_schedule, dpm_solver, final, guided_denoiser, time_grid

Sampler = Callable[[Denoiser, Tensor, Callable[[int], Tensor]], Tensor]  # denoiser, x_T and noise to x_0

SAMPLE_SEED = 0
SHEET_STEPS = 12  # network calls behind a training's sheet
BATCH = 100  # images at once; one size, as sums of floats differ between sizes and images must not


def image_noise(keys: list[tuple[int, int]], stream: int, seed: int = SAMPLE_SEED) -> Tensor:
    """Standard normal noise (n, 3, 28, 28), one generator per image: it depends on nothing but the image's own key.

    `keys` are (digit, number) pairs; `stream` tells the initial noise (0) from later draws.
    """
    return torch.stack([torch.randn(IMAGE_SHAPE, generator=generator(seed, *key, stream)) for key in keys])


@torch.no_grad()
def draw_digits(
    network: nn.Module,
    keys: list[tuple[int, int]],
    guidance_scale: float,
    interval: tuple[float, float],
    sample: Sampler,
    chunk: int | None = None,
    seed: int = SAMPLE_SEED,
    progress: Callable[[int], object] | None = None,
) -> Tensor:
    """Images uint8 (n, 3, 28, 28), on the CPU, of (digit, number) keys; the first of a key is its class.

    `sample(denoise, x_T, noise)` turns noise into images in [-1, 1].  Memory is that of one chunk of BATCH;
    the last one is padded to its size: with one `chunk` an image is the same to the last bit however many are drawn.
    """
    images, device, chunk = [], next(network.parameters()).device, chunk or BATCH
    for part in chunks(len(keys), chunk):
        count = part.stop - part.start
        padded = keys[part] + [keys[part][-1]] * (chunk - count)
        labels = torch.tensor([digit for digit, _ in padded], device=device)
        denoise = guided_denoiser(network, labels, guidance_scale, interval)

        def noise(stream: int, padded: list[tuple[int, int]] = padded) -> Tensor:
            drawn = image_noise(padded, stream, seed).to(device)
            return drawn.contiguous(memory_format=torch.channels_last)

        images.append(to_uint8(sample(denoise, noise(0), noise)[:count]).cpu())
        if progress:
            progress(count)
    return torch.cat(images)


def digit_keys(per_class: int) -> list[tuple[int, int]]:
    """(digit, number) for numbers 1 to `per_class` of every digit, the ten digits one after the other."""
    return [(digit, number) for digit in range(NUM_CLASSES) for number in range(1, per_class + 1)]


def digit_sheet(network: nn.Module) -> Tensor:
    """A sheet of ten images of each digit, rows the digits, by DPM-Solver++(2M) with a guidance of 1."""
    times = time_grid(SHEET_STEPS)
    images = draw_digits(
        network, digit_keys(10), 1.0, (0.0, 1.0), lambda denoise, x, noise: final(dpm_solver(denoise, x, times))
    )
    return make_grid(images, 10, scale=2)


# The two mistakes with which the original's digits stayed noise, as changes to what is right.


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
