"""The loss of the autoencoder: reconstruction, sharpness, a light prior, and equivariance."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from dg2_jax.nn.autoencoder import AutoencoderKL
from dg2_jax.typing import Pixels

Square = Float[Array, "b _ _ _"]  # pictures and their latents differ in size and channels

# The turns and flips of a square except the identity.
TRANSFORMS: tuple[Callable[[Array], Array], ...] = (
    lambda x: jnp.rot90(x, 1, (1, 2)),
    lambda x: jnp.rot90(x, 2, (1, 2)),
    lambda x: jnp.rot90(x, 3, (1, 2)),
    lambda x: x[:, :, ::-1],
    lambda x: x[:, ::-1],
)


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms, each at least 0; pixels are in [-1, 1] and every term is a mean.

    Attributes:
        squared: of the squared error.
        absolute: of the absolute error.
        gradient: of the multi-scale gradient error.
        kl: of the divergence from N(0, I), a mean over latent elements.
        equivariant_share: share of each batch, 0 to 1, that is decoded from a turned or flipped
            latent and compared with the picture turned or flipped likewise (EQ-VAE, arXiv
            2502.09509).
    """

    squared: float = 4.0
    absolute: float = 0.5
    gradient: float = 1.0
    kl: float = 1e-4
    equivariant_share: float = 0.5

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            ValueError: naming the weight.
        """
        for name in ("squared", "absolute", "gradient", "kl"):
            if not 0.0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"loss.{name} must be at least 0, got {getattr(self, name)}")
        if not 0.0 <= self.equivariant_share <= 1.0:
            raise ValueError(
                f"loss.equivariant_share must be from 0 to 1, got {self.equivariant_share}"
            )


def gradient_error(a: Pixels, b: Pixels, scales: int = 3) -> Float[Array, ""]:
    """Mean |∇a - ∇b| over scales 1, 2, 4, …, which penalises blurred edges more than a plain error.

    ∇ are forward differences along both axes; each further scale first averages 2 x 2 pixels.
    """
    error, total = a - b, jnp.zeros((), jnp.float32)
    for scale in range(scales):
        if scale:
            n, h, w, c = error.shape
            error = error[:, : h // 2 * 2, : w // 2 * 2]
            error = error.reshape(n, h // 2, 2, w // 2, 2, c).mean((2, 4))
        total += jnp.mean(jnp.abs(jnp.diff(error, axis=1)))
        total += jnp.mean(jnp.abs(jnp.diff(error, axis=2)))
    return total / scales


def transform_tail(key: PRNGKeyArray, share: float, *arrays: Square) -> list[Square]:
    """Applies one random turn or flip to the last `share` of a batch, the same to every array."""
    kept = round(arrays[0].shape[0] * (1.0 - share))
    which = jax.random.randint(key, (), 0, len(TRANSFORMS), jnp.int32)
    return [
        jnp.concatenate([x[:kept], jax.lax.switch(which, TRANSFORMS, x[kept:])]) for x in arrays
    ]


def autoencoder_loss(
    vae: AutoencoderKL,
    pixels: Pixels,
    key: PRNGKeyArray,
    weights: LossWeights,
    decoder_only: bool = False,
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """The weighted loss and its parts.

    Args:
        vae: the autoencoder.
        pixels: (b, h, w, 3) in [-1, 1]; square where `weights.equivariant_share` is above 0.
        key: for the posterior's noise and the drawn transform.
        weights: of the terms.
        decoder_only: lets no gradient through to the encoder.

    Raises:
        ValueError: pictures that would be turned are not square.
    """
    latents, target, kl = latents_and_targets(vae, pixels, key, weights, decoder_only)
    loss, parts = reconstruction_loss(vae.decode(latents), target, weights)
    return loss + weights.kl * kl, parts | {"kl": kl}


def reconstruction_loss(
    rebuilt: Pixels, target: Pixels, weights: LossWeights
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """The weighted loss of decoded pictures, without the prior of the latents, and its parts."""
    parts = {
        "squared": jnp.mean(jnp.square(rebuilt - target)),
        "absolute": jnp.mean(jnp.abs(rebuilt - target)),
        "gradient": gradient_error(rebuilt, target),
    }
    total = sum(getattr(weights, name) * part for name, part in parts.items())
    return jnp.asarray(total), parts


def latents_and_targets(
    vae: AutoencoderKL, pixels: Pixels, key: PRNGKeyArray, weights: LossWeights, decoder_only: bool
) -> tuple[Square, Pixels, Float[Array, ""]]:
    """Latents drawn from the posteriors, the pictures they should decode to, and the prior's term.

    A share of both is turned or flipped alike. Arguments and errors are those of
    `autoencoder_loss`.
    """
    if weights.equivariant_share > 0 and pixels.shape[1] != pixels.shape[2]:
        raise ValueError(
            "pixels must be square where loss.equivariant_share is above 0, "
            f"got {pixels.shape[1]} x {pixels.shape[2]}"
        )
    noise_key, transform_key = jax.random.split(key)
    posterior = vae.encode(pixels)
    if decoder_only:
        posterior = jax.lax.stop_gradient(posterior)
    latents, target = posterior.sample(noise_key), pixels
    if weights.equivariant_share > 0:
        latents, target = transform_tail(transform_key, weights.equivariant_share, latents, target)
    return latents, target, jnp.mean(posterior.kl()) / posterior.mean[0].size
