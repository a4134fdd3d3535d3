"""The flag --config: one of `configs/` by name, or a file; --config.KEY=VALUE changes a setting.

A file holds only the keys it changes. The others have their defaults in the dataclass that the file
is converted to, and can be set on the command line all the same.
"""

import dataclasses
import re
import sys
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, FieldReference, config_flags

from dg2_jax import config as config_lib
from dg2_jax import configs

_CONFIGS = Path(configs.__file__).parent
_OVERRIDE = re.compile(r"--?(?:no)?config\.([\w.]+)")


def define(
    config_class: type, default: str, flag_values: flags.FlagValues = flags.FLAGS
) -> flags.FlagHolder:
    """Defines --config.

    Args:
        config_class: the dataclass that the file is converted to.
        default: the default file.
        flag_values: where the flag is defined.
    """
    holder = config_flags.DEFINE_config_file(
        "config", None, "What to train.", flag_values, lock_config=False
    )
    flag = flag_values["config"]
    flag.parser = _Parser(flag.parser, config_class)
    flag_values.set_default("config", default)
    return holder


class _Parser(flags.ArgumentParser):
    """Reads the file and adds the keys that the command line sets."""

    def __init__(self, parser: Any, config_class: type):
        self._parser, self._class = parser, config_class

    def parse(self, path: str) -> Any:
        config = self._parser.parse(shipped(path))
        if isinstance(config, ConfigDict):
            overrides = [match[1] for a in sys.argv[1:] if (match := _OVERRIDE.match(a))]
            add_overrides(config, self._class, overrides)
            config.lock()
        return config

    def flag_type(self) -> str:
        return self._parser.flag_type()


def shipped(name: str) -> str:
    """The file of a configuration that ships, given its name; anything else stays.

    Raises:
        ValueError: none has the name.
    """
    if not isinstance(name, str) or not re.fullmatch(r"\w+", name):
        return name
    names = sorted(p.stem for p in _CONFIGS.glob("[a-z]*.py"))
    if name not in names:
        raise ValueError(f"config must be a file or one of {', '.join(names)}; got {name!r}")
    return str(_CONFIGS / f"{name}.py")


def add_overrides(config: ConfigDict, config_class: type, overrides: Sequence[str]) -> None:
    """Adds the keys to be overridden to a configuration, with their defaults and types.

    Args:
        config: changed in place.
        config_class: the dataclass that it is converted to.
        overrides: dotted keys; the flag refuses those without a field in the dataclass.
    """
    for override in overrides:
        holder, hint = config, config_class
        *parents, name = override.split(".")
        for parent in parents:
            hint = _nested(hint, parent, holder)
            if hint is None:
                break
            if holder.get(parent) is None:
                holder[parent] = ConfigDict()
            holder = holder[parent]
        if hint is not None:
            _add(holder, hint, name)
            _give_way(holder, name, [o.removeprefix(".".join([*parents, ""])) for o in overrides])


def _add(holder: ConfigDict, cls: Any, name: str) -> None:
    field = {f.name: f for f in dataclasses.fields(cls)}.get(name)
    if field is None:
        return
    hint = typing.get_type_hints(cls)[name]
    if name in holder:
        value = holder[name]
    elif field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    else:
        value = None if field.default is dataclasses.MISSING else field.default
    if dataclasses.is_dataclass(value) or isinstance(value, ConfigDict):
        return
    if value is None or _optional(hint):
        # Of any type; `config.from_mapping` checks it.
        value = FieldReference(value, field_type=object)
    elif hint is float:
        value = float(value)
    if name in holder:
        del holder[name]
    holder[name] = value


def _give_way(holder: ConfigDict, name: str, overrides: Sequence[str]) -> None:
    """Lets a length on the command line replace the file's in the other unit, steps or epochs."""
    for pair in config_lib.STEPS_OR_EPOCHS.items():
        if name in pair:
            other = pair[1 - pair.index(name)]
            if other not in overrides and other in holder:
                del holder[other]


def _nested(cls: Any, name: str, holder: ConfigDict) -> Any:
    """The dataclass of a field that holds one; None if it does not."""
    hint = config_lib.field_types(cls, holder.to_dict()).get(name)
    options = typing.get_args(hint) if _union(hint) else (hint,)
    return next((option for option in options if dataclasses.is_dataclass(option)), None)


def _optional(hint: Any) -> bool:
    return _union(hint) and type(None) in typing.get_args(hint)


def _union(hint: Any) -> bool:
    return isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union
