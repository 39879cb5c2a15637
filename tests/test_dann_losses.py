"""The losses of adaptation in closed form."""

import math

import pytest
import torch

from p3_dann_train import balance_loss, reversal_strength, teacher_loss


def test_reversal_strength():
    """cap (2 / (1 + exp(-10 p)) - 1) = cap tanh(5 p)."""
    for progress in (0.0, 0.1, 0.5, 1.0):
        assert reversal_strength(progress, 0.5) == pytest.approx(0.5 * math.tanh(5 * progress))


def test_teacher_loss():
    """Sure: the labels of the sure images only, divided by the number of all.  Soft: p^2 / sum p^2, times max p."""
    teacher = torch.tensor([[0.95, 0.05], [0.5, 0.5], [0.08, 0.92], [0.89, 0.11]])
    student = torch.tensor([[0.3, 0.7], [0.1, 0.9], [0.6, 0.4], [0.5, 0.5]])
    logits = student.log() + 3
    expected = -(math.log(0.3) + math.log(0.4)) / 4
    assert teacher_loss(logits, teacher, "sure").item() == pytest.approx(expected)
    expected = 0.0
    for seen, said in zip(teacher.tolist(), student.tolist(), strict=True):
        total = seen[0] ** 2 + seen[1] ** 2
        expected -= max(seen) * sum(p**2 / total * math.log(q) for p, q in zip(seen, said, strict=True)) / 4
    assert teacher_loss(logits, teacher, "soft").item() == pytest.approx(expected, rel=1e-5)


def test_balance_loss():
    """0 for equally frequent classes, whether each prediction is sure or not; log-mean of 1 / (10 mean) otherwise."""
    sure = torch.eye(10) * 40
    assert balance_loss(sure.softmax(1).mean(0)).item() == pytest.approx(0, abs=1e-5)
    assert balance_loss(torch.full((10,), 0.1)).item() == pytest.approx(0, abs=1e-6)
    mean = [0.46, 0.46] + [0.01] * 8
    expected = sum(math.log(0.1 / share) for share in mean) / 10
    assert balance_loss(torch.tensor(mean)).item() == pytest.approx(expected, rel=1e-5)
