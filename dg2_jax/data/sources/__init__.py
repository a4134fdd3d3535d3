"""Captioned pictures in the forms that people have them, behind one interface.

    a folder of pictures     name.txt beside name.jpg, or metadata.jsonl or metadata.csv
    tfds:NAME                a data set of TensorFlow Datasets, built as array records
    WebDataset               tar files: key.jpg with key.txt or key.json
    Parquet                  the picture's bytes in a column, its captions in another

`open_source` tells which it is. Nothing is decoded here: `data.screening` does that, and names what
is wrong.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

# Pictures by their names; of the second line, formats that are not read but named in the report.
SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".gif", ".tif", ".tiff", ".bmp"),
    *(".avif", ".heic", ".heif", ".jxl", ".jp2", ".psd", ".svg", ".ico", ".tga", ".ppm", ".dng"),
)
COMPRESSED = re.compile(r"\.(tar\.(gz|bz2|xz|zst|lz4)|tgz|tbz2?|txz|tzst)$", re.IGNORECASE)
SPLITS = {
    "train": "train",
    "validation": "validation",
    "val": "validation",
    "valid": "validation",
    "test": "test",
}


@dataclass(frozen=True)
class Picture:
    """A picture with its captions.

    Attributes:
        name: by which a person finds it; no two of a source share one.
        image: a file's content, or uint8 (h, w, 3).
        captions: what it shows, in other words each; may be empty.
        attributes: indices into the source's `attributes`.
        split: "train" or "validation" where the source says so.
    """

    name: str
    image: bytes | np.ndarray
    captions: tuple[str, ...]
    attributes: Mapping[str, int] = field(default_factory=dict)
    split: str | None = None


@runtime_checkable
class PictureSource(Protocol):
    """Random access to captioned pictures, in an order that lasts.

    Attributes:
        description: what it is, for the manifest.
        attributes: name to values, of those that every picture has.
        ignored: how many files there are, by suffix, that are no pictures, captions or metadata
            of this source.
    """

    description: str
    attributes: Mapping[str, tuple[str, ...]]
    ignored: Mapping[str, int]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Picture:
        """The picture at `index`.

        Raises:
            OSError, ValueError: it cannot be read.
        """

    def name(self, index: int, /) -> str:
        """The name of the picture at `index`, readable or not."""

    def fingerprint(self) -> str:
        """Text that changes when the files of the source do."""


@dataclass(frozen=True)
class SourceSpec:
    """What opens a source, in any process.

    Attributes:
        location: "tfds:NAME" or "tfds:NAME/CONFIG"; or a folder of pictures, of `.tar` or of
            `.parquet` files; or one such file.
        data_dir: of TFDS; empty for its default.
        image_key: the column or feature of the picture; empty finds it.
        caption_key: the column, feature or JSON key of the captions, "text.en" for what is in an
            object; empty finds it.
    """

    location: str
    data_dir: str = ""
    image_key: str = ""
    caption_key: str = ""

    def open(self) -> PictureSource:
        """The source.

        Raises:
            FileNotFoundError: there is nothing at the location.
            ValueError: what is there is no source of pictures, or holds none.
        """
        # pyarrow and TensorFlow Datasets take seconds to import.
        from dg2_jax.data.sources import folder, parquet, tfds, webdataset

        if self.location.startswith("tfds:"):
            name = self.location.removeprefix("tfds:")
            source: PictureSource = tfds.TfdsPictures(
                name, self.data_dir or None, self.image_key, self.caption_key
            )
        else:
            path = Path(self.location).expanduser()
            if not path.exists():
                raise FileNotFoundError(f"source: there is no {path}")
            every = sorted(path.rglob("*")) if path.is_dir() else [path]
            files = [f for f in every if not f.is_dir() and not _hidden(f.relative_to(path))]
            kinds = {file.suffix.lower() for file in files}
            compressed = [file for file in files if COMPRESSED.search(file.name)]
            if compressed and (".tar" in kinds or kinds.isdisjoint((*SUFFIXES, ".parquet"))):
                raise ValueError(
                    f"source: {compressed[0]} is a compressed tar file, which can only be read "
                    "from its start: unpack it, and give the .tar file or the folder"
                )
            if ".tar" in kinds:
                source = webdataset.TarPictures(path, files, self.caption_key)
            elif ".parquet" in kinds:
                source = parquet.ParquetPictures(path, files, self.image_key, self.caption_key)
            elif ".pt" in kinds:
                raise ValueError(
                    f"source: {path} holds latent shards, which are encoded already: give them to "
                    "scripts.train as --data_dir"
                )
            elif path.is_dir():
                source = folder.FolderPictures(path, files, self.caption_key)
            else:
                raise ValueError(f"source: {path} must be a folder, a .tar or a .parquet file")
        if not len(source):
            held = ", ".join(f"{n} {suffix}" for suffix, n in sorted(source.ignored.items()))
            others = f"; it holds {held}" if held else ""
            raise ValueError(f"source: {self.location} holds no pictures{others}")
        return source


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
