"""Opens a source of pictures; the files at its location tell which form it has."""

import re
from dataclasses import dataclass
from pathlib import Path

from dg2_jax.data.sources.interface import SUFFIXES, PictureSource

_COMPRESSED = re.compile(r"\.(tar\.(gz|bz2|xz|zst|lz4)|tgz|tbz2?|txz|tzst)$", re.IGNORECASE)


@dataclass(frozen=True)
class SourceSpec:
    """How to open a source, in any process.

    Attributes:
        location: "tfds:NAME" or "tfds:NAME/CONFIG"; or a folder of pictures, of `.tar` files or
            of `.parquet` files; or one such file.
        data_dir: of TFDS; empty for its default.
        image_key: the column or feature of the picture; empty finds it.
        caption_key: the column, feature or JSON key of the captions, such as "text.en" inside an
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
            ValueError: it is not a source of pictures, or holds none.
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
            compressed = [file for file in files if _COMPRESSED.search(file.name)]
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
                    "dg2 train as --data_dir"
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
