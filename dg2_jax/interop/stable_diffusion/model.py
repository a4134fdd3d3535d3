"""A loaded Stable Diffusion model: what `load` returns."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from dg2_jax.checks import naming
from dg2_jax.diffusion.schedules import Schedule
from dg2_jax.interop import diffusers_vae, hf_text
from dg2_jax.interop.stable_diffusion import controlnet, lora
from dg2_jax.interop.stable_diffusion.controlnet import LoadedControlNet
from dg2_jax.interop.stable_diffusion.parts import Parts, TextPart, unet_parameter
from dg2_jax.interop.stable_diffusion.scheduler import Scheduler
from dg2_jax.interop.stable_diffusion.text import Encoded, Params, TextEncoders, TextTower
from dg2_jax.interop.weights import load_params
from dg2_jax.nn.abstract import abstract
from dg2_jax.nn.autoencoder import AutoencoderKL
from dg2_jax.nn.clip import ClipText
from dg2_jax.nn.precision import with_compute_dtype
from dg2_jax.nn.sd_config import SDUNetConfig
from dg2_jax.nn.sd_unet import Residuals, SDUNet
from dg2_jax.typing import Latent

OnProgress = Callable[[int, int], None]


@dataclasses.dataclass(frozen=True, eq=False)
class StableDiffusion:
    """A model: UNet, text encoders, autoencoder and the process it was trained with.

    Attributes:
        name: where it came from.
        config: of the UNet.
        params: of the UNet, in the dtype in which they are stored unless another was asked for.
        graphdef: the UNet's structure.
        text: its text encoders.
        vae: its autoencoder.
        scheduler: how it is sampled.
        default_size: side in pixels of the pictures that it was trained on.
    """

    name: str
    config: SDUNetConfig
    params: Params
    graphdef: nnx.GraphDef
    text: TextEncoders
    vae: AutoencoderKL
    scheduler: Scheduler
    default_size: int
    _run: Callable[..., Latent] = dataclasses.field(repr=False)

    @property
    def schedule(self) -> Schedule:
        """The noise schedule."""
        return self.scheduler.schedule

    @property
    def prediction_type(self) -> str:
        """What the UNet predicts: epsilon, v_prediction or sample."""
        return self.scheduler.prediction_type

    @property
    def is_xl(self) -> bool:
        """Whether the UNet takes a pooled vector and sizes."""
        return self.config.addition_time_embed_dim > 0

    def encode(self, prompts: Sequence[str | None], clip_skip: int = 0) -> Encoded:
        """Context (b, k L, D) and pooled (b, P) or None: see `text.TextEncoders.encode`."""
        return self.text.encode(prompts, clip_skip)

    def apply(
        self,
        params: Params,
        x: Any,
        t: Any,
        context: Any,
        pooled: Any = None,
        time_ids: Any = None,
        *,
        residuals: Residuals | None = None,
        guidance_scale: Any = None,
    ) -> Latent:
        """The UNet's output, ε or v as it predicts.

        Args:
            params: `self.params`, or others of the same shapes.
            x: noisy latents (b, h, w, in_channels).
            t: training timesteps, a number or (b,).
            context: from `encode`.
            pooled: XL: from `encode`.
            time_ids: XL: (b, 6), see `SDUNet.project_context`; None: pictures of the size of x that
                were not cropped.
            residuals: of a ControlNet.
            guidance_scale: of models that take it as an input, a number or (b,); others do not.

        Raises:
            ValueError: x has another number of channels, or pooled is missing.
        """
        x, context = jnp.asarray(x, jnp.float32), jnp.asarray(context)
        batch, height, width, channels = x.shape
        if channels != self.config.in_channels:
            raise ValueError(f"x must have {self.config.in_channels} channels, got {channels}")
        if self.is_xl and time_ids is None:
            size = (height * self.vae.downsampling_factor, width * self.vae.downsampling_factor)
            time_ids = np.tile(np.array([*size, 0, 0, *size]), (batch, 1))
        guidance = None
        if guidance_scale is not None:
            guidance = jnp.broadcast_to(jnp.asarray(guidance_scale, jnp.float32), (batch,))
        return self._run(
            params,
            x,
            jnp.broadcast_to(jnp.asarray(t, jnp.float32), (batch,)),
            context,
            None if pooled is None else jnp.asarray(pooled),
            None if time_ids is None else jnp.asarray(time_ids),
            residuals,
            guidance,
        )

    def with_lora(self, path: str | os.PathLike, weight: float = 1.0) -> StableDiffusion:
        """The model with a LoRA file of others added to UNet and text encoders.

        Args:
            path: a `.safetensors` file in kohya's or PEFT's layout.
            weight: 0 changes nothing, 1 is as trained.

        Raises:
            FileNotFoundError: there is no such file.
            LoraError: it is no such file, of a kind that is not read, or of another model.
            ValueError: the weight is not finite.
        """
        return lora.adapted(self, path, weight)

    def load_controlnet(self, source: str | os.PathLike, **options: Any) -> LoadedControlNet:
        """A ControlNet for this model: see `controlnet.load_controlnet`.

        Raises:
            FileNotFoundError, ValueError: as that function; or it is for another model.
        """
        return controlnet.load_controlnet(source, model=self, **options)


def build(
    name: str,
    parts: Parts,
    *,
    dtype: Any = None,
    compute_dtype: Any = jnp.float32,
    on_progress: OnProgress | None = None,
) -> StableDiffusion:
    """The model of its parts; arguments and errors as of `load`."""
    tensors = [parts.unet_tensors, parts.vae_tensors, *(text.tensors for text in parts.texts)]
    total = sum(tensor.nbytes for group in tensors for tensor in group.values())
    read = 0

    def on_bytes(size: int) -> None:
        nonlocal read
        read += size
        if on_progress is not None:
            on_progress(read, total)

    width = sum(text.config.hidden_size for text in parts.texts)
    if width != parts.unet.cross_attention_dim:
        raise ValueError(
            f"{name}: its text encoders make tokens {width} wide, its UNet takes "
            f"{parts.unet.cross_attention_dim}"
        )
    is_xl = parts.unet.addition_time_embed_dim > 0
    with naming(name):
        texts = build_texts(parts.texts, is_xl, parts.zeros_for_no_prompt, dtype, on_bytes)
        vae = build_vae(parts, on_bytes)
        unet = abstract(lambda rngs: SDUNet(parts.unet, rngs=rngs))
        load_params(unet, parts.unet_tensors, unet_parameter, dtype=dtype, on_bytes=on_bytes)
    graphdef, state = nnx.split(with_compute_dtype(unet, compute_dtype))
    return StableDiffusion(
        name=name,
        config=parts.unet,
        params=nnx.to_pure_dict(state),
        graphdef=graphdef,
        text=texts,
        vae=vae,
        scheduler=parts.scheduler,
        default_size=parts.sample_size * parts.vae.downsampling_factor,
        _run=jax.jit(functools.partial(_run_unet, graphdef)),
    )


def build_vae(parts: Parts, on_bytes: Callable[[int], None] = lambda size: None) -> AutoencoderKL:
    """The autoencoder of a model's parts, in float32; see `load_params`."""
    vae = abstract(lambda rngs: AutoencoderKL(parts.vae, rngs=rngs))
    load_params(vae, parts.vae_tensors, diffusers_vae.parameter_name, on_bytes=on_bytes)
    return vae


