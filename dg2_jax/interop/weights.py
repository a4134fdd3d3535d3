"""Fills a Flax NNX module from a flat, PyTorch-style dictionary of arrays.

A module's parameters are addressed the way PyTorch would name them: the attribute path joined by
dots, then `weight` or `bias` (`blocks.0.fc1.weight`). So a loader is a renaming and nothing else:

    >>> import numpy as np
    >>> from flax import nnx
    >>> linear = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    >>> tensors = {"head.weight": np.ones((3, 2)), "head.bias": np.zeros(3)}
    >>> load_params(linear, tensors, lambda key: key.removeprefix("head."))
    >>> linear.kernel.shape
    (2, 3)
"""

import mmap
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import ml_dtypes
import numpy as np

from dg2_jax.nn.network import Network, Params, Slot, tree

_LISTED = 8  # names an error spells out before it only counts
_EXPONENTS = {"float16": 0x7C00, "bfloat16": 0x7F80, "float32": 0x7F800000}  # their bits
_RELEASED_AFTER = 64 << 20  # bytes read of a file before its memory is given back


def unwrapped(name: str) -> str:
    """A tensor's name without what torch.compile and DataParallel put before it or inside it.

    >>> unwrapped("module._orig_mod.body.0.weight")
    'body.0.weight'
    """
    return re.sub(r"(^|\.)(_orig_mod\.|module\.)+", r"\1", name)


def load_params(
    module: Any,
    tensors: Mapping[str, np.ndarray],
    rename: Callable[[str], str | None] = lambda key: key,
    *,
    dtype: Any = np.float32,
    on_bytes: Callable[[int], None] = lambda size: None,
) -> None:
    """Sets every parameter of `module` in place from arrays in PyTorch's layout.

    What changes between the two layouts:

    - Linear: `weight` (out, in), or (out, in, 1, 1), becomes `kernel` (in, out);
    - Conv: `weight` OIHW becomes `kernel` HWIO;
    - ConvTranspose: `weight` IOHW becomes `kernel` HWIO, turned by 180 degrees, because Flax
      correlates with it where PyTorch takes the gradient of a correlation;
    - LayerNorm, GroupNorm, BatchNorm: `weight` becomes `scale`;
    - Embed: `weight` becomes `embedding`;
    - biases, and parameters a module of another type holds itself, stay as they are.

    The module may be abstract (`nn.abstract.abstract(...)`): no time then goes into an
    initialisation that is overwritten.

    Args:
        module: the module to fill.
        tensors: arrays by name, in the checkpoint's own spelling.
        rename: from the checkpoint's name to the module's (see the head of this file); None leaves
            the tensor out on purpose (buffers, the parts of another model).
        dtype: of the parameters; None is each tensor's own, but bfloat16 for those of eight bits,
            which JAX does not mix with others by itself.
        on_bytes: called with the size of each tensor when it has been read. Of a memory-mapped
            file only what is being read then stays in memory.

    Raises:
        ValueError: as `matched`, and the module is then left untouched; or a tensor holds NaN or
            infinities.
    """
    from dg2_jax.nn.modules import parameters_of, slots_of  # late: it imports Flax

    parameters = parameters_of(module)
    pairs = matched(slots_of(module), type(module).__name__, tensors, rename)
    for slot, array in _read(pairs, type(module).__name__, tensors, dtype, on_bytes):
        parameters[slot.path].set_value(array)


def read_params(
    network: Network,
    name: str,
    tensors: Mapping[str, np.ndarray],
    rename: Callable[[str], str | None] = lambda key: key,
) -> Params:
    """The parameters of a network with a design, in float32.

    Args:
        network: the network.
        name: of the network in errors.
        tensors: as of `load_params`.
        rename: likewise.

    Raises:
        ValueError: as `load_params`.
    """
    read = list(_read(matched(network.slots, name, tensors, rename), name, tensors, np.float32))
    return tree([slot for slot, _ in read], [array for _, array in read])


def _read(
    pairs: Sequence[tuple[Slot, np.ndarray]],
    name: str,
    tensors: Mapping[str, np.ndarray],
    dtype: Any,
    on_bytes: Callable[[int], None] = lambda size: None,
) -> Iterator[tuple[Slot, jax.Array]]:
    """The parameter of each slot on the device, as `load_params` describes it."""
    pending = 0
    for slot, array in pairs:
        if not is_finite(array):
            bad = [key for key, value in tensors.items() if not is_finite(np.asarray(value))]
            raise ValueError(f"weights of {name} must be finite: {_listing(bad)}")
        kept = ml_dtypes.bfloat16 if array.dtype.itemsize == 1 else array.dtype
        yield slot, _placed(array, kept if dtype is None else dtype)
        on_bytes(array.nbytes)
        pending += array.nbytes
        if pending > _RELEASED_AFTER:
            _release(array)
            pending = 0
    for array in {id(_mapping(array)): array for _, array in pairs}.values():
        _release(array)


