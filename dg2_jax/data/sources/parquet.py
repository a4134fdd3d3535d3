"""Parquet files with the bytes of a picture in one column and its captions in another."""

import bisect
import itertools
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from dg2_jax.data.sources import captions
from dg2_jax.data.sources.interface import SPLITS, Picture
from dg2_jax.interop import file_kinds

IMAGE_KEYS = ("image", "jpg", "png", "webp", "bytes", "image_bytes")


class ParquetPictures:
    """The rows of Parquet files, in their order; see `PictureSource`.

    A picture is binary, or a struct with `bytes` as Hugging Face writes it. A file whose name
    begins with train, validation or test is of that split.
    """

    attributes: Mapping[str, tuple[str, ...]] = {}

    def __init__(
        self, root: Path, files: Sequence[Path], image_key: str = "", caption_key: str = ""
    ):
        """Reads the files' metadata.

        Raises:
            ValueError: one is damaged or lacks the columns.
        """
        self.description = f"parquet {root.name}"
        self._root, self._caption_key = root, caption_key
        tables = [file for file in files if file.suffix.lower() == ".parquet"]
        self._tables = [table for table in tables if _split(table) != "test"]
        self.ignored: Mapping[str, int] = Counter(
            f.suffix.lower() for f in files if f not in set(self._tables)
        )
        self._groups: list[tuple[Path, int, int]] = []  # file, row group, its first row
        self._columns: dict[Path, tuple[str, str]] = {}
        counts = []
        for path in self._tables:
            try:
                file = pyarrow.parquet.ParquetFile(path)
            except (pyarrow.ArrowException, OSError) as error:
                file_kinds.refuse_other(path, "Parquet")
                raise ValueError(f"source: {path} is damaged: {error}") from error
            names = file.schema_arrow.names
            self._columns[path] = (
                _column(path, names, "image_key", image_key, IMAGE_KEYS),
                _column(path, names, "caption_key", caption_key, captions.KEYS),
            )
            first = 0
            for group in range(file.num_row_groups):
                self._groups.append((path, group, first))
                counts.append(file.metadata.row_group(group).num_rows)
                first += counts[-1]
        self._ends = list(itertools.accumulate(counts))
        self._read: tuple[int, Any] = -1, None

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: int) -> Picture:
        group, row = self._place(index)
        path = self._groups[group][0]
        images, texts = self._load(group)
        image = images[row].as_py()
        if isinstance(image, dict):
            image = image.get("bytes")
        if not isinstance(image, bytes):
            raise ValueError("its row holds no bytes of a picture")
        column = self._columns[path][1]
        said = captions.of_record({column: texts[row].as_py()}, self._caption_key or column)
        return Picture(self.name(index), image, said, split=_split(path))

    def name(self, index: int) -> str:
        """Of the picture at `index`."""
        group, row = self._place(index)
        path, _, first = self._groups[group]
        shown = path.name if path == self._root else path.relative_to(self._root).as_posix()
        return f"{shown}/{first + row}"

    def fingerprint(self) -> str:
        """Changes when the files do."""
        return json.dumps([(table.name, table.stat().st_size) for table in self._tables])

    def _place(self, index: int) -> tuple[int, int]:
        group = bisect.bisect_right(self._ends, index)
        return group, index - (self._ends[group - 1] if group else 0)

    def _load(self, group: int) -> Any:
        """The columns of a row group; the last one is kept, since rows are read in order."""
        if self._read[0] != group:
            path, number, _ = self._groups[group]
            try:
                with pyarrow.parquet.ParquetFile(path) as file:
                    table = file.read_row_group(number, columns=list(self._columns[path]))
            except (pyarrow.ArrowException, OSError) as error:
                raise ValueError(f"row group {number} of {path} is damaged: {error}") from error
            self._read = group, tuple(table.column(name) for name in self._columns[path])
        return self._read[1]


def _split(path: Path) -> str | None:
    return SPLITS.get(path.stem.lower().partition("-")[0])


def _column(
    path: Path, names: Sequence[str], parameter: str, key: str, usual: Sequence[str]
) -> str:
    # Of "text.en" the column is "text", whose values are objects.
    possible = (key, key.partition(".")[0]) if key else usual
    column = next((name for name in possible if name in names), None)
    if column is None:
        raise ValueError(
            f"{parameter} must be a column of {path}, one of {', '.join(names)}; got {key!r}"
        )
    return column
