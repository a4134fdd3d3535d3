"""The training loop, one for all models: steps, log, validation, samples, checkpoints, signals."""

import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from tqdm import tqdm

from dg2_jax import config as config_lib
from dg2_jax.data.loader import Loader
from dg2_jax.training import averages, goodput, sharding, signals
from dg2_jax.training.checkpoint import CheckpointManager
from dg2_jax.training.config import LoopConfig, RunConfig
from dg2_jax.training.run_log import MetricsLog
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
    run after the current step, with a checkpoint; where a compilation holds that up, the last step
    that was completed is saved and the process ends with 0.

    Args:
        state: the initial state; donated.
        step_fn: from `make_train_step`.
        loader: the batches.
        config: the run; a checkpoint of another one is refused.
        workdir: gets metrics.jsonl, samples/ and checkpoints/; no other trainer may use it.
        validate: numbers to log, every `loop.validate_every` steps and at the end.
        sample: named pictures, uint8 (h, w, 3), every `loop.sample_every` steps and at the end;
            of the averaged weights.
        stop_after: stop early at this step, as a signal would.
        progress: show a bar with rate and time left.

    Returns:
        The last state; its `step` is below `num_steps` if the run was stopped.

    Raises:
        ValueError: `workdir` holds a run of another configuration; the differences are listed.
        FolderInUseError: another trainer uses `workdir`.
        NonFiniteLossError: naming the step; no checkpoint is written of it.
        OSError: a checkpoint could not be written; at the latest when the next one is due.
    """
    workdir = Path(workdir)
    loop, saved_config = config.loop, config_lib.to_dict(config)
    layout = sharding.make_layout(config.devices, config.batch_size, config.tensor_rules)
    primary, alone = jax.process_index() == 0, jax.process_count() == 1
    with contextlib.ExitStack() as stack:
        if primary:
            stack.enter_context(signals.exclusive(workdir))
        checkpoints = CheckpointManager(
            loop.checkpoint_folder or workdir / "checkpoints",
            keep=loop.keep,
            keep_every=loop.keep_every,
        )
        stack.callback(checkpoints.wait)  # whatever ends the run, a save that was begun is finished
        state = _resume(layout.place_state(state), loader, checkpoints, config)
        first = step = int(state.step)
        last = config.num_steps if stop_after is None else min(stop_after, config.num_steps)
        log = MetricsLog(
            workdir,
            after_step=first,
            wandb_mode=loop.wandb,
            project=loop.wandb_project,
            tensorboard=loop.tensorboard,
            config=saved_config,
            enabled=primary,
        )
        stack.enter_context(contextlib.closing(log))
        bar = stack.enter_context(
            tqdm(
                total=config.num_steps,
                initial=first,
                disable=not (progress and primary),
                unit=" steps",
                smoothing=0.05,
            )
        )
        clock, window = goodput.Goodput(), _Window(config)
        pending: tuple[int, dict[str, jax.Array]] | None = None
        position, saved, saving = loader.position(), first, threading.Lock()

        def due(at: int, every: int) -> bool:
            return every > 0 and (at % every == 0 or at == config.num_steps)

        def settle() -> None:
            """Fetches the numbers of the last step that was begun, and logs what is due."""
            nonlocal pending
            if pending is None:
                return
            (at, metrics), pending = pending, None
            window.add(at, metrics)
            if due(at, loop.log_every):
                shown = window.flush()
                bar.set_postfix(loss=f"{shown['loss']:.4g}")
                log.write(at, shown | clock.shares())

        def save() -> None:
            nonlocal saved
            with saving:
                if step > saved:
                    checkpoints.save(step, state, saved_config, position)
                    saved = step

        def rescue() -> None:
            settle()
            save()
            checkpoints.wait()

        # Of several processes, all must stop at one step: JAX tells them which.
        stopped = stack.enter_context(signals.stop_event(rescue, watch=alone))
        while step < last and not stopped.is_set():
            with clock.measure("input"):
                batch = layout.place_batch(next(loader))
            with clock.measure("compile") if step == first else contextlib.nullcontext():
                if step == first:
                    window.measure_flops(loop, step_fn, state, batch)
                new_state, metrics = step_fn(state, batch)
            # The numbers of the step before are fetched now: by then they exist, or soon will, and
            # the device has its next step already.
            settle()
            state, step, position = new_state, step + 1, loader.position()
            pending = step, metrics
            bar.update()
            if validate is not None and due(step, loop.validate_every):
                settle()
                with clock.measure("validate"):
                    log.write(step, validate(state))
                window.restart_clock()
            if sample is not None and due(step, loop.sample_every):
                settle()
                with clock.measure("sample"):
                    # Of several processes each draws the same pictures, from the whole weights.
                    whole = state if alone else state._replace(ema=sharding.to_host(state.ema))
                    for name, pixels in sample(whole).items():
                        log.image(step, name, pixels)
                window.restart_clock()
            if config.ema.posthoc and due(step, config.ema.snapshot_every):
                settle()
                with clock.measure("save"):
                    kept = sharding.to_host(state.averages)
                    if primary:
                        averages.write(workdir / "averages", step, config.ema.posthoc, kept)
            if due(step, loop.checkpoint_every):
                settle()
                with clock.measure("save"):
                    save()
            if not alone and multihost_utils.reached_preemption_sync_point(step):
                stopped.set()
        settle()
        save()
        checkpoints.wait()
    if stopped.is_set():
        _LOG.warning("stopped by a signal at step %d, which is saved; run again to go on", step)
    return state


def _resume(
    state: TrainState, loader: Loader, checkpoints: CheckpointManager, config: RunConfig
) -> TrainState:
    if checkpoints.latest_step() is None:
        return state
    restored = checkpoints.restore(state)
    saved = config.from_saved(restored.config)
    changed = config_lib.differences(
        _as_long(saved, config, restored.step), config_lib.to_dict(config)
    )
    if changed:
        raise ValueError(
            f"workdir: {checkpoints.folder.parent} holds a run of another configuration; use "
            f"another folder or the saved settings: {'; '.join(changed)}"
        )
    loader.seek(restored.data_position)
    _LOG.warning("resumed from step %d of %s", restored.step, checkpoints.folder)
    return restored.state


def _as_long(saved: RunConfig, config: RunConfig, step: int) -> dict[str, Any]:
    """The saved configuration; its length is the new one's where no step made depends on it."""
    values = config_lib.to_dict(saved)
    decay = config.optim.decay_steps
    if decay and step <= min(saved.num_steps, config.num_steps) - decay:
        values["num_steps"] = config.num_steps
    return values


class _Window:
    """Means of the metrics since the last line of the log, and the rate of steps."""

    def __init__(self, config: RunConfig):
        self._values: list[dict[str, float]] = []
        self._batch_size = config.batch_size
        self._dtype = config.compute_dtype
        self._flops: float | None = None  # of a step over the devices' peak: the seconds of 100%
        self.restart_clock()

    def measure_flops(self, loop: LoopConfig, step_fn: StepFn, *args: Any) -> None:
        """Finds what the rate of steps is to be compared with."""
        if loop.peak_tflops is None:
            return
        flops = goodput.step_flops(step_fn, *args)
        if flops is not None:
            peak = 1e12 * loop.peak_tflops or goodput.measured_peak(self._dtype)
            self._flops = flops / (peak * jax.device_count())

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
        rate = self._clock_steps / seconds
        shown |= {"steps_per_second": rate, "images_per_second": rate * self._batch_size}
        if self._flops is not None:
            shown["mfu"] = rate * self._flops
        self._values = []
        self.restart_clock()
        return shown

    def restart_clock(self) -> None:
        """Leaves out of the rate what is not a step."""
        self._clock, self._clock_steps = time.perf_counter(), 0
