"""A bank's files: prompts and their vectors, written whole or not at all, checked when read.

A folder holds `index.json` (format, version, encoder, entries, digests) and the float16 matrix it
names, `vectors-<digest>.npy`. The matrix is written first and `index.json` replaced last, in one
step of the file system: whoever reads meanwhile, or after a crash, finds the old bank or the new
one. No pickle is read or written.
"""

import dataclasses
import hashlib
import io
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

SPLITS = ("train", "validation")
INDEX = "index.json"
_FORMAT = "dg2_jax prompt bank"
_VERSION = 1
_VECTORS = re.compile(r"vectors-[0-9a-f]{16}\.npy")


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """A prompt of a bank. `id` follows from the other three (see `make_entry`)."""

    id: str
    prompt: str
    category: str
    split: str


def make_entry(prompt: str, category: str, split: str) -> Entry:
    """The entry of a prompt; its id is 60 bits of a digest, so it stays the same over rebuilds."""
    digest = hashlib.sha256("\0".join((split, category, prompt)).encode()).hexdigest()
    return Entry(digest[:15], prompt, category, split)


def numbers(ids: Iterable[str]) -> np.ndarray:
    """The int64 numbers (n,) under which an index holds the entries of n ids."""
    return np.fromiter((int(i, 16) for i in ids), np.int64)


def id_of(number: int) -> str:
    """The id of an entry's number."""
    return f"{number:015x}"


def prompts_digest(entries: Iterable[Entry]) -> str:
    """SHA-256 of the prompts with their categories and splits, in any order."""
    lines = sorted(f"{e.split}\t{e.category}\t{e.prompt}\n" for e in entries)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


@dataclasses.dataclass(frozen=True, eq=False)
class StoredBank:
    """What a folder holds.

    Attributes:
        encoder: name of the text encoder that made the vectors.
        entries: N entries.
        vectors: (N, D) float16, sentence vectors as the encoder gives them.
        removed: ids of entries of another bank that are not to be used (in a user's bank).
    """

    encoder: str
    entries: list[Entry]
    vectors: np.ndarray
    removed: list[str] = dataclasses.field(default_factory=list)

    def centre(self) -> np.ndarray:
        """Mean vector (D,) of the training prompts, or of all where none are of that split.

        Raises:
            ValueError: there are no prompts.
        """
        if not self.entries:
            raise ValueError("folder: the index has no prompts")
        train = [i for i, entry in enumerate(self.entries) if entry.split == "train"]
        return self.vectors[train or slice(None)].mean(axis=0, dtype=np.float32)


def write(folder: Path, bank: StoredBank) -> str:
    """Writes a bank into a folder, replacing the one there; returns the digest of `index.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    np.save(buffer, bank.vectors.astype(np.float16, copy=False), allow_pickle=False)
    matrix = buffer.getvalue()
    digest = hashlib.sha256(matrix).hexdigest()
    name = f"vectors-{digest[:16]}.npy"
    text = json.dumps(
        {
            "format": _FORMAT,
            "version": _VERSION,
            "encoder": bank.encoder,
            "dimension": bank.vectors.shape[1],
            "vectors": name,
            "vectors_sha256": digest,
            "prompts_sha256": prompts_digest(bank.entries),
            "removed": bank.removed,
            "entries": [dataclasses.asdict(entry) for entry in bank.entries],
        },
        ensure_ascii=False,
        indent=0,
    ).encode()
    _replace(folder / name, matrix)
    _replace(folder / INDEX, text)
    for path in folder.iterdir():
        if path.name != name and _VECTORS.fullmatch(path.name):
            path.unlink()
    return hashlib.sha256(text).hexdigest()


def read(folder: Path) -> StoredBank:
    """Reads a bank and checks it.

    Raises:
        FileNotFoundError: if `index.json` or the vectors are missing.
        ValueError: naming the file, if something in it is not as it was written.
    """
    path = folder / INDEX
    try:
        raw = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is damaged: not JSON ({error})") from error
    if not isinstance(raw, dict) or raw.get("format") != _FORMAT:
        raise ValueError(f"{path} is not a prompt bank")
    if raw.get("version") != _VERSION:
        raise ValueError(f"{path}: version must be {_VERSION}, not {raw.get('version')!r}")
    try:
        entries = [Entry(**entry) for entry in raw["entries"]]
        intact = prompts_digest(entries) == raw["prompts_sha256"] and all(
            entry == make_entry(entry.prompt, entry.category, entry.split) for entry in entries
        )
        shape = (len(entries), int(raw["dimension"]))
        bank = StoredBank(str(raw["encoder"]), entries, _matrix(folder, raw, shape), raw["removed"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if not intact:
        raise ValueError(f"{path} is damaged: its prompts are not those that were written")
    return bank


def digest(folder: Path) -> str | None:
    """The digest of a folder's `index.json`; None if there is none."""
    try:
        return hashlib.sha256((folder / INDEX).read_bytes()).hexdigest()
    except FileNotFoundError:
        return None


def _matrix(folder: Path, raw: dict[str, Any], shape: tuple[int, int]) -> np.ndarray:
    name = raw["vectors"]
    if not _VECTORS.fullmatch(name):
        raise ValueError(f"{folder / INDEX} is damaged: vectors: {name!r}")
    matrix = (folder / name).read_bytes()
    if hashlib.sha256(matrix).hexdigest() != raw["vectors_sha256"]:
        raise ValueError(f"{folder / name} is damaged: its digest is not the recorded one")
    vectors = np.load(io.BytesIO(matrix), allow_pickle=False)
    if vectors.dtype != np.float16 or vectors.shape != shape or not np.isfinite(vectors).all():
        raise ValueError(f"{folder / name}: must hold finite float16 numbers of shape {shape}")
    return vectors


def _replace(path: Path, content: bytes) -> None:
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
