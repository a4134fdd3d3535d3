"""The cache of traced programs, beside that of compiled ones: what was traced once is read again.

    @functools.partial(jax.jit, static_argnums=0)
    @program_cache.kept
    def decode(network, params, latents): ...

When JAX traces such a function, its program is read from a file that `jax.export` made before, or
is traced and written. The name of a file is a hash of all that its program depends on: the source
of the library, the versions of JAX and Flax, JAX's settings, the device, the static argument, and
the shapes of the others. What cannot be read, written, exported or named is traced as if there were
no cache, and messages of the level INFO say why. Where JAX has other devices than one CPU, nothing
is kept.
"""

import dataclasses
import functools
import hashlib
import importlib
import importlib.metadata
import json
import logging
import os
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.export
import numpy as np

from dg2_jax.files import replacing

FOLDER = "traced"  # in that of the compile cache
_MOST_BYTES = 256 << 20  # of all files; those that were not used for longest go first
# Where the code of programs lies. The rest of the library prepares their data.
_SOURCES = ("diffusion", "generation", "models", "nn", "pictures", "text", "*.py")
_NOT_EXPORTED = b""  # kept instead of a program, so that it is not tried again
_SETTINGS_WITHOUT_EFFECT = ("cache", "log", "dump", "traceback")  # parts of names in jax.config

_log = logging.getLogger(__name__)
_folder: Path | None = None
_Function = TypeVar("_Function", bound=Callable[..., Any])


class _NamelessError(Exception):
    """A static argument that no text describes."""


def enable(folder: Path | None) -> None:
    """Keeps programs in a folder, made on first use; None: nowhere. See `compile_cache.enable`."""
    global _folder
    _folder = folder


def kept(function: _Function) -> _Function:
    """A function to be jitted, with its first argument static, whose programs are kept."""

    @functools.wraps(function)
    def call(static: Any, *args: Any) -> Any:
        leaves, tree = jax.tree.flatten(args)
        path = _path(_name(function), static, (tree, [_shape(leaf) for leaf in leaves]))
        if path is None:
            return function(static, *args)
        flat = jax.jit(lambda leaves: function(static, *jax.tree.unflatten(tree, leaves)))
        program = _program(path, flat, leaves)
        return function(static, *args) if program is None else program.call(leaves)

    return call  # type: ignore[return-value]


def remembered(make: Callable[[Any], Any], static: Any) -> Any:
    """`make(static)`, which takes long and is made of what JSON knows."""
    path = _path(_name(make), static, None)
    text = None if path is None else _read(path)
    if text is not None:
        return json.loads(text)
    made = make(static)
    if path is not None:
        _write(path, json.dumps(made).encode())
    return made


def _path(name: str, static: Any, shapes: Any) -> Path | None:
    """Where a program is kept; None: it is not."""
    if _folder is None or not _is_one_cpu():
        return None
    try:
        text = repr((name, _described(static), shapes, _surroundings()))
    except _NamelessError as error:
        _log.info("%s is not kept: %s", name, error)
        return None
    return _folder / f"{name.rpartition('.')[2]}-{hashlib.sha256(text.encode()).hexdigest()}"


def _is_one_cpu() -> bool:
    """Whether programs can run on nothing else: an exported one is for the platform it was made on,
    and where its arguments lie is not known when it is traced.
    """
    # Where JAX chooses, a CPU is the default only if there is nothing else.
    chosen = jax.config.values["jax_platforms"] in (None, "", "cpu")
    return chosen and jax.default_backend() == "cpu" and jax.device_count() == 1


def _name(function: Callable) -> str:
    return f"{function.__module__}.{function.__qualname__}"


def _shape(leaf: Any) -> tuple:
    value = jax.typeof(leaf)
    return value.shape, str(value.dtype), value.weak_type


def _described(value: Any) -> Any:
    """A static argument as plain data, the same in every process."""
    if value is None or isinstance(value, str | int | float | np.dtype):
        return repr(value)
    if isinstance(value, tuple):
        return type(value).__name__, tuple(map(_described, value))
    if isinstance(value, type | types.FunctionType):
        if "<locals>" in value.__qualname__:
            raise _NamelessError(f"{value.__qualname__} is a function within another")
        return _name(value)
    if dataclasses.is_dataclass(value):
        fields = [(f.name, _described(getattr(value, f.name))) for f in dataclasses.fields(value)]
        return _name(type(value)), tuple(fields)
    raise _NamelessError(f"a {type(value).__name__} has no name that lasts")


