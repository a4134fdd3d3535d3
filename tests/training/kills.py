"""Kills a run again and again: python -m tests.training.kills --kills=100.

Each run is killed at random moments and at the kill points of `processes`, restarted unaided until
it is finished, and then compared with the unbroken run: SHA-256 of weights, averages, optimiser and
step, the data position and the loss of every step.
"""

import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from absl import app, flags

from dg2_jax.training.checkpoint import CheckpointManager
from tests.training import processes

_KILLS = flags.DEFINE_integer("kills", 100, "How many.")
_SEED = flags.DEFINE_integer("seed", 0, "Of the moments.")
_PAUSE = 0.03  # seconds between two steps, so that a kill often finds one


def main(argv: list[str]) -> None:
    """Exits with 1 if a run differs, does not restart, or loses more than it may."""
    rng, kills, runs, lost = random.Random(_SEED.value), Counter(), 0, Counter()
    root = Path(tempfile.mkdtemp())
    started = time.perf_counter()
    unbroken = processes.start(processes.killed, root / "unbroken", None, _PAUSE)
    unbroken.join()
    usual = time.perf_counter() - started
    expected = processes.outcome(root / "unbroken")
    while kills.total() < _KILLS.value:
        folder, runs = root / str(runs), runs + 1
        while True:
            point = rng.choice((*processes.KILL_POINTS, None, None, None, None, None))
            process = processes.start(processes.killed, folder, point, _PAUSE)
            if point is None:
                process.join(rng.uniform(0.2, 1.2) * usual)
                if process.exitcode is None:
                    process.kill()
            process.join()
            if process.exitcode == 0:
                break
            if process.exitcode != -signal.SIGKILL:
                sys.exit(f"a restart of {folder} ended with {process.exitcode}")
            kills[point or "at a random moment"] += 1
            lost[lost_steps(folder)] += 1
        actual = processes.outcome(folder)
        if actual != expected:
            sys.exit(f"{folder} differs from the unbroken run: {actual} and {expected}")
    print(f"{kills.total()} kills in {runs} runs, every one equal to the unbroken run")
    for point, count in kills.most_common():
        print(f"  {point}: {count}")
    print(f"steps lost by a kill (each step is saved): {dict(sorted(lost.items()))}")


def lost_steps(folder: Path) -> int:
    """Steps that were logged and must be done again."""
    log = folder / "metrics.jsonl"
    logged = log.read_text().count("\n") if log.exists() else 0
    saved = CheckpointManager(folder / "checkpoints").latest_step() or 0
    return max(0, logged - saved)


if __name__ == "__main__":
    app.run(main)
