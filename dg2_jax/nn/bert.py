"""BERT's encoder (Devlin et al., arXiv 1810.04805), as sentence encoders such as MiniLM use it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from dg2_jax import config as config_lib
from dg2_jax.nn.transformer import TransformerLayer, check_architecture, layer_norm


@dataclasses.dataclass(frozen=True)
class BertConfig:
    """Sizes of a BERT encoder; the names are those of a Hugging Face `config.json`."""

    vocab_size: int = 30522
    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-12

    def __post_init__(self):
        check_architecture("bert", self.hidden_size, self.num_attention_heads, self.hidden_act)

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> BertConfig:
        """From the contents of a `config.json`; keys that concern only training are ignored.

        Raises:
            ValueError: for relative position embeddings, which are not implemented.
        """
        if config.get("position_embedding_type", "absolute") != "absolute":
            raise ValueError("position_embedding_type: only 'absolute' is implemented")
        names = {field.name for field in dataclasses.fields(cls)}
        fields = {key: value for key, value in config.items() if key in names}
        return config_lib.from_mapping(cls, fields, "bert")


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


def mean_pool(hidden: Float[Array, "b l d"], mask: Bool[Array, "b l"]) -> Float[Array, "b d"]:
    """The sentence vector of Sentence-BERT (arXiv 1908.10084): mean of real tokens, normalised."""
    weight = mask[:, :, None].astype(hidden.dtype)
    mean = jnp.sum(hidden * weight, axis=1) / jnp.maximum(jnp.sum(weight, axis=1), 1.0)
    return l2_normalize(mean)


def l2_normalize(x: Float[Array, "b d"]) -> Float[Array, "b d"]:
    """Scales rows to length 1: x / |x|; zero stays zero."""
    return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-12)
