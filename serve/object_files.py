"""Picture files in an object store, by whatever fsspec knows: s3://BUCKET/PATH and others.

Addresses and keys of the store's server come from its own environment variables (AWS_ENDPOINT_URL
and AWS_ACCESS_KEY_ID, say).
"""

import contextlib
from collections.abc import Callable, Iterator

import fsspec

from dg2_jax.serve.files import Files, check_id


class ObjectFiles(Files):
    """See `Files`. A store replaces objects whole, and keeps what it has acknowledged."""

    def __init__(self, url: str):
        """Connects to the store.

        Raises:
            ValueError: fsspec does not know this kind of store, or needs a package for it.
        """
        try:
            self._store, root = fsspec.url_to_fs(url, use_listings_cache=False)
        except ImportError as error:
            raise ValueError(f"pictures: {error}") from error
        self._root = root.rstrip("/")

    def write(
        self, picture_id: str, data: bytes, check: Callable[[], object] = lambda: None
    ) -> None:
        """See `Files`."""
        check()
        with _as_os_errors():
            self._store.pipe_file(self._place(picture_id), data)

    def read(self, picture_id: str) -> bytes | None:
        """See `Files`."""
        if not self.is_id(picture_id):
            return None
        with _as_os_errors(), contextlib.suppress(FileNotFoundError):
            return self._store.cat_file(self._place(picture_id))
        return None

    def has(self, picture_id: str) -> bool:
        """See `Files`."""
        with _as_os_errors():
            return self.is_id(picture_id) and self._store.exists(self._place(picture_id))

    def hide(self, picture_id: str) -> None:
        """See `Files`."""
        self._move(self._place(picture_id), self._hidden(picture_id))

    def show(self, picture_id: str) -> None:
        """See `Files`."""
        self._move(self._hidden(picture_id), self._place(picture_id))

    def delete(self, picture_id: str) -> None:
        """See `Files`."""
        for place in (self._place(picture_id), self._hidden(picture_id)):
            with _as_os_errors(), contextlib.suppress(FileNotFoundError):
                if self._store.exists(place):
                    self._store.rm_file(place)

    def _place(self, picture_id: str) -> str:
        check_id(picture_id)
        return f"{self._root}/pictures/{picture_id[-2:]}/{picture_id}.png"

    def _hidden(self, picture_id: str) -> str:
        check_id(picture_id)
        return f"{self._root}/deleted/{picture_id}.png"

    def _move(self, source: str, target: str) -> None:
        with _as_os_errors(), contextlib.suppress(FileNotFoundError):
            self._store.pipe_file(target, self._store.cat_file(source))
            self._store.rm_file(source)


@contextlib.contextmanager
def _as_os_errors() -> Iterator[None]:
    """Clients of stores have errors of their own; to the server a store is a disk."""
    try:
        yield
    except (OSError, ValueError):
        raise
    except Exception as error:
        raise OSError(f"the store of pictures: {error}") from error
