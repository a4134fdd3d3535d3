"""Trains the attribute probe on renders: python -m scripts.train_probe --config configs/probe.py.

Writes to --workdir: checkpoints/, metrics.jsonl and, at the end, probe.json and probe.safetensors.
Run again after an interruption, it continues.
"""

from pathlib import Path

import jax
import numpy as np

from dg2_jax.data import loader
from dg2_jax.data.scenes import builder
from dg2_jax.evaluation import probe
from dg2_jax.evaluation.cases import ATTRIBUTES
from dg2_jax.evaluation.probe_loss import probe_loss
from dg2_jax.models.model import Params
from dg2_jax.nn.precision import with_compute_dtype
from dg2_jax.pictures.images import from_uint8
from dg2_jax.scripts.launch import launch
from dg2_jax.training import loop, runs, starting, state, step


def run(config: runs.ProbeRunConfig, workdir: Path, data_dir: Path) -> bool:
    """Trains and exports; returns whether the run came to its end."""
    network, params = state.network(
        lambda rngs: with_compute_dtype(
            probe.AttributeProbe(config.probe, rngs=rngs), config.compute_dtype
        ),
        config.seed,
    )

    def loss_fn(params: Params, batch: loader.Batch, key: jax.Array):
        module = network.bind(params)
        return probe_loss(module, from_uint8(batch["image"]), batch, key)

    source = builder.load("train", data_dir, config.dataset)
    config = config.in_steps(len(source))
    held_out = builder.load("validation", data_dir, config.dataset)
    records = [held_out[i] for i in range(len(held_out))]
    images = np.stack([record["image"] for record in records])
    expected = {name: np.array([r[name] for r in records]) for name in ATTRIBUTES}

    def validate(current: state.TrainState) -> dict[str, float]:
        shares = probe.Probe(network, current.ema)(images).accuracy(expected)
        return {f"val_{name}": share for name, share in shares.items()}

    result = loop.train(
        starting.initial_state(config, params),
        step.make_train_step(loss_fn, config),
        starting.make_loader(config, source, loader.only("image", *ATTRIBUTES)),
        config,
        workdir,
        validate=validate,
    )
    finished = int(result.step) == config.num_steps
    if finished:
        probe.save(workdir, config.probe, result.ema)
    return finished


if __name__ == "__main__":
    launch(
        run,
        runs.ProbeRunConfig,
        config="probe",
        workdir="runs/probe",
        data_dir="data",
        data_help="Where scripts.make_scenes built the pictures.",
    )
