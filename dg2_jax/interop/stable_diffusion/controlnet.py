"""ControlNets: in diffusers' layout, or in one file under the original names.

control = load_controlnet("lllyasviel/control_v11p_sd15_canny")
residuals = control.apply(control.params, x, t, context, image, 0.7)
output = model.apply(model.params, x, t, context, residuals=residuals)
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dg2_jax.checks import naming
from dg2_jax.interop import hf_folder
from dg2_jax.interop.stable_diffusion import original_controlnet, original_names
from dg2_jax.interop.stable_diffusion.folder import STEM
from dg2_jax.interop.stable_diffusion.parts import unet_parameter
from dg2_jax.interop.stable_diffusion.single_file import read_tensors
from dg2_jax.interop.stable_diffusion.unet_config import parse_controlnet
from dg2_jax.interop.weights import load_params
from dg2_jax.nn.abstract import abstract
from dg2_jax.nn.precision import with_compute_dtype
from dg2_jax.nn.sd_config import SDUNetConfig
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
            t: training timesteps, a number or (b,).
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
            jnp.broadcast_to(jnp.asarray(t, jnp.float32), (len(x),)),
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
        source: a folder, or the hub id of one, which is fetched once; or one file under the
            original names.
        model: the one it is for, if it is to be checked; a file needs it.
        variant: of the weights, as of `load`.
        dtype: of the parameters; None keeps that of the files.
        compute_dtype: in which it computes.

    Raises:
        FileNotFoundError: there is no such folder, or a file of it is missing.
        CheckpointError, ValueError: a file is damaged, or of another network or model.
    """
    known = None if model is None else Controlled.of(model)
    config, network = read_controlnet(source, known, variant=variant, dtype=dtype)
    graphdef, state = nnx.split(with_compute_dtype(network, compute_dtype))
    return LoadedControlNet(
        str(source),
        config,
        nnx.to_pure_dict(state),
        graphdef,
        jax.jit(functools.partial(_run_controlnet, graphdef)),
    )


class Controlled(NamedTuple):
    """The model that a ControlNet is for.

    Attributes:
        name: of the model.
        config: of its UNet.
        downsampling_factor: pixels on a side of one of its latents' cells.
    """

    name: str
    config: SDUNetConfig
    downsampling_factor: int

    @classmethod
    def of(cls, model: StableDiffusion) -> Controlled:
        """That of a loaded one."""
        return cls(model.name, model.config, model.vae.downsampling_factor)


def read_controlnet(
    source: str | os.PathLike,
    model: Controlled | None,
    *,
    variant: str | None = None,
    dtype: Any = None,
) -> tuple[ControlNetConfig, ControlNet]:
    """The network of a ControlNet; arguments and errors as of `load_controlnet`.

    A file under the original names needs the model: it does not tell all of the configuration.
    """
    path = Path(source).expanduser()
    if not path.is_file():
        more = () if variant is None else (f"{STEM}*{variant}*",)
        path = hf_folder.find_folder(source, STEM, more)
    with naming(path):
        if path.is_file():
            if model is None:
                raise ValueError("a ControlNet in one file needs the model that it is for")
            config, tensors = _read_file(path, model.config)
        else:
            config = parse_controlnet(hf_folder.read_config(path))
            tensors = hf_folder.read_weights(path, STEM, variant)
        if model is not None:
            _check(config, model)
        network = abstract(lambda rngs: ControlNet(config, rngs=rngs))
        load_params(network, tensors, unet_parameter, dtype=dtype)
    return config, network


def _read_file(path: Path, unet: SDUNetConfig) -> tuple[ControlNetConfig, dict[str, np.ndarray]]:
    """Configuration and tensors of a file under the original names."""
    held = read_tensors(path)
    prefix = next(
        (p for p in ("control_model.", "") if f"{p}input_hint_block.0.weight" in held), None
    )
    if prefix is None:
        if any(key.startswith("controlnet_cond_embedding.") for key in held):
            raise ValueError("it is one file of a diffusers folder: name the folder")
        raise ValueError("it is no ControlNet: it has no input_hint_block")
    fields, tensors = original_controlnet.names_of_today(original_names.under(held, prefix), unet)
    channels, widths = fields.pop("conditioning_channels"), fields.pop("embedding_channels")
    return ControlNetConfig(dataclasses.replace(unet, **fields), channels, widths), tensors


def _check(config: ControlNetConfig, model: Controlled) -> None:
    """Raises ValueError unless the residuals fit the model's UNet."""
    alike = ("block_out_channels", "layers_per_block", "cross_attention_dim")
    for field in alike:
        own, other = getattr(config.unet, field), getattr(model.config, field)
        if own != other:
            raise ValueError(f"the ControlNet's {field} is {own}, that of {model.name} {other}")
    if config.downsampling_factor != model.downsampling_factor:
        raise ValueError(
            f"the ControlNet has {config.downsampling_factor} pixels to a latent cell, "
            f"{model.name} {model.downsampling_factor}"
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
