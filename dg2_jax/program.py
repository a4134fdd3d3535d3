"""The compiled part of the pipeline: one program for whatever is asked of a batch.

What changes from call to call (texts, seeds, steps, solver, strength, masks, guidance, views) is
data, so none of it compiles anew; `Program` is the little that is not.
"""

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from dg2_jax import anagram, guidance, inpaint, inversion, preview, sampling
from dg2_jax.images import from_uint8, to_uint8
from dg2_jax.model import Params
from dg2_jax.preview import LatentToRGB
from dg2_jax.solvers import SolverTable
from dg2_jax.typing import Context, ContextMask, Keys, Latent, Pixels
from dg2_jax.views import ViewMap


class TextInputs(NamedTuple):
    """The two texts of each image, encoded; where `is_null`, the model's own null text is used.

    The batch n is the images', times the views of an anagram (view by view), times two for an
    edit that follows its source (the edits, then the sources). Where p prompts an image are
    composed, the prompts (not the negative ones) are p·n: every image's first, every one's second.
    """

    context: Context
    mask: ContextMask
    is_null: Bool[Array, "_"]
    negative_context: Context
    negative_mask: ContextMask
    negative_is_null: Bool[Array, "_"]


class Inputs(NamedTuple):
    """What the program is called with; b images of latents h w c.

    Attributes:
        text: the texts.
        table: the solver's, padded to a fixed number of rows.
        num_rows: how many rows are real; 0 returns `start`.
        keys: one an image.
        guidance_scale: for each image.
        guidance_rescale: for each image.
        guidance_interval: low and high σ.
        eta_parallel, norm_threshold, momentum: for each image, see `guidance.adaptive_projected`.
        prompt_weights: of the prompts that are composed, for each image.
        autoguidance_scale: for each image.
        start: what sampling starts from is start_alpha · start + start_sigma · noise.
        start_alpha, start_sigma: 0 and 1 for txt2img.
        original: what stays where `change` forbids otherwise.
        change: the change map, see `inpaint.keep_original`; 1 everywhere for txt2img.
        first_timestep: of the table.
        views: of an anagram, stacked; of pixels where they are synchronised. None without.
        corrected: whether `anagram.shared_latent` corrects the variance.
        to_rgb: the linear preview.
        preview_every: rows between previews.
        watcher: who is shown the previews, see `watched`.
    """

    text: TextInputs
    table: SolverTable
    num_rows: Int[Array, ""]
    keys: Keys
    guidance_scale: Float[Array, "b"]
    guidance_rescale: Float[Array, "b"]
    guidance_interval: Float[Array, "2"]
    eta_parallel: Float[Array, "b"]
    norm_threshold: Float[Array, "b"]
    momentum: Float[Array, "b"]
    prompt_weights: Float[Array, "b p"]
    autoguidance_scale: Float[Array, "b"]
    start: Latent
    start_alpha: Float[Array, ""]
    start_sigma: Float[Array, ""]
    original: Latent
    change: Float[Array, "b h w 1"]
    first_timestep: Int[Array, ""]
    views: ViewMap | None
    corrected: Bool[Array, ""]
    to_rgb: LatentToRGB
    preview_every: Int[Array, ""]
    watcher: Int[Array, ""]


@dataclass(frozen=True)
class Program:
    """The static part.

    Attributes:
        denoiser: the network.
        autoencoder: the autoencoder, where the program runs it; else None.
        prediction_type: of the network.
        guidance: "off", "always" or "interval".
        kind: "plain"; "shared" or "synchronised", an anagram with one latent or one a view;
            "following", an edit that follows its source.
        preview: "none", "linear" or "vae".
        worse: the network of autoguidance; None without.
    """

    denoiser: nnx.GraphDef
    autoencoder: nnx.GraphDef | None
    prediction_type: str
    guidance: str = "always"
    kind: str = "plain"
    preview: str = "none"
    worse: nnx.GraphDef | None = None


