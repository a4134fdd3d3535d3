"""Room on the disk: what tells that there is none, and a little that is kept for deletions.

A full disk must not lose a job. Work that needs room waits; what makes room, or keeps the books
about it, may use the reserve.
"""

import contextlib
import errno
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import structlog
from sqlalchemy.exc import DBAPIError, InternalError, OperationalError

log = structlog.get_logger()

RESERVE_BYTES = 256 * 1024
FULL = "the disk of the server's data folder is full"
BROKEN = "the server's data folder cannot be written"
UNREACHABLE = "the server's database cannot be reached"
# What writing a file or a row may raise; the last of a session that PostgreSQL has ended.
ERRORS = (OSError, OperationalError, InternalError)
RETRY_SECONDS = 60  # what a refused client is told to wait
LOOK_SECONDS = 1.0  # between looks whether there is room again

_FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FULL_CODES = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE)
_T = TypeVar("_T")


def is_full(error: BaseException) -> bool:
    """Whether an error of a file or of the database says that there is no room."""
    if isinstance(error, DBAPIError):
        cause = error.orig
        if cause is None:
            return False
        told = getattr(cause, "sqlstate", None) == "53100"  # PostgreSQL's disk_full
        return told or is_full(cause) or "No space left on device" in str(cause)
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", None)
        return code in _FULL_CODES or "database or disk is full" in str(error)
    return isinstance(error, OSError) and error.errno in _FULL_ERRNOS


def is_unreachable(error: BaseException) -> bool:
    """Whether an error says that a database's server is not there."""
    return isinstance(error, DBAPIError) and not isinstance(error.orig, sqlite3.Error)


def reason(error: BaseException) -> str:
    """What a failed write says, in words."""
    if is_full(error):
        return FULL
    return UNREACHABLE if is_unreachable(error) else BROKEN


class Disk:
    """The disk that a folder is on, and a reserve file in the folder."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._reserve = folder / "reserve"
        self._failed: str | None = None  # why the last write failed, if it did
        self.keep_reserve()

    def free(self) -> int:
        """Bytes that may still be written; 0 where this cannot be told."""
        try:
            return shutil.disk_usage(self._folder).free
        except OSError:
            return 0

    @property
    def trouble(self) -> str | None:
        """Why nothing new should be begun, None where all is well."""
        return FULL if self.free() < RESERVE_BYTES else self._failed

    def check(self) -> None:
        """Raises OSError where there is too little room to begin anything."""
        if self.free() < RESERVE_BYTES:
            raise OSError(errno.ENOSPC, FULL)

    def note(self, error: BaseException | None) -> bool:
        """Remembers that a write failed, or for None that all is well; whether that is news."""
        self.keep_reserve()
        failed = None if error is None else reason(error)
        news, self._failed = (failed is None) != (self._failed is None), failed
        return news

    def report(
        self, error: BaseException | None, tell_waiting: Callable[[str | None], None]
    ) -> None:
        """`note`; what is news is logged, and told to those whose jobs wait or go on."""
        if not self.note(error):
            return
        if error is None:
            log.info("jobs go on")
        else:
            log.error("jobs wait", reason=self.trouble, error=str(error)[:500])
        tell_waiting(self.trouble)

    def keep_reserve(self) -> None:
        """Sets the reserve aside again, if it was used and there is room."""
        try:
            if self._reserve.exists() or self.free() < 2 * RESERVE_BYTES:
                return
            self._reserve.write_bytes(os.urandom(RESERVE_BYTES))  # zeros may take no room
        except OSError:
            with contextlib.suppress(OSError):  # half a reserve is room for others
                self._reserve.unlink(missing_ok=True)

    def insist(self, action: Callable[[], _T]) -> _T:
        """What `action` returns; where the disk is full it may use the reserve.

        Raises:
            Exception: what `action` raises, also with the reserve.
        """
        try:
            return action()
        except Exception as error:
            if not is_full(error):
                raise
            self._reserve.unlink(missing_ok=True)
            return action()
        finally:
            self.keep_reserve()
