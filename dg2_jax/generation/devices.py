"""Several devices that divide batches: each has all weights, and evaluates some of the latents.

XLA divides a computation by where its arrays lie. Weights are copied to all devices of a mesh; what
a network is given is divided along the batch, and so is its evaluation. Random numbers depend on
the seeds alone, so pictures are those of one device, but for rounding.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from dg2_jax.diffusion.denoiser import Conditioning, Denoiser, Level, Memory
from dg2_jax.models.model import Model, Params
from dg2_jax.typing import Latent

T = TypeVar("T")
_AXIS = "images"


def spread(model: Model, devices: Sequence[jax.Device]) -> Model:
    """The model on devices that divide its batches.

    Args:
        model: the model.
        devices: one or more; batches of a multiple of their number are divided, and the others
            computed by each.
    """
    mesh = Mesh(np.asarray(devices), (_AXIS,))

    def copied(params: Params) -> Params:
        return jax.device_put(params, NamedSharding(mesh, PartitionSpec()))

    return dataclasses.replace(
        model,
        mesh=mesh,
        params=model.params.mapped(copied),
        autoencoder_params=copied(model.autoencoder_params),
        taesd_params=copied(model.taesd_params),
    )


def divided(mesh: Mesh | None, batch: T) -> T:
    """Arrays that start with the batch axis, divided along it; for compiled functions.

    Args:
        mesh: of `Model.mesh`; None changes nothing.
        batch: a pytree; each device keeps all of an array whose first axis cannot be divided.
    """
    if mesh is None:
        return batch

    def one(array: Any) -> Any:
        fits = np.ndim(array) > 0 and array.shape[0] % mesh.size == 0
        spec = PartitionSpec(_AXIS) if fits else PartitionSpec()
        return jax.lax.with_sharding_constraint(array, NamedSharding(mesh, spec))

    return jax.tree.map(one, batch)


def whole(mesh: Mesh | None, arrays: T) -> T:
    """Arrays that each device has all of; for compiled functions."""
    if mesh is None:
        return arrays
    return jax.lax.with_sharding_constraint(arrays, NamedSharding(mesh, PartitionSpec()))


def dividing(mesh: Mesh | None, denoise: Denoiser) -> Denoiser:
    """The denoiser whose evaluations are divided over the devices of a mesh."""
    if mesh is None:
        return denoise

    def apply(
        x: Latent, level: Level, conditioning: Conditioning, memory: Memory
    ) -> tuple[Latent, Memory]:
        return divided(mesh, denoise.apply(*divided(mesh, (x, level, conditioning, memory))))

    return Denoiser(denoise.init, apply)
