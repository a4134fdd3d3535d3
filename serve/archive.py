"""Several pictures as one ZIP file that is sent while it is made."""

import io
import time
import zipfile
from collections.abc import Iterator, Sequence

from dg2_jax.serve import file_names
from dg2_jax.serve.files import Files
from dg2_jax.serve.records import Image


class _Sink(io.RawIOBase):
    """What ZipFile writes to: it only goes forward, and gives away what was written."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self._chunks.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        chunks, self._chunks = self._chunks, []
        return b"".join(chunks)


def stream(files: Files, images: Sequence[Image], pattern: str) -> Iterator[bytes]:
    """The bytes of a ZIP file, a picture at a time; one that was deleted meanwhile is left out."""
    sink = _Sink()
    with zipfile.ZipFile(sink, "w") as archive:  # PNGs do not get smaller
        for image, name in zip(images, file_names.names_of(images, pattern), strict=True):
            data = files.read(image.id)
            if data is not None:
                made = time.localtime(image.created_at)[:6]
                archive.writestr(zipfile.ZipInfo(f"{name}.png", made), data)
                yield sink.take()
    yield sink.take()
