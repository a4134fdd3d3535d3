"""How a training step is spread over devices: a mesh, and a few rules for placing arrays.

The mesh has the axes data, fsdp and tensor. The batch is divided over data and fsdp. Weights,
averages and optimiser are copied along data and divided along fsdp (ZeRO stage 3, arXiv 1910.02054:
XLA gathers a weight where it is used and scatters its gradient). The layers named by the network's
architecture are divided along tensor (Megatron, arXiv 1909.08053). XLA divides the computation
accordingly.

Random numbers are drawn for the whole batch at once by a generator that depends on each element's
position alone, so they do not depend on the layout; results differ only by rounding.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from dg2_jax.models.interface import TensorRules
from dg2_jax.training.config import DevicesConfig

T = TypeVar("T")

AXES = ("data", "fsdp", "tensor")
BATCH = PartitionSpec(("data", "fsdp"))

# Arrays with fewer elements stay whole: gathering them would cost more than it saves.
MIN_DIVIDED = 1 << 14


@dataclass(frozen=True)
class Layout:
    """The placement of states and batches on a mesh; on a single device, JAX's own.

    Attributes:
        mesh: with the axes `AXES`.
        tensor_rules: the layers that the axis tensor divides.
    """

    mesh: Mesh
    tensor_rules: TensorRules

    def spec(self, name: str, shape: tuple[int, ...]) -> PartitionSpec:
        """How an array is divided: along tensor by its rule, then its longest axis along fsdp."""
        axes: list[str | None] = [None] * len(shape)
        if math.prod(shape) < MIN_DIVIDED:
            return PartitionSpec()
        tensor, fsdp = self.mesh.shape["tensor"], self.mesh.shape["fsdp"]
        rule = self.tensor_rules.axis(name)
        if tensor > 1 and rule is not None and shape[rule] % tensor == 0:
            axes[rule] = "tensor"
        free = [i for i, n in enumerate(shape) if axes[i] is None and n % fsdp == 0]
        if fsdp > 1 and free:
            axes[max(free, key=lambda i: shape[i])] = "fsdp"
        return PartitionSpec(*axes)

    def shardings(self, state: T) -> T:
        """The sharding of every array of a state; the optimiser's follow the weights' names."""

        def of(path: Any, leaf: Any) -> NamedSharding:
            name = jax.tree_util.keystr(path, simple=True, separator=".")
            return NamedSharding(self.mesh, self.spec(name, tuple(leaf.shape)))

        return jax.tree_util.tree_map_with_path(of, state)

    def constrain(self, state: T) -> T:
        """Keeps a state where it is, inside a compiled function."""
        if self.mesh.size == 1:
            return state
        return jax.lax.with_sharding_constraint(state, self.shardings(state))

    def place_state(self, state: T) -> T:
        """A state, equal in every process, on the mesh."""
        if self.mesh.size == 1:
            return state

        def place(leaf: Any, sharding: NamedSharding) -> jax.Array:
            host = np.asarray(leaf)
            return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

        return jax.tree.map(place, state, self.shardings(state))

    def place_batch(self, batch: Mapping[str, Any]) -> Mapping[str, Any]:
        """This process's rows of a batch as a part of the whole batch on the mesh."""
        if self.mesh.size == 1:
            return batch
        sharding = NamedSharding(self.mesh, BATCH)
        return {
            name: jax.make_array_from_process_local_data(sharding, np.asarray(rows))
            for name, rows in batch.items()
        }


def join_processes(
    coordinator_address: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    patience: int = 60,
) -> None:
    """Joins the processes that train together; call it before anything touches a device.

    If Slurm, Kubernetes, MPI or a cloud TPU started them, JAX detects the others by itself;
    otherwise all three arguments are needed. When one process dies, the others end too.

    Args:
        coordinator_address: host:port of the first process.
        num_processes: number of processes.
        process_id: of this process, from 0.
        patience: seconds without a heartbeat after which a process counts as dead.

    Raises:
        ValueError: nothing is known of the other processes.
    """
    try:
        jax.distributed.initialize(
            coordinator_address,
            num_processes,
            process_id,
            heartbeat_timeout_seconds=patience,
            shutdown_timeout_seconds=patience,
        )
    except ValueError as error:
        raise ValueError(
            "coordinator_address, num_processes and process_id must be given, as no cluster that "
            f"JAX knows was found: {error}"
        ) from error


def make_layout(
    config: DevicesConfig,
    batch_size: int,
    tensor_rules: TensorRules,
    devices: Sequence[jax.Device] | None = None,
) -> Layout:
    """The layout of a configuration.

    Devices of one process are neighbours along tensor and fsdp, where most data is exchanged.

    Args:
        config: the axes.
        batch_size: examples per step.
        tensor_rules: the layers that the axis tensor divides, as of `RunConfig.tensor_rules`.
        devices: all devices of all processes by default.

    Raises:
        ValueError: the axes do not multiply to the number of devices, or they do not divide the
            batch (with accumulation, its parts).
    """
    devices = jax.devices() if devices is None else devices
    count = len(devices)
    inner = config.fsdp * config.tensor
    data = count // inner if config.data == -1 else config.data
    if data * inner != count:
        raise ValueError(
            f"devices.data x fsdp x tensor must be the number of devices, {count}, got "
            f"{config.data} x {config.fsdp} x {config.tensor}"
        )
    parts = data * config.fsdp * config.accumulation_steps
    if batch_size % parts:
        raise ValueError(
            f"batch_size must be a multiple of {parts} (devices.data x fsdp x accumulation_steps), "
            f"got {batch_size}"
        )
    mesh = Mesh(np.array(devices).reshape(data, config.fsdp, config.tensor), AXES)
    return Layout(mesh, tensor_rules)


def to_host(tree: T) -> T:
    """Every array as a whole, in NumPy, in every process; all processes must call it."""

    def fetch(leaf: Any) -> np.ndarray:
        if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
            return np.asarray(multihost_utils.process_allgather(leaf, tiled=True))
        return np.asarray(leaf)

    return jax.tree.map(fetch, tree)
