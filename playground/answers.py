"""What the page shows, as tensors: the wrappers' own functions on the released weights, a few images at once."""

import queue
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from common.checkpoint import CHECKPOINTS, load_weights
from common.config import UserError
from common.device import autocast
from common.images import to_uint8
from data.reading import decode_image, to_unit_range
from models.dann import DANN
from models.dcgan import Generator
from models.ddpm import ContextUnet
from models.diffusion import Denoiser
from sampling.digits import Sampler, draw_digits
from sampling.faces import BATCH, latents, sample_images, slerp
from sampling.labels import TARGETS, VIEWS, load_dann, probabilities


@dataclass(frozen=True)
class Networks:
    """The released networks on their device."""

    device: torch.device
    faces: dict[str, Generator]  # A and B
    digits: ContextUnet
    labels: dict[str, tuple[DANN, bool, int]]  # of a target: network, whether its input is standardised, its views


def load_networks(device: torch.device) -> Networks:
    """All networks of the wrappers, and B.  Raises UserError if a file is missing or broken."""

    def load(network: torch.nn.Module, name: str) -> torch.nn.Module:
        load_weights(network, CHECKPOINTS / f"{name}.safetensors")
        return network.eval()

    def place(network: torch.nn.Module) -> torch.nn.Module:
        return network.to(device=device, memory_format=torch.channels_last)

    dann = {target: load_dann(CHECKPOINTS / f"p3_dann_{target}.safetensors") for target in TARGETS}
    return Networks(
        device,
        {"A": place(load(Generator(), "p1_dcgan")), "B": place(load(Generator(), "p1_wgan"))},
        place(load(ContextUnet(), "p2_ddpm")),
        {target: (place(network), standardized, views) for target, (network, standardized, views) in dann.items()},
    )


def faces(networks: Networks, latent: Tensor) -> dict[str, Tensor]:
    """The images uint8 (n, 3, 64, 64) that A and B make of the same latents (n, 100, 1, 1)."""
    return {name: sample_images(network, latent) for name, network in networks.faces.items()}


def between(networks: Networks, seed: int, numbers: tuple[int, int], truncation: float) -> dict[str, Tensor]:
    """The way from face number to face number, of A and of B: uint8 (BATCH, 3, 64, 64), no more work than one face."""
    first, last = (latents(1, seed, number - 1)[0] for number in numbers)
    same = numbers[0] == numbers[1]
    return faces(networks, truncation * (first.repeat(BATCH, 1, 1, 1) if same else slerp(first, last, BATCH)))


def denoising(
    networks: Networks,
    keys: list[tuple[int, int]],
    scale: float,
    interval: tuple[float, float],
    sample: Sampler,
    seed: int,
) -> Iterator[Tensor]:
    """x_t before every network call and x_0 last, uint8 (n, 3, 28, 28) each, as draw_digits comes to them.

    All are drawn at once, and not a hundred as in hw2_2.sh: that takes a second, and tests compare the images.
    Where this iterator is closed early, the drawing, in a thread, ends at its next call.
    """
    found: queue.SimpleQueue[Tensor | BaseException | None] = queue.SimpleQueue()
    closed = threading.Event()

    def watched(denoise: Denoiser, x: Tensor, noise: Callable[[int], Tensor]) -> Tensor:
        def call(x: Tensor, t: float) -> Tensor:
            if closed.is_set():
                raise InterruptedError
            found.put(to_uint8(x[: len(keys)]).cpu())
            return denoise(x, t)

        return sample(call, x, noise)

    def work() -> None:
        try:
            with autocast(networks.device, "auto"):
                chunk = len(keys)
                found.put(draw_digits(networks.digits, keys, scale, interval, watched, chunk=chunk, seed=seed))
            found.put(None)
        except BaseException as error:  # told to who waits for an image
            found.put(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while (images := found.get()) is not None:
            if isinstance(images, BaseException):
                raise images
            yield images
    finally:
        closed.set()
        thread.join()


def dropped_image(file: Path) -> Tensor:
    """A file as a digit uint8 (3, 28, 28), as hw2_3.sh reads it.

    Raises UserError, without the folder and what the decoder says, for what is no image or has more than MAX_PIXELS.
    """
    try:
        image = decode_image(file, 28, resize=True)
    except UserError as error:
        said = str(error).replace(f"{file.parent}/", "")
        raise UserError(re.sub(r"cannot be decoded \(.*", "cannot be decoded", said)) from None
    return torch.from_numpy(image.copy()).permute(2, 0, 1)


def drawn_image(png: bytes) -> Tensor | None:
    """A drawing, dark on white, as a digit uint8 (3, 28, 28) like those of USPS; None if it is empty.

    The digit becomes white on black and fills the image but for a margin.  Raises UserError for what is no image.
    """
    ink = 255 - decode_image(Path("the drawing"), content=png)[..., 0]
    rows, columns = ink.any(1).nonzero()[0], ink.any(0).nonzero()[0]
    if not len(rows):
        return None
    image = Image.fromarray(ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
    image = image.resize([max(1, round(side * 24 / max(image.size))) for side in image.size], Image.Resampling.BOX)
    digit = Image.new("L", (28, 28))
    digit.paste(image, ((28 - image.width) // 2, (28 - image.height) // 2))
    return torch.from_numpy(np.array(digit)).expand(3, -1, -1)


@torch.no_grad()
def read_digit(networks: Networks, target: str, digit: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of a digit uint8 (3, 28, 28): the probabilities (10,), those of each view (v, 10), and the views uint8.

    The views are (v, 3, 28, 28); the probabilities are the mean over them.
    """
    network, standardized, count = networks.labels[target]
    image = to_unit_range(digit[None].to(networks.device))
    of_views = torch.cat([probabilities(network, image, standardized, [view]) for view in VIEWS[:count]]).cpu()
    padded = F.pad(image, (1, 1, 1, 1), mode="replicate")
    views = [sign * padded[0, :, 1 - down : 29 - down, 1 - right : 29 - right] for right, down, sign in VIEWS[:count]]
    return of_views.mean(0), of_views, to_uint8(torch.stack(views)).cpu()
