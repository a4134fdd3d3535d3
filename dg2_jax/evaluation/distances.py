"""Distances between two sets of feature vectors: KID, CMMD, Fréchet; and nearest neighbours."""

import numpy as np
import scipy.linalg
from jaxtyping import Float

Features = Float[np.ndarray, "_ f"]  # the sets differ in size


def _unbiased_mmd(aa: np.ndarray, bb: np.ndarray, ab: np.ndarray) -> float:
    n, m = len(aa), len(bb)
    within_a = (aa.sum() - np.trace(aa)) / (n * (n - 1))
    within_b = (bb.sum() - np.trace(bb)) / (m * (m - 1))
    return float(within_a + within_b - 2 * ab.mean())


def kid(a: Features, b: Features) -> float:
    """Kernel distance (arXiv 1801.01401): unbiased MMD² with the kernel (x·y/f + 1)³.

    Raises:
        ValueError: a set has fewer than two vectors.
    """
    _check(a, b)

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return (x @ y.T / x.shape[1] + 1.0) ** 3

    a, b = a.astype(np.float64), b.astype(np.float64)
    return _unbiased_mmd(kernel(a, a), kernel(b, b), kernel(a, b))


def cmmd(a: Features, b: Features, sigma: float = 10.0) -> float:
    """1000 · MMD² with an RBF kernel (arXiv 2401.09603) of any features, unbiased.

    Raises:
        ValueError: a set has fewer than two vectors.
    """
    _check(a, b)

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.exp(-_squared_distances(x, y) / (2 * sigma**2))

    a, b = a.astype(np.float64), b.astype(np.float64)
    return 1000.0 * _unbiased_mmd(kernel(a, a), kernel(b, b), kernel(a, b))


def frechet(a: Features, b: Features) -> float:
    """|μ_a - μ_b|² + tr(Σ_a + Σ_b - 2 (Σ_a Σ_b)^½), as in FID (arXiv 1706.08500).

    Raises:
        ValueError: a set has fewer than two vectors.
    """
    _check(a, b)
    a, b = a.astype(np.float64), b.astype(np.float64)
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    # The eigenvalues of Σ_a Σ_b are those of a positive semi-definite matrix: real and at least 0.
    eigenvalues = scipy.linalg.eigvals(cov_a @ cov_b).real
    root_trace = np.sqrt(np.maximum(eigenvalues, 0.0)).sum()
    shift = np.sum((a.mean(0) - b.mean(0)) ** 2)
    return float(shift + np.trace(cov_a) + np.trace(cov_b) - 2 * root_trace)


def nearest(a: Features, b: Features) -> tuple[np.ndarray, np.ndarray]:
    """For each vector of `a`, the Euclidean distance to its nearest in `b`, and its index."""
    squared = _squared_distances(a.astype(np.float64), b.astype(np.float64))
    which = squared.argmin(1)
    return np.sqrt(squared[np.arange(len(a)), which]), which


def _squared_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    squared = (x**2).sum(1)[:, None] + (y**2).sum(1)[None] - 2 * x @ y.T
    return np.maximum(squared, 0.0)


def _check(a: np.ndarray, b: np.ndarray) -> None:
    if min(len(a), len(b)) < 2:
        raise ValueError(f"features must be at least 2 per set, got {len(a)} and {len(b)}")
