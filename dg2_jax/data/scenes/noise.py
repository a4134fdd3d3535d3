"""Smooth random fields: cubic B-spline value noise and its fractal sums, in one and two dimensions.

A field is the product basis @ lattice @ basis.T of a small random lattice, so it may be sampled at
any row and column coordinates (perspective, stretching) at the cost of two matrix products.
"""

import numpy as np

_AMPLITUDE = 1.7  # a B-spline flattens white noise; this brings typical extremes back to +-1


def smoothstep(low, high, x):
    """Hermite step 3t^2 - 2t^3 with t = (x - low) / (high - low) clipped to [0, 1]."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def mix(a, b, t):
    """Linear interpolation a + t (b - a); broadcasts."""
    return a + t * (b - a)


def _basis(u: np.ndarray) -> np.ndarray:
    """Cubic B-spline weights (len(u), cells) of coordinates u >= 0, in lattice cells."""
    cell = np.floor(u).astype(int)
    f = u - cell
    weights = ((1 - f) ** 3, 3 * f**3 - 6 * f**2 + 4, 1 + 3 * f + 3 * f**2 - 3 * f**3, f**3)
    matrix = np.zeros((len(u), int(cell.max()) + 4), np.float32)
    for k, w in enumerate(weights):
        matrix[np.arange(len(u)), cell + k] = w / 6
    return matrix


def fbm(
    rng: np.random.Generator, v: np.ndarray, u: np.ndarray, octaves: int = 3, gain: float = 0.5
) -> np.ndarray:
    """Fractal value noise, float32 (len(v), len(u)), about [-1, 1] with mean zero.

    Args:
      rng: draws the lattices.
      v: row coordinates in cells of the first octave, any sign.
      u: column coordinates in cells of the first octave, any sign.
      octaves: how many; each doubles the frequency.
      gain: ratio of an octave's amplitude to the previous one's.
    """
    v, u = np.ravel(v) - np.min(v), np.ravel(u) - np.min(u)
    total = np.zeros((len(v), len(u)), np.float32)
    for k in range(octaves):
        rows, columns = _basis(v * 2**k), _basis(u * 2**k)
        lattice = rng.uniform(-1, 1, (rows.shape[1], columns.shape[1])).astype(np.float32)
        total += gain**k * (rows @ lattice @ columns.T)
    return total * (_AMPLITUDE / np.sqrt(sum(gain ** (2 * k) for k in range(octaves))))


def profile(
    rng: np.random.Generator, u: np.ndarray, octaves: int = 3, gain: float = 0.5
) -> np.ndarray:
    """One-dimensional `fbm`: float32 of the length of u."""
    return 1.4 * fbm(rng, np.zeros(1), u, octaves, gain)[0]
