"""Courses of the learning rate, by hand."""

import math

import pytest

from training.schedules import linear_decay, warm_cosine


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


@pytest.mark.parametrize(("step", "factor"), [(0, 0.01), (49, 0.5), (99, 1), (500, 1), (749, 1), (875, 0.5)])
def test_warm_cosine(step, factor):
    """Linear to 1 over the first 100 steps of 1,000, then 1, and from 3/4 on half a cosine to 0."""
    assert warm_cosine(step, 1000, 100, 0.75) == pytest.approx(factor)


def test_the_end_of_a_warm_cosine():
    for step in (937, 999):
        expected = 0.5 * (1 + math.cos(math.pi * (step - 750) / 250))
        assert warm_cosine(step, 1000, 100, 0.75) == pytest.approx(expected)


def test_no_warm_up_and_no_decay():
    assert {warm_cosine(step, 50, 0, 1.0) for step in range(50)} == {1}
