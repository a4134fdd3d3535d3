"""The registry of denoiser networks: one entry per architecture, by the name in config.json."""

from typing import Any

from dg2_jax.models.interface import (
    CONTROL,
    GUIDANCE,
    MASK,
    SIZES,
    Architecture,
    TensorRules,
)
from dg2_jax.nn.dg2_config import DG2UNetConfig
from dg2_jax.nn.dit_config import DiTConfig
from dg2_jax.nn.sd_config import SDUNetConfig
from dg2_jax.nn.unet_config import UNetConfig

_LORA_TARGETS = {"self": ("qkv", "attended"), "cross": ("cross_q", "cross_kv", "crossed")}
_TENSOR_RULES = TensorRules(
    by_outputs=("qkv", "cross_q", "cross_kv", "inner"),
    by_inputs=("attended", "crossed", "outer"),
)


def _has_several_levels(config: UNetConfig) -> bool:
    return len(config.channels) > 1


def _never(config: Any) -> bool:
    return False


def _sd_abilities(config: SDUNetConfig) -> frozenset[str]:
    able = {
        CONTROL: True,
        SIZES: config.addition_time_embed_dim > 0,
        GUIDANCE: config.time_cond_proj_dim > 0,
        MASK: config.in_channels == 2 * config.out_channels + 1,
    }
    return frozenset(name for name, has in able.items() if has)


ARCHITECTURES = {
    "unet": Architecture(
        config=UNetConfig,
        module="dg2_jax.nn.unet:UNet",
        context_width="context_dim",
        masks_padding=True,
        has_null_context=True,
        lora_targets=_LORA_TARGETS,
        tensor_rules=_TENSOR_RULES,
        has_deep_features=_has_several_levels,
    ),
    "dit": Architecture(
        config=DiTConfig,
        module="dg2_jax.nn.dit:DiT",
        context_width="context_dim",
        masks_padding=True,
        has_null_context=True,
        lora_targets=_LORA_TARGETS,
        tensor_rules=_TENSOR_RULES,
        has_deep_features=_never,
    ),
    "dg2_unet": Architecture(
        config=DG2UNetConfig,
        module="dg2_jax.nn.dg2_unet:DG2UNet",
        context_width="n_embd",
        masks_padding=False,
        has_null_context=False,
        lora_targets={
            "self": ("self_attention.qkv", "self_attention.wo"),
            "cross": ("cross_attention.q", "cross_attention.kv", "cross_attention.wo"),
        },
        tensor_rules=TensorRules(
            by_outputs=(
                *("self_attention.qkv", "cross_attention.q", "cross_attention.kv"),
                "linear_geglu_1",
            ),
            by_inputs=("self_attention.wo", "cross_attention.wo", "linear_geglu_2"),
        ),
        has_deep_features=_never,
    ),
    "sd_unet": Architecture(
        config=SDUNetConfig,
        module="dg2_jax.nn.sd_unet:SDUNet",
        context_width="cross_attention_dim",
        masks_padding=True,
        has_null_context=False,
        lora_targets={
            "self": ("attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out"),
            "cross": ("attn2.to_q", "attn2.to_k", "attn2.to_v", "attn2.to_out"),
        },
        tensor_rules=TensorRules(
            by_outputs=("to_q", "to_k", "to_v", "ff.inner"), by_inputs=("to_out", "ff.outer")
        ),
        has_deep_features=_never,
        abilities=_sd_abilities,
    ),
}
