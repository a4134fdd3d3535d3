"""The denoising loss, its weights, and how training timesteps are drawn."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from dg2_jax import randomness
from dg2_jax.diffusion import prediction


def min_snr_weight(
    snr: Float[Array, " b"], gamma: float | None, prediction_type: str
) -> Float[Array, " b"]:
    """Min-SNR-γ weights (Hang et al., arXiv 2303.09556, section 3.4).

    The weight of the x₀ loss is min(SNR, γ). Written for another target, the same loss is divided
    by the factor between the two: SNR for ε, SNR + 1 for v. Where SNR = 0 (the last level of a
    zero-terminal schedule) the weight is 1; the target of v is -x₀ there, all that can be learnt.

    Args:
        snr: ᾱ/(1-ᾱ), at least 0.
        gamma: the cap, above 0; None weighs every level by 1.
        prediction_type: what the network predicts.
    """
    prediction.check(prediction_type)
    if gamma is None:
        return jnp.ones_like(snr)
    if gamma <= 0:
        raise ValueError(f"min_snr_gamma must be above 0 or None, got {gamma}")
    capped = jnp.minimum(snr, gamma)
    if prediction_type == "sample":
        weight = capped
    elif prediction_type == "epsilon":
        weight = capped / jnp.where(snr > 0, snr, 1.0)
    else:
        weight = capped / (snr + 1.0)
    return jnp.where(snr > 0, weight, 1.0)


@randomness.steady
def stratified_timesteps(
    key: PRNGKeyArray, batch: int, num_train_timesteps: int
) -> Int[Array, " b"]:
    """One uniform draw from each of `batch` equal parts of [0, T), in random order.

    Each timestep by itself is uniform. Together they cover the range evenly, which lowers the
    variance of the loss (the low-discrepancy sampler of Kingma et al., arXiv 2107.00630, appendix
    I.1).
    """
    offset_key, order_key = jax.random.split(key)
    u = (jnp.arange(batch) + randomness.uniform(offset_key, (batch,))) / batch
    t = jnp.minimum((u * num_train_timesteps).astype(jnp.int32), num_train_timesteps - 1)
    return jax.random.permutation(order_key, t)


def assign_noise(
    x0: Float[Array, "b h w c"], noise: Float[Array, "b h w c"]
) -> Float[Array, "b h w c"]:
    """The same noises, in the order that minimises Σ ‖x₀ - ε‖².

    Immiscible diffusion (Li et al., arXiv 2406.12303, algorithm 1): the paths from pictures to
    noise are shorter, and each region of noise belongs to fewer pictures.
    """
    products = x0.reshape(len(x0), -1) @ noise.reshape(len(noise), -1).T
    rows, columns = optax.assignment.hungarian_algorithm(-products)
    return jnp.zeros_like(noise).at[rows].set(noise[columns])


def denoising_loss(
    predict: Callable[[Float[Array, "b h w c"], Int[Array, " b"]], Float[Array, "b h w c"]],
    x0: Float[Array, "b h w c"],
    noise: Float[Array, "b h w c"],
    t: Int[Array, " b"],
    alpha_bar: Float[Array, " T"],
    *,
    prediction_type: str,
    min_snr_gamma: float | None = 5.0,
) -> Float[Array, " b"]:
    """w(t) · mean (output - target)² of each sample.

    Args:
        predict: the network with its conditioning bound: (x_t, t) to its output.
        x0: clean latents.
        noise: standard normal, shaped like `x0`.
        t: timesteps in [0, T).
        alpha_bar: the schedule, float32.
        prediction_type: what the network predicts.
        min_snr_gamma: γ of `min_snr_weight`; None for equal weights.
    """
    level = alpha_bar[t]
    alpha = jnp.sqrt(level)[:, None, None, None]
    sigma = jnp.sqrt(1.0 - level)[:, None, None, None]
    output = predict(alpha * x0 + sigma * noise, t)
    error = output - prediction.target(prediction_type, x0, noise, alpha, sigma)
    weight = min_snr_weight(level / (1.0 - level), min_snr_gamma, prediction_type)
    return weight * jnp.mean(jnp.square(error), axis=(1, 2, 3))
