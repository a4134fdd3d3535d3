"""Compares the autoencoder and CLIP with the live torch classes of diffusers and transformers,
and the torch UNet that scripts/benchmark.py races with the recorded outputs of the original.

    pip install -r requirements.txt -r requirements/torch.txt     # an environment of its own
    python -m scripts.compare_torch

Every case creates a torch model with random weights, saves it in Hugging Face layout, loads that
folder here and runs both on the same random input. It prints the largest error relative to the
largest value; the command fails above 1e-4. --case=full runs only the cases in the size of Stable
Diffusion's autoencoder and CLIP ViT-B/32.
"""

import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from dg2_jax.interop import diffusers_vae, diffusiongen2, hf_text

_CASE = flags.DEFINE_string("case", "", "Run the cases whose name holds this text.")

LIMIT = 1e-4
GOLDEN = Path(__file__).resolve().parent.parent / "tests/golden/dg2_tiny_velocity_curved"
SD = {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "norm_num_groups": 32}
AUTOENCODERS: dict[str, dict[str, Any]] = {  # keyword arguments of diffusers.AutoencoderKL
    "vae full": SD,
    "vae five levels": {"block_out_channels": (16, 16, 32, 32, 48), "norm_num_groups": 8},
    "vae one level": {"block_out_channels": (24,), "norm_num_groups": 6},
    "vae no attention": {
        "block_out_channels": (16, 32),
        "norm_num_groups": 16,
        "mid_block_add_attention": False,
        "layers_per_block": 3,
    },
    "vae 16 channels, no quant": {
        "block_out_channels": (16, 32, 32),
        "norm_num_groups": 8,
        "latent_channels": 16,
        "use_quant_conv": False,
        "use_post_quant_conv": False,
        "scaling_factor": 1.5305,
        "shift_factor": 0.0609,
    },
}
SMALL = {
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
}
CLIPS: dict[str, tuple[dict[str, Any], dict[str, Any], int]] = {  # text, vision, projection_dim
    "clip full": ({}, {}, 512),
    "clip gelu": (
        SMALL | {"hidden_act": "gelu", "layer_norm_eps": 1e-3},
        SMALL | {"hidden_act": "gelu", "patch_size": 14, "image_size": 56},
        24,
    ),
    "clip uneven patches": (
        SMALL | {"max_position_embeddings": 33, "vocab_size": 500, "eos_token_id": 499},
        SMALL | {"patch_size": 12, "image_size": 40, "num_attention_heads": 3},
        64,
    ),
    "clip old end token": (
        SMALL | {"eos_token_id": 2},
        SMALL | {"hidden_act": "gelu_new", "patch_size": 16, "image_size": 32, "num_channels": 1},
        16,
    ),
}


def relative_error(actual: Any, expected: Any) -> float:
    """Max |a - b| / max |b|; infinite if the shapes differ."""
    a, b = np.asarray(actual), expected.detach().numpy()
    return float(np.abs(a - b).max() / np.abs(b).max()) if a.shape == b.shape else float("inf")


def randomised(model: Any, seed: int) -> Any:
    """The model in inference mode with noise on every parameter, the biases and gains too."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.03 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def nchw(x: np.ndarray) -> Any:
    """A torch tensor of NHWC numbers."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))


def compare_autoencoder(arguments: dict[str, Any], folder: Path) -> Iterator[tuple[str, float]]:
    """Errors of posterior and decoder on one image, wider than high to tell the axes apart."""
    import torch
    from diffusers import AutoencoderKL

    levels = len(arguments["block_out_channels"])
    blocks = {
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
    }
    theirs = randomised(AutoencoderKL(**blocks, **arguments), seed=0)
    theirs.save_pretrained(folder)
    ours = diffusers_vae.from_pretrained(folder)
    rng = np.random.default_rng(0)
    cells, factor = 8, 2 ** (levels - 1)
    pixels = rng.uniform(-1, 1, (1, cells * factor, 2 * cells * factor, 3)).astype(np.float32)
    latents = rng.normal(size=(1, cells, 2 * cells, ours.config.latent_channels))
    latents = latents.astype(np.float32)
    with torch.no_grad():
        expected = theirs.encode(nchw(pixels)).latent_dist
        decoded = theirs.decode(nchw(latents)).sample
    posterior = jax.jit(lambda x: ours.encode(x))(pixels)
    yield "mean", relative_error(posterior.mean, expected.mean.permute(0, 2, 3, 1))
    yield "logvar", relative_error(posterior.logvar, expected.logvar.permute(0, 2, 3, 1))
    pixels_out = jax.jit(lambda z: ours.decode(z))(latents)
    yield "decoded", relative_error(pixels_out, decoded.permute(0, 2, 3, 1))


