"""A small untrained model: what the pipeline promises holds for any weights."""

import jax.numpy as jnp

from dg2_jax.config import to_dict
from dg2_jax.models import folder as model
from dg2_jax.nn.autoencoder import AutoencoderKL
from dg2_jax.nn.autoencoder_config import AutoencoderConfig
from dg2_jax.nn.dg2_unet import DG2UNet, DG2UNetConfig
from dg2_jax.nn.dit import DiT, DiTConfig
from dg2_jax.nn.sd_config import SDUNetConfig
from dg2_jax.nn.sd_unet import SDUNet
from dg2_jax.nn.unet import UNet, UNetConfig
from tests.networks import random_params

VAE = AutoencoderConfig(
    latent_channels=4,
    block_out_channels=(8, 8),
    layers_per_block=1,
    norm_num_groups=4,
    mid_block_add_attention=False,
    patch_size=4,
    head_channels=4,
    scaling_factor=1.3,
)
FAST = {"num_inference_steps": 4, "guidance_scale": 1.0, "solver": "ddim", "spacing": "trailing"}
DENOISERS = {
    "unet": (
        UNet,
        UNetConfig(4, (8, 16), attention_levels=(False, True), head_dim=8, norm_groups=4),
    ),
    "dit": (DiT, DiTConfig(4, width=16, depth=2, head_dim=8)),
    "dg2_unet": (
        DG2UNet,
        DG2UNetConfig(4, (8, 16), n_layers=1, n_groups=4, n_heads=2, n_embd=384, t_embd=8),
    ),
    "sd_unet": (
        SDUNet,
        SDUNetConfig(
            block_out_channels=(8, 16),
            layers_per_block=(1, 1),
            down_depths=((1,), ()),
            up_depths=((), (1, 1)),
            num_attention_heads=(2, 2),
            cross_attention_dim=384,
            norm_num_groups=4,
        ),
    ),
}


def save(path, architecture="unet"):
    """Writes the model folder: pictures of 32 pixels, latents of 4x4x4."""
    denoiser, config = DENOISERS[architecture]
    model.save(
        path,
        {
            "model": architecture,
            "denoiser": to_dict(config),
            "diffusion": {"schedule": "curved", "prediction_type": "v_prediction"},
            "vae": VAE.to_dict(),
            "text_encoder": {"name": "minilm", "max_length": 64},
            "default_size": 32,
        },
        {
            name: random_params(lambda rngs: denoiser(config, rngs=rngs), seed)
            for seed, name in enumerate(("ema", "raw"))
        },
        random_params(lambda rngs: AutoencoderKL(VAE, rngs=rngs), 2),
        dtype=jnp.float32,
    )


def add_fast(path):
    """Gives a folder of `save` weights "fast", of no use but known by their pictures."""
    denoiser, config = DENOISERS["unet"]
    params = random_params(lambda rngs: denoiser(config, rngs=rngs), 3)
    model.add_weights(path, "fast", params, FAST, jnp.float32)
