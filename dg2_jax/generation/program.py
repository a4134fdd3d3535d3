"""The compiled part of the pipeline: one program for whatever is asked of a batch.

What changes from call to call (texts, seeds, steps, solver, strength, masks, guidance, views) is
data, so none of it compiles anew; `Program` is the little that is not. Previews and stops are the
host's, between calls of `advance`: a watched run is the same program as any other.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt8

from dg2_jax.diffusion import anagram, guidance, inpaint, inversion, reuse, sampling
from dg2_jax.diffusion.sampling import Progress
from dg2_jax.diffusion.solvers import SolverTable
from dg2_jax.diffusion.views import ViewMap
from dg2_jax.models.model import Network, Params
from dg2_jax.pictures import preview
from dg2_jax.pictures.images import from_uint8, to_uint8
from dg2_jax.pictures.preview import LatentToRGB
from dg2_jax.typing import Context, ContextMask, Keys, Latent, Pixels


class TextInputs(NamedTuple):
    """The two texts of each image, encoded; where `is_null`, the model's own null text is used.

    The batch n is the images', times the views of an anagram (view by view), times two for an
    edit that follows its source (the edits, then the sources). Where p prompts an image are
    composed, the prompts (not the negative ones) are p·n: every image's first, every one's second.
    """

    context: Context
    mask: ContextMask
    is_null: Bool[Array, " _"]
    negative_context: Context
    negative_mask: ContextMask
    negative_is_null: Bool[Array, " _"]


class Inputs(NamedTuple):
    """What the program is called with; b images of latents h w c.

    Attributes:
        text: the texts.
        table: the solver's, padded to a fixed number of rows.
        keys: one an image.
        guidance_scale: for each image.
        guidance_rescale: for each image.
        guidance_interval: low and high σ.
        eta_parallel, norm_threshold, momentum: for each image, see `guidance.adaptive_projected`.
        prompt_weights: of the prompts that are composed, for each image.
        autoguidance_scale: for each image.
        reuse_every: see `reuse.denoiser`; unused where the program reuses nothing.
        start: what sampling starts from is start_alpha · start + start_sigma · noise.
        start_alpha, start_sigma: 0 and 1 for txt2img.
        original: what stays where `change` forbids otherwise.
        change: the change map, see `inpaint.keep_original`; 1 everywhere for txt2img.
        first_timestep: of the table.
        views: of an anagram, stacked; of pixels where they are synchronised. None without.
        corrected: whether `anagram.shared_latent` corrects the variance.
        to_rgb: the linear preview.
    """

    text: TextInputs
    table: SolverTable
    keys: Keys
    guidance_scale: Float[Array, " b"]
    guidance_rescale: Float[Array, " b"]
    guidance_interval: Float[Array, "2"]
    eta_parallel: Float[Array, " b"]
    norm_threshold: Float[Array, " b"]
    momentum: Float[Array, " b"]
    prompt_weights: Float[Array, "b p"]
    autoguidance_scale: Float[Array, " b"]
    reuse_every: Int[Array, ""]
    start: Latent
    start_alpha: Float[Array, ""]
    start_sigma: Float[Array, ""]
    original: Latent
    change: Float[Array, "b h w 1"]
    first_timestep: Int[Array, ""]
    views: ViewMap | None
    corrected: Bool[Array, ""]
    to_rgb: LatentToRGB


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
        worse: the network of autoguidance; None without.
        reuses: whether deep features are reused, see `dg2_jax.diffusion.reuse`.
    """

    denoiser: Network
    autoencoder: Network | None
    prediction_type: str
    guidance: str = "always"
    kind: str = "plain"
    worse: Network | None = None
    reuses: bool = False


class Run(NamedTuple):
    """What `advance` carries: a prepared batch, and how far its sampling is.

    Attributes:
        conditioning: keys and values of all texts, computed once.
        keys: one for each latent that is sampled.
        progress: of the sampling.
        shown: the batch's x₀ estimates as `preview.apply` draws them: too cheap to ask whether
            anybody looks.
    """

    conditioning: Any
    keys: Keys
    progress: Progress
    shown: UInt8[Array, "b h w 3"]


