"""The moving average of weights: its half-life in images, its ramp, and what it copies."""

import pytest
import torch
from torch import nn

from training.average import RAMP, Average
from training.run import Step


def step(batch_size: int, images: int) -> Step:
    """A step after which `images` are seen."""
    return Step(0, batch_size, slice(None), 0, None, images, 0.0, False, False)


@pytest.mark.parametrize("seen", [100, 10_000])
def test_half_life(seen):
    """After a half-life of images the old value counts one half; the half-life is at most RAMP of the images seen."""
    model, batch = nn.Linear(3, 2), 5
    average = Average(model, half_life=60)
    network = average.network
    assert not network.training and not any(parameter.requires_grad for parameter in network.parameters())
    old = network.weight.clone()
    nn.init.normal_(model.weight)
    length = min(60, RAMP * seen)
    assert length == {100: 5, 10_000: 60}[seen]
    for _ in range(int(length) // batch):
        average.update(step(batch, seen))
    torch.testing.assert_close(network.weight, (old + model.weight.detach()) / 2)


def test_no_half_life_is_a_copy():
    model = nn.Linear(3, 2)
    average = Average(model, half_life=0)
    nn.init.normal_(model.weight)
    average.update(step(5, 10_000))
    assert torch.equal(average.network.weight, model.weight)
    assert average.network.weight.data_ptr() != model.weight.data_ptr()


def test_statistics_and_counters():
    model = nn.BatchNorm2d(2)
    average = Average(model, half_life=4)
    model(torch.randn(4, 2, 3, 3) + 7)
    average.update(step(4, 10_000))
    torch.testing.assert_close(average.network.running_mean, model.running_mean / 2)
    torch.testing.assert_close(average.network.running_var, (model.running_var + 1) / 2)
    assert average.network.num_batches_tracked == 1
