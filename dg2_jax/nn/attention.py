"""Scaled dot-product attention, by the best path of each platform behind one function."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

# Softmax over a row with every key masked must stay finite: a large negative number, not -inf.
_MASKED = -1e9

# Logits a head from which the CPU path goes head by head instead of in one batched product
# (measured on 2 cores: equal speed at 256 x 256, 1.6 times at 1024 x 1024).
_MAPPED_FROM = 256 * 256


def dot_product_attention(
    q: Float[Array, "b lq h d"],
    k: Float[Array, "b lk h d"],
    v: Float[Array, "b lk h d"],
    mask: Bool[Array, "b lk"] | None = None,
) -> Float[Array, "b lq h d"]:
    """softmax(q kᵀ / √d) v for every head; the softmax is in float32.

    Args:
        q: queries.
        k: keys.
        v: values.
        mask: True where a key may be attended to; None attends to every key.

    Returns:
        The attended values, in the dtype of `v`.
    """
    if mask is None:
        mask = jnp.ones(k.shape[:2], bool)
    cpu = _attend_mapped if q.shape[1] * k.shape[1] >= _MAPPED_FROM else _attend_batched
    return jax.lax.platform_dependent(q, k, v, mask, cpu=cpu, default=_attend_fused)


def _attend_fused(q: Array, k: Array, v: Array, mask: Array) -> Array:
    """XLA's own attention: one fused kernel where the device has one (cuDNN flash on GPU)."""
    return jax.nn.dot_product_attention(q, k, v, mask=mask[:, None, None, :])


def _attend_batched(q: Array, k: Array, v: Array, mask: Array) -> Array:
    """The textbook form, best on CPU for short sequences."""
    logits = jnp.einsum("bqhd,bkhd->bhqk", q, k).astype(jnp.float32) * q.shape[-1] ** -0.5
    logits = jnp.where(mask[:, None, None, :], logits, _MASKED)
    return jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(logits, axis=-1).astype(v.dtype), v)


def _attend_mapped(q: Array, k: Array, v: Array, mask: Array) -> Array:
    """One matrix product after another over (batch, head).

    XLA's CPU back end runs a batched product of narrow matrices through a slow generic loop, but a
    single product through its fast kernel; long sequences gain five- to tenfold from this.
    """
    b, lq, h, d = q.shape

    def one(args):
        q1, k1, v1, bias = args
        logits = (q1 @ k1.T).astype(jnp.float32) * d**-0.5 + bias[None, :]
        return jax.nn.softmax(logits, axis=-1).astype(v1.dtype) @ v1

    bias = jnp.repeat(jnp.where(mask, 0.0, _MASKED).astype(jnp.float32), h, axis=0)
    heads_first = [jnp.swapaxes(a, 1, 2).reshape(b * h, -1, d) for a in (q, k, v)]
    out = jax.lax.map(one, (*heads_first, bias))
    return jnp.swapaxes(out.reshape(b, h, lq, d), 1, 2)
