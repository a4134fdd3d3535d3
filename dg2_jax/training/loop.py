"""The training loop, one for all models: steps, log, validation, samples, checkpoints, signals."""

import contextlib
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils
from tqdm import tqdm

from dg2_jax import config as config_lib
from dg2_jax.data.loader import Loader
from dg2_jax.training import averages, goodput, resuming, sharding, signals
from dg2_jax.training.checkpoint import CheckpointManager
from dg2_jax.training.config import RunConfig
from dg2_jax.training.run_log import MetricsLog
from dg2_jax.training.state import TrainState
from dg2_jax.training.step import Metrics, StepFn
from dg2_jax.training.window import NonFiniteLossError, Window

__all__ = ["NonFiniteLossError", "train"]

_LOG = logging.getLogger(__name__)


def train(
    state: TrainState,
    step_fn: StepFn,
    loader: Loader,
    config: RunConfig,
    workdir: str | Path,
    *,
    validate: Callable[[TrainState], dict[str, float]] | None = None,
    sample: Callable[[TrainState], dict[str, np.ndarray]] | None = None,
    stop_after: int | None = None,
    progress: bool = True,
) -> TrainState:
    """Trains to `config.num_steps`, from the newest good checkpoint in `workdir` if there is one.

    A resumed run equals an unbroken one bit for bit on the same machine. SIGTERM and SIGINT end the
    run after the current step, with a checkpoint; if a compilation holds that up, the last
    completed step is saved and the process exits, with 0 or 130.

    Args:
        state: the initial state; donated.
        step_fn: from `make_train_step`.
        loader: the batches.
        config: the run; a checkpoint of another one is refused.
        workdir: gets metrics.jsonl, samples/ and checkpoints/; no other trainer may use it.
        validate: numbers to log every `loop.validate_every` steps and at the end.
        sample: named pictures of the averaged weights, uint8 (h, w, 3), to log every
            `loop.sample_every` steps and at the end.
        stop_after: stop early at this step, as a signal would.
        progress: show a bar with rate and time left.

    Returns:
        The last state; its `step` is below `num_steps` if the run was stopped.

    Raises:
        ValueError: `workdir` holds a run of another configuration; the differences are listed.
        FolderInUseError: another trainer uses `workdir`.
        NonFiniteLossError: naming the step, which is not saved.
        Interrupted: after SIGINT (Ctrl-C); the message says what is kept.
        OSError: a checkpoint could not be written; raised when the next one is due or earlier.
    """
    workdir = Path(workdir)
    layout = sharding.make_layout(config.devices, config.batch_size, config.tensor_rules)
    primary, alone = jax.process_index() == 0, jax.process_count() == 1
    with contextlib.ExitStack() as stack:
        if primary:
            stack.enter_context(signals.exclusive(workdir))
        checkpoints = CheckpointManager(
            config.loop.checkpoint_folder or workdir / "checkpoints",
            keep=config.loop.keep,
            keep_every=config.loop.keep_every,
        )
        stack.callback(checkpoints.wait)  # finish any pending save, however the run ends
        window = Window(config)
        placed = layout.place_state(state)
        state = resuming.resume(placed, loader, window.smoothed, checkpoints, config)
        log = MetricsLog(
            workdir,
            after_step=int(state.step),
            wandb_mode=config.loop.wandb,
            project=config.loop.wandb_project,
            tensorboard=config.loop.tensorboard,
            config=config_lib.to_dict(config),
            enabled=primary,
        )
        stack.enter_context(contextlib.closing(log))
        bar = stack.enter_context(
            tqdm(
                total=config.num_steps,
                initial=int(state.step),
                disable=not (progress and primary),
                unit=" steps",
                smoothing=0.05,
            )
        )
        run = _Run(state, config, loader, checkpoints, log, window, bar)
        hooks = [*_hooks(config, workdir, log, validate, sample)]
        hooks.append(_Hook("save", config.loop.checkpoint_every, lambda step, state: run.save()))
        # Of several processes, all must stop at one step: JAX tells them which.
        stopped = stack.enter_context(signals.stop_event(run.rescue, watch=alone))
        last = config.num_steps if stop_after is None else min(stop_after, config.num_steps)
        while run.step < last and not stopped.is_set():
            run.advance(step_fn, layout, stopped)
            for hook in hooks:
                if hook.is_due(run.step, config.num_steps):
                    run.call(hook)
            if not alone and multihost_utils.reached_preemption_sync_point(run.step):
                stopped.set()
        outcome = run.rescue()
    if stopped.first == signal.SIGINT:
        raise signals.Interrupted(outcome)
    if stopped.is_set():
        _LOG.warning("%s", outcome)
    return run.state


class _Hook(NamedTuple):
    """Something that is done between two steps.

    Attributes:
        bucket: of `Goodput`, that its time counts for.
        every: steps from one call to the next; the last step calls it too. 0: never.
        call: takes the step and the state after it.
    """

    bucket: str
    every: int
    call: Callable[[int, TrainState], None]

    def is_due(self, step: int, num_steps: int) -> bool:
        return self.every > 0 and (step % self.every == 0 or step == num_steps)


