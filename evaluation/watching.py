"""How well a GAN's training goes, by faces that it does not see."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from common.config import UserError
from data.batches import Faces
from evaluation.distances import distances
from evaluation.inception import inception_network
from models.dcgan import judge as judge_both
from sampling.faces import face_sheet, latents, sample_images, with_fresh_batch_norm


def check_scores(held_out: int, score_every: int) -> None:
    """Raise UserError before the first step for what would keep a training from being scored later."""
    if score_every:
        if held_out < 2:
            raise UserError("--score-every compares samples with held-out faces, give --held-out 2 or more")
        inception_network(torch.device("cpu"))


def watch(
    run: Any, step: Any, average: nn.Module, judge: nn.Module, faces: Faces, beside: nn.Module | None = None
) -> None:
    """Sheets, what `judge` says of held-out faces, and scores against them, if these are due; see `overfitting`."""
    if step.due(run.config.sample_every):
        run.sample(step, face_sheet(average))
        if len(faces.held_out):
            run.log(step, **overfitting(judge, faces, beside))
    if step.due(run.config.score_every):
        samples = sample_images(with_fresh_batch_norm(average), latents(run.config.score_count))
        scores = distances(samples, faces.held_out.cpu(), device=run.device, keep=False)
        run.log(step, fid=scores["fid"], kid_x1000=scores["kid_x1000"])


@torch.no_grad()
def overfitting(
    network: nn.Module, faces: Faces, beside: nn.Module | None = None, count: int = 256
) -> dict[str, Tensor]:
    """What a discriminator or critic says on average of `count` faces it trains on, and of held-out ones.

    The further apart, the more it knows by heart.  Copies work, by the statistics of the batch as in training: of each
    kind alone or, with the generator `beside` of a training in joint batches, of both with as many of its images.
    """
    network = copy.deepcopy(network).train()
    real = faces.examples(count)
    if beside is None:
        found = [network.score(images) for images in real]
    else:
        fake = copy.deepcopy(beside).train()(latents(sum(map(len, real))).to(real[0].device))
        found = judge_both(network.score, torch.cat(real), fake, joint=True)[0].split([*map(len, real)])
    return {f"score_{name}": scores.float().mean() for name, scores in zip(("train", "held_out"), found, strict=True)}
