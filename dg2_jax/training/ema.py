"""Exponential moving averages of the weights: ema ← β_t · ema + (1 - β_t) · params."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from dg2_jax.training.config import EmaConfig

Decay = Callable[[Int[Array, ""]], Float[Array, ""]]


def warmup_decay(decay: float) -> Decay:
    """β_t = min(decay, (1 + s)/(10 + s)), s = t - 1: a short memory while weights change fast.

    Args:
        decay: the limit, in [0, 1).

    Returns:
        A function of the number t of updates made, this one included (t >= 1).
    """

    def beta(t: Int[Array, ""]) -> Float[Array, ""]:
        step = t.astype(jnp.float32) - 1.0
        return jnp.minimum(decay, (1.0 + step) / (10.0 + step))

    return beta


def power_decay(sigma_rel: float) -> Decay:
    """β_t = (1 - 1/t)^(γ+1): the power-function profile of EDM2 (arXiv 2312.02696, section 3.1).

    The average then weights time τ in proportion to τ^γ, for a run of any length. At t = 1, β = 0,
    which forgets the initial weights.

    Args:
        sigma_rel: the profile's standard deviation as a share of the run, in (0, 0.28).

    Returns:
        A function of the number t of updates made, this one included (t >= 1).
    """
    exponent = power_gamma(sigma_rel) + 1.0
    return lambda t: (1.0 - 1.0 / t.astype(jnp.float32)) ** exponent


def power_gamma(sigma_rel: float) -> float:
    """γ of the profile whose relative width is `sigma_rel`: σ² = (γ+1) / ((γ+2)² (γ+3)).

    It is the largest real root of the cubic γ³ + 7γ² + (16 - σ⁻²)γ + 12 - σ⁻² = 0.

    >>> round(power_gamma(0.10), 2)
    6.94
    """
    inverse = sigma_rel**-2
    roots = np.roots([1.0, 7.0, 16.0 - inverse, 12.0 - inverse])
    return float(roots.real.max())


def make_decay(config: EmaConfig) -> Decay:
    """The decay that a configuration asks for."""
    if config.profile == "power":
        return power_decay(config.sigma_rel)
    return warmup_decay(config.decay)


def update(ema: Any, params: Any, beta: Float[Array, ""]) -> Any:
    """β · ema + (1 - β) · params on every leaf, in float32."""
    return jax.tree.map(lambda e, p: e + (1.0 - beta) * (p - e), ema, params)


def profile_product(
    t_a: ArrayLike, gamma_a: ArrayLike, t_b: ArrayLike, gamma_b: ArrayLike
) -> Float[np.ndarray, "..."]:
    """∫ p_a(τ) p_b(τ) dτ of power profiles p(τ) = (γ+1) τ^γ / t^(γ+1) on [0, t], else 0.

    With s = min(t_a, t_b) it is (γ_a+1)(γ_b+1) / (γ_a+γ_b+1) · (s/t_a)^γ_a (s/t_b)^γ_b / max(t_a,
    t_b): arXiv 2312.02696, appendix C.3, in a form that does not overflow. Arguments broadcast.
    """
    t_a, gamma_a, t_b, gamma_b = (np.asarray(v, np.float64) for v in (t_a, gamma_a, t_b, gamma_b))
    shorter, longer = np.minimum(t_a, t_b), np.maximum(t_a, t_b)
    decay = (shorter / t_a) ** gamma_a * (shorter / t_b) ** gamma_b
    factor = (gamma_a + 1) * (gamma_b + 1) / (gamma_a + gamma_b + 1)
    return np.asarray(factor * decay / longer)


def posthoc_weights(
    steps: Sequence[int], sigmas: Sequence[float], step: int, sigma_rel: float
) -> Float[np.ndarray, " n"]:
    """Weights that combine kept averages into one of any width (EDM2, section 3.2).

    The weighted sum of the kept profiles is the least-squares fit to the power profile of
    `sigma_rel` that ends at `step`, divided by the sum of its weights: if the kept profiles span
    the requested one badly, the least-squares weights do not add up to 1 and would scale the
    network's weights.

    Args:
        steps: of the n kept averages, at least 1.
        sigmas: their relative widths, in (0, 0.28).
        step: where the profile ends, in [1, max(steps)].
        sigma_rel: its relative width, in (0, 0.28).

    Returns:
        n weights; they add up to 1.

    Raises:
        ValueError: there are no averages, or `step` is beyond the last one.
    """
    if len(steps) == 0 or not 1 <= step <= max(steps):
        last = max(steps, default=0)
        raise ValueError(f"step must be in [1, {last}], the last average kept, got {step}")
    t = np.asarray(steps, np.float64)
    gamma = np.array([power_gamma(sigma) for sigma in sigmas])
    gram = profile_product(t[:, None], gamma[:, None], t[None, :], gamma[None, :])
    target = profile_product(t, gamma, float(step), power_gamma(sigma_rel))
    weights = np.linalg.lstsq(gram, target, rcond=1e-12)[0]
    return weights / weights.sum()
