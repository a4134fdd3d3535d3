"""Guidance: functions from denoiser to denoiser, in the space of x₀ estimates.

Since x₀, ε and v estimates at one x are affine in each other, a combination whose weights sum to 1
is the same in all three spaces. Convention: a scale of 1 is unguided.

A guided denoiser evaluates all branches (every prompt, then the negative prompt) in one call of the
denoiser inside it; its conditioning comes from `pair`, or lies as `Branches` tells.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from dg2_jax.diffusion.denoiser import Conditioning, Denoiser, Level, Memory, over_latents
from dg2_jax.typing import Latent


class Guidance(NamedTuple):
    """The numbers of `adaptive_projected`, `within_interval` and `autoguided`; all are data.

    Attributes:
        scale: w of each image; 1 is unguided.
        rescale: φ of each image, from 0 to 1, see `rescale`; 0 leaves the estimate alone.
        eta_parallel: η of each image, usually 0 to 1.
        norm_threshold: r of each image, above 0, in units of the scaled latents, whose norm grows
            with the square root of their number; ∞ for no cap.
        momentum: β of each image, between -1 and 1. It acts once per row, so twice per step of a
            two-stage solver.
        prompt_weights: aᵢ of the n composed prompts per image; ones (b, 1) for a single prompt.
        interval: (low, high) of each image, the noise levels σ between which guidance acts.
        autoguidance_scale: w of `autoguided` for each image; 1 is the better denoiser alone.
    """

    scale: Float[Array, " b"]
    rescale: Float[Array, " b"]
    eta_parallel: Float[Array, " b"]
    norm_threshold: Float[Array, " b"]
    momentum: Float[Array, " b"]
    prompt_weights: Float[Array, "b n"]
    interval: Float[Array, "b 2"]
    autoguidance_scale: Float[Array, " b"]

    def repeated(self, copies: int) -> "Guidance":
        """The guidance of `copies` batches of the same images, one after another."""
        return jax.tree.map(lambda a: jnp.concatenate([a] * copies), self)

    def acts_at(self, level: Level) -> Bool[Array, " b"]:
        """Whether each image is guided at a level."""
        low, high = self.interval.T
        return (level.sigma >= low) & (level.sigma <= high)


class Branches(NamedTuple):
    """Where the r branches of b images lie in a batch of the network, in any order.

    Attributes:
        image: the image that each branch is of.
        prompts: the branches of the n composed prompts of each image.
        negative: the branch of the negative prompt. Where it is that of the prompt, the negative
            prompt is not evaluated: for images without guidance at this level.
    """

    image: Int[Array, " r"]
    prompts: Int[Array, "b n"]
    negative: Int[Array, " b"]


def pair(conditional: Conditioning, unconditional: Conditioning) -> Conditioning:
    """The conditioning of a guided denoiser: all branches along the batch axis.

    `conditional` may hold n prompts per image, (n·b, …): every image's first prompt, then every
    image's second, and so on; `unconditional` is (b, …).
    """
    return jax.tree.map(lambda c, u: jnp.concatenate([c, u]), conditional, unconditional)


def rescale(guided: Latent, conditional: Latent, phi: Float[Array, " b"]) -> Latent:
    """φ · g · std(c)/std(g) + (1 - φ) · g (Lin et al., arXiv 2305.08891, equations 15-16).

    Undoes the over-exposure of strong guidance. The standard deviations are those of each x₀
    estimate over all its elements; φ = 0 leaves the estimate alone.
    """
    axes = (1, 2, 3)
    std_c = jnp.std(conditional, axis=axes, keepdims=True)
    std_g = jnp.std(guided, axis=axes, keepdims=True)
    phi = over_latents(phi)
    return guided * (phi * std_c / jnp.maximum(std_g, 1e-8) + (1.0 - phi))


def classifier_free(denoise: Denoiser, scale: Float[Array, " b"]) -> Denoiser:
    """Classifier-free guidance u + w (c - u) (Ho and Salimans, arXiv 2207.12598).

    c is the estimate under the prompt, u under the negative prompt or the null text. The memory is
    that of `denoise` for both branches.

    Args:
        denoise: the denoiser.
        scale: w of each image.
    """

    def apply(
        x: Latent, level: Level, paired: Conditioning, memory: Memory
    ) -> tuple[Latent, Memory]:
        c, u, memory = _evaluated(denoise, x, level, paired, memory)
        return u + over_latents(scale) * (c - u), memory

    return Denoiser(lambda x: denoise.init(_repeat(x, 2)), apply)


def adaptive_projected(
    denoise: Denoiser,
    guidance: Guidance,
    branches: Branches | None = None,
    *,
    intervals: bool = False,
) -> Denoiser:
    """Adaptive projected guidance (Sadat et al., arXiv 2410.02416, algorithm 1).

        m ← c - u + β m;   d = m · min(1, r/‖m‖);   x₀ = c + (w - 1) (d - (1 - η) ⟨d, c⟩ c/‖c‖²)

    Strong guidance over-saturates mainly through the part of c - u that is parallel to c, so that
    part counts η times; the norm of the update is capped at r; and a negative β pushes away from
    the directions of earlier steps. (η, r, β) = (1, ∞, 0) is `classifier_free`, so that one
    compiled program serves both. The estimate is then rescaled by φ, see `rescale`.

    With n prompts per image, c is that of all of them together, c = u + Σᵢ aᵢ (cᵢ - u): the
    conjunction of Liu et al. (Composable Diffusion, arXiv 2206.01714, section 4), whose weights are
    w·aᵢ. The order of the prompts does not matter, a weight of 0 leaves a prompt out, a negative
    one moves away from it. The weight of a single prompt is not used.

    Args:
        denoise: the denoiser.
        guidance: the numbers.
        branches: where the branches lie; None: as `pair` puts them.
        intervals: whether the intervals count: outside that of an image its estimate is c, and its
            m stays.

    Returns:
        A denoiser whose memory is (m, the memory of `denoise` for all branches), m zero before the
        first row.
    """
    w, eta, r, beta = map(
        over_latents,
        (guidance.scale, guidance.eta_parallel, guidance.norm_threshold, guidance.momentum),
    )
    weights = guidance.prompt_weights

    def init(x: Latent) -> tuple[Latent, Memory]:
        if branches is not None:
            return jnp.zeros_like(x), denoise.init(x[branches.image])
        return jnp.zeros_like(x), denoise.init(_repeat(x, weights.shape[1] + 1))

    def apply(
        x: Latent, level: Level, paired: Conditioning, memory: tuple[Latent, Memory]
    ) -> tuple[Latent, tuple[Latent, Memory]]:
        before, inner = memory
        c, u, inner = _evaluated(denoise, x, level, paired, inner, weights, branches)
        m = c - u + beta * before
        norm = jnp.sqrt(jnp.maximum(_dot(m, m), 1e-16))
        d = m / jnp.maximum(1.0, norm / r)
        parallel = _dot(d, c) / jnp.maximum(_dot(c, c), 1e-8) * c
        g = c + (w - 1.0) * (d - (1.0 - eta) * parallel)
        g = rescale(g, c, guidance.rescale)
        if intervals:
            acts = over_latents(guidance.acts_at(level))
            g, m = jnp.where(acts, g, c), jnp.where(acts, m, before)
        return g, (m, inner)

    return Denoiser(init, apply)


def within_interval(guided: Denoiser, denoise: Denoiser, guidance: Guidance) -> Denoiser:
    """`guided` at noise levels low ≤ σ ≤ high, its conditional estimate elsewhere (2404.07724).

    Outside the intervals of all images the unconditional branch is not evaluated at all, unless
    several prompts are composed, which needs it. There the momentum of `guided` is frozen, the
    memory of `denoise` still advances, and that of a branch that is not evaluated is reset.

    Args:
        guided: `adaptive_projected(denoise, guidance, intervals=True)`.
        denoise: the denoiser inside it.
        guidance: its numbers, with the intervals.
    """
    composes = guidance.prompt_weights.shape[1] > 1

    def outside(
        x: Latent, level: Level, paired: Conditioning, memory: tuple[Latent, Memory]
    ) -> tuple[Latent, tuple[Latent, Memory]]:
        m, inner = memory
        if composes:
            c, _, inner = _evaluated(denoise, x, level, paired, inner, guidance.prompt_weights)
            return c, (m, inner)
        conditional, kept = jax.tree.map(lambda a: a[: len(x)], (paired, inner))
        c, kept = denoise.apply(x, level, conditional, kept)
        return c, (m, pair(kept, denoise.init(x)))

    def apply(
        x: Latent, level: Level, paired: Conditioning, memory: tuple[Latent, Memory]
    ) -> tuple[Latent, tuple[Latent, Memory]]:
        inside = jnp.any(guidance.acts_at(level))
        return jax.lax.cond(inside, guided.apply, outside, x, level, paired, memory)

    return Denoiser(guided.init, apply)


def autoguided(denoise: Denoiser, bad: Denoiser, scale: Float[Array, " b"]) -> Denoiser:
    """Autoguidance D_bad + w (D - D_bad) (Karras et al., arXiv 2406.02507).

    `bad` is a weaker version of the same network (an earlier checkpoint, a smaller one), given the
    same texts. The conditioning of the result is the tuple (that of `denoise`, that of `bad`),
    because keys and values computed from a text depend on the parameters; so is its memory.

    Use it inside the transforms above, `adaptive_projected(autoguided(…), …)`, with `pair` of two
    such tuples; the scales then repeat with the branches.

    Args:
        denoise: the better denoiser.
        bad: the worse one.
        scale: w of each image; 1 is `denoise` alone.
    """

    def init(x: Latent) -> tuple[Memory, Memory]:
        return denoise.init(x), bad.init(x)

    def apply(
        x: Latent, level: Level, conditioning: Any, memory: tuple[Memory, Memory]
    ) -> tuple[Latent, tuple[Memory, Memory]]:
        good, first = denoise.apply(x, level, conditioning[0], memory[0])
        worse, second = bad.apply(x, level, conditioning[1], memory[1])
        w = over_latents(jnp.tile(scale, len(x) // len(scale)))
        return worse + w * (good - worse), (first, second)

    return Denoiser(init, apply)


def _evaluated(
    denoise: Denoiser,
    x: Latent,
    level: Level,
    paired: Conditioning,
    memory: Memory,
    prompt_weights: Float[Array, "b n"] | None = None,
    branches: Branches | None = None,
) -> tuple[Latent, Latent, Memory]:
    """The conditional and the unconditional estimate and the memory, from one call of `denoise`."""
    n = 1 if prompt_weights is None else prompt_weights.shape[1]
    if branches is None:
        x0, memory = denoise.apply(_repeat(x, n + 1), level.repeated(n + 1), paired, memory)
        *each, u = jnp.split(x0, n + 1)
    else:
        at = level.of_latents(branches.image)
        x0, memory = denoise.apply(x[branches.image], at, paired, memory)
        each, u = [x0[branch] for branch in branches.prompts.T], x0[branches.negative]
    if prompt_weights is None or n == 1:
        return each[0], u, memory
    weights = prompt_weights.T[:, :, None, None, None]
    return u + sum(a * (c - u) for a, c in zip(weights, each, strict=True)), u, memory


def _repeat(x: Latent, count: int) -> Float[Array, "n h w c"]:
    return jnp.concatenate([x] * count)


def _dot(a: Latent, b: Latent) -> Float[Array, "b 1 1 1"]:
    return jnp.sum(a * b, axis=(1, 2, 3), keepdims=True)
