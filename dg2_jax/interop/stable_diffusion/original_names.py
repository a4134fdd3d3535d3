"""The original names of Stable Diffusion's tensors, in one file, turned into those of diffusers.

The names are those of the published training code: numbered `input_blocks`, `middle_block` and
`output_blocks` of the UNet, `first_stage_model` for the autoencoder, `cond_stage_model` (XL:
`conditioner.embedders`) for the text encoders. What the widths and depths are is read off too.
"""

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dg2_jax.interop import vae_names
from dg2_jax.nn.sd_config import SDUNetConfig

Tensors = Mapping[str, np.ndarray]

_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_AROUND = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "time_embed.cond_proj": "time_embedding.cond_proj",
    "label_emb.0.0": "add_embedding.linear_1",
    "label_emb.0.2": "add_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
_TRANSFORMER = (
    *("norm1", "attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0"),
    *("norm2", "attn2.to_q", "attn2.to_k", "attn2.to_v", "attn2.to_out.0"),
    *("norm3", "ff.net.0.proj", "ff.net.2"),
)
_VAE_PARTS = ("encoder.", "decoder.", "quant_conv.", "post_quant_conv.")
_OPEN_CLIP = [
    (r"^transformer\.resblocks\.", "text_model.encoder.layers."),
    (r"^token_embedding\.", "text_model.embeddings.token_embedding."),
    (r"^positional_embedding$", "text_model.embeddings.position_embedding.weight"),
    (r"^ln_final\.", "text_model.final_layer_norm."),
    (r"\.ln_1\.", ".layer_norm1."),
    (r"\.ln_2\.", ".layer_norm2."),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"\.mlp\.c_proj\.", ".mlp.fc2."),
    (r"\.attn\.out_proj\.", ".self_attn.out_proj."),
]
_OPEN_CLIP_UNUSED = ("attn_mask", "logit_scale")


def under(tensors: Tensors, prefix: str) -> dict[str, np.ndarray]:
    """The tensors whose names begin with a prefix, without it."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def unet(tensors: Tensors) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Fields of `SDUNetConfig` that the tensors of a UNet tell, and the tensors by new names.

    Args:
        tensors: those of `model.diffusion_model`, without that prefix.

    Raises:
        ValueError: they are not those of such a UNet.
    """
    widths, down = levels_of(tensors, "input_blocks", first=1)
    _, up = levels_of(tensors, "output_blocks", first=0)
    try:
        first, last = tensors["input_blocks.0.0.weight"], tensors["out.2.weight"]
        context = next(v for k, v in tensors.items() if k.endswith("attn2.to_k.weight"))
        fields = {
            "in_channels": first.shape[1],
            "out_channels": last.shape[0],
            "block_out_channels": tuple(widths),
            "layers_per_block": tuple(map(len, down)),
            "down_depths": by_level(down),
            "up_depths": by_level(up),
            **middle(tensors),
            "cross_attention_dim": context.shape[1],
            "time_embedding_dim": tensors["time_embed.0.weight"].shape[0],
        }
    except (KeyError, StopIteration) as error:
        raise ValueError("it lacks parts of a Stable Diffusion UNet") from error
    if "time_embed.cond_proj.weight" in tensors:
        fields["time_cond_proj_dim"] = tensors["time_embed.cond_proj.weight"].shape[1]
    if "label_emb.0.0.weight" in tensors:
        fields["projection_class_embeddings_input_dim"] = tensors["label_emb.0.0.weight"].shape[1]
        fields["addition_time_embed_dim"] = 256
    modules = unet_modules(SDUNetConfig(**fields, num_attention_heads=(1,) * len(widths),
                                        norm_num_groups=1))  # fmt: skip
    return fields, {renamed_by(key, modules): value for key, value in tensors.items()}


def unet_modules(config: SDUNetConfig) -> dict[str, str]:
    """The modules of a UNet: original name to diffusers'."""
    modules = dict(_AROUND)

    def block(name: str, stage: str, layer: int, depths: Sequence[int]) -> int:
        """A residual block and its transformer; how many modules the original block has."""
        for old, new in _RESNET.items():
            modules[f"{name}.0.{old}"] = f"{stage}.resnets.{layer}.{new}"
        if layer < len(depths):
            _transformer(modules, f"{name}.1", f"{stage}.attentions.{layer}", depths[layer])
        return 1 + (layer < len(depths))

    levels, number = len(config.block_out_channels), 1
    for level, layers in enumerate(config.layers_per_block):
        stage = f"down_blocks.{level}"
        for layer in range(layers):
            block(f"input_blocks.{number + layer}", stage, layer, config.down_depths[level])
        number += layers + 1
        if level + 1 < levels:
            modules[f"input_blocks.{number - 1}.0.op"] = f"{stage}.downsamplers.0.conv"
    place = 0
    for layer in range(config.mid_layers):
        for old, new in _RESNET.items():
            modules[f"middle_block.{place}.{old}"] = f"mid_block.resnets.{layer}.{new}"
        place += 1
        if layer < len(config.mid_depths):
            name = f"mid_block.attentions.{layer}"
            _transformer(modules, f"middle_block.{place}", name, config.mid_depths[layer])
            place += 1
    number = 0
    for level, layers in enumerate(reversed(config.layers_per_block)):
        stage = f"up_blocks.{level}"
        for layer in range(layers + 1):
            name = f"output_blocks.{number + layer}"
            place = block(name, stage, layer, config.up_depths[level])
        number += layers + 1
        if level + 1 < levels:
            modules[f"output_blocks.{number - 1}.{place}.conv"] = f"{stage}.upsamplers.0.conv"
    return modules