def conditioning(program: Program, params: tuple[Params, Params | None], text: TextInputs) -> Any:
    """What the denoiser of `guided` takes: the texts' keys and values.

    `params` are those of `program.denoiser` and of `program.worse`.
    """

    def of(network: Network, params: Params) -> tuple[Any, Any]:
        module = network.bind(params)

        def project(context: Context, mask: ContextMask, is_null: Bool[Array, " _"]) -> Any:
            if (null := module.null_context(*mask.shape)) is not None:
                null, null_mask = null
                context = jnp.where(is_null[:, None, None], null, context)
                mask = jnp.where(is_null[:, None], null_mask, mask)
            return module.project_context(context, mask)

        positive = project(text.context, text.mask, text.is_null)
        if program.guidance == "off":
            return positive, None
        return positive, project(text.negative_context, text.negative_mask, text.negative_is_null)

    positive, negative = of(program.denoiser, params[0])
    if program.worse is not None:
        worse = of(program.worse, params[1])
        positive, negative = (positive, worse[0]), (negative, worse[1])
    return positive if program.guidance == "off" else guidance.pair(positive, negative)


def guided(
    program: Program, params: tuple[Params, Params | None], inputs: Inputs
) -> guidance.Denoiser | guidance.Recurrent:
    """The guided denoiser of all latents of a batch; `params` as for `conditioning`."""
    copies = _copies(program, inputs)
    branches = 1 if program.guidance == "off" else inputs.prompt_weights.shape[1] + 1

    def tiled(a: Array) -> Array:
        return jnp.concatenate([a] * copies)

    def denoiser(network: Network, params: Params) -> guidance.Denoiser | guidance.Recurrent:
        module, predicts = network.bind(params), program.prediction_type
        if not program.reuses:
            return guidance.denoiser(module, predicts)
        batch = copies * branches * len(inputs.keys)
        return reuse.denoiser(module, predicts, inputs.reuse_every, batch)

    denoise = denoiser(program.denoiser, params[0])
    if program.worse is not None:
        worse = denoiser(program.worse, params[1])
        denoise = guidance.autoguided(denoise, worse, tiled(inputs.autoguidance_scale))
    if program.guidance == "off":
        return denoise
    weights = tiled(inputs.prompt_weights)
    composed = weights if weights.shape[1] > 1 else None
    strong: guidance.Denoiser | guidance.Recurrent = guidance.nested(
        lambda d: guidance.adaptive_projected(
            d,
            tiled(inputs.guidance_scale),
            tiled(inputs.guidance_rescale),
            eta_parallel=tiled(inputs.eta_parallel),
            norm_threshold=tiled(inputs.norm_threshold),
            momentum=tiled(inputs.momentum),
            prompt_weights=composed,
        ),
        denoise,
    )
    if program.guidance == "interval":
        low, high = inputs.guidance_interval
        strong = guidance.within_interval(strong, denoise, (low, high), prompt_weights=composed)
    return strong


def generate(
    program: Program,
    params: tuple[Params, Params | None],
    autoencoder_params: Params | None,
    inputs: Inputs,
    num_rows: int,
    *,
    every: int = 1,
    watch: Callable[[int, Run], bool] | None = None,
) -> tuple[Latent, int]:
    """Latents of a batch, and how many rows were run (fewer than asked for if stopped).

    A "synchronised" program returns a latent for each view, view by view.

    Args:
        program: the static part.
        params: as for `conditioning`.
        autoencoder_params: where the program runs the autoencoder; else None.
        inputs: what it is called with.
        num_rows: how many rows of the table are real; 0 returns `inputs.start`.
        every: `watch` is called after each `every`-th row and after the last.
        watch: is shown the rows done and the run, and returns whether to stop.
    """
    batch, inputs = len(inputs.keys), jax.device_put(inputs)
    run = prepare(program, params, inputs)
    sparing = program.denoiser.is_quantized and jax.default_backend() == "cpu"
    step = _advance_sparingly if sparing else advance
    every = num_rows if watch is None else every
    for until in [*range(every, num_rows, every), num_rows] if num_rows else []:
        run = step(program, params, autoencoder_params, inputs, run, np.int32(until))
        if watch is not None and watch(until, run):
            num_rows = until
            break
    latents = run.progress.state.x
    return latents[:batch] if program.kind == "following" else latents, num_rows


