"""Picture files: results (`<job>_<index>`) and inputs (`in_<digest>`), as PNG, in a folder.

Where else they may lie, see `dg2_jax.serve.object_files`.
"""

import contextlib
import hashlib
import os
import re
import secrets
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

_LEFT_SECONDS = 3600.0  # no file takes so long to write
_ID = re.compile(r"[a-z0-9]{1,40}_[a-z0-9]{1,40}")


class Ids:
    """Job ids: the time in ms and a random part, in hexadecimal; growing within a process."""

    def __init__(self) -> None:
        self._last = 0
        self._lock = threading.Lock()

    def __call__(self) -> str:
        """A new id: 20 characters."""
        with self._lock:
            self._last = max(self._last + 1, time.time_ns() // 1000)
            return f"{self._last:014x}{secrets.token_hex(3)}"


class Files(ABC):
    """All pictures. Hidden ones are as if they were not there."""

    @abstractmethod
    def write(
        self, picture_id: str, data: bytes, check: Callable[[], object] = lambda: None
    ) -> None:
        """Stores a picture, durably; replaces one of the same id.

        Args:
            picture_id: of the picture.
            data: PNG bytes.
            check: called at the last moment, and again before a picture is replaced; raises where
                it must not be stored any more.

        Raises:
            OSError: it is not stored.
            ValueError: not an id.
            Exception: what `check` raises; it is not stored.
        """

    @abstractmethod
    def read(self, picture_id: str) -> bytes | None:
        """A picture's PNG bytes, None if there is none of that id; links are not followed."""

    @abstractmethod
    def has(self, picture_id: str) -> bool:
        """Whether there is a picture of that id."""

    @abstractmethod
    def hide(self, picture_id: str) -> None:
        """Hides a picture, if it is there."""

    @abstractmethod
    def show(self, picture_id: str) -> None:
        """Takes `hide` back."""

    @abstractmethod
    def delete(self, picture_id: str) -> None:
        """Deletes a picture, if it is there or hidden."""

    def write_input(self, data: bytes) -> str:
        """Stores an input under its digest; returns its id."""
        picture_id = f"in_{hashlib.sha256(data).hexdigest()[:32]}"
        if not self.has(picture_id):
            self.write(picture_id, data)
        return picture_id

    @staticmethod
    def is_id(text: str) -> bool:
        """Whether a text has the form of a picture's id (base64 has no underscore)."""
        return _ID.fullmatch(text) is not None


def check_id(picture_id: str) -> None:
    """Raises ValueError unless it has the form of a picture's id."""
    if not _ID.fullmatch(picture_id):
        raise ValueError(f"not a picture's id: {picture_id!r}")


class FolderFiles(Files):
    """Files in a folder, each written to a temporary name, flushed, then renamed into place.

    Beside it is a folder of hidden ones.
    """

    def __init__(self, folder: Path):
        self._folder = folder / "pictures"
        self._hidden = folder / "deleted"
        for made in (self._folder, self._hidden):
            made.mkdir(parents=True, exist_ok=True)
        for left in self._folder.glob("*/.*"):  # by a kill; others may be writing at this moment
            with contextlib.suppress(FileNotFoundError):
                if time.time() - left.stat().st_mtime > _LEFT_SECONDS:
                    left.unlink()

    def path(self, picture_id: str) -> Path:
        """Where a picture lies or would lie.

        Raises:
            ValueError: not an id.
        """
        check_id(picture_id)
        return self._folder / picture_id[-2:] / f"{picture_id}.png"

    def write(
        self, picture_id: str, data: bytes, check: Callable[[], object] = lambda: None
    ) -> None:
        """See `Files`."""
        path = self.path(picture_id)
        path.parent.mkdir(exist_ok=True)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            check()
            try:
                os.link(temporary, path)
            except OSError:  # there is one already, or the file system has no links
                check()
                temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def read(self, picture_id: str) -> bytes | None:
        """See `Files`."""
        if not self.has(picture_id):
            return None
        return self.path(picture_id).read_bytes()

    def has(self, picture_id: str) -> bool:
        """See `Files`."""
        if not self.is_id(picture_id):
            return False
        path = self.path(picture_id)
        return path.is_file() and not path.is_symlink()

    def hide(self, picture_id: str) -> None:
        """See `Files`."""
        with contextlib.suppress(FileNotFoundError):
            self.path(picture_id).replace(self._hidden / f"{picture_id}.png")

    def show(self, picture_id: str) -> None:
        """See `Files`."""
        with contextlib.suppress(FileNotFoundError):
            (self._hidden / f"{picture_id}.png").replace(self.path(picture_id))

    def delete(self, picture_id: str) -> None:
        """See `Files`."""
        self.path(picture_id).unlink(missing_ok=True)
        (self._hidden / f"{picture_id}.png").unlink(missing_ok=True)
