"""The transformer layer that the text and vision encoders (BERT, CLIP) share."""

import jax
from flax import nnx
from jaxtyping import Array, Bool, Float

from dg2_jax.nn.activations import ACTIVATIONS
from dg2_jax.nn.attention import dot_product_attention

Tokens = Float[Array, "b l d"]


def layer_norm(width: int, epsilon: float, rngs: nnx.Rngs) -> nnx.LayerNorm:
    """LayerNorm with its statistics in two passes: E[x²] - E[x]² loses digits in float32."""
    return nnx.LayerNorm(width, epsilon=epsilon, use_fast_variance=False, rngs=rngs)


class SelfAttention(nnx.Module):
    """Multi-head self-attention; causal where position i may see only positions up to i."""

    def __init__(self, width: int, heads: int, *, causal: bool, rngs: nnx.Rngs):
        self.heads = heads
        self.causal = causal
        self.q_proj = nnx.Linear(width, width, rngs=rngs)
        self.k_proj = nnx.Linear(width, width, rngs=rngs)
        self.v_proj = nnx.Linear(width, width, rngs=rngs)
        self.out_proj = nnx.Linear(width, width, rngs=rngs)

    def __call__(self, x: Tokens, mask: Bool[Array, "b l"] | None = None) -> Tokens:
        """Args: x: tokens. mask: True where a token may be attended to; None is everywhere."""
        split = (*x.shape[:2], self.heads, -1)
        q, k, v = (proj(x).reshape(split) for proj in (self.q_proj, self.k_proj, self.v_proj))
        if self.causal:
            pairs = None if mask is None else mask[:, None, None, :]
            attended = jax.nn.dot_product_attention(q, k, v, mask=pairs, is_causal=True)
        else:
            attended = dot_product_attention(q, k, v, mask)
        return self.out_proj(attended.reshape(x.shape))


class TransformerLayer(nnx.Module):
    """Self-attention, then a two-layer perceptron, both residual.

    `pre_norm` normalises what enters a branch, x + f(norm(x)) (CLIP); otherwise the sum is
    normalised, norm(x + f(x)) (BERT).
    """

    def __init__(
        self,
        width: int,
        hidden: int,
        heads: int,
        *,
        activation: str,
        epsilon: float,
        pre_norm: bool,
        causal: bool = False,
        rngs: nnx.Rngs,
    ):
        self.pre_norm = pre_norm
        self.activation = activation
        self.attention = SelfAttention(width, heads, causal=causal, rngs=rngs)
        self.norm1 = layer_norm(width, epsilon, rngs)
        self.fc1 = nnx.Linear(width, hidden, rngs=rngs)
        self.fc2 = nnx.Linear(hidden, width, rngs=rngs)
        self.norm2 = layer_norm(width, epsilon, rngs)

    def __call__(self, x: Tokens, mask: Bool[Array, "b l"] | None = None) -> Tokens:
        """Args: x: tokens. mask: True where a token may be attended to; None is everywhere."""
        if self.pre_norm:
            x = x + self.attention(self.norm1(x), mask)
            return x + self._perceptron(self.norm2(x))
        x = self.norm1(x + self.attention(x, mask))
        return self.norm2(x + self._perceptron(x))

    def _perceptron(self, x: Tokens) -> Tokens:
        return self.fc2(ACTIVATIONS[self.activation](self.fc1(x)))
