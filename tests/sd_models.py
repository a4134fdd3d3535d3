"""The golden Stable Diffusion models, and one for in-painting made of one of them."""

import json
import shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

GOLDEN = Path(__file__).parent / "golden" / "sd"
PROMPTS = ["a lake at dawn", "snow on a VOLCANO, (very) bright; été!", ""]
WEIGHTS = "diffusion_pytorch_model.safetensors"


def reference(name):
    """Recorded arrays, pictures and latents with channels last."""
    with np.load(GOLDEN / name / "reference.npz") as arrays:
        return {k: v.transpose(0, 2, 3, 1) if v.ndim == 4 else v for k, v in arrays.items()}


def relative_error(found, expected):
    """The largest difference, of the largest entry."""
    return np.abs(np.asarray(found, np.float32) - expected).max() / np.abs(expected).max()


def inpainting(path, name="sd2_small"):
    """A copy of a model with five further input channels, of mask and masked picture."""
    folder = shutil.copytree(GOLDEN / name, path)
    config = folder / "unet" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "in_channels": 9}))
    file = folder / "unet" / WEIGHTS
    tensors = load_file(file)
    kernel = tensors["conv_in.weight"]
    more = np.random.default_rng(0).normal(0, 0.2, (len(kernel), 5, 3, 3)).astype(kernel.dtype)
    save_file(tensors | {"conv_in.weight": np.concatenate([kernel, more], axis=1)}, file)
    return folder


def lora_file(path, name="sd2_small"):
    """A LoRA of rank 2, in kohya's layout, for one layer of a model."""
    layer = "mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    kernel = load_file(GOLDEN / name / "unet" / WEIGHTS)[f"{layer}.weight"]
    rng = np.random.default_rng(0)
    stem = f"lora_unet_{layer.replace('.', '_')}"
    factors = {
        f"{stem}.lora_down.weight": rng.normal(0, 1, (2, kernel.shape[1])),
        f"{stem}.lora_up.weight": rng.normal(0, 1, (kernel.shape[0], 2)),
        f"{stem}.alpha": np.array(2.0),
    }
    save_file({key: value.astype(np.float32) for key, value in factors.items()}, path)