def _single(
    graphdef: nnx.GraphDef, params: Params, program: Program, text: TextInputs
) -> tuple[guidance.Denoiser, Any, Any]:
    """A network's denoiser and both conditionings, the texts' keys and values computed."""
    module = nnx.merge(graphdef, params)

    def project(context: Context, mask: ContextMask, is_null: Bool[Array, "_"]) -> Any:
        if hasattr(module, "null_context"):
            null, null_mask = module.null_context(*mask.shape)
            context = jnp.where(is_null[:, None, None], null, context)
            mask = jnp.where(is_null[:, None], null_mask, mask)
        return module.project_context(context, mask)

    denoise = guidance.denoiser(module, program.prediction_type)
    negative = None
    if program.guidance != "off":
        negative = project(text.negative_context, text.negative_mask, text.negative_is_null)
    return denoise, project(text.context, text.mask, text.is_null), negative


def guided(
    program: Program, params: tuple[Params, Params | None], inputs: Inputs, copies: int = 1
) -> tuple[guidance.Denoiser | guidance.Recurrent, Any]:
    """The guided denoiser of `copies` times the batch, and its conditioning.

    `params` are those of `program.denoiser` and of `program.worse`.
    """

    def tiled(a: Array) -> Array:
        return jnp.concatenate([a] * copies)

    denoise, conditional, negative = _single(program.denoiser, params[0], program, inputs.text)
    if program.worse is not None:
        worse, *others = _single(program.worse, params[1], program, inputs.text)
        conditional, negative = (conditional, others[0]), (negative, others[1])
        denoise = guidance.autoguided(denoise, worse, tiled(inputs.autoguidance_scale))
    if program.guidance == "off":
        return denoise, conditional
    weights = tiled(inputs.prompt_weights)
    composed = weights if weights.shape[1] > 1 else None
    strong: guidance.Denoiser | guidance.Recurrent = guidance.adaptive_projected(
        denoise,
        tiled(inputs.guidance_scale),
        tiled(inputs.guidance_rescale),
        eta_parallel=tiled(inputs.eta_parallel),
        norm_threshold=tiled(inputs.norm_threshold),
        momentum=tiled(inputs.momentum),
        prompt_weights=composed,
    )
    if program.guidance == "interval":
        low, high = inputs.guidance_interval
        strong = guidance.within_interval(strong, denoise, (low, high), prompt_weights=composed)
    return strong, guidance.pair(conditional, negative)


@functools.partial(jax.jit, static_argnums=0)
def generate(
    program: Program,
    params: tuple[Params, Params | None],
    autoencoder_params: Params | None,
    inputs: Inputs,
) -> tuple[Latent, Int[Array, ""]]:
    """Latents of a batch, and how many rows were run (fewer than asked for if stopped).

    A "synchronised" program returns a latent for each view, view by view.
    """
    views = inputs.views
    copies = 1 if views is None else views.index.shape[0]
    copies = 2 if program.kind == "following" else copies
    denoise, conditioning = guided(program, params, inputs, copies)
    noise = sampling.initial_noise(inputs.keys, inputs.start.shape[1:])
    x = inputs.start_alpha * inputs.start + inputs.start_sigma * noise
    keys, adjust = inputs.keys, None
    if program.kind == "shared" and views is not None:
        denoise = guidance.around(
            lambda d: anagram.shared_latent(d, views, inputs.corrected), denoise
        )
    elif program.kind == "synchronised" and views is not None:
        encode, decode = _coders(program.autoencoder, autoencoder_params)
        denoise = guidance.around(lambda d: anagram.synchronised(d, views, encode, decode), denoise)
        keys = jnp.concatenate(
            [jax.vmap(lambda k, i=i: jax.random.fold_in(k, i))(keys) for i in range(copies)]
        )
        x = sampling.initial_noise(keys, inputs.start.shape[1:])
    elif program.kind == "following":
        first = jax.tree.map(lambda a: jnp.asarray(a)[0], inputs.table)
        x = inversion.source_path(inputs.start, keys, jnp.int32(0), first.alpha, first.sigma)
        x, keys = jnp.concatenate([x, x]), jnp.concatenate([keys, keys])
        adjust = inversion.follow_source(inputs.start, inputs.keys)
    if program.kind in ("plain", "shared"):
        denoise = guidance.around(
            lambda d: inpaint.keep_original(
                d, inputs.original, inputs.change, inputs.first_timestep
            ),
            denoise,
        )
    latents, rows = sampling.sample_interruptible(
        denoise,
        conditioning,
        x,
        inputs.table,
        keys,
        inputs.num_rows,
        on_step=None if program.preview == "none" else _deliver,
        show=_shown(program, autoencoder_params, inputs),
        every=inputs.preview_every,
        adjust=adjust,
    )
    return latents[: len(inputs.keys)] if program.kind == "following" else latents, rows


