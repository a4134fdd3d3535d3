"""A folder of pictures, with captions beside them or in a metadata file (Hugging Face)."""

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dg2_jax.data.sources import captions
from dg2_jax.data.sources.interface import SPLITS, SUFFIXES, Picture
from dg2_jax.data.text_files import decode, lines

Line = Mapping[str, Any]


class FolderPictures:
    """Pictures in a folder and its subfolders, ordered by name; see `PictureSource`.

    The captions of a picture are in its lines of metadata.jsonl or metadata.csv (`file_name`,
    relative to that file, and `text`, `caption` or `captions`), or are the lines of the text file
    with its name. A top-level folder called train, validation or test is the picture's split.
    """

    attributes: Mapping[str, tuple[str, ...]] = {}

    def __init__(self, root: Path, files: Sequence[Path], caption_key: str = ""):
        """Reads the names, and the metadata if there is any.

        Args:
            root: the folder.
            files: all files in it and its subfolders, except hidden ones.
            caption_key: of the captions in the metadata; empty for any of the usual ones.

        Raises:
            ValueError: a metadata file is damaged, or names a file outside of the folder.
        """
        self.description = f"folder {root.name}"
        self._root, self._caption_key = root, caption_key
        self._metadata: dict[Path, list[Line]] = {}
        for path in files:
            if read := METADATA.get(path.name):
                for file, line in _entries(path, read):
                    self._metadata.setdefault(file, []).append(line)
        self._texts = {file.with_suffix(""): file for file in files if _suffix(file) == ".txt"}
        pictures = {file for file in files if _suffix(file) in SUFFIXES}
        named = sorted(pictures | set(self._metadata), key=lambda f: f.relative_to(root).as_posix())
        self._files = [file for file in named if self._split(file) != "test"]
        beside = {self._texts.get(file.with_suffix("")) for file in self._files}
        others = set(files) - set(self._files) - beside
        self.ignored: Mapping[str, int] = Counter(
            _suffix(f) for f in others if f.name not in METADATA
        )

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Picture:
        file = self._files[index]
        texts = self._captions(file)
        return Picture(self.name(index), file.read_bytes(), texts, split=self._split(file))

    def name(self, index: int) -> str:
        """Of the picture at `index`."""
        return self._files[index].relative_to(self._root).as_posix()

    def fingerprint(self) -> str:
        """Changes when the files do."""

        def size(path: Path | None) -> int:
            return path.stat().st_size if path is not None and path.is_file() else -1

        sizes = [(size(f), size(self._texts.get(f.with_suffix("")))) for f in self._files]
        names = [self.name(i) for i in range(len(self))]
        metadata = {str(f.relative_to(self._root)): told for f, told in self._metadata.items()}
        return json.dumps([names, sizes, metadata], sort_keys=True)

    def _split(self, file: Path) -> str | None:
        parts = file.relative_to(self._root).parts
        return SPLITS.get(parts[0].lower()) if len(parts) > 1 else None

    def _captions(self, file: Path) -> tuple[str, ...]:
        if file in self._metadata:
            return captions.without_repeats(
                caption
                for line in self._metadata[file]
                for caption in captions.of_record(line, self._caption_key)
            )
        beside = self._texts.get(file.with_suffix(""))
        if beside is None:
            return ()
        return captions.checked(lines(decode(beside.read_bytes(), beside.name)))


def _suffix(path: Path) -> str:
    return path.suffix.lower()


def _entries(path: Path, read: Any) -> Iterator[tuple[Path, Line]]:
    """The pictures that a metadata file names, each with its line."""
    text = decode(path.read_bytes(), f"source: {path}")
    try:
        for number, line in read(text):
            name = line.get("file_name") if isinstance(line, Mapping) else None
            inside = os.path.normpath(name) if isinstance(name, str) else os.curdir
            if inside == os.curdir:
                raise ValueError(f"line {number} must be an object with file_name")
            if os.path.isabs(inside) or inside.split(os.sep)[0] == os.pardir:
                raise ValueError(f"line {number}: file_name leads outside of the folder")
            yield path.parent / inside, line
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _json_lines(text: str) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(lines(text), start=1):
        if line.strip():
            try:
                yield number, captions.parse_json(line)
            except ValueError as error:
                raise ValueError(f"line {number} must be JSON: {error}") from error


def _csv_lines(text: str) -> Iterator[tuple[int, Any]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        if "file_name" not in (reader.fieldnames or ()):
            raise ValueError(f"its first line must name the column file_name, got {text[:80]!r}")
        for row in reader:
            if None in row:
                raise ValueError(
                    f"line {reader.line_num} has more fields than there are columns; text with a "
                    "comma must be quoted"
                )
            yield reader.line_num, row
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num}: {error}") from error


METADATA = {"metadata.jsonl": _json_lines, "metadata.csv": _csv_lines}
