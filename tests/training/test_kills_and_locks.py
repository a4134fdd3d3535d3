"""Runs that are killed, stopped, started twice, or out of disk lose nothing."""

import os
import re
import signal
import socket
import time

import pytest

from dg2_jax.training import signals
from dg2_jax.training.checkpoint import CheckpointManager
from tests.training import helpers, processes


def saved(workdir):
    return CheckpointManager(workdir / "checkpoints").steps()


def test_kills_change_nothing(tmp_path):
    unbroken = processes.start(processes.killed, tmp_path / "a")
    for point in processes.KILL_POINTS:
        process = processes.start(processes.killed, tmp_path / "b", point)
        process.join(300)
        assert process.exitcode == -signal.SIGKILL, point
    last = processes.start(processes.killed, tmp_path / "b")
    for process in (unbroken, last):
        process.join(300)
        assert process.exitcode == 0
    assert processes.outcome(tmp_path / "a") == processes.outcome(tmp_path / "b")
    assert [step for step, _ in processes.outcome(tmp_path / "b")["losses"]] == list(range(1, 21))
    assert saved(tmp_path / "b") == [18, 19, 20]


@pytest.mark.parametrize(
    ("scenario", "least"),
    [(processes.slow_steps, 2), (processes.slow_save, 5), (processes.long_compilation, 3)],
)
def test_sigterm_loses_no_completed_step(tmp_path, scenario, least):
    ready = processes._CONTEXT.Event()
    process = processes.start(scenario, tmp_path, ready)
    assert ready.wait(300)
    os.kill(process.pid, signal.SIGTERM)
    process.join(30)
    assert process.exitcode == 0
    assert least <= saved(tmp_path)[-1] < 20
    state = helpers.run(tmp_path)
    assert int(state.step) == 20


@pytest.mark.parametrize(
    ("scenario", "message", "steps"),
    [
        (processes.interrupted, r"stopped at step \d+, kept in .*checkpoints; run again", 1),
        (processes.interrupted_in_the_first_compilation, "nothing is kept", 0),
    ],
)
def test_ctrl_c_says_what_is_kept_and_exits_with_130(tmp_path, scenario, message, steps):
    ready = processes._CONTEXT.Event()
    process = processes.start(scenario, tmp_path / "run", ready, tmp_path / "log")
    assert ready.wait(300)
    os.kill(process.pid, signal.SIGINT)
    process.join(30)
    assert process.exitcode == 130
    told = (tmp_path / "log").read_text()
    assert "stopping after this step; Ctrl-C again stops at once" in told
    assert re.search(message, told)
    assert "Traceback" not in told
    assert "compiling" in told or steps
    assert len(saved(tmp_path / "run")) == steps


def test_a_second_trainer_is_refused_until_the_first_is_dead(tmp_path):
    ready = processes._CONTEXT.Event()
    first = processes.start(processes.waiting, tmp_path, ready)
    assert ready.wait(300)
    message = f"in use by process {first.pid} on {socket.gethostname()}"
    asked = time.perf_counter()
    with pytest.raises(signals.FolderInUseError, match=message):
        helpers.run(tmp_path)
    assert time.perf_counter() - asked < 5
    first.kill()
    first.join()
    assert int(helpers.run(tmp_path).step) == 20


def test_a_full_disk_is_told_and_costs_no_older_checkpoint(tmp_path):
    full = processes._CONTEXT.SimpleQueue()
    process = processes.start(processes.disk_full, tmp_path, full)
    message = full.get()
    process.join(300)
    assert "checkpoint 10 could not be written" in message
    assert "File too large" in message
    assert saved(tmp_path) == [5]
