"""Runs the parts one after another, each in a process of its own, within a time for all."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from dg2_jax.scripts.accelerator import record

_LAST_LINES = 3  # of a part's messages, where it failed
# A part begins no case that would end after its share of the time. It is stopped if it takes this
# many times its share, as long as the others are left something.
_PATIENCE = 2.0

# (part, file, seconds) to the command of a part that ends by itself in about these seconds.
Command = Callable[[str, Path, float], list[str]]


def run(
    weights: Mapping[str, int], command: Command, folder: Path, seconds: float
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Runs the parts and says how each went.

    Args:
        weights: the parts in their order, and their shares of the time. What one leaves over goes
            to those after it.
        command: what runs a part.
        folder: gets a file of cases and one of messages for each part.
        seconds: that all of them may take.

    Yields:
        A part, and a dict: "seconds" that it took, its "cases", and if it failed an "error".
    """
    end = time.monotonic() + seconds
    left = sum(weights.values())
    for name, weight in weights.items():
        remaining = max(1.0, end - time.monotonic())
        share = remaining * weight / left
        left -= weight
        yield name, _run(name, command, folder, share, min(remaining, _PATIENCE * share))


def _run(name: str, command: Command, folder: Path, share: float, most: float) -> dict[str, Any]:
    cases, log = folder / f"{name}.jsonl", folder / f"{name}.log"
    cases.unlink(missing_ok=True)
    start = time.monotonic()
    # Programs are compiled anew, so that the time it takes is known.
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": ""}
    with log.open("w", encoding="utf-8") as messages:
        try:
            ended = subprocess.run(
                command(name, cases, share), env=environment, timeout=most,
                stdin=subprocess.DEVNULL, stdout=messages, stderr=messages,
            )  # fmt: skip
            error = _reason(ended.returncode, log)
        except subprocess.TimeoutExpired:
            error = f"stopped after {most:.0f} s"
    result = {"seconds": time.monotonic() - start, "cases": record.read(cases)}
    return {**result, "error": error} if error else result


def _reason(code: int, log: Path) -> str | None:
    """Why a process ended; None if it came to its end."""
    if code == 0:
        return None
    lines = log.read_text("utf-8", errors="replace").strip().splitlines()[-_LAST_LINES:]
    ended = f"signal {-code}" if code < 0 else f"exit code {code}"
    return ": ".join([ended, *(line.strip() for line in lines)])


def of_this_python(arguments: list[str]) -> Command:
    """The command of scripts.accelerator.part with some flags, run by this interpreter."""
    module = "dg2_jax.scripts.accelerator.part"

    def command(name: str, file: Path, seconds: float) -> list[str]:
        limit = f"--seconds={seconds:.1f}"
        return [sys.executable, "-m", module, name, str(file), limit, *arguments]

    return command