def build_texts(
    parts: Sequence[TextPart],
    penultimate: bool,
    zeros_for_no_prompt: bool,
    dtype: Any = None,
    on_bytes: Callable[[int], None] = lambda size: None,
) -> TextEncoders:
    """The text encoders of their parts; see `TextEncoders` and `load_params`."""
    lengths = sorted({part.length for part in parts})
    if len(lengths) > 1:
        raise ValueError(f"its text encoders must take equally many tokens, got {lengths}")
    towers, params = [], []
    for part in parts:
        projects = "text_projection.weight" in part.tensors
        make = functools.partial(ClipText, part.config, projection=projects)
        network = abstract(lambda rngs, make=make: make(rngs=rngs))  # type: ignore[misc]
        rename = hf_text.clip_text_parameter
        load_params(network, part.tensors, rename, dtype=dtype, on_bytes=on_bytes)
        graphdef, state = nnx.split(network)
        params.append(nnx.to_pure_dict(state))
        towers.append(
            TextTower(
                graphdef,
                part.tokenizer,
                part.pad_id,
                part.length,
                part.config.hidden_size,
                projects,
                part.config.num_hidden_layers,
            )
        )
    return TextEncoders(tuple(towers), tuple(params), penultimate, zeros_for_no_prompt)


def _run_unet(
    graphdef: nnx.GraphDef,
    params: Params,
    x: Latent,
    t: Array,
    context: Float[Array, "b l d"],
    pooled: Array | None,
    time_ids: Array | None,
    residuals: Residuals | None,
    guidance: Array | None,
) -> Latent:
    unet: SDUNet = nnx.merge(graphdef, params)
    conditioning = unet.project_context(
        context, pooled=pooled, time_ids=time_ids, guidance=guidance
    )
    return unet(x, t, conditioning, residuals=residuals).astype(jnp.float32)
