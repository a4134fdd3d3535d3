"""Scaled dot-product attention: one function, with the fastest path for each platform."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

# A large negative number instead of -inf keeps the softmax finite when every key is masked.
_MASKED = -1e9

# Number of logits per head from which the CPU path goes head by head instead of in one batched
# product; and how many queries its backward pass takes at once, so that logits stay in the cache.
_MAPPED_FROM = 128 * 256
_BLOCK = 256

# Number of logits from which other platforms take the queries in parts: a gigabyte of float32.
_MOST_LOGITS = 1 << 28


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
    masks = () if mask is None else (mask,)
    cpu = _attend_mapped if q.shape[1] * k.shape[1] >= _MAPPED_FROM else _attend_batched
    return jax.lax.platform_dependent(q, k, v, *masks, cpu=cpu, default=_attend_in_parts)


def _attend_in_parts(q: Array, k: Array, v: Array, mask: Array | None = None) -> Array:
    """JAX's own attention, of as many queries at once as the logits leave memory for."""
    if mask is not None:
        mask = mask[:, None, None, :]
    b, lq, h, d = q.shape
    most = max(1, _MOST_LOGITS // (b * h * k.shape[1]))
    parts = next(n for n in range(1, lq + 1) if lq % n == 0 and lq // n <= most)
    if parts == 1:
        return jax.nn.dot_product_attention(q, k, v, mask=mask)

    @jax.checkpoint  # a backward pass keeps no logits either
    def attend(q: Array) -> Array:
        return jax.nn.dot_product_attention(q, k, v, mask=mask)

    queries = jnp.moveaxis(q.reshape(b, parts, lq // parts, h, d), 1, 0)
    return jnp.moveaxis(jax.lax.map(attend, queries), 0, 1).reshape(q.shape)


def _attend_batched(q: Array, k: Array, v: Array, mask: Array | None = None) -> Array:
    """The textbook form, best on CPU for short sequences."""
    logits = jnp.einsum("bqhd,bkhd->bhqk", q, k).astype(jnp.float32) * q.shape[-1] ** -0.5
    if mask is not None:
        logits = jnp.where(mask[:, None, None, :], logits, _MASKED)
    return jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(logits, axis=-1).astype(v.dtype), v)


def _attend_mapped(q: Array, k: Array, v: Array, mask: Array | None = None) -> Array:
    """One head after another, in float32.

    XLA's CPU back end runs a batched product of narrow matrices through a slow generic loop, but a
    single product through its fast kernel, with the maximum and the exp fused into it; this makes
    long sequences up to ten times faster. A mask is an extra column of the product, since another
    pass over the logits would cost as much as the product.
    """
    b, lq, h, d = q.shape
    queries, keys, values = (
        jnp.swapaxes(a, 1, 2).reshape(b * h, a.shape[1], d).astype(jnp.float32) for a in (q, k, v)
    )
    queries *= d**-0.5
    if mask is not None:
        bias = jnp.repeat(jnp.where(mask, 0.0, _MASKED).astype(jnp.float32), h, axis=0)
        queries, keys = _and(queries, 1.0), _and(keys, bias[..., None])
    out = _attend_heads(queries, keys, values)
    return jnp.swapaxes(out.reshape(b, h, lq, d), 1, 2).astype(v.dtype)


def _and(matrix: Float[Array, "*n l d"], column: Array | float) -> Float[Array, "*n l d+1"]:
    """The matrix with one more column."""
    column = jnp.broadcast_to(column, (*matrix.shape[:-1], 1))
    return jnp.concatenate([matrix, column.astype(matrix.dtype)], axis=-1)


@jax.custom_vjp
def _attend_heads(
    q: Float[Array, "n lq c"], k: Float[Array, "n lk c"], v: Float[Array, "n lk d"]
) -> Float[Array, "n lq d"]:
    """softmax(q kᵀ) v of n heads; the backward pass recomputes the logits and keeps none."""
    return _forward(q, k, v)[0]


def _forward(q: Array, k: Array, v: Array) -> tuple[Array, tuple[Array, ...]]:
    def head(of: tuple[Array, ...]) -> tuple[Array, Array, Array]:
        q, k, v = of
        logits = q @ k.T
        largest = jnp.max(logits, axis=-1, keepdims=True)
        weights = jnp.exp(logits - largest)
        total = jnp.sum(weights, axis=-1, keepdims=True)
        return (weights @ v) / total, largest, total

    out, largest, total = jax.lax.map(head, (q, k, v))
    return out, (q, k, v, out, largest, total)


def _backward(saved: tuple[Array, ...], gradient: Array) -> tuple[Array, Array, Array]:
    """The gradients (Dao et al., FlashAttention, arXiv 2205.14135, appendix B.2).

    With the weights p = exp(q kᵀ - m)/s and the gradient g of out = p v:
    dv = pᵀ g; dlogits = p ∘ (g vᵀ - ⟨g, out⟩); dq = dlogits k; dk = dlogitsᵀ q. 1/s is absorbed
    into g, each subtraction is an extra column of a product, and the logits are held as (keys,
    queries), so that only narrow matrices are transposed.
    """
    q, k, v, out, largest, total = saved
    n, lq, _ = q.shape
    block = _BLOCK if lq % _BLOCK == 0 else lq
    gradient = gradient / total
    inner = jnp.sum(gradient * out, axis=-1, keepdims=True)
    rows = (q, _and(q, -largest), gradient, _and(gradient, -inner))

    def head(of: tuple) -> tuple[Array, Array, Array]:
        k, v, rows = of
        shifted, valued = _and(k, 1.0), _and(v, 1.0)

        def add(sums: tuple[Array, Array], rows: tuple[Array, ...]) -> tuple[tuple, Array]:
            q, q_shifted, g, g_shifted = rows
            e = jnp.exp(shifted @ q_shifted.T)
            dlogits = e * (valued @ g_shifted.T)
            return (sums[0] + dlogits @ q, sums[1] + e @ g), (k.T @ dlogits).T

        (dk, dv), dq = jax.lax.scan(add, (jnp.zeros_like(k), jnp.zeros_like(v)), rows)
        return dq.reshape(lq, -1), dk, dv

    blocks = jax.tree.map(lambda a: a.reshape(n, lq // block, block, -1), rows)
    return jax.lax.map(head, (k, v, blocks))


_attend_heads.defvjp(_forward, _backward)