def _transformer(modules: dict[str, str], old: str, new: str, depth: int) -> None:
    parts = ["norm", "proj_in", "proj_out"]
    parts += [f"transformer_blocks.{i}.{part}" for i in range(depth) for part in _TRANSFORMER]
    modules |= {f"{old}.{part}": f"{new}.{part}" for part in parts}


def levels_of(tensors: Tensors, kind: str, first: int) -> tuple[list[int], list[list[int | None]]]:
    """Of the numbered blocks of one way: each level's width, and depths of its transformers."""
    widths: list[int] = []
    depths: list[list[int | None]] = [[]]
    for number in itertools.count(first):
        block = f"{kind}.{number}"
        if f"{block}.0.op.weight" in tensors:
            depths.append([])
        elif (convolution := tensors.get(f"{block}.0.in_layers.2.weight")) is not None:
            widths = [*widths[: len(depths) - 1], convolution.shape[0]]
            attends = f"{block}.1.proj_in.weight" in tensors
            depths[-1].append(_depth(tensors, f"{block}.1") if attends else None)
            if f"{block}.{1 + attends}.conv.weight" in tensors:
                depths.append([])
        else:
            return widths, depths
    raise AssertionError("the loop ends by itself")


def middle(tensors: Tensors) -> dict[str, Any]:
    """Fields of `SDUNetConfig` about what lies between the way down and the way up."""
    layers, depths, number = 0, [], 0
    while any(key.startswith(f"middle_block.{number}.") for key in tensors):
        name = f"middle_block.{number}"
        if f"{name}.proj_in.weight" in tensors:
            depths.append(_depth(tensors, name))
        else:
            layers += 1
        number += 1
    return {"mid_layers": layers, "mid_depths": tuple(depths)}


def _depth(tensors: Tensors, name: str) -> int:
    """Transformer blocks of a module."""
    count = 0
    while f"{name}.transformer_blocks.{count}.norm1.weight" in tensors:
        count += 1
    return count


def by_level(depths: list[list[int | None]]) -> tuple[tuple[int, ...], ...]:
    """Depths as `SDUNetConfig` has them; raises ValueError where a level is of two kinds."""
    for of_level in depths:
        if None in of_level and any(of_level):
            raise ValueError("a level of its UNet attends behind some of its blocks only")
    return tuple(tuple(d for d in of_level if d is not None) for of_level in depths)


def renamed_by(key: str, modules: Mapping[str, str]) -> str:
    """The new name of a tensor of the UNet; the original one where it is in no known module."""
    module, _, leaf = key.rpartition(".")
    return f"{modules[module]}.{leaf}" if module in modules else key


def vae(tensors: Tensors) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Fields of `AutoencoderConfig` that the tensors tell, and the tensors by new names.

    Args:
        tensors: those of `first_stage_model`, without that prefix.

    Raises:
        ValueError: they are not those of such an autoencoder.
    """
    levels = {m[1] for key in tensors if (m := re.match(r"encoder\.down\.(\d+)\.", key))}
    held = {key: value for key, value in tensors.items() if key.startswith(_VAE_PARTS)}
    renamed = vae_names.of_this_age(held, len(levels))
    first = "encoder.down_blocks.{}.resnets.{}.conv1.weight"
    try:
        fields: dict[str, Any] = {
            "in_channels": renamed["encoder.conv_in.weight"].shape[1],
            "out_channels": renamed["decoder.conv_out.weight"].shape[0],
            "latent_channels": renamed["decoder.conv_in.weight"].shape[1],
            "block_out_channels": tuple(
                renamed[first.format(level, 0)].shape[0] for level in range(len(levels))
            ),
        }
    except KeyError as error:
        raise ValueError(f"its autoencoder lacks {error}") from error
    layers = 0
    while first.format(0, layers) in renamed:
        layers += 1
    fields["layers_per_block"] = layers
    attends = any(".mid_block.attentions." in key for key in renamed)
    fields["mid_block_add_attention"] = attends
    fields["use_quant_conv"] = "quant_conv.weight" in renamed
    fields["use_post_quant_conv"] = "post_quant_conv.weight" in renamed
    return fields, renamed


def open_clip(tensors: Tensors, layers: int) -> dict[str, np.ndarray]:
    """OpenCLIP's text encoder by the names of Hugging Face's.

    Args:
        tensors: by the original names.
        layers: how many layers are kept; those beyond are left out.
    """
    renamed = {}
    for original, value in tensors.items():
        key = original
        for pattern, replacement in _OPEN_CLIP:
            key = re.sub(pattern, replacement, key)
        layer = re.match(r"text_model\.encoder\.layers\.(\d+)\.", key)
        if original in _OPEN_CLIP_UNUSED or (layer and int(layer[1]) >= layers):
            continue
        if match := re.search(r"\.attn\.in_proj_(weight|bias)$", key):
            stem = key[: match.start()]
            for name, part in zip("qkv", np.split(value, 3), strict=True):
                renamed[f"{stem}.self_attn.{name}_proj.{match[1]}"] = part
        elif key == "text_projection":
            renamed["text_projection.weight"] = value.T
        else:
            renamed[key] = value
    return renamed
