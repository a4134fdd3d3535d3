"""The adversarial stage of an autoencoder, which makes crisp what a mean error leaves soft.

A discriminator learns to tell patches of decoded pictures from patches of true ones, and the
decoder learns to fool it (Esser et al., arXiv 2012.09841, section 3.1). Both learn in one step: the
parameters of a run hold the discriminator's under `DISCRIMINATOR` beside the autoencoder's, and
neither loss reaches the other's parameters.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from dg2_jax import randomness
from dg2_jax.checks import check
from dg2_jax.data.loader import Batch, Example, Transform
from dg2_jax.evaluation.probe import AttributeProbe
from dg2_jax.models.model import Network, Params
from dg2_jax.nn.convolution import conv3x3
from dg2_jax.pictures.images import from_uint8
from dg2_jax.training import optimizer
from dg2_jax.training.autoencoder import LossWeights, latents_and_targets, reconstruction_loss
from dg2_jax.training.config import RunConfig
from dg2_jax.training.step import LossFn, Metrics
from dg2_jax.typing import Pixels

DISCRIMINATOR = "discriminator"
R1_EVERY = 16  # mean number of steps between penalties, each weighted by it
_MAX_FACTOR = 1e4  # as in Esser et al.
_TINY = 1e-8

Features = Float[Array, "b _ _ _"]


@dataclass(frozen=True)
class AdversarialConfig:
    """The adversarial stage of a run of scripts/train_vae.py.

    Attributes:
        weight: strength of the adversarial term, at least 0: the norm of its gradient at the
            decoded pixels as a share of the reconstruction's (an adaptive weight).
        feature_matching: weight of the mean difference of the discriminator's features between
            decoded and true pictures (arXiv 1711.11585, equation 5); at least 0.
        perceptual: weight of the difference of the attribute probe's features; at least 0. Use 0
            for pictures other than `dg2_scenes`.
        r1: weight of the penalty on the discriminator's gradient at true pictures (arXiv
            1801.04406, equation 9), applied in one step out of 16 on average; at least 0.
        own_share: number of latents from `own_latents` to decode beside the batch, as a share of
            the batch, 0 to 1; only the adversarial term judges them, as they have no true picture.
        channels: of the discriminator's levels; each level halves height and width.
        learning_rate: of the discriminator's Adam.
    """

    weight: float = 0.5
    feature_matching: float = 1.0
    perceptual: float = 0.0
    r1: float = 1.0
    own_share: float = 0.0
    channels: tuple[int, ...] = (32, 64, 128, 128)
    learning_rate: float = 2e-4

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            ValueError: naming the field.
        """
        for name in ("weight", "feature_matching", "perceptual", "r1"):
            value = getattr(self, name)
            check(0 <= value < float("inf"), f"adversarial.{name}", "at least 0", value)
        rate = self.learning_rate
        check(0 < rate < float("inf"), "adversarial.learning_rate", "a positive number", rate)
        check(0 <= self.own_share <= 1, "adversarial.own_share", "0 to 1", self.own_share)
        fine = bool(self.channels) and all(c > 0 for c in self.channels)
        check(fine, "adversarial.channels", "positive numbers, at least one", self.channels)


class Discriminator(nnx.Module):
    """4x4 convolutions of stride 2, and a last 3x3 one to a logit per patch, high for true ones."""

    def __init__(self, config: AdversarialConfig, *, rngs: nnx.Rngs):
        widths = (3, *config.channels)
        self.convs = nnx.List(
            nnx.Conv(i, o, (4, 4), strides=2, padding=1, rngs=rngs)
            for i, o in itertools.pairwise(widths)
        )
        self.conv_out = conv3x3(widths[-1], 1, rngs)

    def __call__(self, pixels: Pixels) -> tuple[Features, list[Features]]:
        """Logits (b, h/2ⁿ, w/2ⁿ, 1) of the patches, and the features of the n levels."""
        x, features = pixels, []
        for conv in self.convs:
            x = jax.nn.leaky_relu(conv(x), 0.2)
            features.append(x)
        return self.conv_out(x), features


def make_optimizer(
    config: RunConfig, adversarial: AdversarialConfig
) -> optax.GradientTransformation:
    """The run's optimiser for the autoencoder, and Adam for the discriminator."""
    return optax.partition(
        {
            "autoencoder": optimizer.make(config.optim, config.num_steps),
            DISCRIMINATOR: optax.adam(adversarial.learning_rate, b1=0.5, b2=0.9),
        },
        lambda params: {
            name: jax.tree.map(
                lambda _, n=name: DISCRIMINATOR if n == DISCRIMINATOR else "autoencoder", tree
            )
            for name, tree in params.items()
        },
    )


def hinge(real: Array, fake: Array) -> Float[Array, ""]:
    """The discriminator's loss: mean max(0, 1 - D(x)) + mean max(0, 1 + D(x̂))."""
    return jnp.mean(jax.nn.relu(1.0 - real)) + jnp.mean(jax.nn.relu(1.0 + fake))


def gradient_penalty(judge: Callable[[Pixels], Array], pixels: Pixels) -> Float[Array, ""]:
    """R1: the mean of ½ ‖∂D/∂x‖² over pictures and patches, as if patches did not overlap.

    Args:
        judge: maps pictures to the logits (b, h, w, 1) of their patches.
        pixels: true pictures.
    """
    logits, back = jax.vjp(judge, pixels)
    (gradient,) = back(jnp.ones_like(logits))
    return 0.5 * jnp.sum(jnp.square(gradient)) / logits.size


