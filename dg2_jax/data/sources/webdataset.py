"""WebDataset: tar files in which the files of one key, `key.jpg` and `key.txt`, are one example."""

import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from dg2_jax.data.sources import SUFFIXES, Picture, as_captions, caption_of


class _Part(NamedTuple):
    """Where a file's content lies in its tar file."""

    offset: int
    size: int


class _Example(NamedTuple):
    tar: Path
    key: str
    parts: Mapping[str, _Part]  # by suffix


class TarPictures:
    """The pictures of tar files, in their order; see `PictureSource`.

    The captions are the lines of `key.txt`, or `caption`, `captions` or `text` in `key.json`.
    """

    attributes: Mapping[str, tuple[str, ...]] = {}

    def __init__(self, root: Path, tars: Sequence[Path], caption_key: str = ""):
        """Reads the headers of the tar files, and none of their contents.

        Raises:
            ValueError: one is damaged; the error names it and the last good key.
        """
        self.description = f"webdataset {root.name}"
        self._root, self._caption_key, self._tars = root, caption_key, tars
        self._examples = [
            example
            for tar in tars
            for example in _index(tar)
            if any(suffix in SUFFIXES for suffix in example.parts)
        ]

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> Picture:
        tar, _, parts = self._examples[index]
        picture = next(suffix for suffix in parts if suffix in SUFFIXES)
        with tar.open("rb") as file:

            def content(suffix: str) -> bytes:
                file.seek(parts[suffix].offset)
                return file.read(parts[suffix].size)

            captions: tuple[str, ...] = ()
            if ".txt" in parts:
                captions = as_captions(content(".txt").splitlines())
            elif ".json" in parts:
                values = json.loads(content(".json"))
                if not isinstance(values, dict):
                    raise ValueError("its .json must hold an object")
                captions = caption_of(values, self._caption_key)
            return Picture(self.name(index), content(picture), captions)

    def name(self, index: int) -> str:
        """Of the picture at `index`."""
        tar, key, _ = self._examples[index]
        shown = tar.name if tar == self._root else tar.relative_to(self._root).as_posix()
        return f"{shown}/{key}"

    def fingerprint(self) -> str:
        """Changes when the files do."""
        return json.dumps([(tar.name, tar.stat().st_size) for tar in self._tars])


def _index(tar: Path) -> list[_Example]:
    """The examples of a tar file: of each key, where its parts are."""
    examples: dict[str, dict[str, _Part]] = {}
    key = ""
    try:
        with tarfile.open(tar, "r:") as archive:
            for member in archive:
                path = PurePosixPath(member.name)
                if not member.isfile() or path.name.startswith("."):
                    continue
                stem, _, suffix = path.name.partition(".")
                key = (path.parent / stem).as_posix()
                part = _Part(member.offset_data, member.size)
                examples.setdefault(key, {})[f".{suffix.lower()}"] = part
            # Where a file was cut within a header, tarfile takes it for the end of the archive.
            with tar.open("rb") as file:
                file.seek(archive.offset)
                if file.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
                    raise tarfile.ReadError("unexpected end of data")
    except (tarfile.TarError, EOFError) as error:
        after = f" after {key}" if key else ""
        raise ValueError(f"source: {tar} is damaged{after}: {error}") from error
    return [_Example(tar, key, parts) for key, parts in examples.items()]
