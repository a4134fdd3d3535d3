"""The controls as flags of a script, one per control, derived from its declaration."""

from collections.abc import Collection
from typing import Any

from absl import flags

from dg2_jax.controls.arguments import declared
from dg2_jax.controls.declaration import Control
from dg2_jax.controls.values import Boolean, Choice, Integer, Pairs, Real

flags.disclaim_key_flags()  # they belong to the script that defines them here, and to its --help


def define(without: Collection[str] = ()) -> dict[str, flags.FlagHolder]:
    """Defines a flag for every control; one that is not given is None.

    Args:
        without: names that the script defines itself or does not have.
    """
    return {name: _define(entry) for name, entry in declared().items() if name not in without}


def given(holders: dict[str, flags.FlagHolder]) -> dict[str, Any]:
    """The keyword arguments of `Pipeline` that the command line gives."""
    known = declared()
    return {
        name: _read(known[name], holder.value)
        for name, holder in holders.items()
        if holder.value is not None
    }


def _define(entry: Control) -> flags.FlagHolder:
    told = entry.values.describe()
    text = f"{entry.help} Default: {entry.default}."
    if told["type"] in ("integer", "number") and "minimum" in told:
        text += f" From {told['minimum']} to {told['maximum']}."
    match entry.values:
        case Boolean():
            return flags.DEFINE_bool(entry.name, None, text)
        case Integer():
            return flags.DEFINE_integer(entry.name, None, text)
        case Real():
            return flags.DEFINE_float(entry.name, None, text)
        case Choice(choices) if entry.python is str:
            return flags.DEFINE_enum(entry.name, None, choices, text)
        case Pairs(low, high, choices):
            text += f" prompt:view, given {low} to {high} times; views: {', '.join(choices)}."
            return flags.DEFINE_multi_string(entry.name, None, text)
        case Choice(choices):
            text += f" One of {', '.join(map(str, choices))}."
    return flags.DEFINE_string(entry.name, None, text)


def _read(entry: Control, value: Any) -> Any:
    """The value for the library; the declaration parses lists, written with commas."""
    if isinstance(value, list):
        return entry.parse("|".join(value))
    return entry.parse(value) if isinstance(value, str) else value
