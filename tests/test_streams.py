"""Random numbers of a step: the rows of several processes make up the whole, wherever they are computed."""

import pytest
import torch

from common.device import generator
from common.streams import Stream

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
