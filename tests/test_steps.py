"""A training's steps: when something is due, their random numbers and learning rates, the average of weights."""

import dataclasses
import math

import pytest
import torch
from torch import nn

from common.device import generator
from common.streams import ALL, Stream
from training.average import RAMP, Average
from training.run import Step, frozen
from training.schedules import linear_decay, warm_cosine


def step(number: int, count: int, batch_size: int = 4, seen_before: int = 0, rows: slice = ALL) -> Step:
    random, images = Stream(generator(0, "step", number), batch_size, rows), seen_before + (number + 1) * batch_size
    return Step(number, batch_size, rows, 0, random, images, number / count, number + 1 == count, False)


@pytest.mark.parametrize(
    ("every", "seen_before", "due"),
    [
        (12, 0, [12, 24, 36, 40]),  # and the last one
        (8, 0, [8, 16, 24, 32, 40]),
        (10, 0, [12, 20, 32, 40]),  # the step that passes a multiple
        (1, 0, list(range(4, 41, 4))),  # once a step at most
        (1000, 0, [40]),
        (0, 0, []),  # never
        (12, 10, [14, 26, 38, 50]),  # 12, 24, 36 and 48 images of both trainings together
    ],
)
def test_due(every, seen_before, due):
    steps = [step(number, 10, seen_before=seen_before) for number in range(10)]
    assert [step.images for step in steps if step.due(every)] == due


def test_turns_have_batches_of_their_own():
    """Five critic steps to a generator's: their numbers go on from one step to the next, with one random stream."""
    first, second = step(0, 3), step(1, 3)
    assert [turn.number for turn in (*first.turns(5), *second.turns(5))] == list(range(10))
    assert [dataclasses.replace(turn, number=0) for turn in first.turns(5)] == [first] * 5


def test_the_whole_step():
    """All rows, the numbers of the same stream."""
    part = step(0, 1, 6, rows=slice(2, 4))
    whole = part.whole()
    assert whole.rows == slice(None) and whole.random.generator is part.random.generator
    assert len(whole.random.randn()) == 6 and len(part.random.randn()) == 2


def test_frozen():
    """Without gradients for weights, with those for the input; trainable again after an error too."""
    network, x = nn.Linear(2, 2), torch.ones(1, 2, requires_grad=True)
    with pytest.raises(ZeroDivisionError), frozen(network):
        network(x).sum().backward()
        raise ZeroDivisionError
    assert network.weight.grad is None and torch.equal(x.grad[0], network.weight.sum(0).detach())
    assert all(weight.requires_grad for weight in network.parameters())


# Random numbers: the rows of several processes make up the whole, wherever they are computed

COUNT = 7
DRAWS = {
    "randn": lambda random: random.randn(3, 1),
    "rand": lambda random: random.rand(),
    "uniform": lambda random: random.uniform(2.0, 5.0, 1, 1),
    "randint": lambda random: random.randint(-2, 3, 4),
    "stratified": lambda random: random.stratified(),
    "own": lambda random: random.own(torch.arange(COUNT)),
}


def streams(*bounds: int) -> list[Stream]:
    """One stream a process, whose rows end at `bounds`."""
    return [Stream(generator("key"), COUNT, slice(*ends)) for ends in zip((0, *bounds), bounds, strict=False)]


@pytest.mark.parametrize("draw", DRAWS)
def test_rows_of_processes_make_up_the_batch(draw):
    whole = DRAWS[draw](Stream(generator("key"), COUNT))
    assert len(whole) == COUNT
    for bounds in ((3, 7), (2, 4, 7), (1, 2, 3, 4, 5, 6, 7)):
        assert torch.equal(torch.cat([DRAWS[draw](random) for random in streams(*bounds)]), whole)


def test_numbers_after_numbers():
    """Each draw goes on where the last one ended, the same in every process; `whole` draws for all rows."""
    first, second = streams(3, 7)
    for random in (first, second):
        random.rand(2)
    assert torch.equal(first.permutation(), second.permutation())
    assert torch.equal(first.whole().randn(2), second.whole().randn(2))


