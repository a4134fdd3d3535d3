"""BERT's encoder (Devlin et al., arXiv 1810.04805), as sentence encoders such as MiniLM use it."""

from __future__ import annotations

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from dg2_jax.nn.bert_config import BertConfig
from dg2_jax.nn.transformer import TransformerLayer, layer_norm


class Bert(nnx.Module):
    """Token ids in, one vector per token out; bidirectional, single-segment."""

    def __init__(self, config: BertConfig, *, rngs: nnx.Rngs):
        width, epsilon = config.hidden_size, config.layer_norm_eps
        self.word_embeddings = nnx.Embed(config.vocab_size, width, rngs=rngs)
        self.position_embeddings = nnx.Embed(config.max_position_embeddings, width, rngs=rngs)
        self.token_type_embeddings = nnx.Embed(config.type_vocab_size, width, rngs=rngs)
        self.norm = layer_norm(width, epsilon, rngs)
        self.layers = nnx.List(
            TransformerLayer(
                width,
                config.intermediate_size,
                config.num_attention_heads,
                activation=config.hidden_act,
                epsilon=epsilon,
                pre_norm=False,
                rngs=rngs,
            )
            for _ in range(config.num_hidden_layers)
        )

    def __call__(
        self, ids: Int[Array, "b l"], mask: Bool[Array, "b l"] | None = None
    ) -> Float[Array, "b l d"]:
        """The last hidden state.

        Args:
            ids: token ids, at most `max_position_embeddings` per row.
            mask: True where a token is real; padding is never attended to.
        """
        x = self.word_embeddings(ids)
        x = x + self.position_embeddings(jnp.arange(ids.shape[1]))[None]
        x = self.norm(x + self.token_type_embeddings(jnp.zeros_like(ids)))
        for layer in self.layers:
            x = layer(x, mask)
        return x
