"""The loss of the attribute probe: cross-entropies on flipped, shifted and blurred renders.

Generated pictures are slightly softer and noisier than renders; the probe must tolerate that.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from dg2_jax import randomness
from dg2_jax.evaluation.cases import ATTRIBUTES
from dg2_jax.evaluation.probe import AttributeProbe
from dg2_jax.typing import Pixels

MAX_SHIFT = 4  # pixels
MAX_NOISE = 0.06  # of a range of 2


def augment(pixels: Pixels, key: PRNGKeyArray) -> Pixels:
    """Mirrors pictures at random, shifts them by up to MAX_SHIFT, blurs and adds noise."""
    b, h, w, _ = pixels.shape
    mirror_key, shift_key, blur_key, spread_key, noise_key = jax.random.split(key, 5)
    mirrored = randomness.bernoulli(mirror_key, 0.5, (b, 1, 1, 1))
    x = jnp.where(mirrored, pixels[:, :, ::-1], pixels)
    edge = [(0, 0), (MAX_SHIFT, MAX_SHIFT), (MAX_SHIFT, MAX_SHIFT), (0, 0)]
    offsets = jax.random.randint(shift_key, (b, 2), 0, 2 * MAX_SHIFT + 1, jnp.int32)
    x = jax.vmap(lambda p, at: jax.lax.dynamic_slice(p, (at[0], at[1], 0), (h, w, 3)))(
        jnp.pad(x, edge, mode="edge"), offsets
    )
    soft = x
    for axis in (1, 2):
        soft = (jnp.roll(soft, 1, axis) + 2 * soft + jnp.roll(soft, -1, axis)) / 4
    share = randomness.uniform(blur_key, (b, 1, 1, 1))
    spread = MAX_NOISE * randomness.uniform(spread_key, (b, 1, 1, 1))
    return x + share * (soft - x) + spread * randomness.normal(noise_key, x.shape)


def probe_loss(
    probe: AttributeProbe, pixels: Pixels, labels: Mapping[str, Any], key: PRNGKeyArray
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """The sum of the attributes' mean cross-entropies, and the share correct in all.

    Args:
        probe: the network.
        pixels: (b, h, w, 3) in [-1, 1].
        labels: indices (b,) of each attribute.
        key: of the augmentation.
    """
    logits = probe(probe.features(augment(pixels, key)))
    loss, right = jnp.zeros((), jnp.float32), jnp.ones(len(pixels), bool)
    for name in ATTRIBUTES:
        entropy = optax.softmax_cross_entropy_with_integer_labels(logits[name], labels[name])
        loss += jnp.mean(entropy)
        right &= jnp.argmax(logits[name], axis=-1) == labels[name]
    return loss, {"joint_accuracy": jnp.mean(right.astype(jnp.float32))}
