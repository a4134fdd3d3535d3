"""What the training scripts share: their flags, and errors of one line."""

import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import jax
from absl import app, flags, logging
from ml_collections import config_flags

from dg2_jax import compile_cache, sharding
from dg2_jax import config as config_lib
from dg2_jax.training import signals
from dg2_jax.training.loop import NonFiniteLossError

_DISTRIBUTED = flags.DEFINE_bool(
    "distributed", False, "Train with the other processes of a Slurm, Kubernetes or TPU job."
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator_address", None, "host:port of the first process, where no job tells it."
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
        config_class: the dataclass that the configuration becomes.
        config: the default of its flag, as are `workdir` and `data_dir`.
        workdir: gets what the run writes.
        data_dir: holds what it trains on.
        data_help: what the help says of data_dir.
    """
    config_flag = config_flags.DEFINE_config_file("config", config, "What to train.")
    workdir_flag = flags.DEFINE_string("workdir", workdir, "Gets checkpoints, logs and results.")
    data_flag = flags.DEFINE_string("data_dir", data_dir, data_help)

    def main(argv: list[str]) -> None:
        if len(argv) > 1:
            raise app.UsageError(f"unexpected arguments: {argv[1:]}")
        logging.set_verbosity(logging.WARNING)  # the libraries' own notes would break the bar
        compile_cache.enable()
        try:
            settings: Any = config_lib.from_mapping(config_class, config_flag.value)
            if _DISTRIBUTED.value or _COORDINATOR.value:
                sharding.join_processes(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
            workdir = Path(workdir_flag.value)
            # Before anything slow is loaded; the loop itself holds it too.
            held = signals.exclusive(workdir) if jax.process_index() == 0 else nullcontext()
            with held:
                run(settings, workdir, Path(data_flag.value))
        except (ValueError, OSError, NonFiniteLossError) as error:
            logging.error("%s", error)
            sys.exit(1)

    app.run(main, flags_parser=config_lib.parse_flags)
