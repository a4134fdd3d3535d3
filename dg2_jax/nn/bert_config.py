"""The configuration of BERT's encoder (`dg2_jax.nn.bert`)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from dg2_jax import config as config_lib
from dg2_jax.nn.activations import check_architecture


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
