"""The entry point shared by the training scripts: flags, and joining other processes."""

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import jax
from absl import flags

from dg2_jax import config as config_lib
from dg2_jax.scripts import config_flag
from dg2_jax.scripts.command import command
from dg2_jax.training import sharding, signals
from dg2_jax.training.loop import NonFiniteLossError

_DISTRIBUTED = flags.DEFINE_bool(
    "distributed", False, "Train with the other processes of a Slurm, Kubernetes or TPU job."
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator_address", None, "host:port of the first process, if the job does not tell."
)
_PROCESSES = flags.DEFINE_integer("num_processes", None, "With --coordinator_address: how many.")
_PROCESS = flags.DEFINE_integer("process_id", None, "With --coordinator_address: which, from 0.")


def launch(
    run: Callable[[Any, Path, Path], bool],
    config_class: type,
    *,
    config: str,
    workdir: str,
    data_dir: str,
    data_help: str,
) -> None:
    """Parses --config, --workdir and --data_dir and calls `run` with them; exits 1 on an error.

    Several processes train together if --distributed is given, or --coordinator_address.

    Args:
        run: (configuration, workdir, data_dir) to whether the run came to its end.
        config_class: the dataclass that the configuration is converted to.
        config: the default configuration file.
        workdir: the default output folder.
        data_dir: the default data folder.
        data_help: the help text of --data_dir.
    """
    config_flag_holder = config_flag.define(config_class, config)
    workdir_flag = flags.DEFINE_string("workdir", workdir, "Gets checkpoints, logs and results.")
    data_flag = flags.DEFINE_string("data_dir", data_dir, data_help)

    def main() -> None:
        settings: Any = config_lib.from_mapping(config_class, config_flag_holder.value.to_dict())
        if _DISTRIBUTED.value or _COORDINATOR.value:
            sharding.join_processes(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
        workdir = Path(workdir_flag.value)
        # Before anything slow is loaded; the loop acquires it too.
        with signals.exclusive(workdir) if jax.process_index() == 0 else nullcontext():
            run(settings, workdir, Path(data_flag.value))

    command(main, NonFiniteLossError)