def _hooks(
    config: RunConfig,
    workdir: Path,
    log: MetricsLog,
    validate: Callable[[TrainState], dict[str, float]] | None,
    sample: Callable[[TrainState], dict[str, np.ndarray]] | None,
) -> Iterator[_Hook]:
    """Validation, samples and kept averages; see `train`."""
    if validate is not None:
        yield _Hook(
            "validate",
            config.loop.validate_every,
            lambda step, state: log.write(step, validate(state)),
        )

    def draw(step: int, state: TrainState) -> None:
        if jax.process_count() > 1:  # each process draws the same pictures, from whole weights
            state = state._replace(ema=sharding.to_host(state.ema))
        for name, pixels in sample(state).items() if sample else ():
            log.image(step, name, pixels)

    def keep(step: int, state: TrainState) -> None:
        kept = sharding.to_host(state.averages)
        if jax.process_index() == 0:
            averages.write(workdir / "averages", step, config.ema.posthoc, kept)

    if sample is not None:
        yield _Hook("sample", config.loop.sample_every, draw)
    if config.ema.posthoc:
        yield _Hook("save", config.ema.snapshot_every, keep)


class _Run:
    """A run that is under way: its state, and what of it has been logged and saved."""

    def __init__(
        self,
        state: TrainState,
        config: RunConfig,
        loader: Loader,
        checkpoints: CheckpointManager,
        log: MetricsLog,
        window: Window,
        bar: tqdm,
    ):
        self.state, self._config, self._loader = state, config, loader
        self._checkpoints, self._log, self._window, self._bar = checkpoints, log, window, bar
        self.step = self._first = self._saved = int(state.step)
        self._position = loader.position()
        self._clock = goodput.Goodput()
        self._pending: tuple[int, Metrics] | None = None
        self._saving = threading.Lock()

    def advance(self, step_fn: StepFn, layout: sharding.Layout, stopped: signals.Stop) -> None:
        """Takes one step."""
        with self._clock.measure("input"):
            batch = layout.place_batch(next(self._loader))
        if self.step == self._first:
            stopped.compiling = True
            with self._clock.measure("compile"), compiling(self._bar):
                self._window.measure_flops(self._config.loop, step_fn, self.state, batch)
                state, metrics = step_fn(self.state, batch)
            stopped.compiling = False
            self._window.restart_clock()
        else:
            state, metrics = step_fn(self.state, batch)
        # Fetch the previous step's metrics only now, so that the device already has its next step.
        self._settle()
        self.state, self.step, self._position = state, self.step + 1, self._loader.position()
        self._pending = self.step, metrics
        self._bar.update()

    def call(self, hook: _Hook) -> None:
        """Calls a hook, after the log of all steps so far."""
        self._settle()
        with self._clock.measure(hook.bucket):
            hook.call(self.step, self.state)
        self._window.restart_clock()

    def save(self) -> None:
        """Begins a checkpoint of the last completed step, unless there is one."""
        with self._saving:
            if self.step > self._saved:
                data = resuming.resume_data(self._position, self._window.smoothed)
                config = config_lib.to_dict(self._config)
                self._checkpoints.save(self.step, self.state, config, data)
                self._saved = self.step

    def rescue(self) -> str:
        """Logs and saves what is left, and says what is kept; any thread may call it."""
        self._settle()
        self.save()
        self._checkpoints.wait()
        if self._saved == 0:
            return "stopped before the first step was completed: nothing is kept"
        folder = self._checkpoints.folder
        return f"stopped at step {self._saved}, kept in {folder}; run again to go on"

    def _settle(self) -> None:
        """Fetches the metrics of the last step that was begun, and logs what is due."""
        if self._pending is None:
            return
        (step, metrics), self._pending = self._pending, None
        self._window.add(step, metrics)
        every = self._config.loop.log_every
        if step % every == 0 or step == self._config.num_steps:
            means = self._window.flush()
            self._bar.set_postfix(
                loss=f"{means['loss']:.4g}", smoothed=f"{means['loss_smoothed']:.4g}"
            )
            self._log.write(step, means | self._clock.shares())


@contextlib.contextmanager
def compiling(bar: tqdm) -> Iterator[None]:
    """Counts the seconds of a compilation on a bar, and leaves them out of its rate."""
    begin, ended = time.perf_counter(), threading.Event()

    def tick() -> None:
        while not ended.wait(1.0):
            bar.set_description_str(f"compiling {time.perf_counter() - begin:.0f} s")

    bar.set_description_str("compiling")
    ticker = threading.Thread(target=tick, name="compiling", daemon=True)
    ticker.start()
    try:
        yield
    finally:
        ended.set()
        ticker.join()
        bar.set_description_str(f"compiled in {time.perf_counter() - begin:.0f} s")
        bar.unpause()
