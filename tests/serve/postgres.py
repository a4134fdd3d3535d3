"""A PostgreSQL server for tests, started from Debian's package, in a folder of its own."""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg

_FOLDERS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
BIN = next((folder for folder in _FOLDERS if (folder / "postgres").exists()), None)
if BIN is None and (found := shutil.which("postgres")):
    BIN = Path(found).parent


class Postgres:
    """A running server on loopback; it can be killed and started again.

    Attributes:
        port: where it listens.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        # It refuses to run as root.
        self._user = "nobody" if os.getuid() == 0 else None
        if self._user:
            os.chown(folder, pwd.getpwnam(self._user).pw_uid, -1)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        make = ["initdb", "-D", str(folder / "db"), "-U", "dg2", "-A", "trust", "-E", "UTF8"]
        subprocess.run(
            [BIN / make[0], *make[1:], "--locale=C", "--no-sync"],
            user=self._user,
            cwd="/",
            check=True,
            capture_output=True,
        )
        self._process: subprocess.Popen | None = None
        self.start()

    def start(self) -> None:
        """Starts it and waits until it answers."""
        options = ["-c", "listen_addresses=127.0.0.1", "-c", f"port={self.port}"]
        options += ["-c", f"unix_socket_directories={self._folder}", "-c", "max_connections=200"]
        options += ["-c", "fsync=off"]  # a kill of processes loses no files
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [BIN / "postgres", "-D", str(self._folder / "db"), *options],
                user=self._user,
                cwd="/",
                stdout=log,
                stderr=log,
            )
        while True:
            with contextlib.suppress(psycopg.OperationalError):
                psycopg.connect(self._url("postgres"), connect_timeout=2).close()
                return
            assert self._process.poll() is None, (self._folder / "log").read_text()
            time.sleep(0.05)

    def kill(self) -> None:
        """Ends it at once, as a crash would."""
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait()

    def stop(self) -> None:
        """Ends it."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait()

    def new_database(self) -> str:
        """The URL of a new, empty database, as DG2_DATABASE takes it."""
        name = f"test_{uuid.uuid4().hex}"
        with psycopg.connect(self._url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self._url(name).replace("postgresql:", "postgresql+psycopg:", 1)

    def _url(self, name: str) -> str:
        return f"postgresql://dg2@127.0.0.1:{self.port}/{name}"


@contextlib.contextmanager
def running() -> Iterator[Postgres]:
    """A server that is stopped, and its folder removed, at the end."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        own = Path(folder, "postgres")
        own.mkdir()
        server = Postgres(own)
        try:
            yield server
        finally:
            server.stop()
