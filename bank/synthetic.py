"""Synthetic vectors, clustered as sentence embeddings are, to try a large index on.

Topics, scenes within a topic and wordings within a scene: each level is Gaussian, with variances
that fall as j^-0.75 over the axes, and the sum is normalised. The exponent makes their effective
dimension that of the bank's own vectors (76 and 80), and neighbours are as near (0.44).
"""

import numpy as np

DIMENSION = 384
_TOPICS, _SCENES_PER_TOPIC = 100, 100


class ClusteredVectors:
    """A source of clustered unit vectors (see the top of the file)."""

    def __init__(self, seed: int, topics: int = _TOPICS, scenes: int = _SCENES_PER_TOPIC):
        self._rng = np.random.default_rng(seed)
        scale = np.arange(1, DIMENSION + 1, dtype=np.float32) ** -0.375
        self._scale = scale / np.linalg.norm(scale)
        centres = np.repeat(self._normal(topics), scenes, axis=0)
        self._scenes = centres + self._normal(topics * scenes)

    def _normal(self, rows: int) -> np.ndarray:
        return self._rng.standard_normal((rows, DIMENSION), np.float32) * self._scale

    def draw(self, rows: int) -> np.ndarray:
        """New vectors (rows, 384), each of a scene drawn at random."""
        scene = self._rng.integers(len(self._scenes), size=rows)
        vectors = self._scenes[scene] + self._normal(rows)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def effective_dimension(vectors: np.ndarray) -> float:
    """Participation ratio of the covariance: (sum of eigenvalues)^2 / sum of their squares."""
    eigenvalues = np.linalg.eigvalsh(np.cov(vectors, rowvar=False))
    return float(eigenvalues.sum() ** 2 / (eigenvalues**2).sum())
