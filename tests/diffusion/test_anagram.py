"""The measures of an anagram in cases that can be worked out by hand."""

import jax.numpy as jnp
import numpy as np

from dg2_jax.diffusion import anagram


def test_alignment_is_the_worst_view_and_concealment_1_where_nothing_leaks():
    scores = jnp.array([[0.3, 0.0], [0.0, 0.25]])
    alignment, concealment = anagram.alignment_and_concealment(scores)
    np.testing.assert_allclose(alignment, 0.25)
    np.testing.assert_allclose(concealment, 1.0, atol=1e-6)


def test_concealment_is_chance_where_views_cannot_be_told_apart():
    _, concealment = anagram.alignment_and_concealment(jnp.full((3, 3), 0.2))
    np.testing.assert_allclose(concealment, 1 / 3, rtol=1e-6)


def test_concealment_averages_both_directions():
    """Rows: σ(2), σ(1); columns: σ(3), σ(0); each direction's trace divided by 2, then the mean."""
    scores = jnp.array([[3.0, 1.0], [0.0, 1.0]])

    def logistic(x):
        return 1 / (1 + np.exp(-x))

    _, concealment = anagram.alignment_and_concealment(scores, temperature=1.0)
    expected = (logistic(2) + logistic(1) + logistic(3) + logistic(0)) / 4
    np.testing.assert_allclose(concealment, expected, rtol=1e-6)
