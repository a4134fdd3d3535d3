"""From the open dictionaries of `configs/` to typed, checked dataclasses, and back.

A file in `configs/` returns an `ml_collections.ConfigDict`: data without branches. `from_mapping`
turns it into frozen dataclasses, and a wrong key, type or value ends there, in one error that names
it.
"""

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from ml_collections import ConfigDict

from dg2_jax.checks import check

T = TypeVar("T")


def from_mapping(cls: type[T], values: Mapping[str, Any] | ConfigDict, path: str = "config") -> T:
    """Builds the dataclass `cls` from a mapping, nested dataclasses from nested mappings.

    Keys that are left out keep their defaults. Lists become tuples, integers are taken for floats,
    and nothing else is converted.

    Args:
        cls: a dataclass whose fields are bool, int, float, str, tuples and unions of these, or
            dataclasses. Of a union of dataclasses, that one is built which knows most of the keys.
        values: a dict or ConfigDict.
        path: what error messages call `values`.

    Raises:
        ValueError: an unknown or missing key, a value of the wrong type, or one that `cls` refuses.
    """
    if isinstance(values, ConfigDict):
        values = values.to_dict()
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    unknown = sorted(set(values) - set(fields))
    if unknown:
        raise ValueError(
            f"unknown key {', '.join(f'{path}.{k}' for k in unknown)}; "
            f"{path} allows: {', '.join(fields)}"
        )
    missing = [
        name
        for name, f in fields.items()
        if name not in values
        and f.default is dataclasses.MISSING
        and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ValueError(f"missing key {', '.join(f'{path}.{k}' for k in missing)}")
    built = {k: _convert(hints[k], values[k], f"{path}.{k}") for k in values}
    try:
        return cls(**built)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _convert(hint: Any, value: Any, path: str) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        return from_mapping(hint, value, path)  # type: ignore[arg-type]
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        options = typing.get_args(hint)
        if value is None and type(None) in options:
            return None
        options = tuple(o for o in options if o is not type(None))
        return _convert(_best_fit(options, value), value, path)
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list | tuple):
            raise ValueError(f"{path} must be a list, got {value!r}")
        item = typing.get_args(hint)[0]
        return tuple(_convert(item, v, f"{path}[{i}]") for i, v in enumerate(value))
    if typing.get_origin(hint) is typing.Literal:
        allowed = typing.get_args(hint)
        check(value in allowed, path, f"one of {allowed}", value)
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if (isinstance(value, bool) and hint is not bool) or not isinstance(value, hint):
        name = getattr(hint, "__name__", str(hint))
        raise ValueError(f"{path} must be of type {name}, got {value!r}")
    if hint is float and not math.isfinite(value):
        raise ValueError(f"{path} must be finite, got {value!r}")
    return value


def _best_fit(options: tuple[Any, ...], value: Any) -> Any:
    """Of several dataclasses the one that knows the most of the keys, the first of equals."""
    if len(options) == 1:
        return options[0]
    keys = set(value) if isinstance(value, Mapping) else set()
    return max(options, key=lambda o: len(keys & {f.name for f in dataclasses.fields(o)}))


def to_dict(config: Any) -> dict[str, Any]:
    """JSON data of a configuration, from which `from_mapping` makes an equal one."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items()}
        return [plain(v) for v in value] if isinstance(value, tuple) else value

    return plain(dataclasses.asdict(config))


def differences(saved: Mapping[str, Any], current: Mapping[str, Any]) -> list[str]:
    """The settings in which two configurations differ and would train differently.

    `loop` and `devices` are left out: they decide what is shown and saved, and where a step is
    computed, not what is learnt.

    >>> differences({"seed": 0, "loop": {"keep": 3}}, {"seed": 1, "loop": {"keep": 4}})
    ['seed: saved 0, now 1']
    """
    a, b = _flat(saved), _flat(current)
    return [
        f"{key}: saved {a.get(key)!r}, now {b.get(key)!r}"
        for key in sorted(set(a) | set(b))
        if a.get(key) != b.get(key) and not key.startswith(("loop.", "devices."))
    ]


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat
