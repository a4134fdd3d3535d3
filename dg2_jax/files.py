"""Atomic writes, and manifests of checksums that detect damage."""

import contextlib
import hashlib
import json
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"
AnyPath = Any  # a pathlib.Path, or an epath.Path, which may lie in an object store


def read_json(path: Path) -> Any:
    """What a JSON file holds; one that is damaged or nested without end is a ValueError."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file, used by this thread alone, that replaces `path` once it is complete.

    Its mode follows the umask, even if its writer sets another (safetensors: 0600).
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_native_id()}")
    try:
        partial.unlink(missing_ok=True)
        partial.touch()
        mode = stat.S_IMODE(partial.stat().st_mode)
        yield partial
        if stat.S_IMODE(partial.stat().st_mode) != mode:
            partial.chmod(mode)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def sha256(path: AnyPath) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digests(folder: AnyPath) -> dict[str, str]:
    """The SHA-256 of every file in a folder and below, by relative name; not of the manifest."""
    return {name: sha256(folder / name) for name in _names(folder)}


def write_manifest(folder: AnyPath) -> None:
    """Writes the `digests` of a folder into it."""
    (folder / MANIFEST).write_text(_text(digests(folder)))


def damage(folder: AnyPath) -> str | None:
    """What is wrong with a folder whose manifest holds its `digests`; None if nothing is.

    The text names the first file that is missing, superfluous or changed.
    """
    manifest = folder / MANIFEST
    try:
        text = manifest.read_text()
        expected = dict(json.loads(text))
    except (OSError, ValueError, TypeError) as error:
        return f"{manifest} cannot be read: {error}"
    if text != _text(expected):
        return f"{manifest} is corrupt (it is not laid out as it was written)"
    for name in sorted(set(expected) ^ set(_names(folder))):
        problem = "is missing" if name in expected else "does not belong to the checkpoint"
        return f"{folder / name} {problem}"
    for name, digest in expected.items():
        if sha256(folder / name) != digest:
            return f"{folder / name} is corrupt (its SHA-256 differs)"
    return None


def sync(path: str | os.PathLike) -> None:
    """Flushes a local file or folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_all(folder: str | os.PathLike) -> None:
    """`sync` of a local folder and of everything in it."""
    for path in (*Path(folder).rglob("*"), Path(folder)):
        sync(path)


def _text(manifest: dict[str, str]) -> str:
    return json.dumps(manifest, indent=1)


def _names(folder: AnyPath, prefix: str = "") -> list[str]:
    """The files below a folder, sorted, by relative names; the manifest itself is left out."""
    names = []
    for path in sorted(folder.iterdir()):
        name = f"{prefix}{path.name}"
        if path.is_dir():
            names += _names(path, f"{name}/")
        elif name != MANIFEST:
            names.append(name)
    return names
