"""FID, KID, density, coverage and recall against closed forms and brute force."""

import numpy as np
import pytest
from scipy import linalg

from common.config import UserError
from evaluation import distances
from evaluation.distances import density_coverage_recall, fid_and_kid, frechet_distance, kernel_distance


@pytest.mark.parametrize(("n", "m", "d"), [(100, 80, 12), (13, 100, 12), (9, 7, 12), (2, 40, 5)])
def test_fid_equals_the_matrix_square_root(n, m, d):
    random = np.random.default_rng(n)
    first, second = random.normal(size=(n, d)) @ random.normal(size=(d, d)), random.normal(1, 2, (m, d))
    covariances = [np.cov(features, rowvar=False) for features in (first, second)]
    # The eigenvalues of a product of two covariances are real and not negative.
    eigenvalues = linalg.eigvals(covariances[0] @ covariances[1]).real.clip(0)
    expected = np.square(first.mean(0) - second.mean(0)).sum() + sum(map(np.trace, covariances))
    expected -= 2 * np.sqrt(eigenvalues).sum()
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(first, first[::-1]) == pytest.approx(0, abs=1e-9)


def test_kid_equals_brute_force(monkeypatch):
    random = np.random.default_rng(0)
    x, y = random.normal(size=(13, 6)), random.normal(0.5, 1, (9, 6))

    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        return (a @ b / 6 + 1) ** 3

    within = [np.mean([kernel(a, b) for i, a in enumerate(z) for j, b in enumerate(z) if i != j]) for z in (x, y)]
    expected = sum(within) - 2 * np.mean([kernel(a, b) for a in x for b in y])
    assert kernel_distance(x, y) == pytest.approx(expected, rel=1e-12)
    monkeypatch.setattr(distances, "chunks", lambda count, size: (slice(i, i + 4) for i in range(0, count, 4)))
    assert kernel_distance(x, y) == pytest.approx(expected, rel=1e-12)


def test_density_coverage_and_recall_on_a_line():
    """Worked out by hand, balls to the nearest neighbour: real 0, 1, 3, 7 reach 1, 1, 2 and 4."""
    real = np.array([[0.0], [1], [3], [7]])
    found = density_coverage_recall(np.array([[0.5], [0.7], [20]]), real, nearest=1)
    # 0.5 and 0.7 lie in the balls of 0 and 1, 20 in none.  Those of 0.5 and 0.7 reach 0.2, that of 20 reaches 19.3.
    assert found == pytest.approx({"density": 4 / 3, "coverage": 2 / 4, "recall": 3 / 4})
    assert density_coverage_recall(real, real, nearest=1) == {"density": 1, "coverage": 1, "recall": 1}


def test_density_and_coverage_of_one_distribution():
    """Their means do not depend on the distribution: density 1, coverage as Naeem et al. (2020) derive it."""
    random, n, m, k = np.random.default_rng(0), 30, 60, 5
    found = [density_coverage_recall(random.normal(size=(n, 3)), random.normal(size=(m, 3))) for _ in range(300)]
    expected = 1 - np.prod([(m - i) / (n + m - i) for i in range(1, k + 1)])
    for name, mean in (("density", 1), ("coverage", expected)):
        values = [one[name] for one in found]
        assert abs(np.mean(values) - mean) < 4 * np.std(values) / len(values) ** 0.5, name


@pytest.mark.parametrize(("score", "count"), [(fid_and_kid, "at least two"), (density_coverage_recall, "more than 5")])
def test_too_few_images(score, count):
    with pytest.raises(UserError, match=f"{count} images"):
        score(np.zeros((1, 2)), np.zeros((9, 2)))
