"""ControlNets in diffusers' layout: config.json beside diffusion_pytorch_model.safetensors.

control = load_controlnet("lllyasviel/control_v11p_sd15_canny")
residuals = control.apply(control.params, x, t, context, image, 0.7)
output = model.apply(model.params, x, t, context, residuals=residuals)
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dg2_jax.interop import hf_folder
from dg2_jax.interop.stable_diffusion.folder import STEM
from dg2_jax.interop.stable_diffusion.parts import unet_parameter
from dg2_jax.interop.stable_diffusion.unet_config import parse_controlnet
from dg2_jax.interop.weights import load_params
from dg2_jax.nn.abstract import abstract
from dg2_jax.nn.precision import with_compute_dtype
from dg2_jax.nn.sd_controlnet import ControlNet, ControlNetConfig
from dg2_jax.nn.sd_unet import Residuals

if TYPE_CHECKING:
    from dg2_jax.interop.stable_diffusion.model import StableDiffusion


@dataclasses.dataclass(frozen=True, eq=False)
class LoadedControlNet:
    """A ControlNet.

    Attributes:
        name: where it came from.
        config: of the network.
        params: its weights.
        graphdef: its structure.
    """

    name: str
    config: ControlNetConfig
    params: Any
    graphdef: nnx.GraphDef
    _run: Callable[..., Residuals] = dataclasses.field(repr=False)

    def apply(
        self,
        params: Any,
        x: Any,
        t: Any,
        context: Any,
        image: Any,
        scale: Any = 1.0,
        pooled: Any = None,
        time_ids: Any = None,
    ) -> Residuals:
        """What is added to the UNet; its `apply` takes it as `residuals`.

        Args:
            params: `self.params`, or others of the same shapes.
            x: noisy latents (b, h, w, c).
            t: training timesteps, an integer or (b,).
            context: of the prompts.
            image: (b, 8 h, 8 w, 3) in [0, 1], red first.
            scale: of what is added.
            pooled: XL: of the prompts.
            time_ids: XL: (b, 6), see `SDUNet.project_context`; None: pictures of the size of
                `image` that were not cropped.

        Raises:
            ValueError: the image is not of the latents' size, or pooled is missing.
        """
        x, image = jnp.asarray(x, jnp.float32), jnp.asarray(image, jnp.float32)
        if self.config.unet.addition_time_embed_dim and time_ids is None:
            size = image.shape[1:3]
            time_ids = np.tile(np.array([*size, 0, 0, *size]), (len(x), 1))
        return self._run(
            params,
            x,
            jnp.broadcast_to(jnp.asarray(t, jnp.int32), (len(x),)),
            jnp.asarray(context),
            image,
            jnp.asarray(scale, jnp.float32),
            None if pooled is None else jnp.asarray(pooled),
            None if time_ids is None else jnp.asarray(time_ids),
        )


def load_controlnet(
    source: str | os.PathLike,
    *,
    model: StableDiffusion | None = None,
    variant: str | None = None,
    dtype: Any = None,
    compute_dtype: Any = jnp.float32,
) -> LoadedControlNet:
    """Loads a ControlNet.

    Args:
        source: a folder, or the hub id of one, which is fetched once.
        model: the one it is for, if it is to be checked.
        variant: of the weights, as of `load`.
        dtype: of the parameters; None keeps that of the files.
        compute_dtype: in which it computes.

    Raises:
        FileNotFoundError: there is no such folder, or a file of it is missing.
        CheckpointError, ValueError: a file is damaged, or of another network or model.
    """
    more = () if variant is None else (f"{STEM}*{variant}*",)
    folder = hf_folder.find_folder(source, STEM, more)
    try:
        config = parse_controlnet(hf_folder.read_config(folder))
        if model is not None:
            _check(config, model)
        network = abstract(lambda rngs: ControlNet(config, rngs=rngs))
        tensors = hf_folder.read_weights(folder, STEM, variant)
        load_params(network, tensors, unet_parameter, dtype=dtype)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error
    graphdef, state = nnx.split(with_compute_dtype(network, compute_dtype))
    return LoadedControlNet(
        str(source),
        config,
        nnx.to_pure_dict(state),
        graphdef,
        jax.jit(functools.partial(_run_controlnet, graphdef)),
    )


def _check(config: ControlNetConfig, model: StableDiffusion) -> None:
    """Raises ValueError unless the residuals fit the model's UNet."""
    alike = ("block_out_channels", "layers_per_block", "cross_attention_dim", "mid_layers")
    for field in alike:
        own, other = getattr(config.unet, field), getattr(model.config, field)
        if own != other:
            raise ValueError(f"the ControlNet's {field} is {own}, that of {model.name} {other}")
    if config.downsampling_factor != model.vae.downsampling_factor:
        raise ValueError(
            f"the ControlNet has {config.downsampling_factor} pixels to a latent cell, "
            f"{model.name} {model.vae.downsampling_factor}"
        )


def _run_controlnet(
    graphdef: nnx.GraphDef,
    params: Any,
    x: Any,
    t: Any,
    context: Any,
    image: Any,
    scale: Any,
    pooled: Any,
    time_ids: Any,
) -> Residuals:
    network: ControlNet = nnx.merge(graphdef, params)
    conditioning = network.project_context(context, pooled=pooled, time_ids=time_ids)
    return network.residuals(x, t, conditioning, image, scale)
