"""The configurations of CLIP's towers (`dg2_jax.nn.clip`)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from dg2_jax import config as config_lib
from dg2_jax.nn.activations import check_architecture

_Config = TypeVar("_Config", bound="TowerConfig")


@dataclasses.dataclass(frozen=True)
class TowerConfig:
    """The fields of both towers, with the names of a Hugging Face `config.json`."""

    hidden_size: int = 512
    intermediate_size: int = 2048
    projection_dim: int = 512
    num_hidden_layers: int = 12
    num_attention_heads: int = 8
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5

    def __post_init__(self):
        check_architecture("clip", self.hidden_size, self.num_attention_heads, self.hidden_act)

    @classmethod
    def from_dict(cls: type[_Config], config: Mapping[str, Any]) -> _Config:
        """From a tower's configuration, or from the tower's part of a whole CLIP's."""
        part = f"{cls._part()}_config"
        if part in config:
            overrides = config.get(f"{part}_dict") or {}  # the first published files have both
            size = {k: v for k, v in config.items() if k == "projection_dim"}
            config = {**config[part], **overrides, **size}
        names = {field.name for field in dataclasses.fields(cls)}
        fields = {key: value for key, value in config.items() if key in names}
        return config_lib.from_mapping(cls, fields, cls._part())

    @classmethod
    def _part(cls) -> str:
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class ClipTextConfig(TowerConfig):
    """Sizes of the text tower; the defaults are those of ViT-B/32."""

    vocab_size: int = 49408
    max_position_embeddings: int = 77
    eos_token_id: int = 49407

    @classmethod
    def _part(cls) -> str:
        return "text"


@dataclasses.dataclass(frozen=True)
class ClipVisionConfig(TowerConfig):
    """Sizes of the vision tower; the defaults are those of ViT-B/32."""

    hidden_size: int = 768
    intermediate_size: int = 3072
    num_attention_heads: int = 12
    image_size: int = 224
    patch_size: int = 32
    num_channels: int = 3

    @classmethod
    def _part(cls) -> str:
        return "vision"