@functools.partial(jax.jit, static_argnums=0)
def prepare(program: Program, params: tuple[Params, Params | None], inputs: Inputs) -> Run:
    """What comes before the first row: the texts' keys and values, and the noise."""
    shape, keys = inputs.start.shape[1:], inputs.keys
    x = inputs.start_alpha * inputs.start
    x = x + inputs.start_sigma * sampling.initial_noise(keys, shape)
    if program.kind == "synchronised":
        keys = jnp.concatenate(
            [
                jax.vmap(lambda k, i=i: jax.random.fold_in(k, i))(keys)
                for i in range(_copies(program, inputs))
            ]
        )
        x = sampling.initial_noise(keys, shape)
    elif program.kind == "following":
        first = jax.tree.map(lambda a: jnp.asarray(a)[0], inputs.table)
        x = inversion.source_path(inputs.start, keys, jnp.int32(0), first.alpha, first.sigma)
        x, keys = jnp.concatenate([x, x]), jnp.concatenate([keys, keys])
    denoise = guided(program, params, inputs)  # what `advance` puts around it has no memory
    progress = sampling.begin(denoise, x)
    texts = conditioning(program, params, inputs.text)
    return Run(texts, keys, progress, _shown(progress, inputs))


def _advance(
    program: Program,
    params: tuple[Params, Params | None],
    autoencoder_params: Params | None,
    inputs: Inputs,
    run: Run,
    until: Int[Array | np.generic, ""],
) -> Run:
    """Runs the rows that are left before row `until`."""
    views, adjust = inputs.views, None
    denoise = guided(program, params, inputs)
    if program.kind == "shared" and views is not None:
        denoise = guidance.around(
            lambda d: anagram.shared_latent(d, views, inputs.corrected), denoise
        )
    elif program.kind == "synchronised" and views is not None:
        encode, decode = _coders(program.autoencoder, autoencoder_params)
        denoise = guidance.around(lambda d: anagram.synchronised(d, views, encode, decode), denoise)
    elif program.kind == "following":
        adjust = inversion.follow_source(inputs.start, inputs.keys)
    if program.kind in ("plain", "shared"):
        denoise = guidance.around(
            lambda d: inpaint.keep_original(
                d, inputs.original, inputs.change, inputs.first_timestep
            ),
            denoise,
        )
    progress = sampling.advance(
        denoise,
        run.conditioning,
        run.progress,
        inputs.table,
        run.keys,
        jnp.asarray(until),
        adjust=adjust,
    )
    return run._replace(progress=progress, shown=_shown(progress, inputs))


advance = jax.jit(_advance, static_argnums=0)

# Compiler options: on CPU, XLA would else expand all quantized kernels before it uses any.
SPARING = {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}
_advance_sparingly = jax.jit(_advance, static_argnums=0, compiler_options=SPARING)


def _shown(progress: Progress, inputs: Inputs) -> UInt8[Array, "b h w 3"]:
    return preview.apply(progress.x0[: len(inputs.keys)], inputs.to_rgb)


def _copies(program: Program, inputs: Inputs) -> int:
    """How many latents the denoiser is given for every picture."""
    if program.kind == "following":
        return 2
    return 1 if inputs.views is None else inputs.views.index.shape[0]


def _coders(
    autoencoder: Network | None, params: Params | None
) -> tuple[Callable[[Pixels], Latent], Callable[[Latent], Pixels]]:
    if autoencoder is None:
        raise ValueError("autoencoder must be given to a program that runs it")
    vae = autoencoder.bind(params)
    return (lambda p: vae.scale(vae.encode(p).mode())), (lambda z: vae.decode(vae.unscale(z)))


@functools.partial(jax.jit, static_argnums=0)
def decode(autoencoder: Network, params: Params, latents: Latent) -> Array:
    """Scaled latents to uint8 pixels."""
    return to_uint8(_coders(autoencoder, params)[1](latents))


@functools.partial(jax.jit, static_argnums=0)
def decode_views(autoencoder: Network, params: Params, latents: Latent, views: ViewMap) -> Array:
    """The latents of a "synchronised" program to uint8 pixels, one picture for all views."""
    return to_uint8(anagram.merge_pixels(_coders(autoencoder, params)[1](latents), views))


@functools.partial(jax.jit, static_argnums=0)
def encode(autoencoder: Network, params: Params, images: Array) -> Latent:
    """uint8 pixels to scaled latents, the mean of the posterior."""
    return _coders(autoencoder, params)[0](from_uint8(images))