def compare_clip(
    text: dict[str, Any], vision: dict[str, Any], projection: int, folder: Path
) -> Iterator[tuple[str, float]]:
    """Errors of both towers: prompts of different lengths behind a mask, and two images."""
    import torch
    from transformers import CLIPConfig, CLIPModel

    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=projection)
    theirs = randomised(CLIPModel(config), seed=1)
    theirs.save_pretrained(folder)
    clip_text, text_config = hf_text.load_clip_text(folder)
    clip_vision, vision_config = hf_text.load_clip_vision(folder)

    rng = np.random.default_rng(0)
    length = text_config.max_position_embeddings
    end = text_config.vocab_size - 1
    ids = rng.integers(3, end, (3, length))
    mask = np.arange(length)[None] < np.array([[5], [length // 2], [length]])
    ids = np.where(mask, ids, end)
    ids[np.arange(3), mask.sum(axis=1) - 1] = end
    size, channels = vision_config.image_size, vision_config.num_channels
    pixels = rng.normal(size=(2, size, size, channels)).astype(np.float32)
    with torch.no_grad():
        words = theirs.text_model(
            input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask.astype(np.int64))
        )
        seen = theirs.vision_model(pixel_values=nchw(pixels))
        expected = {
            "text hidden": words.last_hidden_state,
            "text pooled": words.pooler_output,
            "text projected": theirs.text_projection(words.pooler_output),
            "vision hidden": seen.last_hidden_state,
            "vision pooled": seen.pooler_output,
            "vision projected": theirs.visual_projection(seen.pooler_output),
        }
    outputs = (
        *clip_text(jnp.asarray(ids, jnp.int32), jnp.asarray(mask)),
        *clip_vision(jnp.asarray(pixels)),
    )
    for (name, values), ours in zip(expected.items(), outputs, strict=True):
        yield name, relative_error(ours, values)


def compare_dg2(which: str) -> Iterator[tuple[str, float]]:
    """Error of scripts/torch_unet.py against the recorded outputs of the original."""
    import torch

    from dg2_jax.scripts.torch_unet import TorchUNet  # PyTorch is not among the requirements

    file = diffusiongen2.open_checkpoint(GOLDEN.with_suffix(".pt"))
    twin = TorchUNet(file.config.unet).eval()
    states = file.states[which].items()
    named = {k.removeprefix("unet."): torch.tensor(np.array(v)) for k, v in states}
    twin.load_state_dict({k: v for k, v in named.items() if k in twin.state_dict()})
    with np.load(GOLDEN.with_suffix(".npz")) as recorded, torch.no_grad():
        output = twin(*(torch.tensor(recorded[name]) for name in ("x", "t", "prompt")))
        yield "output", relative_error(output, torch.tensor(recorded[f"unet_{which}"]))


def main(argv: list[str]) -> None:
    """Runs the cases; exits 1 where an error is above the limit."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    cases: dict[str, Any] = {
        name: lambda folder, a=arguments: compare_autoencoder(a, folder)
        for name, arguments in AUTOENCODERS.items()
    }
    cases |= {
        name: lambda folder, a=a: compare_clip(a[0], a[1], a[2], folder)
        for name, a in CLIPS.items()
    }
    cases |= {
        f"dg2 unet {which}": lambda folder, which=which: compare_dg2(which)
        for which in ("raw", "ema")
    }
    worst = 0.0
    for name, case in cases.items():
        if _CASE.value not in name:
            continue
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            errors = dict(case(Path(folder)))
        worst = max(worst, *errors.values())
        shown = ", ".join(f"{what} {error:.1e}" for what, error in errors.items())
        print(f"{name}: {shown} ({time.perf_counter() - start:.0f} s)", flush=True)
    print(f"largest relative error {worst:.1e}, allowed {LIMIT:.0e}")
    sys.exit(not worst <= LIMIT)


if __name__ == "__main__":
    app.run(main)
