"""Tiny DiffusionGen2 checkpoints and what they need: an autoencoder, a CLIP, latent shards.

The golden CLIP has no tokenizer; here it gets one of whole words.
"""

import shutil
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from dg2_jax.interop.torch_checkpoint import Record, read_torch
from tests.interop.torch_files import write_torch

GOLDEN = Path(__file__).parents[1] / "golden"
VAE = GOLDEN / "hf_vae_tiny"  # 4 latent channels, a cell is 2 pixels
CHECKPOINT = GOLDEN / "dg2_tiny_velocity_curved.pt"
CLIP_WIDTH, CLIP_LENGTH = 32, 20
_WORDS = ("a", "lake", "at", "dawn", "volcano")
_START, _END = 198, 199


def clip_folder(path):
    """The golden CLIP with a tokenizer."""
    folder = Path(shutil.copytree(GOLDEN / "hf_clip_tiny", path))
    words = {word: i for i, word in enumerate(_WORDS)} | {"<s>": _START, "</s>": _END}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="a"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", _START), ("</s>", _END)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def write_shards(folder, count=2, size=64, width=CLIP_WIDTH, length=CLIP_LENGTH):
    """Shards of 8x8 latents that the caption decides: a ramp or its negative."""
    folder.mkdir()
    ramp = np.linspace(-1.5, 1.5, 4 * 8 * 8).reshape(4, 8, 8)
    for i in range(count):
        rng = np.random.default_rng(i)
        sign = rng.integers(0, 2, size) * 2.0 - 1.0
        latents = sign[:, None, None, None] * ramp + 0.05 * rng.normal(size=(size, 4, 8, 8))
        text = np.broadcast_to(sign[:, None, None], (size, length, width))
        write_torch(
            folder / f"shard_{i}.pt",
            {
                "latents": latents.astype(np.float16),
                "text_embd": text.astype(np.float16),
                "null_embd": np.zeros((1, length, width), np.float16),
            },
        )
    return folder


def rewritten(path, change):
    """The golden checkpoint with its content changed, without the optimiser."""
    content = read_torch(CHECKPOINT)
    content.pop("optimizer_state_dict")
    content["config"] = {
        k: dict(v.state) for k, v in content["config"].state.items() if isinstance(v, Record)
    }
    change(content)
    return write_torch(path, content)


def narrow_checkpoint(path, change=lambda content: None):
    """The golden checkpoint for texts of the golden CLIP's width."""
    rng = np.random.default_rng(0)

    def narrow(content):
        content["config"]["unet"]["n_embd"] = CLIP_WIDTH
        for name in ("model_state_dict", "ema_state_dict"):
            for key, value in content[name].items():
                if key.endswith("cross_attention.kv.weight"):
                    kernel = 0.2 * rng.normal(size=(len(value), CLIP_WIDTH))
                    content[name][key] = kernel.astype(np.float32)
        change(content)

    return rewritten(path, narrow)
