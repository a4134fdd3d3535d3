"""Stopping a run from outside, and keeping it from running twice."""

import contextlib
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

_STOPPING = (signal.SIGTERM, signal.SIGINT)


class FolderInUseError(OSError):
    """Another trainer uses the folder; the message names its process and host."""


@contextlib.contextmanager
def exclusive(folder: str | Path) -> Iterator[None]:
    """Holds a folder's `trainer.lock`, which the system releases when the process ends.

    One process may hold it several times.

    Raises:
        FolderInUseError: another process holds it.
    """
    folder = Path(folder).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "trainer.lock"
    lock = FileLock(path, is_singleton=True)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise FolderInUseError(f"workdir: {folder} is in use by {_holder(path)}") from error
    try:
        path.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}), "utf-8")
        yield
    finally:
        lock.release()


def _holder(path: Path) -> str:
    try:
        holder = json.loads(path.read_text("utf-8"))
        return f"process {holder['pid']} on {holder['host']}"
    except (OSError, ValueError, LookupError, TypeError):
        return "another process"  # it has not yet written its name


class Stop(threading.Event):
    """Set by SIGTERM or SIGINT.

    Attributes:
        first: the first signal; None if the event was set otherwise.
        compiling: set by the block while it compiles, which is not waited for.
    """

    first: signal.Signals | None = None
    compiling = False


class Interrupted(KeyboardInterrupt):
    """Ctrl-C ended a run; the message says what is kept of it."""


@contextlib.contextmanager
def stop_event(
    rescue: Callable[[], str], patience: float = 15.0, watch: bool = True
) -> Iterator[Stop]:
    """An event that SIGTERM or SIGINT sets; a second one has its usual effect.

    Python runs signal handlers only between two of its own instructions, and a compilation is a
    single one that may take minutes. So a thread, which the system notifies at once, waits for the
    block to end. If that takes longer than `patience`, or a second signal comes, it calls `rescue`
    and ends the process: with 0 after SIGTERM, with 130 after SIGINT, as shells expect of Ctrl-C.

    Args:
        rescue: saves what would be lost, from another thread; returns a message on what is kept.
        patience: in seconds.
        watch: False ignores signals; the event is never set then.
    """
    stopped, ended = Stop(), threading.Event()
    if not watch or threading.current_thread() is not threading.main_thread():
        yield stopped  # only the main thread may set handlers
        return
    usual = {s: signal.getsignal(s) for s in _STOPPING}

    def handle(number: int, frame: object) -> None:
        stopped.set()
        signal.signal(number, usual[signal.Signals(number)])

    ours, theirs = socket.socketpair()
    theirs.setblocking(False)

    def wait_for_a_signal() -> None:
        while received := ours.recv(1):
            if received[0] not in _STOPPING:
                continue
            stopped.first = stopped.first or signal.Signals(received[0])
            if stopped.first == signal.SIGINT:
                _say("stopping after this step; Ctrl-C again stops at once")
            ours.settimeout(min(patience, 1.0) if stopped.compiling else patience)
            with contextlib.suppress(TimeoutError):
                again = ours.recv(1)
                while again and again[0] not in _STOPPING:
                    again = ours.recv(1)
                if not again:
                    return  # the block has ended
            if not ended.is_set():
                _say(rescue())
                os._exit(130 if stopped.first == signal.SIGINT else 0)

    watcher = threading.Thread(target=wait_for_a_signal, name="signals", daemon=True)
    watcher.start()
    before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    for number in usual:
        signal.signal(number, handle)
    try:
        yield stopped
    finally:
        ended.set()
        for number, handler in usual.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(before)
        theirs.close()  # ends the thread
        watcher.join()
        ours.close()


def _say(text: str) -> None:
    print(f"\n{text}", file=sys.stderr, flush=True)
