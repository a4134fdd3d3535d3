"""The compiled part of the pipeline: one program for every kind of batch.

Whatever changes from call to call (texts, seeds, steps, solver, strength, masks, guidance, views)
is data, see `Inputs`, and does not trigger recompilation; `Program` holds the few choices that do.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, UInt8

from dg2_jax import program_cache
from dg2_jax.diffusion import denoiser, guidance, reuse, sampling
from dg2_jax.diffusion.denoiser import Denoiser
from dg2_jax.diffusion.guidance import Branches
from dg2_jax.diffusion.sampling import Progress, Step
from dg2_jax.generation import coder, devices
from dg2_jax.generation.inputs import Conditions, Inputs
from dg2_jax.generation.tasks import Task
from dg2_jax.generation.text import Text, TextInputs
from dg2_jax.models.model import Network, Params
from dg2_jax.pictures import preview
from dg2_jax.typing import Keys, Latent

# Compiler options: on CPU, XLA would otherwise expand all quantized kernels before using any.
SPARING = {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}


@dataclass(frozen=True)
class Program:
    """The static part.

    Attributes:
        denoiser: the network.
        prediction_type: of the network.
        task: what is sampled.
        guidance: "off", "always" or "interval".
        worse: the network of autoguidance; None without.
        reuses: whether deep features are reused, see `dg2_jax.diffusion.reuse`.
        takes_guidance: whether the network takes the guidance scale as an input.
        control: the ControlNet; None without.
        mesh: of the devices that divide batches; None: one device.
    """

    denoiser: Network
    prediction_type: str
    task: Task
    guidance: str = "always"
    worse: Network | None = None
    reuses: bool = False
    takes_guidance: bool = False
    control: Network | None = None
    mesh: Mesh | None = None

    @property
    def is_guided(self) -> bool:
        """Whether the negative prompts are evaluated."""
        return self.guidance != "off"


class Weights(NamedTuple):
    """The parameters of a program's networks.

    Attributes:
        denoiser: of `Program.denoiser`.
        worse: of `Program.worse`; None without.
        autoencoder: of the model; tasks and previews that do not run it leave it unused.
        control: of `Program.control`; None without.
        shown: of what decodes previews by callback; None without.
    """

    denoiser: Params
    worse: Params | None = None
    autoencoder: Params | None = None
    control: Params | None = None
    shown: Params | None = None


class Run(NamedTuple):
    """What `advance` carries: a batch and the progress of its sampling.

    Attributes:
        conditioning: keys and values of all texts, computed once.
        keys: one per sampled latent.
        progress: of the sampling.
        shown: the x₀ estimates of the images as `preview.apply` draws them; always computed, since
            it is almost free.
    """

    conditioning: Any
    keys: Keys
    progress: Progress
    shown: UInt8[Array, "b h w 3"]


def conditioning(
    program: Program, weights: Weights, text: TextInputs, more: Conditions | None = None
) -> Any:
    """The conditioning of `guided`: the texts' keys and values, for all branches.

    Args:
        program: the program.
        weights: of its networks.
        text: of the batch.
        more: for the networks that take more than texts.
    """

    def project(network: Network, params: Params, text: Text) -> Any:
        module, context, mask = network.bind(params), text.context, text.mask
        if (null := module.null_context(*context.shape[:2])) is not None:
            null_context, null_mask = null
            context = jnp.where(text.is_null[:, None, None], null_context, context)
            assert mask is not None  # such networks come with encoders that make one
            mask = jnp.where(text.is_null[:, None], null_mask, mask)
        if more is None:
            return module.project_context(context, mask, text.pooled)
        ids, scale = jax.tree.map(
            lambda a: jnp.broadcast_to(a[None], (len(context), *a.shape)), tuple(more)
        )
        inputs = {"guidance": scale} if program.takes_guidance else {}
        return module.project_context(context, mask, text.pooled, ids, **inputs)

    def project_all(text: Text) -> Any:
        projected = project(program.denoiser, weights.denoiser, text)
        if program.control is not None:
            projected = projected, project(program.control, weights.control, text)
        if program.worse is None:
            return projected
        return projected, project(program.worse, weights.worse, text)

    prompt = project_all(text.prompt)
    if not program.is_guided:
        return prompt
    return guidance.pair(prompt, project_all(text.negative_prompt))


def guided(
    program: Program, weights: Weights, inputs: Inputs, branches: Branches | None = None
) -> Denoiser:
    """The guided denoiser of all latents of a batch; `branches` as of `adaptive_projected`."""
    strengths, masked = inputs.guidance.repeated(program.task.copies), inputs.source.masked
    if branches is not None and masked is not None:
        masked = masked[branches.image]

    def of(network: Network, params: Params) -> Denoiser:
        return devices.dividing(program.mesh, of_one_device(network, params))

    def of_one_device(network: Network, params: Params) -> Denoiser:
        module = network.bind(params)
        if network is program.denoiser and program.control is not None:
            module = _with_control(module, program.control.bind(weights.control), inputs, masked)
            return denoiser.of_network(module, program.prediction_type)
        if program.reuses:
            return reuse.denoiser(module, program.prediction_type, inputs.reuse_every)
        evaluate = module if masked is None else _with_mask(module, masked)
        return denoiser.of_network(evaluate, program.prediction_type)

    denoise = of(program.denoiser, weights.denoiser)
    if program.worse is not None:
        worse = of(program.worse, weights.worse)
        denoise = guidance.autoguided(denoise, worse, strengths.autoguidance_scale)
    if not program.is_guided:
        return denoise
    intervals = branches is not None or program.guidance == "interval"
    strong = guidance.adaptive_projected(denoise, strengths, branches, intervals=intervals)
    if program.guidance == "interval":
        strong = guidance.within_interval(strong, denoise, strengths)
    return strong


@functools.partial(jax.jit, static_argnums=0)
@program_cache.kept
def begin(program: Program, weights: Weights, inputs: Inputs) -> Run:
    """The state before the first row: the texts' keys and values, and the noise."""
    x, keys = program.task.start(inputs)
    progress = sampling.begin(_denoiser(program, weights, inputs), x)
    texts = conditioning(program, weights, inputs.text, inputs.conditions)
    return devices.divided(program.mesh, Run(texts, keys, progress, linear(progress.x0, inputs)))


