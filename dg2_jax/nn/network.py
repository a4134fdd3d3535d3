"""Networks as static arguments of compiled functions: their structure, apart from parameters."""

import dataclasses
import functools
import pkgutil
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import jax

from dg2_jax import program_cache

Params = Any  # nested dicts of arrays: `nnx.to_pure_dict` of a module's state


class Slot(NamedTuple):
    """The place of a parameter in a network.

    Attributes:
        path: of keys in `Params`.
        shape: of the parameter.
        dtype: its name.
        layer: the class of Flax that the module is of that holds it, such as "Conv"; "" for others.
    """

    path: tuple[str | int, ...]
    shape: tuple[int, ...]
    dtype: str
    layer: str


@dataclasses.dataclass(frozen=True)
class Design:
    """What a network is built from when it is needed, since to build one takes long.

    Attributes:
        module: where its class is, `module(config, rngs=...)`, such as "dg2_jax.nn.unet:UNet".
        config: its configuration.
        compute_dtype: the name of the dtype in which it computes, see `with_compute_dtype`.
    """

    module: str
    config: Any
    compute_dtype: str = "float32"

    @functools.cached_property
    def built(self) -> Any:
        """The network, with shapes in place of parameters."""
        build = functools.partial(pkgutil.resolve_name(self.module), self.config)
        return _modules().built(build, self.compute_dtype)

    def __reduce__(self) -> tuple:
        return Design, (self.module, self.config, self.compute_dtype)  # without what was built


@dataclasses.dataclass(frozen=True)
class Network:
    """The structure of a network, a static argument of compiled functions that is hashed only once.

    Attributes:
        structure: its graph definition, whose hash takes milliseconds, or its design.
        is_quantized: whether it expands its parameters, see `dg2_jax.models.quantization`.
    """

    structure: Any
    is_quantized: ClassVar[bool] = False

    @functools.cached_property
    def graphdef(self) -> Any:
        """Its graph definition."""
        if isinstance(self.structure, Design):
            return _modules().split(self.structure.built)[0].structure
        return self.structure

    @functools.cached_property
    def slots(self) -> tuple[Slot, ...]:
        """The places of its parameters; of a network with a design."""
        found = program_cache.remembered(_slots_of_design, self.structure)
        return tuple(Slot(tuple(p), tuple(s), dtype, layer) for p, s, dtype, layer in found)

    @property
    def shapes(self) -> Params:
        """The shapes of its parameters; of a network with a design."""
        return tree(self.slots, [jax.ShapeDtypeStruct(s.shape, s.dtype) for s in self.slots])

    def bind(self, params: Params) -> Any:
        """The network with its parameters."""
        return _modules().merge(self.graphdef, params)

    @functools.cached_property
    def _hash(self) -> int:
        return hash(self.structure)

    def __hash__(self) -> int:
        return self._hash

    def __reduce__(self) -> tuple:
        return type(self), (self.structure,)  # the hash is of this process alone


class TiledNetwork(Network):
    """An autoencoder that goes tile by tile, see `dg2_jax.nn.tiling`."""

    def bind(self, params: Params) -> Any:
        """The autoencoder with its parameters."""
        from dg2_jax.nn.tiling import Tiled  # late: it imports Flax

        return Tiled(super().bind(params))


class Bound(NamedTuple):
    """A network with its parameters.

    Attributes:
        network: its structure.
        params: its parameters.
        config: its configuration.
    """

    network: Network
    params: Params
    config: Any

    @property
    def module(self) -> Any:
        """Both together."""
        return self.network.bind(self.params)


def tree(slots: Sequence[Slot], leaves: Sequence[Any]) -> Params:
    """The leaves at their places."""
    root: dict = {}
    for slot, leaf in zip(slots, leaves, strict=True):
        node = root
        for key in slot.path[:-1]:
            node = node.setdefault(key, {})
        node[slot.path[-1]] = leaf
    return root


def _slots_of_design(design: Design) -> list[Slot]:
    return _modules().slots_of(design.built)


def _modules() -> Any:
    from dg2_jax.nn import modules  # late: a program that was kept needs no Flax

    return modules
