"""How well a GAN's training goes, by faces that it does not see."""

from pathlib import Path

import torch
from torch import nn

from evaluation.metrics import distances
from sampling.faces import latents, sample_images, with_fresh_batch_norm


def sample_scores(network: nn.Module, count: int, held_out: list[Path], device: torch.device) -> dict[str, float]:
    """FID and KID of `count` samples of an averaged generator against held-out image files."""
    scores = distances(
        sample_images(with_fresh_batch_norm(network, device), latents(count), device), held_out, device=device
    )
    return {name: scores[name] for name in ("fid", "kid_x1000")}
