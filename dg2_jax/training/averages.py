"""The averages that a run keeps, and averages of any width reconstructed from them."""

import re
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from dg2_jax.models import weights_file
from dg2_jax.models.model import Params
from dg2_jax.models.weights_file import WeightsError
from dg2_jax.training import ema

_NAME = re.compile(r"(\d+)_(0\.\d+)\.safetensors")


def write(folder: Path, step: int, sigmas: Sequence[float], averages: Sequence[Params]) -> None:
    """Writes `<step>_<sigma>.safetensors`, float32, for each width.

    Args:
        folder: created if missing.
        step: after which the averages were taken.
        sigmas: their relative widths.
        averages: on the host.
    """
    for sigma, average in zip(sigmas, averages, strict=True):
        weights_file.save(folder / f"{step:07d}_{sigma:g}.safetensors", average)


def reconstruct(folder: Path, like: Params, sigma_rel: float, step: int | None = None) -> Params:
    """Reconstructs the power average of another width; see `ema.posthoc_weights`.

    Args:
        folder: the one given to `write`.
        like: the weights, or their shapes (`jax.eval_shape`).
        sigma_rel: the width relative to `step`, in (0, 0.28).
        step: where the average ends; None for the last kept one.

    Returns:
        A tree like `like`, float32, on the host.

    Raises:
        WeightsError: there are no averages, or they do not fit `like`.
        ValueError: `step` lies beyond the last one, or sigma_rel is out of range.
    """
    if not 0 < sigma_rel < 0.28:
        raise ValueError(f"sigma_rel must be in (0, 0.28), got {sigma_rel}")
    names = [(path, _NAME.fullmatch(path.name)) for path in sorted(folder.glob("*.safetensors"))]
    kept = [(path, int(name[1]), float(name[2])) for path, name in names if name]
    if not kept:
        raise WeightsError(f"{folder} holds no averages; set ema.posthoc for the run")
    paths, steps, sigmas = zip(*kept, strict=True)
    last = max(steps) if step is None else step
    total = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float64), like)
    weights = ema.posthoc_weights(steps, sigmas, last, sigma_rel)
    for path, weight in zip(paths, weights, strict=True):  # one at a time: they may be large
        average = weights_file.load(path, like)
        total = jax.tree.map(lambda a, b, w=weight: a + w * np.asarray(b), total, average)
    return jax.tree.map(lambda leaf: leaf.astype(np.float32), total)
