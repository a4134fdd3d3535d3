"""The training loop, one for all models: steps, log, validation, samples, checkpoints, signals."""

import contextlib
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
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
from dg2_jax.training.config import RunConfig
from dg2_jax.training.run_log import MetricsLog
from dg2_jax.training.state import TrainState
from dg2_jax.training.step import StepFn
from dg2_jax.training.window import NonFiniteLossError, Window

__all__ = ["NonFiniteLossError", "train"]

_LOG = logging.getLogger(__name__)
_SMOOTHED = "smoothed_loss"  # beside the position of the data, in a checkpoint


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
    that was completed is saved and the process ends, with 0 or 130.

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
        Interrupted: SIGINT (Ctrl-C) came; the message says what is kept.
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
        state, smoothed = _resume(layout.place_state(state), loader, checkpoints, config)
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
        clock, window = goodput.Goodput(), Window(config)
        if smoothed is not None:
            window.smoothed.restore(smoothed)
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
                bar.set_postfix(
                    loss=f"{shown['loss']:.4g}", smoothed=f"{shown['loss_smoothed']:.4g}"
                )
                log.write(at, shown | clock.shares())

        def save() -> None:
            nonlocal saved
            with saving:
                if step > saved:
                    data = position | {_SMOOTHED: window.smoothed.to_dict()}
                    checkpoints.save(step, state, saved_config, data)
                    saved = step

        def rescue() -> str:
            settle()
            save()
            checkpoints.wait()
            if saved == 0:
                return "stopped before the first step was completed: nothing is kept"
            return f"stopped at step {saved}, kept in {checkpoints.folder}; run again to go on"

        # Of several processes, all must stop at one step: JAX tells them which.
        stopped = stack.enter_context(signals.stop_event(rescue, watch=alone))
        while step < last and not stopped.is_set():
            with clock.measure("input"):
                batch = layout.place_batch(next(loader))
            if step == first:
                stopped.compiling = True
                with clock.measure("compile"), compiling(bar):
                    window.measure_flops(loop, step_fn, state, batch)
                    new_state, metrics = step_fn(state, batch)
                stopped.compiling = False
                window.restart_clock()
            else:
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
        outcome = rescue()
    if stopped.first == signal.SIGINT:
        raise signals.Interrupted(outcome)
    if stopped.is_set():
        _LOG.warning("%s", outcome)
    return state


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


def _resume(
    state: TrainState, loader: Loader, checkpoints: CheckpointManager, config: RunConfig
) -> tuple[TrainState, dict[str, Any] | None]:
    """The state to go on from, and the smoothed loss if there is one to go on with."""
    if checkpoints.latest_step() is None:
        return state, None
    workdir = checkpoints.folder.parent
    # Compared first: the weights of another configuration do not fit, which would tell less.
    step, values = checkpoints.newest_config()
    _compare(values, config, workdir, step)
    restored = checkpoints.restore(state)
    _compare(restored.config, config, workdir, restored.step)
    position = dict(restored.data_position)
    smoothed = position.pop(_SMOOTHED, None)
    loader.seek(position)
    _LOG.warning("resumed from step %d of %s", restored.step, checkpoints.folder)
    if restored.step >= config.num_steps:
        _LOG.warning("the run has come to its end; %s", _further(config, workdir))
    return restored.state, smoothed


def _compare(values: Mapping[str, Any], config: RunConfig, workdir: Any, step: int) -> None:
    """Raises ValueError where a configuration, saved at `step`, trains otherwise than `config`."""
    saved = config.from_saved(values)
    changed = config_lib.differences(_as_long(saved, config, step), config_lib.to_dict(config))
    if not changed:
        return
    advice = "use another --workdir or the saved settings"
    if [difference.partition(":")[0] for difference in changed] == ["num_steps"]:
        advice = f"its learning rate ends with its steps; {_further(config, workdir)}"
    raise ValueError(
        f"workdir: {workdir} holds a run of another configuration ({'; '.join(changed)}); {advice}"
    )


def _as_long(saved: RunConfig, config: RunConfig, step: int) -> dict[str, Any]:
    """The saved configuration; its length is the new one's where no step made depends on it."""
    values = config_lib.to_dict(saved)
    decay = config.optim.decay_steps
    if decay and step <= min(saved.num_steps, config.num_steps) - decay:
        values["num_steps"] = config.num_steps
    return values


def _further(config: RunConfig, workdir: Any) -> str:
    """How the result of a run is trained further."""
    return (
        "to train its result further, start a run of its own: "
        f"--config.init_from={workdir / config.result} and another --workdir"
    )