def feature_difference(a: list[Features], b: list[Features]) -> Float[Array, ""]:
    """The mean over levels of the mean absolute difference."""
    terms = [jnp.mean(jnp.abs(x - y)) for x, y in zip(a, b, strict=True)]
    return jnp.mean(jnp.stack(terms))


def perceptual_difference(probe: AttributeProbe, a: Pixels, b: Pixels) -> Float[Array, ""]:
    """The mean over the probe's levels of the squared distance of unit feature vectors.

    It is LPIPS (arXiv 1801.03924, equation 1) with equal weights.
    """

    def units(pixels: Pixels) -> list[Features]:
        return [
            x * jax.lax.rsqrt(jnp.sum(jnp.square(x), axis=-1, keepdims=True) + _TINY)
            for x in probe.levels(pixels)
        ]

    terms = [
        jnp.mean(jnp.sum(jnp.square(x - y), axis=-1))
        for x, y in zip(units(a), units(b), strict=True)
    ]
    return jnp.mean(jnp.stack(terms))


def make_loss(
    autoencoder: Network,
    discriminator: Network,
    weights: LossWeights,
    config: AdversarialConfig,
    *,
    decoder_only: bool = False,
    probe: AttributeProbe | None = None,
) -> LossFn:
    """The loss of both networks on batches {"image": uint8 (b, h, w, 3)}.

    With `own_share` a batch also holds "latents" (b, h/f, w/f, c), unscaled.

    The decoder's gradient is assembled at its pixels. With the gradients r of the reconstruction, m
    of the features and a of the adversarial term -mean D(x̂), it is r + m + weight · ‖r‖/‖a‖ · a,
    which is then propagated back once.

    Args:
        autoencoder: of an `AutoencoderKL`.
        discriminator: of a `Discriminator`.
        weights: of the reconstruction.
        config: of the stage.
        decoder_only: lets no gradient through to the encoder.
        probe: for `config.perceptual`.
    """

    def loss_fn(params: Params, batch: Batch, key: PRNGKeyArray) -> tuple[Array, Metrics]:
        draw_key, penalty_key = jax.random.split(key)
        params = dict(params)
        judged_by = params.pop(DISCRIMINATOR)
        vae = autoencoder.bind(params)
        latents, target, kl = latents_and_targets(
            vae, from_uint8(batch["image"]), draw_key, weights, decoder_only
        )
        count = len(latents)
        own = round(config.own_share * count)
        if own:
            latents = jnp.concatenate([latents, batch["latents"][:own].astype(latents.dtype)])
        decoded = vae.decode(latents)
        fixed = jax.lax.stop_gradient(decoded)
        parts, gradient = _pixel_gradient(fixed, target, judged_by)
        # The value is meaningless; the gradient carries that of the pixels back into the decoder.
        carried = jnp.sum(decoded * jax.lax.stop_gradient(gradient))
        carried += weights.kl * kl

        def judge(pixels: Pixels) -> Array:
            return discriminator.bind(judged_by)(pixels)[0]

        parts["discriminator"] = hinge(judge(target), judge(fixed))
        loss = carried + parts["discriminator"]
        if config.r1:
            loss += config.r1 * jax.lax.cond(
                randomness.bernoulli(penalty_key, 1.0 / R1_EVERY, ()),
                lambda: R1_EVERY * gradient_penalty(judge, target),
                lambda: jnp.zeros((), jnp.float32),
            )
        return loss, parts | {"kl": kl}

    def _pixel_gradient(decoded: Array, target: Pixels, judged_by: Params) -> tuple[Metrics, Array]:
        count = len(target)
        judge = discriminator.bind(jax.lax.stop_gradient(judged_by))
        true_features = judge(target)[1]

        def reconstruction(x: Pixels) -> tuple[Array, Metrics]:
            return reconstruction_loss(x[:count], target, weights)

        def matching(x: Pixels) -> tuple[Array, Metrics]:
            features = [level[:count] for level in judge(x)[1]]
            parts = {"feature_matching": feature_difference(features, true_features)}
            total = config.feature_matching * parts["feature_matching"]
            if config.perceptual and probe is not None:
                parts["perceptual"] = perceptual_difference(probe, x[:count], target)
                total += config.perceptual * parts["perceptual"]
            return total, parts

        def fooling(x: Pixels) -> Array:
            return -jnp.mean(judge(x)[0])

        (_, parts), r = jax.value_and_grad(reconstruction, has_aux=True)(decoded)
        (_, more), m = jax.value_and_grad(matching, has_aux=True)(decoded)
        adversarial, a = jax.value_and_grad(fooling)(decoded)
        # Only over the reconstructed part: latents without a true picture have no r.
        norms = [jnp.linalg.norm(g[:count].ravel()) for g in (r, a)]
        factor = jnp.minimum(config.weight * norms[0] / (norms[1] + _TINY), _MAX_FACTOR)
        parts |= more | {"adversarial": adversarial, "adversarial_factor": factor}
        return parts, r + m + factor * a

    return loss_fn


def own_latents(latents: np.ndarray, side: int) -> Transform:
    """A transform of the loader: adds a crop of one of `latents` (n, h, w, c), drawn at random.

    Args:
        latents: unscaled; may be memory-mapped.
        side: of the crop, in cells.
    """

    def transform(example: Any, rng: np.random.Generator) -> Example:
        chosen = latents[int(rng.integers(len(latents)))]
        top, left = (int(rng.integers(n - side + 1)) for n in chosen.shape[:2])
        return {**example, "latents": chosen[top : top + side, left : left + side]}

    return transform
