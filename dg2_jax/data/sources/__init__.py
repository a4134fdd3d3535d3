"""Captioned pictures in the forms that people have them, behind one interface.

    a folder of pictures     name.txt beside name.jpg, one caption a line; or metadata.jsonl
    tfds:NAME                a data set of TensorFlow Datasets, built as array records
    WebDataset               tar files: key.jpg with key.txt or key.json
    Parquet                  the picture's bytes in a column, its captions in another

`open_source` tells which it is. Nothing is decoded here: `data.screening` does that, and names what
is wrong.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
CAPTION_KEYS = ("captions", "caption", "text")
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
    """

    description: str
    attributes: Mapping[str, tuple[str, ...]]

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
        caption_key: the column, feature or JSON key of the captions; empty finds it.
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
            files = sorted(path.rglob("*")) if path.is_dir() else [path]
            kinds = {file.suffix.lower() for file in files}
            if ".tar" in kinds:
                tars = [file for file in files if file.suffix.lower() == ".tar"]
                source = webdataset.TarPictures(path, tars, self.caption_key)
            elif ".parquet" in kinds:
                tables = [file for file in files if file.suffix.lower() == ".parquet"]
                source = parquet.ParquetPictures(path, tables, self.image_key, self.caption_key)
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
            raise ValueError(f"source: {self.location} holds no pictures")
        return source


def as_captions(value: Any) -> tuple[str, ...]:
    """Captions from a text, its bytes, or a list of these; what is blank is left out.

    Raises:
        ValueError: it is something else, or not UTF-8.
    """
    values = [value] if isinstance(value, str | bytes) or value is None else value
    try:
        texts = [v.decode("utf-8") if isinstance(v, bytes) else v for v in values if v is not None]
        return tuple(text.strip() for text in texts if text.strip())
    except (TypeError, AttributeError, UnicodeDecodeError) as error:
        raise ValueError(f"captions must be text or a list of texts: {error}") from error


def caption_of(values: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """The captions of a record: under `key`, or where that is empty under one of CAPTION_KEYS."""
    found = next((k for k in ((key,) if key else CAPTION_KEYS) if values.get(k) is not None), None)
    return () if found is None else as_captions(values[found])
