"""Stable Diffusion as a model folder would describe it.

What is known before any weights are read becomes a config.json as model folders have it
(`description`), so that whatever asks a model what it can do asks these in the same way.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from dg2_jax.config import to_dict
from dg2_jax.interop.stable_diffusion.parts import Parts
from dg2_jax.pictures import preview

ARCHITECTURE = "sd_unet"
STEPS, FEW_STEPS = 25, 4
GUIDANCE, XL_GUIDANCE = 7.5, 5.0  # the usual ones
_EMBEDDED_GUIDANCE = 8.5  # of networks that take the scale as an input


def description(parts: Parts) -> dict[str, Any]:
    """The config.json of a model, without "format", "files" and where its texts are encoded."""
    scheduler, is_xl = parts.scheduler, parts.unet.addition_time_embed_dim > 0
    described: dict[str, Any] = {
        "model": ARCHITECTURE,
        "denoiser": to_dict(parts.unet),
        "diffusion": {
            "schedule": scheduler.schedule.name,
            "alpha_bar": scheduler.schedule.alpha_bar.tolist(),
            "prediction_type": scheduler.prediction_type,
            **dataclasses.asdict(scheduler.stepping),
        },
        "vae": parts.vae.to_dict(),
        "text_encoder": {
            "penultimate": is_xl,
            "zeros_for_no_prompt": parts.zeros_for_no_prompt,
            "layers": [text.config.num_hidden_layers for text in parts.texts],
        },
        "default_size": parts.sample_size * parts.vae.downsampling_factor,
        "sampling": {"ema": _sampling(parts)},
    }
    if is_xl and parts.vae.latent_channels == 4:
        described["preview"] = preview.STABLE_DIFFUSION_XL.to_dict()
    return described


def _sampling(parts: Parts) -> dict[str, Any]:
    """The defaults of a call."""
    scheduler = parts.scheduler
    if parts.unet.time_cond_proj_dim:
        guidance = _EMBEDDED_GUIDANCE
    elif scheduler.is_few_step:
        guidance = 1.0
    else:
        guidance = XL_GUIDANCE if parts.unet.addition_time_embed_dim else GUIDANCE
    few = scheduler.is_few_step or parts.unet.time_cond_proj_dim
    return {
        "num_inference_steps": FEW_STEPS if few else STEPS,
        "guidance_scale": guidance,
        "solver": scheduler.solver,
    }


def compute_dtype() -> Any:
    """What the networks compute in here: bfloat16 where the device has it, float32 on CPU."""
    return jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16