def _advance(
    program: Program, weights: Weights, inputs: Inputs, run: Run, until: Int[Array, ""]
) -> Run:
    step = make_step(program, weights, inputs, run)
    progress = sampling.advance(step, run.progress, until)
    run = run._replace(progress=progress, shown=linear(progress.x0, inputs))
    return devices.divided(program.mesh, run)


def _watched(
    program: Program,
    watch: Callable[[Array, Array, Array], Any],
    autoencoder: Network | None,
    weights: Weights,
    inputs: Inputs,
    run: Run,
    until: Int[Array, ""],
    every: Int[Array, ""],
    token: Int[Array, ""],
) -> Run:
    def show(x0: Latent) -> tuple[Array, UInt8[Array, "n H W 3"]]:
        if autoencoder is None:
            return token, linear(x0, inputs)
        return token, coder.decode(autoencoder, weights.shown, x0[: len(inputs.keys)])

    progress = sampling.watched(
        make_step(program, weights, inputs, run),
        run.progress,
        until,
        lambda rows_done, shown: watch(shown[0], rows_done, shown[1]),
        every,
        show,
    )
    return run._replace(progress=progress, shown=linear(progress.x0, inputs))


def compiled(function: Callable, num_static: int) -> Callable:
    """`function` jitted; with SPARING for a quantized denoiser on CPU."""
    static = tuple(range(num_static))
    usual = jax.jit(function, static_argnums=static)
    sparing = jax.jit(function, static_argnums=static, compiler_options=SPARING)

    @functools.wraps(function)
    def call(program: Program, *args: Any) -> Any:
        quantized = program.denoiser.is_quantized and jax.default_backend() == "cpu"
        return (sparing if quantized else usual)(program, *args)

    return call


# (program, weights, inputs, run, until) to the run after row `until`.
advance = compiled(program_cache.kept(_advance), num_static=1)

# (program, watch, autoencoder, weights, inputs, run, until, every, token), likewise, with calls of
# `watch(token, rows_done, pictures)`, see `sampling.watched`. `watch` is part of the program, so it
# is one function for all runs, and `token` identifies the run. The pictures are `Run.shown`, or
# decoded if there is an autoencoder.
watched = compiled(_watched, num_static=3)


def make_step(
    program: Program, weights: Weights, inputs: Inputs, run: Run, branches: Branches | None = None
) -> Step:
    """The step of a run; `branches` as of `guided`."""
    denoise = _denoiser(program, weights, inputs, branches)
    step = sampling.make_step(denoise, run.conditioning, inputs.table, run.keys)
    return program.task.follow(step, inputs)


def _denoiser(
    program: Program, weights: Weights, inputs: Inputs, branches: Branches | None = None
) -> Denoiser:
    denoise = guided(program, weights, inputs, branches)
    return program.task.wrap(denoise, inputs, weights.autoencoder)


def _with_mask(module: Any, masked: Float[Array, "n h w c"]) -> denoiser.Predict:
    """An in-painting network of the latents alone."""

    def evaluate(x: Latent, t: Int[Array, " b"], conditioning: Any) -> Latent:
        copies = len(x) // len(masked)
        return module(
            jnp.concatenate([x, jnp.tile(masked, (copies, 1, 1, 1))], -1), t, conditioning
        )

    return evaluate


def _with_control(
    module: Any, control: Any, inputs: Inputs, masked: Float[Array, "n h w c"] | None
) -> denoiser.Predict:
    """A network that a ControlNet acts on, of the conditionings of both."""
    given = inputs.control
    assert given is not None

    def evaluate(x: Latent, t: Int[Array, " b"], conditioning: Any) -> Latent:
        own, theirs = conditioning

        def act() -> Any:
            return control.residuals(x, t, theirs, given.image, given.scale)

        def rest() -> Any:
            return jax.tree.map(lambda r: jnp.zeros(r.shape, r.dtype), jax.eval_shape(act))

        acts = (t[0] <= given.first) & (t[0] >= given.last)
        residuals = jax.lax.cond(acts, act, rest)
        controlled = functools.partial(module, residuals=residuals)
        evaluate = controlled if masked is None else _with_mask(controlled, masked)
        return evaluate(x, t, own)

    return evaluate


def linear(x0: Latent, inputs: Inputs) -> UInt8[Array, "n h w 3"]:
    """The x₀ estimates of the images as `preview.apply` draws them."""
    return preview.apply(x0[: len(inputs.keys)], inputs.to_rgb)
