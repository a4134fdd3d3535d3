"""Workers' processes with the fake pipeline, for tests of several on one database.

python -m tests.serve.live_worker --data=FOLDER      # flags and environment as of serve.worker
"""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil

from dg2_jax.serve.files import FolderFiles
from tests.serve.fakes import FakePipeline, fake_upscale
from tests.serve.live import PROCESS_SIZE

NOTES = "begun.txt"  # in the data folder: the pictures that workers have begun
_ROOT = Path(__file__).parents[2]


class NotingPipeline(FakePipeline):
    """Forgets its calls, but notes each picture in a file: the process, the seed and the prompt."""

    def remember(self, call):
        if "FAKE_NOTES" in os.environ:
            with open(os.environ["FAKE_NOTES"], "a") as file:
                for prompt, seed in zip(call["prompt"], call["seed"], strict=True):
                    file.write(f"{os.getpid()} {seed} {prompt}\n")


class WorkerProcess:
    """`tests.serve.live_worker` as a process of its own.

    Attributes:
        pid: of the process.
    """

    def __init__(
        self,
        data: Path,
        database: str,
        step_seconds: float = 0.0,
        noted: bool = True,
        stops_in_write: bool = False,
        **settings,
    ):
        env = {**os.environ, "FAKE_STEP_SECONDS": str(step_seconds), "DG2_WARMUP": "false"}
        env |= {"DG2_DATABASE": database, "DG2_DATA": str(data)}
        if stops_in_write:
            env["FAKE_STOPS_IN_WRITE"] = "1"
        if noted:
            env["FAKE_NOTES"] = str(data / NOTES)
        env |= {f"DG2_{name.upper()}": str(value) for name, value in settings.items()}
        command = [sys.executable, "-m", "tests.serve.live_worker"]
        self.process = subprocess.Popen(
            command, cwd=_ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self.pid = self.process.pid
        assert b"worker" in self.process.stdout.readline()

    @property
    def is_stopped(self) -> bool:
        return psutil.Process(self.pid).status() == psutil.STATUS_STOPPED

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self, number: int = signal.SIGTERM) -> int:
        self.send(number)
        code = self.process.wait(30)
        self.process.stdout.close()
        return code


def begun(data: Path) -> list[tuple[int, str]]:
    """What the workers of a folder have begun: the process, and the seed and prompt."""
    file = data / NOTES
    lines = file.read_text().splitlines() if file.exists() else []
    return [(int(pid), what) for pid, _, what in (line.partition(" ") for line in lines)]


def wait_for(condition, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not happen"
        time.sleep(0.02)


def _stop_in_first_write() -> None:
    """Stops this process, as SIGSTOP does, when its first picture is about to take its place."""
    write = FolderFiles.write

    def stopping(self, picture_id, data, check):
        def stop_and_check():
            FolderFiles.write = write
            signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)  # before it goes on
            check()

        write(self, picture_id, data, stop_and_check)

    FolderFiles.write = stopping


def main() -> None:
    """A worker with the fake pipeline."""
    from dg2_jax.serve.fleet import process

    if "FAKE_STOPS_IN_WRITE" in os.environ:
        _stop_in_first_write()
    seconds = float(os.environ.get("FAKE_STEP_SECONDS", "0.05"))
    pipe = NotingPipeline(seconds, PROCESS_SIZE)
    process.main(sys.argv[1:], lambda _: pipe, fake_upscale)


if __name__ == "__main__":
    main()
