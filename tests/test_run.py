"""What a training's step says of itself: when something is due, its turns, its rows."""

import dataclasses

import pytest
import torch
from torch import nn

from common.device import generator
from common.streams import Stream
from training.run import Step, frozen


def steps(count: int, batch_size: int = 4, seen_before: int = 0, rows: slice | None = None) -> list[Step]:
    rows = rows or slice(0, batch_size)
    return [
        Step(
            number,
            batch_size,
            rows,
            seed=0,
            random=Stream(generator(0, "step", number), batch_size, rows),
            images=seen_before + (number + 1) * batch_size,
            done=number / count,
            is_last=number + 1 == count,
            is_logged=False,
        )
        for number in range(count)
    ]


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
    assert [step.images for step in steps(10, seen_before=seen_before) if step.due(every)] == due


def test_turns_have_batches_of_their_own():
    """Five critic steps to a generator's: their numbers go on from one step to the next, with one random stream."""
    first, second, _ = steps(3)
    assert [turn.number for step in (first, second) for turn in step.turns(5)] == list(range(10))
    assert [dataclasses.replace(turn, number=0) for turn in first.turns(5)] == [first] * 5


def test_the_whole_step():
    """All rows, the numbers of the same stream."""
    step = steps(1, 6, rows=slice(2, 4))[0]
    whole = step.whole()
    assert whole.rows == slice(None) and whole.random.generator is step.random.generator
    assert len(whole.random.randn()) == 6 and len(step.random.randn()) == 2


def test_frozen():
    """Without gradients for weights, with those for the input; trainable again after an error too."""
    network, x = nn.Linear(2, 2), torch.ones(1, 2, requires_grad=True)
    with pytest.raises(ZeroDivisionError), frozen(network):
        network(x).sum().backward()
        raise ZeroDivisionError
    assert network.weight.grad is None and torch.equal(x.grad[0], network.weight.sum(0).detach())
    assert all(weight.requires_grad for weight in network.parameters())
