"""How well a GAN's training goes, by faces that it does not see."""

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from common.config import UserError
from data.faces import Faces
from evaluation.distances import distances
from evaluation.inception import inception_file
from models.dcgan import judge as judge_both
from sampling.faces import face_sheet, latents, sample_images, with_fresh_batch_norm


def check_scores(held_out: int, score_every: int) -> None:
    """Raise UserError before the first step for what would keep a training from being scored later."""
    if not score_every:
        return
    if held_out < 2:
        raise UserError("--score-every compares samples with held-out faces, give --held-out 2 or more")
    inception_file("auto")


def watch(
    run: Any, step: Any, average: nn.Module, judge: nn.Module, faces: Faces, beside: nn.Module | None = None
) -> None:
    """Sheets, what `judge` says of held-out faces, and scores against these, when a training's step makes them due.

    `run` and `step` are the training's; `average` is its averaged generator, `beside` see `overfitting`.
    """
    if step.due(run.config.sample_every):
        run.sample(step, face_sheet(average))
        if faces.held_out_paths:
            run.log(step, **overfitting(judge, faces, beside))
    if step.due(run.config.score_every):
        run.log(step, **held_out_scores(average, run.config.score_count, faces.held_out_paths))


def held_out_scores(network: nn.Module, count: int, held_out: list[Path]) -> dict[str, float]:
    """FID and KID of `count` samples of an averaged generator against held-out image files."""
    device, samples = next(network.parameters()).device, sample_images(with_fresh_batch_norm(network), latents(count))
    scores = distances(samples, held_out, device=device, keep=False)
    return {name: scores[name] for name in ("fid", "kid_x1000")}


@torch.no_grad()
def overfitting(
    network: nn.Module, faces: Faces, beside: nn.Module | None = None, count: int = 256
) -> dict[str, Tensor]:
    """What a discriminator or critic says on average of `count` faces it trains on, and of held-out ones.

    The further apart the two, the more it knows by heart.  It works on copies, with the statistics of the batch as
    in training, so that watching changes nothing: each kind in a batch of its own, or, with the generator `beside` of
    a training in joint batches, both in one with as many of its images.  Of a batch of its own BatchNorm takes out
    what all its images share, so there a difference is seen less.
    """
    network = copy.deepcopy(network).train()
    real = [faces.first(count), faces.first_held_out(count)]
    if beside is None:
        found = [network.score(images) for images in real]
    else:
        fake = copy.deepcopy(beside).train()(latents(sum(map(len, real))).to(real[0].device))
        found = judge_both(network.score, torch.cat(real), fake, joint=True)[0].split([*map(len, real)])
    return {f"score_{name}": scores.float().mean() for name, scores in zip(("train", "held_out"), found, strict=True)}
