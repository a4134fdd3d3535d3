"""Training runs in separate processes, which can be killed.

They are forked from a server that has finished its imports but has no devices yet, so that each
costs one second instead of five.
"""

import hashlib
import json
import multiprocessing
import os
import resource
import signal
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from dg2_jax import files
from dg2_jax.scripts.command import command
from dg2_jax.training import checkpoint, loop, signals, step
from tests.training import helpers

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.training.spread"])

KILL_POINTS = ("in a step", "while arrays are written", "before the commit", "after the commit",
               "in the clean-up")  # fmt: skip


def start(scenario, *args):
    """A process that runs `scenario(*args)`; its exit code tells how it ended."""
    process = _CONTEXT.Process(target=scenario, args=args)
    process.start()
    return process


def die(*args, **kwargs):
    """The end, without any chance to clean up."""
    os.kill(os.getpid(), signal.SIGKILL)


class Batches:
    """A loader that calls `before(i)` before batch i of this process, counted from 1."""

    def __init__(self, before, loader=None):
        self._inner = loader or helpers.make_loader(helpers.make_config())
        self._before, self._count = before, 0
        self.position, self.seek = self._inner.position, self._inner.seek

    def __next__(self):
        self._count += 1
        self._before(self._count)
        return next(self._inner)


def killed(workdir, point=None, pause=0.0):
    """A run of 20 steps that saves each; a kill point strikes at its third save or sixth step.

    At its end it writes its result: digests of the state, and the data position.
    """

    def before(count):
        time.sleep(pause)
        if point == "in a step" and count == 6:
            die()

    if point == "while arrays are written":
        patch_third(checkpoint.ocp.AsyncCheckpointer, "wait_until_finished", skip=5)
    if point == "before the commit":
        patch_third(files, "sync_all")
    if point == "after the commit":
        patch_third(checkpoint.CheckpointManager, "_delete_old")
    if point == "in the clean-up":
        patch_third(os, "rmdir")
    loader = Batches(before)
    state = helpers.run(workdir, helpers.make_config(checkpoint_every=1), loader=loader)
    write_result(workdir, state, loader)


def patch_third(owner, name, skip=2):
    """Ends the process at the call after `skip` calls of a function."""
    original, calls = getattr(owner, name), 0

    def patched(*args, **kwargs):
        nonlocal calls
        calls += 1
        if calls > skip:
            die()
        return original(*args, **kwargs)

    setattr(owner, name, patched)


def write_result(workdir, state, loader):
    """SHA-256 of every part of a state, and the position of the data."""
    digests = {}
    for name, tree in state._asdict().items():
        digest = hashlib.sha256()
        for leaf in jax.tree.leaves(tree):
            digest.update(np.asarray(leaf).tobytes())
        digests[name] = digest.hexdigest()
    result = {"digests": digests, "position": loader.position()}
    (Path(workdir) / "result.json").write_text(json.dumps(result))


def outcome(workdir):
    """The result of a run: `write_result`'s data, and the loss of every step."""
    lines = (Path(workdir) / "metrics.jsonl").read_text().splitlines()
    losses = [(line["step"], line["loss"]) for line in map(json.loads, lines)]
    return json.loads((Path(workdir) / "result.json").read_text()) | {"losses": losses}


def waiting(workdir, ready):
    """A run that stays in its third step until it is stopped."""

    def before(count):
        if count == 4:
            ready.set()
            time.sleep(60)

    helpers.run(workdir, loader=Batches(before))


def slow_steps(workdir, ready):
    """A run whose steps take 50 ms."""

    def before(count):
        time.sleep(0.05)
        if count == 3:
            ready.set()

    helpers.run(workdir, loader=Batches(before))


def slow_save(workdir, ready):
    """A run whose first save, of step 5, takes a second."""
    sync_all = files.sync_all

    def slowly(folder):
        ready.set()
        time.sleep(1)
        sync_all(folder)

    files.sync_all = slowly
    helpers.run(workdir, loader=Batches(lambda count: time.sleep(0.05)))


def long_compilation(workdir, ready):
    """A run that, after step 3, blocks in a call that Python cannot interrupt."""
    signals.stop_event.__wrapped__.__defaults__ = (0.3, True)  # patience in seconds

    def validate(state):
        ready.set()
        hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)  # some minutes
        return {}

    helpers.run(workdir, helpers.make_config(validate_every=3), validate=validate)


def as_command(run, log):
    """Runs it like the scripts do, with its output in a file."""
    sys.argv = ["script"]
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT), 2)
    sys.stderr = os.fdopen(2, "w", buffering=1)
    command(run)


def interrupted(workdir, ready, log):
    """A command whose run has steps of 50 ms."""
    as_command(lambda: slow_steps(workdir, ready), log)


def interrupted_in_the_first_compilation(workdir, ready, log):
    """A command whose first step blocks in a call that Python cannot interrupt."""
    settings = helpers.make_config()

    def step_fn(state, batch):
        ready.set()
        hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)  # some minutes

    def run():
        start, loader = helpers.make_state(settings), helpers.make_loader(settings)
        loop.train(start, step_fn, loader, settings, workdir)

    as_command(run, log)


def disk_full(workdir, full):
    """A run that can write no file above 64 kB from its seventh step on; `full` gets its error."""
    ballast = np.random.default_rng(0).normal(size=2**16).astype(np.float32)

    def before(count):
        if count == 7:
            while not (Path(workdir) / "checkpoints" / "5").exists():
                time.sleep(0.01)
            resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, 2**16))

    settings = helpers.make_config()
    start = helpers.make_state(settings)
    heavy = start._replace(ema={**start.ema, "ballast": jnp.asarray(ballast)})
    train = step.make_train_step(helpers.loss_fn, settings)

    def step_fn(state, batch):
        light = {name: state.ema[name] for name in ("w", "b")}
        new, metrics = train(state._replace(ema=light), batch)
        return new._replace(ema={**new.ema, "ballast": state.ema["ballast"]}), metrics

    try:
        loop.train(heavy, step_fn, Batches(before), settings, workdir, progress=False)
    except OSError as error:
        full.put(str(error))
