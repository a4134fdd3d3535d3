"""From open dictionaries (`configs/`, config.json) to typed, checked dataclasses, and back.

`from_mapping` builds frozen dataclasses from plain data. A wrong key, type or value raises one
error that names it.
"""

import dataclasses
import math
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from dg2_jax.checks import check

T = TypeVar("T")

_CLASS_BY, _COMPLETED_BY = "class_by", "completed_by"

# A length may be given in steps or in epochs, but not both.
STEPS_OR_EPOCHS = {
    "num_steps": "num_epochs",
    "validate_every": "validate_epochs",
    "sample_every": "sample_epochs",
    "checkpoint_every": "checkpoint_epochs",
}


def class_by(
    choose: Callable[[Mapping[str, Any]], type],
    complete: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Metadata of a dataclass field whose class depends on its siblings.

    Args:
        choose: maps the values of the whole dataclass to the class of the field; the path of the
            values is prefixed to its ValueError.
        complete: maps them, where those of the field are a mapping, to that mapping with keys that
            the siblings imply.
    """
    return {_CLASS_BY: choose, _COMPLETED_BY: complete}


def from_mapping(cls: type[T], values: Mapping[str, Any], path: str = "config") -> T:
    """Builds the dataclass `cls` from a mapping, nested dataclasses from nested mappings.

    Keys that are left out keep their defaults. Lists become tuples, integers are taken for floats,
    and nothing else is converted.

    Args:
        cls: a dataclass whose fields are bool, int, float, str, dataclasses, tuples of these, or
            one of these or None. The class of a field may depend on its siblings, see `class_by`.
        values: plain data.
        path: what error messages call `values`.

    Raises:
        ValueError: an unknown or missing key, a value of the wrong type, or one that `cls` refuses.
    """
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    unknown = sorted(set(values) - set(fields))
    if unknown:
        raise ValueError(
            f"unknown key {', '.join(f'{path}.{k}' for k in unknown)}; "
            f"{path} allows: {', '.join(fields)}"
        )
    for steps, epochs in STEPS_OR_EPOCHS.items():
        if values.get(steps) and values.get(epochs):
            raise ValueError(f"{path}.{steps} and {path}.{epochs}: only one of them may be given")
    missing = [
        name
        for name, f in fields.items()
        if name not in values
        and f.default is dataclasses.MISSING
        and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ValueError(f"missing key {', '.join(f'{path}.{k}' for k in missing)}")
    try:
        for name, field in fields.items():
            complete = field.metadata.get(_COMPLETED_BY)
            if complete is not None and isinstance(values.get(name), Mapping):
                values = {**values, name: complete(values)}
        hints = field_types(cls, values)
    except ValueError as error:
        raise ValueError(f"{path}.{error}") from error
    built = {k: _convert(hints[k], values[k], f"{path}.{k}") for k in values}
    try:
        return cls(**built)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def field_types(cls: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """The type of each field of a dataclass; see `class_by`.

    Raises:
        ValueError: the values choose no class for a field.
    """
    chosen = {
        f.name: f.metadata[_CLASS_BY](values)
        for f in dataclasses.fields(cls)
        if _CLASS_BY in f.metadata
    }
    return typing.get_type_hints(cls) | chosen


def _convert(hint: Any, value: Any, path: str) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        return from_mapping(hint, value, path)  # type: ignore[arg-type]
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        options = typing.get_args(hint)
        if value is None and type(None) in options:
            return None
        (option,) = (o for o in options if o is not type(None))
        return _convert(option, value, path)
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


def to_dict(config: Any) -> dict[str, Any]:
    """JSON data of a configuration, which `from_mapping` turns back into an equal one."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items()}
        return [plain(v) for v in value] if isinstance(value, tuple) else value

    return plain(dataclasses.asdict(config))


def differences(saved: Mapping[str, Any], current: Mapping[str, Any]) -> list[str]:
    """The settings in which two configurations differ and would train differently.

    `loop`, `devices` and what samples show are ignored: they decide what is shown and saved, and
    where a step is computed, not what is learnt.

    >>> differences({"seed": 0, "loop": {"keep": 3}}, {"seed": 1, "loop": {"keep": 4}})
    ['seed: saved 0, now 1']
    """
    a, b = _flat(saved), _flat(current)
    return [
        f"{key}: saved {a.get(key)!r}, now {b.get(key)!r}"
        for key in sorted(set(a) | set(b))
        if a.get(key) != b.get(key) and not key.startswith(("loop.", "devices.", "sample_"))
    ]


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = value
    return flat
