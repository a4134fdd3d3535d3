"""Resuming a run from its newest good checkpoint, if the configuration still agrees."""

import logging
from collections.abc import Mapping
from typing import Any

from dg2_jax import config as config_lib
from dg2_jax.data.loader import Loader
from dg2_jax.training.checkpoint import CheckpointManager
from dg2_jax.training.config import RunConfig
from dg2_jax.training.state import TrainState
from dg2_jax.training.window import Smoothed

_LOG = logging.getLogger(__name__)
_SMOOTHED = "smoothed_loss"  # beside the position of the data, in a checkpoint


def resume(
    state: TrainState,
    loader: Loader,
    smoothed: Smoothed,
    checkpoints: CheckpointManager,
    config: RunConfig,
) -> TrainState:
    """The state of the newest good checkpoint, or `state` if there is none.

    Args:
        state: of a new run.
        loader: moved to the position of the checkpoint.
        smoothed: the smoothed loss, restored too.
        checkpoints: of the run.
        config: of the run.

    Raises:
        ValueError: the checkpoint is of another configuration; the differences are listed.
        WeightsError: no checkpoint is good.
    """
    if checkpoints.latest_step() is None:
        return state
    workdir = checkpoints.folder.parent
    # Compared first: that weights do not fit would say less about another configuration.
    step, values = checkpoints.newest_config()
    _compare(values, config, workdir, step)
    restored = checkpoints.restore(state)
    _compare(restored.config, config, workdir, restored.step)
    position = dict(restored.data_position)
    if _SMOOTHED in position:
        smoothed.restore(position.pop(_SMOOTHED))
    loader.seek(position)
    _LOG.warning("resumed from step %d of %s", restored.step, checkpoints.folder)
    if restored.step >= config.num_steps:
        _LOG.warning("the run has come to its end; %s", _further(config, workdir))
    return restored.state


def resume_data(position: Mapping[str, Any], smoothed: Smoothed) -> dict[str, Any]:
    """What a checkpoint keeps beside the state, for `resume`."""
    return {**position, _SMOOTHED: smoothed.to_dict()}


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
    """The saved configuration, with the new length where no step so far depends on the length."""
    values = config_lib.to_dict(saved)
    decay = config.optim.decay_steps
    if decay and step <= min(saved.num_steps, config.num_steps) - decay:
        values["num_steps"] = config.num_steps
    return values


def _further(config: RunConfig, workdir: Any) -> str:
    """How the result of a run is trained further."""
    return (
        "to train its result further, start another run: "
        f"--config.init_from={workdir / config.result} and another --workdir"
    )
