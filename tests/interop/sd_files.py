"""The golden models of tests/golden/sd, and other forms of their files."""

import re
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from dg2_jax.interop.stable_diffusion import original_names
from dg2_jax.interop.stable_diffusion.folder import read_unet_config

GOLDEN = Path(__file__).parents[1] / "golden" / "sd"
PROMPTS = ["a lake at dawn", "snow on a VOLCANO, (very) bright; été!", ""]
WEIGHTS = "diffusion_pytorch_model.safetensors"


def reference(name, file="reference.npz"):
    """Recorded arrays, pictures and latents with channels last."""
    with np.load(GOLDEN / name / file) as arrays:
        return {k: v.transpose(0, 2, 3, 1) if v.ndim == 4 else v for k, v in arrays.items()}


def error(found, expected):
    """The largest difference, of the largest entry."""
    return np.abs(np.asarray(found, np.float32) - expected).max() / np.abs(expected).max()


def original_file(folder, path, dtype=np.float32, **stray):
    """A folder's weights in one file under the original names."""
    modules = original_names.unet_modules(read_unet_config(folder)[0])
    old = {new: name for name, new in modules.items()}
    tensors = {}
    for key, value in load_file(folder / "unet" / WEIGHTS).items():
        module, _, leaf = key.rpartition(".")
        tensors[f"model.diffusion_model.{old[module]}.{leaf}"] = value
    for key, value in load_file(folder / "vae" / WEIGHTS).items():
        tensors[f"first_stage_model.{_old_vae_name(key)}"] = value
    encoders = sorted(folder.glob("text_encoder*"))
    for i, encoder in enumerate(encoders):
        held = load_file(encoder / "model.safetensors")
        if i == len(encoders) - 1:  # OpenCLIP
            prefix = "conditioner.embedders.1.model." if i else "cond_stage_model.model."
            tensors |= {prefix + key: value for key, value in _open_clip(held).items()}
        else:
            prefix = "conditioner.embedders.0.transformer."
            tensors |= {prefix + key: value for key, value in held.items()}
    tensors = {k: np.ascontiguousarray(v.astype(dtype)) for k, v in tensors.items()}
    save_file(tensors | stray, path)
    return path


def _old_vae_name(key):
    if match := re.match(r"(encoder|decoder)\.(?:down|up)_blocks\.(\d)\.(.*)", key):
        side, level, rest = match.groups()
        rest = rest.replace("conv_shortcut", "nin_shortcut")
        rest = re.sub(r"^resnets\.(\d)", r"block.\1", rest)
        rest = re.sub(r"^(down|up)samplers\.0", r"\1sample", rest)
        way, level = ("down", level) if side == "encoder" else ("up", 1 - int(level))
        return f"{side}.{way}.{level}.{rest}"
    for new, old in (
        ("mid_block.resnets.0", "mid.block_1"),
        ("mid_block.resnets.1", "mid.block_2"),
        ("mid_block.attentions.0.group_norm", "mid.attn_1.norm"),
        ("mid_block.attentions.0.to_out.0", "mid.attn_1.proj_out"),
        ("mid_block.attentions.0.to_", "mid.attn_1."),
        ("conv_norm_out", "norm_out"),
    ):
        key = key.replace(new, old)
    return key


def _open_clip(tensors):
    """OpenCLIP's names: one matrix for queries, keys and values, the projection turned."""
    out, joined = {}, {}
    for full, value in tensors.items():
        key = full.removeprefix("text_model.")
        if match := re.match(r"encoder\.layers\.(\d+)\.self_attn\.([qkv])_proj\.(\w+)", key):
            joined.setdefault((match[1], match[3]), {})[match[2]] = value
            continue
        if key == "text_projection.weight":
            out["text_projection"] = value.T
            continue
        for new, old in (
            ("encoder.layers.", "transformer.resblocks."),
            ("self_attn.out_proj", "attn.out_proj"),
            ("layer_norm", "ln_"),
            ("mlp.fc1", "mlp.c_fc"),
            ("mlp.fc2", "mlp.c_proj"),
            ("embeddings.token_embedding", "token_embedding"),
            ("embeddings.position_embedding.weight", "positional_embedding"),
            ("final_ln_", "ln_final"),
        ):
            key = key.replace(new, old)
        out[key] = value
    for (layer, leaf), parts in joined.items():
        name = f"transformer.resblocks.{layer}.attn.in_proj_{leaf}"
        out[name] = np.concatenate([parts[p] for p in "qkv"])
    return out
