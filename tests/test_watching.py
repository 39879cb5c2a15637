"""Sampling and watching a GAN along its training: what is drawn, and that looking changes nothing."""

import copy

import pytest
import torch
from conftest import random_images
from torch import nn

import sampling.faces
from data.batches import Faces
from evaluation.watching import overfitting
from models.dcgan import Discriminator, Generator
from sampling.faces import SAMPLE_SEED, latents, with_fresh_batch_norm


def test_batch_norm_is_re_estimated_as_the_plain_statistics(monkeypatch):
    """The mean over batches of each batch's mean and unbiased variance, of latents of their own."""
    torch.manual_seed(0)
    monkeypatch.setattr(sampling.faces, "STATISTICS", (3, 7))
    network = nn.Sequential(nn.Conv2d(100, 5, 1), nn.BatchNorm2d(5))
    network[1].running_mean.fill_(99)
    before = copy.deepcopy(network.state_dict())
    fresh = with_fresh_batch_norm(network)
    drawn = network[0](latents(21, seed=SAMPLE_SEED + 1)).detach().unflatten(0, (3, 7))
    torch.testing.assert_close(fresh[1].running_mean, drawn.mean((1, 3, 4)).mean(0))
    torch.testing.assert_close(fresh[1].running_var, drawn.var((1, 3, 4)).mean(0))
    assert not fresh.training and network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert torch.equal(with_fresh_batch_norm(fresh)[1].running_mean, fresh[1].running_mean)


@pytest.mark.parametrize("joint", [False, True])
def test_watching_a_discriminator_changes_nothing(joint, tmp_path):
    """By the batch's own statistics: each kind of faces alone, or both with as many generated ones."""
    random_images(tmp_path, 9)
    faces = Faces(tmp_path, 3)
    torch.manual_seed(0)
    networks = Discriminator(), Generator()
    before = [copy.deepcopy(network.state_dict()) for network in networks]
    found = overfitting(networks[0], faces, networks[1] if joint else None, count=5)
    for network, state in zip(networks, before, strict=True):
        assert network.training and all(
            torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items()
        )
    score, (seen, kept) = networks[0].score, faces.examples(5)
    if joint:
        train, held_out, _ = score(torch.cat((seen, kept, networks[1](latents(8))))).split((5, 3, 8))
    else:
        train, held_out = score(seen), score(kept)
    assert found.keys() == {"score_train", "score_held_out"}
    torch.testing.assert_close(found["score_train"], train.mean().detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found["score_held_out"], held_out.mean().detach(), rtol=1e-4, atol=1e-5)
