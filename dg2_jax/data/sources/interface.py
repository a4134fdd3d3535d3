"""What every source of captioned pictures offers: random access to `Picture`s."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np

# Suffixes of pictures; the second line lists formats that are reported but not read.
SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".gif", ".tif", ".tiff", ".bmp"),
    *(".avif", ".heic", ".heif", ".jxl", ".jp2", ".psd", ".svg", ".ico", ".tga", ".ppm", ".dng"),
)
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
        name: tells a person where it is; unique within the source.
        image: the content of a file, or uint8 (h, w, 3).
        captions: alternative descriptions of it; may be empty.
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
    """Random access to captioned pictures, in a stable order.

    Attributes:
        description: what it is, for the manifest.
        attributes: name to possible values, of the attributes that every picture has.
        ignored: number of files, by suffix, that are not pictures, captions or metadata of this
            source.
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
        """A text that changes whenever the source's files do."""