def is_finite(array: np.ndarray) -> bool:
    """Whether no number is NaN or infinite, quickly: such have every bit of the exponent set."""
    size, exponent = array.dtype.itemsize, _EXPONENTS.get(array.dtype.name)
    if exponent is None or not array.size:
        return bool(np.isfinite(array).all())
    # As integers with a sign, positive numbers are the greatest, without one negative numbers.
    least = {"i": exponent, "u": exponent + (1 << (8 * size - 1))}
    return all(int(array.view(f"{kind}{size}").max()) < bits for kind, bits in least.items())


def _placed(view: np.ndarray, dtype: Any) -> jax.Array:
    """A copy on the device, in C order.

    JAX transposes a matrix ten times as fast as NumPy; more axes it takes one by one, as NumPy.
    """
    array = np.array(view, dtype, order="K")  # as it lies in the file, which is quick
    if array.ndim == 4 and not array.flags.c_contiguous:  # HWIO of OIHW: I x H x W rows of O
        rows = np.moveaxis(array, 2, 0)
        matrix = np.asarray(jax.device_put(rows.reshape(-1, rows.shape[-1])))
        array = np.ascontiguousarray(np.moveaxis(matrix.reshape(rows.shape), 0, 2))
    return jax.device_put(array)


def matched(
    slots: Iterable[Slot],
    network: str,
    tensors: Mapping[str, np.ndarray],
    rename: Callable[[str], str | None] = lambda key: key,
) -> list[tuple[Slot, np.ndarray]]:
    """The places of parameters, each with its tensor, a view in the parameter's layout.

    Args:
        slots: of the network.
        network: its name in errors.
        tensors: as of `load_params`.
        rename: likewise.

    Raises:
        ValueError: naming each tensor without a parameter, each parameter without a tensor, two
            tensors for one parameter, a shape that differs, or integers.
    """
    named_slots = {}
    for slot in slots:
        leaf, change = _layout(slot)
        named_slots[".".join(map(str, (*slot.path[:-1], leaf)))] = slot, change
    named: dict[str, str] = {}
    for key in tensors:
        name = rename(key)
        if name is None:
            continue
        if name in named:
            raise ValueError(f"tensors {named[name]!r} and {key!r} both name the parameter {name}")
        named[name] = key
    if named.keys() != named_slots.keys():
        unused = [named[name] for name in named if name not in named_slots]
        missing = [name for name in named_slots if name not in named]
        raise ValueError(
            f"the weights do not fit {network}: "
            f"no parameter for {_listing(unused)}; no tensor for {_listing(missing)}"
        )
    arrays = {name: named_slots[name][1](np.asarray(tensors[key])) for name, key in named.items()}
    wrong = [
        f"{named[name]} {np.shape(tensors[named[name]])} (as {array.shape}, "
        f"not {named_slots[name][0].shape})"
        for name, array in arrays.items()
        if array.shape != named_slots[name][0].shape
    ]
    if wrong:
        raise ValueError(f"wrong shapes for {network}: {_listing(wrong)}")
    whole = [f"{named[name]} ({a.dtype})" for name, a in arrays.items() if a.dtype.kind in "biuc"]
    if whole:  # quantized weights, whose scales nothing here knows
        raise ValueError(f"weights of {network} must be real numbers: {_listing(whole)}")
    return [(named_slots[name][0], array) for name, array in arrays.items()]


def _mapping(array: np.ndarray) -> mmap.mmap | None:
    """The memory-mapped file that an array is a view of."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    base = base.obj if isinstance(base, memoryview) else base
    return base if isinstance(base, mmap.mmap) else None


def _release(array: np.ndarray) -> None:
    """Gives back the memory that the pages read so far take; they can be read again."""
    mapping = _mapping(array)
    if mapping is not None and hasattr(mapping, "madvise"):
        mapping.madvise(mmap.MADV_DONTNEED)


def _layout(slot: Slot) -> tuple[str, Callable[[np.ndarray], np.ndarray]]:
    """PyTorch's name of a parameter in its layer, and the change of layout."""
    match slot.layer, slot.path[-1]:
        case "Linear", "kernel":
            return "weight", lambda w: (w[..., 0, 0] if w.ndim == 4 else w).T
        case "Conv", "kernel":
            return "weight", lambda w: np.moveaxis(w, (0, 1), (-1, -2))
        case "ConvTranspose", "kernel":
            return "weight", lambda w: w.transpose(2, 3, 0, 1)[::-1, ::-1]
        case (("LayerNorm" | "GroupNorm" | "BatchNorm"), "scale"):
            return "weight", _unchanged
        case "Embed", "embedding":
            return "weight", _unchanged
        case _, attribute:
            return str(attribute), _unchanged


def _unchanged(array: np.ndarray) -> np.ndarray:
    return array


def _listing(names: list[str]) -> str:
    if not names:
        return "none"
    rest = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(sorted(names)[:_LISTED]) + rest