def _surroundings() -> tuple:
    """What programs depend on besides their arguments."""
    device = jax.devices()[0]
    settings = [
        (name, repr(value))
        for name, value in sorted(jax.config.values.items())
        if not any(part in name for part in _SETTINGS_WITHOUT_EFFECT)
    ]
    return device.platform, device.device_kind, settings, _versions()


@functools.cache
def _versions() -> tuple:
    packages = tuple(importlib.metadata.version(name) for name in ("jax", "jaxlib", "flax"))
    digest = hashlib.sha256()
    for path in _source_files():
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return *packages, digest.hexdigest()


def _source_files() -> Iterator[Path]:
    root = Path(__file__).parent
    for pattern in _SOURCES:
        yield from sorted(root.glob(pattern if "." in pattern else f"{pattern}/**/*.py"))


def _program(path: Path, function: Any, leaves: list[Any]) -> Any:
    """The program that a file holds, or is now given; None: it cannot be exported."""
    data = _read(path)
    if data == _NOT_EXPORTED:
        return None
    if data is not None:
        names, _, program = data.partition(b"\n")
        try:
            for name in json.loads(names):
                module, _, qualname = name.partition(":")
                _register(getattr(importlib.import_module(module), qualname))
            return jax.export.deserialize(bytearray(program))
        except Exception as error:  # such as a format that this JAX does not read
            _log.info("%s is made anew: %s", path, error)
    exported, data = _exported(path, function, leaves)
    _write(path, data)
    return exported


def _exported(path: Path, function: Any, leaves: list[Any]) -> tuple[Any, bytes]:
    """The program of a function, and what is written of it; None if it cannot be exported."""
    shapes = [
        jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, weak_type=leaf.weak_type)
        for leaf in map(jax.typeof, leaves)
    ]
    try:
        program = jax.export.export(function)(shapes)
        names = sorted({_register(kind) for kind in _named_tuples(program.out_tree)})
        return program, json.dumps(names).encode() + b"\n" + program.serialize()
    except Exception as error:  # what is wrong with the function itself is raised when it is traced
        _log.info("%s is traced by each process: %s", path.name, error)
        return None, _NOT_EXPORTED


def _named_tuples(tree: Any) -> Iterator[type]:
    """The classes of the named tuples in a tree's structure."""
    about = tree.node_data()
    if about is not None and hasattr(about[0], "_fields"):
        yield about[0]
    for child in tree.children():
        yield from _named_tuples(child)


@functools.cache
def _register(kind: type) -> str:
    """Lets `jax.export` write and read a named tuple; its name, by which it is found again."""
    name = f"{kind.__module__}:{kind.__qualname__}"
    jax.export.register_namedtuple_serialization(kind, serialized_name=name)
    return name


def _checksum(path: Path, data: bytes) -> bytes:
    return hashlib.sha256(path.name.encode() + data).hexdigest().encode()


def _read(path: Path) -> bytes | None:
    """What `_write` wrote; None if it is not there, or damaged."""
    try:
        digest, _, data = path.read_bytes().partition(b"\n")
        if digest != _checksum(path, data):
            _log.info("%s is damaged, and made anew", path)
            return None
        os.utime(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        _log.info("%s is made anew: %s", path, error)
        return None
    return data


def _write(path: Path, data: bytes) -> None:
    """Writes a file with the checksum of its name and data, then removes those too many."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial:
            partial.write_bytes(_checksum(path, data) + b"\n" + data)
        files = [(file.stat(), file) for file in path.parent.iterdir()]
        room = _MOST_BYTES
        for about, file in sorted(files, key=lambda found: -found[0].st_mtime):
            room -= about.st_size
            if room < 0:
                file.unlink(missing_ok=True)
    except OSError as error:
        _log.info("%s is not kept: %s", path, error)
