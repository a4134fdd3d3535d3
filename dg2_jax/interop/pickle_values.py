"""What may come out of a pickle: plain data, records of unknown classes, allow-listed calls."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


class CheckpointError(ValueError):
    """A checkpoint file that is damaged, hostile, or in a format that is not read here."""


@dataclass(frozen=True)
class Reference:
    """A class or function named by a pickle and not known here. Inert: it cannot be called."""

    name: str


@dataclass(eq=False, slots=True)
class Record:
    """What a pickle says about an object of an unknown class.

    Attributes:
        class_name: dotted name of the class.
        args: what its constructor would have been given.
        state: its attributes, or whatever else its `__setstate__` would have been given.
    """

    class_name: str
    args: tuple = ()
    state: Any = field(default_factory=dict)

    def get(self, name: str, default: Any = None) -> Any:
        """The attribute `name`, or `default` where the record has none."""
        parts = self.state if isinstance(self.state, tuple) else (self.state,)  # (__dict__, slots)
        for part in parts:
            if isinstance(part, dict) and name in part:
                return part[name]
        return default


@dataclass(frozen=True)
class Known:
    """An allow-listed callable: `call(*args)` builds the object."""

    name: str
    call: Callable[..., Any]


# Standard-library classes that data files do carry; they become records. Any other name from the
# standard library (os.system, builtins.eval, importlib...) is refused: calling it would not be
# possible here, but a file that wants to is not a checkpoint and its reader should be told so.
_BENIGN_MODULES = {"argparse", "datetime", "decimal", "enum", "fractions", "pathlib", "uuid"}
_BENIGN_NAMES = {f"collections.{n}" for n in ("Counter", "defaultdict", "deque", "UserDict")} | {
    f"builtins.{n}" for n in ("bool", "dict", "float", "int", "list", "object", "str", "tuple")
}
_PYTHON2_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg"}


def find(known: Mapping[str, Any], module: Any, name: Any) -> Any:
    """What a pickle's `module.name` stands for: an entry of `known`, or an inert `Reference`.

    Raises:
        CheckpointError: it is of the standard library, and none of what data files carry.
    """
    if not isinstance(module, str) or not isinstance(name, str):
        raise CheckpointError("the pickle names a class by something other than text")
    full = f"{_PYTHON2_MODULES.get(module, module)}.{name}"
    if full in known:
        return known[full]
    package = full.partition(".")[0]
    benign = package in _BENIGN_MODULES or full in _BENIGN_NAMES
    if package in sys.stdlib_module_names and not benign:
        raise CheckpointError(f"the pickle wants {full}, which a checkpoint has no use for")
    return Reference(full)


def make_set(items: Any = ()) -> set:
    """The set of a list's items; raises CheckpointError where they may not be keys."""
    if not isinstance(items, list | tuple | set):
        raise CheckpointError("a set must be made from a list")
    return {as_key(item) for item in items}


def _make_dict(items: Any = ()) -> dict:
    pairs = items.items() if isinstance(items, dict) else items
    if not isinstance(items, dict | list | tuple):
        raise CheckpointError("an ordered dictionary must be made from a list of pairs")
    return {as_key(key): value for key, value in pairs}


def _make_bytes(text: Any = "", encoding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise CheckpointError("bytes must be spelt as latin1 text")
    return text.encode("latin1")


def _reconstruct(cls: Any, base: Any = None, state: Any = None) -> Record:
    if not isinstance(cls, Reference):
        raise CheckpointError("copyreg._reconstructor needs a class")
    return Record(cls.name)


BUILTINS: dict[str, Any] = {
    known.name: known
    for known in (
        Known("collections.OrderedDict", _make_dict),
        Known("builtins.set", make_set),
        Known("builtins.frozenset", lambda items=(): frozenset(make_set(items))),
        Known("_codecs.encode", _make_bytes),
        Known("copyreg._reconstructor", _reconstruct),
    )
}


def as_key(value: Any) -> Any:
    """`value` if it may be a key; long or deep tuples may not, since hashing them can explode."""
    scalar = (str, int, float, bytes, type(None), Reference, Record)
    if isinstance(value, scalar):
        return value
    if isinstance(value, tuple) and len(value) <= 16 and all(isinstance(v, scalar) for v in value):
        return value
    raise CheckpointError(f"a {type(value).__name__} is used as a dictionary key")