def _coders(
    autoencoder: nnx.GraphDef | None, params: Params | None
) -> tuple[Callable[[Pixels], Latent], Callable[[Latent], Pixels]]:
    if autoencoder is None:
        raise ValueError("autoencoder must be given to a program that runs it")
    vae = nnx.merge(autoencoder, params)
    return (lambda p: vae.scale(vae.encode(p).mode())), (lambda z: vae.decode(vae.unscale(z)))


def _shown(program: Program, autoencoder_params: Params | None, inputs: Inputs) -> Callable:
    """What a watcher receives of an x₀ estimate: who it is, and uint8 pictures of the batch."""

    def show(x0: Latent) -> tuple[Array, Array]:
        x0 = x0[: len(inputs.keys)]
        if program.preview == "vae":
            return inputs.watcher, to_uint8(_coders(program.autoencoder, autoencoder_params)[1](x0))
        return inputs.watcher, preview.apply(x0, inputs.to_rgb)

    return show


@functools.partial(jax.jit, static_argnums=0)
def decode(autoencoder: nnx.GraphDef, params: Params, latents: Latent) -> Array:
    """Scaled latents to uint8 pixels."""
    return to_uint8(_coders(autoencoder, params)[1](latents))


@functools.partial(jax.jit, static_argnums=0)
def decode_views(
    autoencoder: nnx.GraphDef, params: Params, latents: Latent, views: ViewMap
) -> Array:
    """The latents of a "synchronised" program to uint8 pixels, one picture for all views."""
    return to_uint8(anagram.merge_pixels(_coders(autoencoder, params)[1](latents), views))


@functools.partial(jax.jit, static_argnums=0)
def encode(autoencoder: nnx.GraphDef, params: Params, images: Array) -> Latent:
    """uint8 pixels to scaled latents, the mean of the posterior."""
    return _coders(autoencoder, params)[0](from_uint8(images))


# Host callbacks are compiled into a program, so that it is not theirs to know whose call it serves:
# the call's number travels through the program and finds its watcher here.
_watchers: dict[int, Callable[[int, np.ndarray], bool]] = {}
_numbers = itertools.count(1)


def _deliver(rows_done: Any, shown: Any) -> np.bool_:
    watcher, pictures = shown
    return np.bool_(_watchers[int(watcher)](int(rows_done), np.asarray(pictures)))


@contextlib.contextmanager
def watched(show: Callable[[int, np.ndarray], bool]) -> Iterator[int]:
    """A context in which `show(rows_done, pictures) -> stop` receives the previews of a call.

    Gives the number for `Inputs.watcher`. What `show` raises stops the program and is raised again
    at the end of the context.
    """
    errors: list[Exception] = []

    def guarded(rows_done: int, pictures: np.ndarray) -> bool:
        try:
            return show(rows_done, pictures)
        except Exception as error:
            errors.append(error)
            return True

    number = next(_numbers)
    _watchers[number] = guarded
    try:
        yield number
    finally:
        del _watchers[number]
    if errors:
        raise errors[0]
