"""A folder of pictures, with captions beside them or in metadata.jsonl (Hugging Face)."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dg2_jax.data.sources import SPLITS, SUFFIXES, Picture, caption_of

METADATA = "metadata.jsonl"


class FolderPictures:
    """Pictures of a folder and below, in the order of their names; see `PictureSource`.

    The captions of a picture are those of its line in metadata.jsonl (`file_name`, relative to that
    file, and `text`, `caption` or `captions`), or the lines of the text file of its name. A first
    folder called train, validation or test is the picture's split.
    """

    attributes: Mapping[str, tuple[str, ...]] = {}

    def __init__(self, root: Path, files: Sequence[Path], caption_key: str = ""):
        """Reads the names, and the metadata if there is any.

        Args:
            root: the folder.
            files: what lies in it and below.
            caption_key: of the captions in metadata.jsonl; empty for any of the usual ones.

        Raises:
            ValueError: metadata.jsonl is damaged, or names a file outside of the folder.
        """
        self.description = f"folder {root.name}"
        self._root, self._caption_key = root, caption_key
        self._metadata: dict[Path, Mapping[str, Any]] = {}
        for path in files:
            if path.name == METADATA:
                self._metadata |= _read_metadata(path)
        pictures = {
            file
            for file in files
            if file.suffix.lower() in SUFFIXES and not _hidden(file.relative_to(root))
        }
        named = sorted(pictures | set(self._metadata), key=lambda f: f.relative_to(root).as_posix())
        self._files = [file for file in named if self._split(file) != "test"]

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Picture:
        file = self._files[index]
        captions = self._captions(file)
        return Picture(self.name(index), file.read_bytes(), captions, split=self._split(file))

    def name(self, index: int) -> str:
        """Of the picture at `index`."""
        return self._files[index].relative_to(self._root).as_posix()

    def fingerprint(self) -> str:
        """Changes when the files do."""

        def size(path: Path) -> int:
            return path.stat().st_size if path.is_file() else -1

        sizes = [(size(f), size(f.with_suffix(".txt"))) for f in self._files]
        names = [self.name(i) for i in range(len(self))]
        metadata = {str(f.relative_to(self._root)): line for f, line in self._metadata.items()}
        return json.dumps([names, sizes, metadata], sort_keys=True)

    def _split(self, file: Path) -> str | None:
        parts = file.relative_to(self._root).parts
        return SPLITS.get(parts[0].lower()) if len(parts) > 1 else None

    def _captions(self, file: Path) -> tuple[str, ...]:
        if file in self._metadata:
            return caption_of(self._metadata[file], self._caption_key)
        beside = file.with_suffix(".txt")
        if not beside.is_file():
            return ()
        try:
            lines = beside.read_text("utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise ValueError(f"{beside.name} must be UTF-8: {error}") from error
        return tuple(line.strip() for line in lines if line.strip())


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _read_metadata(path: Path) -> dict[Path, Mapping[str, Any]]:
    lines: dict[Path, Mapping[str, Any]] = {}
    for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
            file = path.parent / values["file_name"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path}: line {number} must be an object with file_name: {error!r}"
            ) from error
        if not file.resolve().is_relative_to(path.parent.resolve()):
            raise ValueError(f"{path}: line {number}: file_name leads outside of the folder")
        lines[file] = values
    return lines