def test_ranges():
    random = Stream(generator(0), 4000)
    uniform, whole = random.uniform(-0.5, 2.0), random.randint(-1, 2)
    assert -0.5 <= uniform.min() < -0.49 and 1.99 < uniform.max() < 2
    assert whole.unique().tolist() == [-1, 0, 1] and whole.dtype == torch.int64
    normal = random.randn()
    assert abs(normal.mean()) < 4 / 4000**0.5 and normal.var().item() == pytest.approx(1, abs=4 * (2 / 4000) ** 0.5)
    assert random.permutation().sort().values.tolist() == list(range(4000))


def test_stratified():
    """One number from each slice, not in the slices' order."""
    draws = torch.stack([Stream(generator(seed), 20).stratified() for seed in range(300)])
    assert ((draws.sort(1).values * 20).floor() == torch.arange(20)).float().mean() > 0.9999  # but for rounding
    assert draws[:, 0].mean().item() == pytest.approx(0.5, abs=4 / (12 * 300) ** 0.5)
    assert not torch.equal(draws, draws.sort(1).values)


def test_keys_are_streams_of_their_own():
    keys = [(0, "a"), (0, "b"), (1, "a"), ("0", "a"), ((0, 1), "a")]
    draws = [torch.rand(3, generator=generator(*key)).tolist() for key in keys]
    assert len(set(map(tuple, draws))) == len(keys)
    assert torch.rand(3, generator=generator(0, "a")).tolist() == draws[0]


def test_the_device_changes_no_number():
    """They are drawn on the CPU; the stream goes on at the same place."""
    here, there = Stream(generator(0), 5), Stream(generator(0), 5, device="meta")
    assert there.randn(2).device.type == "meta" and here.randn(2).device.type == "cpu"
    assert torch.equal(there.permutation(), here.permutation())


# Learning rates


@pytest.mark.parametrize(
    ("decay_from", "factors"),
    [
        (0.0, [1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]),
        (0.5, [1, 1, 1, 1, 1, 1, 0.8, 0.6, 0.4, 0.2]),
        (0.95, [1] * 10),
        (1.0, [1] * 10),
    ],
)
def test_linear_decay(decay_from, factors):
    assert [linear_decay(step, 10, decay_from) for step in range(10)] == pytest.approx(factors)
    assert linear_decay(0, 1, decay_from) == 1


def test_warm_cosine():
    """Linear to 1 over the first 100 steps of 1,000, then 1, and from 3/4 on half a cosine to 0."""
    for number, factor in ((0, 0.01), (49, 0.5), (99, 1), (500, 1), (749, 1), (875, 0.5)):
        assert warm_cosine(number, 1000, 100, 0.75) == pytest.approx(factor)
    for number in (937, 999):
        expected = 0.5 * (1 + math.cos(math.pi * (number - 750) / 250))
        assert warm_cosine(number, 1000, 100, 0.75) == pytest.approx(expected)
    assert {warm_cosine(number, 50, 0, 1.0) for number in range(50)} == {1}  # neither warm-up nor decay


# The moving average


def after(images: int, batch_size: int) -> Step:
    """A step after which `images` are seen."""
    return step(0, 1, batch_size, images - batch_size)


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
        average.update(after(seen, batch))
    torch.testing.assert_close(network.weight, (old + model.weight.detach()) / 2)


def test_no_half_life_is_a_copy():
    model = nn.Linear(3, 2)
    average = Average(model, half_life=0)
    nn.init.normal_(model.weight)
    average.update(after(10_000, 5))
    assert torch.equal(average.network.weight, model.weight)
    assert average.network.weight.data_ptr() != model.weight.data_ptr()


def test_statistics_and_counters():
    model = nn.BatchNorm2d(2)
    average = Average(model, half_life=4)
    model(torch.randn(4, 2, 3, 3) + 7)
    average.update(after(10_000, 4))
    torch.testing.assert_close(average.network.running_mean, model.running_mean / 2)
    torch.testing.assert_close(average.network.running_var, (model.running_var + 1) / 2)
    assert average.network.num_batches_tracked == 1
