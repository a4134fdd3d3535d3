"""Distances against closed forms: equal sets, Gaussians, sums written out."""

import numpy as np
import pytest

from dg2_jax.evaluation import distances


def gaussian(n, mean, std, seed):
    return np.random.default_rng(seed).normal(size=(n, len(mean))) * std + mean


def test_frechet_of_gaussians_is_the_closed_form():
    a = gaussian(40_000, [0.0, 0.0, 0.0], [1.0, 2.0, 0.5], 0)
    b = gaussian(40_000, [1.0, -1.0, 0.0], [2.0, 1.0, 0.5], 1)
    # Diagonal covariances: |Δμ|² + Σ (σ_a - σ_b)².
    assert distances.frechet(a, b) == pytest.approx(2 + 1 + 1, rel=0.03)
    assert distances.frechet(a, a) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("distance", [distances.kid, distances.cmmd])
def test_unbiased_estimates_are_around_0_for_one_law_and_above_for_two(distance):
    same = [
        distance(gaussian(60, [0.0] * 4, 1.0, 2 * i), gaussian(60, [0.0] * 4, 1.0, 2 * i + 1))
        for i in range(40)
    ]
    assert abs(np.mean(same)) < 3 * np.std(same) / np.sqrt(len(same))
    other = distance(gaussian(60, [0.0] * 4, 1.0, 0), gaussian(60, [1.0] * 4, 1.0, 1))
    assert other > 5 * np.std(same)


def test_kid_written_out():
    a, b = np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([[1.0, 1.0], [2.0, 0.0], [0.0, 0.0]])

    def k(x, y):
        return (x @ y / 2 + 1) ** 3

    within_a = k(a[0], a[1])
    within_b = (k(b[0], b[1]) + k(b[0], b[2]) + k(b[1], b[2])) / 3
    between = np.mean([k(x, y) for x in a for y in b])
    assert distances.kid(a, b) == pytest.approx(within_a + within_b - 2 * between)


def test_cmmd_has_the_published_kernel():
    a, b = np.zeros((2, 3)), np.full((2, 3), 10.0)
    # |x - y|² = 300, σ = 10: k = exp(-1.5).
    assert distances.cmmd(a, b) == pytest.approx(1000 * (2 - 2 * np.exp(-1.5)))


def test_nearest_neighbours():
    a, b = np.array([[0.0, 0.0], [5.0, 5.0]]), np.array([[3.0, 4.0], [5.0, 5.0], [9.0, 9.0]])
    far, which = distances.nearest(a, b)
    np.testing.assert_allclose(far, [5.0, 0.0], atol=1e-9)
    assert which.tolist() == [0, 1]


def test_too_few():
    with pytest.raises(ValueError, match="features must be at least 2 per set, got 1 and 3"):
        distances.kid(np.zeros((1, 2)), np.zeros((3, 2)))
