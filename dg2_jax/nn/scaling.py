"""The scaling between the latents of an autoencoder and those of diffusion."""

from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import Array

Latents = TypeVar("Latents", float, Array, np.ndarray)


class Scaling(NamedTuple):
    """z -> (z - shift_factor) * scaling_factor, which gives latents of about unit variance.

    >>> Scaling(0.5, 1.0).scale(np.array([5.0]))
    array([2.])
    """

    scaling_factor: float = 1.0
    shift_factor: float = 0.0

    def scale(self, latents: Latents) -> Latents:
        """(z - shift_factor) * scaling_factor."""
        return (latents - self.shift_factor) * self.scaling_factor

    def unscale(self, latents: Latents) -> Latents:
        """The inverse of `scale`: z / scaling_factor + shift_factor."""
        return latents / self.scaling_factor + self.shift_factor
