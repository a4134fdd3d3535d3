"""Guidance: functions from denoiser to denoiser, in the space of x₀ estimates.

A denoiser maps (x, level, conditioning) to an estimate of x₀. Since x₀, ε and v estimates at one x
are affine in each other, a combination whose weights sum to 1 is the same in all three spaces.
Convention: guidance_scale = 1 is unguided. Guidance that remembers earlier steps is a `Recurrent`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from dg2_jax.diffusion import prediction
from dg2_jax.typing import Latent

Conditioning = TypeVar("Conditioning")  # any pytree whose leaves start with the batch axis


class Level(NamedTuple):
    """A noise level, the same for the whole batch."""

    timestep: Int[Array, ""]
    alpha: Float[Array, ""]
    sigma: Float[Array, ""]


Denoiser = Callable[[Latent, Level, Conditioning], Latent]
Network = Callable[[Latent, Int[Array, " b"], Conditioning], Latent]
Memory = Any  # pytree of arrays


@dataclasses.dataclass(frozen=True)
class Recurrent:
    """A denoiser with a memory, which the sampling loop carries from row to row.

    Attributes:
        start: the memory before the first row, from the latents (only their shape counts).
        step: (x, level, conditioning, memory) to (estimate of x₀, memory).
    """

    start: Callable[[Latent], Memory]
    step: Callable[[Latent, Level, Conditioning, Memory], tuple[Latent, Memory]]


def recurrent(denoise: Denoiser | Recurrent) -> Recurrent:
    """Any denoiser as a `Recurrent`; a plain one has an empty memory."""
    if isinstance(denoise, Recurrent):
        return denoise
    return Recurrent(lambda x: (), lambda x, level, c, memory: (denoise(x, level, c), memory))


def around(
    transform: Callable[[Denoiser], Denoiser], denoise: Denoiser | Recurrent
) -> Denoiser | Recurrent:
    """`transform(denoise)` where `denoise` may have a memory.

    The transform must call its denoiser exactly once, outside `lax` control flow.
    """
    if not isinstance(denoise, Recurrent):
        return transform(denoise)

    def step(
        x: Latent, level: Level, conditioning: Conditioning, memory: Memory
    ) -> tuple[Latent, Memory]:
        inner, afterwards = _with_memory(denoise, memory)
        x0 = transform(inner)(x, level, conditioning)
        (after,) = afterwards
        return x0, after

    return Recurrent(denoise.start, step)


def nested(transform: Callable[[Denoiser], Recurrent], denoise: Denoiser | Recurrent) -> Recurrent:
    """`around` for a transform that remembers too.

    Where `denoise` has a memory, that of the result is the pair (the transform's, `denoise`'s).
    """
    if not isinstance(denoise, Recurrent):
        return transform(denoise)

    def start(x: Latent) -> tuple[Memory, Memory]:
        return transform(lambda x, level, conditioning: x).start(x), denoise.start(x)

    def step(
        x: Latent, level: Level, conditioning: Conditioning, memory: tuple[Memory, Memory]
    ) -> tuple[Latent, tuple[Memory, Memory]]:
        inner, afterwards = _with_memory(denoise, memory[1])
        x0, own = transform(inner).step(x, level, conditioning, memory[0])
        (after,) = afterwards
        return x0, (own, after)

    return Recurrent(start, step)


def _with_memory(denoise: Recurrent, memory: Memory) -> tuple[Denoiser, list[Memory]]:
    """A plain denoiser for one call, and the list that then holds the memory after it."""
    afterwards: list[Memory] = []

    def inner(x: Latent, level: Level, conditioning: Conditioning) -> Latent:
        x0, after = denoise.step(x, level, conditioning, memory)
        afterwards.append(after)
        return x0

    return inner, afterwards


def denoiser(network: Network, prediction_type: str) -> Denoiser:
    """The denoiser of a network that predicts ε, v or x₀."""
    prediction.check(prediction_type)

    def denoise(x: Latent, level: Level, conditioning: Conditioning) -> Latent:
        t = jnp.broadcast_to(level.timestep, x.shape[:1])
        output = network(x, t, conditioning)
        return prediction.to_x0(prediction_type, x, output, level.alpha, level.sigma)

    return denoise


def pair(conditional: Conditioning, unconditional: Conditioning) -> Conditioning:
    """The conditioning of the guided denoisers below: all branches along the batch axis.

    `conditional` may hold n prompts an image, (n·b, …): every image's first prompt, then every
    image's second, and so on; `unconditional` is (b, …).
    """
    return jax.tree.map(lambda c, u: jnp.concatenate([c, u]), conditional, unconditional)


def conditional_half(paired: Conditioning) -> Conditioning:
    """The first branch of a `pair` with one prompt an image."""
    return jax.tree.map(lambda a: a[: len(a) // 2], paired)


def autoguided(
    denoise: Denoiser | Recurrent, bad: Denoiser | Recurrent, guidance_scale: Float[Array, " b"]
) -> Denoiser | Recurrent:
    """Autoguidance D_bad + w (D - D_bad) (Karras et al., arXiv 2406.02507).

    `bad` is a weaker version of the same network (an earlier checkpoint, a smaller one), given
    the same texts. The result's conditioning is the tuple (that of `denoise`, that of `bad`), for
    keys and values computed from a text differ with the parameters.

    It composes with the transforms below from the inside, `classifier_free(autoguided(…), …)`
    with `pair` of two such tuples: the scales then repeat with the branches.

    Args:
        denoise: the better denoiser.
        bad: the worse one.
        guidance_scale: w of each image; 1 is `denoise` alone.

    Returns:
        A denoiser with the pair of their memories where either of them has one.
    """
    both = recurrent(denoise), recurrent(bad)

    def step(
        x: Latent, level: Level, conditioning: Any, memory: tuple[Memory, Memory]
    ) -> tuple[Latent, tuple[Memory, Memory]]:
        (good, first), (worse, second) = (
            d.step(x, level, c, m) for d, c, m in zip(both, conditioning, memory, strict=True)
        )
        scale = jnp.tile(guidance_scale, len(x) // len(guidance_scale))[:, None, None, None]
        return worse + scale * (good - worse), (first, second)

    if isinstance(denoise, Recurrent) or isinstance(bad, Recurrent):
        return Recurrent(lambda x: (both[0].start(x), both[1].start(x)), step)
    return lambda x, level, conditioning: step(x, level, conditioning, ((), ()))[0]


def rescale(guided: Latent, conditional: Latent, phi: Float[Array, " b"]) -> Latent:
    """φ · g · std(c)/std(g) + (1 - φ) · g (Lin et al., arXiv 2305.08891, equations 15-16).

    Undoes the over-exposure of strong guidance. The standard deviations are those of each x₀
    estimate over all its elements; φ = 0 leaves the estimate alone.
    """
    axes = (1, 2, 3)
    std_c = jnp.std(conditional, axis=axes, keepdims=True)
    std_g = jnp.std(guided, axis=axes, keepdims=True)
    phi = phi[:, None, None, None]
    return guided * (phi * std_c / jnp.maximum(std_g, 1e-8) + (1.0 - phi))


def _branches(
    denoise: Denoiser,
    x: Latent,
    level: Level,
    paired: Conditioning,
    prompt_weights: Float[Array, "b n"] | None,
) -> tuple[Latent, Latent]:
    """The conditional and the unconditional estimate, from one call of `denoise`."""
    n = 1 if prompt_weights is None else prompt_weights.shape[1]
    *each, u = jnp.split(denoise(jnp.concatenate([x] * (n + 1)), level, paired), n + 1)
    if prompt_weights is None:
        return each[0], u
    weights = prompt_weights.T[:, :, None, None, None]
    return u + sum(w * (c - u) for w, c in zip(weights, each, strict=True)), u


def classifier_free(
    denoise: Denoiser,
    guidance_scale: Float[Array, " b"],
    guidance_rescale: Float[Array, " b"] | None = None,
    *,
    prompt_weights: Float[Array, "b n"] | None = None,
) -> Denoiser:
    """Classifier-free guidance u + w (c - u) (Ho and Salimans, arXiv 2207.12598).

    c is the prompt's estimate, u the negative prompt's or the null text's. With `prompt_weights`
    a, c is that of n prompts together, c = u + Σᵢ aᵢ (cᵢ - u): the conjunction of Liu et al.
    (Composable Diffusion, arXiv 2206.01714, section 4), whose weights are w·aᵢ. The order of the
    prompts does not matter, a weight of 0 leaves a prompt out, a negative one moves away from it.

    The result takes the conditioning of `pair`, (n + 1) times the batch of x, and calls `denoise`
    once on all branches together.

    Args:
        denoise: the denoiser.
        guidance_scale: w of each image; 1 is unguided.
        guidance_rescale: φ of each image, see `rescale`; None for none.
        prompt_weights: a of each image; None for one prompt of weight 1.
    """
    scale = guidance_scale[:, None, None, None]

    def guided(x: Latent, level: Level, paired: Conditioning) -> Latent:
        c, u = _branches(denoise, x, level, paired, prompt_weights)
        g = u + scale * (c - u)
        return g if guidance_rescale is None else rescale(g, c, guidance_rescale)

    return guided


def adaptive_projected(
    denoise: Denoiser,
    guidance_scale: Float[Array, " b"],
    guidance_rescale: Float[Array, " b"] | None = None,
    *,
    eta_parallel: Float[Array, " b"],
    norm_threshold: Float[Array, " b"],
    momentum: Float[Array, " b"],
    prompt_weights: Float[Array, "b n"] | None = None,
) -> Recurrent:
    """Adaptive projected guidance (Sadat et al., arXiv 2410.02416, algorithm 1).

        m ← c - u + β m;   d = m · min(1, r/‖m‖);   x₀ = c + (w - 1) (d - (1 - η) ⟨d, c⟩ c/‖c‖²)

    Strong guidance over-saturates mainly through the part of c - u that is parallel to c, so that
    part counts η times; the norm of the update is capped at r; and a negative β pushes away from
    the directions of earlier steps. m, zero before the first row, is the memory. (η, r, β) =
    (1, ∞, 0) is `classifier_free`, so that one compiled program serves both.

    Args:
        denoise: as for `classifier_free`, as are the next two, `prompt_weights` (the composed c
            is the c above) and the conditioning.
        guidance_scale: w of each image; 1 is unguided.
        guidance_rescale: φ of each image; None for none.
        eta_parallel: η of each image, usually 0 to 1.
        norm_threshold: r of each image, above 0, in units of the scaled latents; their norm grows
            with the square root of their number. ∞ for no cap.
        momentum: β of each image, between -1 and 1. It acts once a row, thus twice a step of a
            two-stage solver.
        prompt_weights: see `classifier_free`.
    """
    scale, eta, threshold, beta = (
        a[:, None, None, None] for a in (guidance_scale, eta_parallel, norm_threshold, momentum)
    )

    def start(x: Latent) -> Float[Array, "_ _ _ _"]:
        return jnp.zeros((len(guidance_scale), *x.shape[1:]), x.dtype)

    def dot(a: Latent, b: Latent) -> Float[Array, "b 1 1 1"]:
        return jnp.sum(a * b, axis=(1, 2, 3), keepdims=True)

    def step(
        x: Latent, level: Level, paired: Conditioning, memory: Latent
    ) -> tuple[Latent, Latent]:
        c, u = _branches(denoise, x, level, paired, prompt_weights)
        memory = c - u + beta * memory
        norm = jnp.sqrt(jnp.maximum(dot(memory, memory), 1e-16))
        d = memory / jnp.maximum(1.0, norm / threshold)
        parallel = dot(d, c) / jnp.maximum(dot(c, c), 1e-8) * c
        g = c + (scale - 1.0) * (d - (1.0 - eta) * parallel)
        return (g if guidance_rescale is None else rescale(g, c, guidance_rescale)), memory

    return Recurrent(start, step)


def within_interval(
    guided: Denoiser | Recurrent,
    denoise: Denoiser | Recurrent,
    interval: tuple[Float[Array, ""], Float[Array, ""]],
    *,
    prompt_weights: Float[Array, "b n"] | None = None,
) -> Denoiser | Recurrent:
    """`guided` at noise levels low ≤ σ ≤ high, its conditional estimate elsewhere (2404.07724).

    Outside the interval the unconditional branch is not evaluated at all, unless several prompts
    are composed, which needs it. A memory is left as it is there, but for that of `denoise`, which
    goes on; that of a branch that is not evaluated starts anew.

    Args:
        guided: what acts inside.
        denoise: the denoiser that `guided` was made of, by `nested` if it has a memory, whose
            leaves then start with the batch axis.
        interval: (low, high).
        prompt_weights: those of `guided`.
    """
    low, high = interval
    inner, plain = recurrent(guided), recurrent(denoise)

    def unguided(
        x: Latent, level: Level, paired: Conditioning, memory: Memory
    ) -> tuple[Latent, Memory]:
        if prompt_weights is not None:
            both, afterwards = _with_memory(plain, memory)
            x0 = _branches(both, x, level, paired, prompt_weights)[0]
            return x0, afterwards[0]
        x0, known = plain.step(x, level, conditional_half(paired), conditional_half(memory))
        anew = plain.start(x)
        return x0, jax.tree.map(lambda a, b: jnp.concatenate([a, b[len(a) :]]), known, anew)

    def outside(
        x: Latent, level: Level, paired: Conditioning, memory: Memory
    ) -> tuple[Latent, Memory]:
        if not isinstance(denoise, Recurrent):
            return unguided(x, level, paired, ())[0], memory
        own, of_denoise = memory
        x0, of_denoise = unguided(x, level, paired, of_denoise)
        return x0, (own, of_denoise)

    def step(
        x: Latent, level: Level, paired: Conditioning, memory: Memory
    ) -> tuple[Latent, Memory]:
        inside: Bool[Array, ""] = (level.sigma >= low) & (level.sigma <= high)
        return jax.lax.cond(
            inside,
            lambda: inner.step(x, level, paired, memory),
            lambda: outside(x, level, paired, memory),
        )

    if isinstance(guided, Recurrent):
        return Recurrent(inner.start, step)
    return lambda x, level, paired: step(x, level, paired, ())[0]
