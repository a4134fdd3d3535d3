"""The training loop, one for all models: steps, log, validation, samples, checkpoints, signals."""

import contextlib
import logging
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from dg2_jax import config as config_lib
from dg2_jax.checkpoint import CheckpointManager
from dg2_jax.config import RunConfig
from dg2_jax.data.loader import Loader
from dg2_jax.training.logging import MetricsLog
from dg2_jax.training.state import TrainState
from dg2_jax.training.step import StepFn

_LOG = logging.getLogger(__name__)


class NonFiniteLossError(RuntimeError):
    """The loss or the gradient of a step was infinite or not a number."""


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
    run after the current step, with a checkpoint.

    Args:
        state: the initial state; donated.
        step_fn: made by `make_train_step`.
        loader: the batches.
        config: the run; a checkpoint of another one is refused.
        workdir: gets metrics.jsonl, samples/ and checkpoints/.
        validate: numbers to log, every `loop.validate_every` steps and at the end.
        sample: named pictures, uint8 (h, w, 3), every `loop.sample_every` steps and at the end.
        stop_after: stop early at this step, as a signal would.
        progress: show a bar with rate and time left.

    Returns:
        The last state; its `step` is below `num_steps` if the run was stopped.

    Raises:
        ValueError: `workdir` holds a run of another configuration; the differences are listed.
        NonFiniteLossError: naming the step; no checkpoint is written of it.
    """
    workdir = Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    loop, saved_config = config.loop, config_lib.to_dict(config)
    checkpoints = CheckpointManager(
        workdir / "checkpoints", keep=loop.keep, save_interval=loop.checkpoint_every
    )
    state = _resume(state, loader, checkpoints, saved_config)
    first = step = int(state.step)
    last = config.num_steps if stop_after is None else min(stop_after, config.num_steps)
    log = MetricsLog(
        workdir,
        after_step=first,
        wandb_mode=loop.wandb,
        project=loop.wandb_project,
        config=saved_config,
    )
    window = _Window(first)
    bar = tqdm(
        total=config.num_steps, initial=first, disable=not progress, unit=" steps", smoothing=0.05
    )

    def due(every: int) -> bool:
        return every > 0 and (step % every == 0 or step == config.num_steps)

    with contextlib.closing(log), bar, _stop_signals() as stopped:
        pending: dict[str, jax.Array] | None = None
        while step < last and not stopped.is_set():
            state, metrics = step_fn(state, next(loader))
            # The numbers of the step before are fetched now: by then they exist, or soon will, and
            # the device has its next step already.
            if pending is not None:
                window.add(step, pending)
            pending, step = metrics, step + 1
            bar.update()
            if due(loop.log_every) or due(loop.checkpoint_every) or step == last:
                window.add(step, pending)
                pending = None
            if due(loop.log_every):
                shown = window.flush()
                bar.set_postfix(loss=f"{shown['loss']:.4g}")
                log.write(step, shown)
            if validate is not None and due(loop.validate_every):
                log.write(step, validate(state))
                window.restart_clock()
            if sample is not None and due(loop.sample_every):
                for name, pixels in sample(state).items():
                    log.image(step, name, pixels)
                window.restart_clock()
            if due(loop.checkpoint_every):
                checkpoints.save(step, state, saved_config, loader.position())
                window.restart_clock()
        if pending is not None:
            window.add(step, pending)
        if step > first and checkpoints.latest_step() != step:
            checkpoints.save(step, state, saved_config, loader.position())
    if stopped.is_set():
        _LOG.warning("stopped by a signal at step %d, which is saved; run again to go on", step)
    return state


def _resume(
    state: TrainState, loader: Loader, checkpoints: CheckpointManager, config: dict[str, Any]
) -> TrainState:
    if checkpoints.latest_step() is None:
        return state
    restored = checkpoints.restore(state)
    changed = config_lib.differences(restored.config, config)
    if changed:
        raise ValueError(
            f"workdir: {checkpoints.folder.parent} holds a run of another configuration; use "
            f"another folder or the saved settings: {'; '.join(changed)}"
        )
    loader.seek(restored.data_position)
    _LOG.warning("resumed from step %d of %s", restored.step, checkpoints.folder)
    return restored.state


class _Window:
    """Means of the metrics since the last line of the log, and the rate of steps."""

    def __init__(self, step: int):
        self._values: list[dict[str, float]] = []
        self._clock, self._clock_steps = time.perf_counter(), 0

    def add(self, step: int, metrics: dict[str, jax.Array]) -> None:
        """Waits for the metrics of `step`; raises NonFiniteLossError if they are no numbers."""
        values = {k: float(v) for k, v in jax.device_get(metrics).items()}
        for name in ("loss", "grad_norm"):
            if not math.isfinite(values[name]):
                raise NonFiniteLossError(
                    f"step {step}: {name} is {values[name]}; the step was not saved. Lower "
                    "optim.learning_rate, or look for bad records"
                )
        self._values.append(values)
        self._clock_steps += 1

    def flush(self) -> dict[str, float]:
        seconds = time.perf_counter() - self._clock
        shown = {k: float(np.mean([v[k] for v in self._values])) for k in self._values[0]}
        shown["learning_rate"] = self._values[-1]["learning_rate"]
        shown["steps_per_second"] = self._clock_steps / seconds
        self._values = []
        self.restart_clock()
        return shown

    def restart_clock(self) -> None:
        """Leaves out of the rate what is not a step."""
        self._clock, self._clock_steps = time.perf_counter(), 0


@contextlib.contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """An event that SIGTERM or SIGINT sets; a second one has its usual effect."""
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped  # only the main thread may set handlers
        return
    usual = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)}

    def handle(number: int, frame: Any) -> None:
        stopped.set()
        signal.signal(number, usual[signal.Signals(number)])

    for number in usual:
        signal.signal(number, handle)
    try:
        yield stopped
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)
