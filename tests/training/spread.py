"""Tiny networks trained on several virtual devices, and by two processes on loopback."""

import contextlib
import dataclasses
import hashlib
import json
import socket
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from dg2_jax import files
from dg2_jax.models.architectures import ARCHITECTURES
from dg2_jax.nn.abstract import abstract
from dg2_jax.nn.dit import DiT, DiTConfig
from dg2_jax.nn.modules import split
from dg2_jax.nn.scaling import Scaling
from dg2_jax.nn.unet import UNet, UNetConfig
from dg2_jax.training import sharding, starting, step
from dg2_jax.training.checkpoint import CheckpointManager
from dg2_jax.training.config import DevicesConfig, EmaConfig, OptimConfig, RunConfig
from dg2_jax.training.process import DiffusionConfig
from tests.networks import random_params
from tests.training import helpers, processes

NETWORKS = {
    "unet": (
        UNet,
        UNetConfig(2, (16,), attention_levels=(True,), head_dim=8, context_dim=8, embed_dim=16,
                   norm_groups=4),
    ),
    "dit": (DiT, DiTConfig(2, width=32, depth=1, head_dim=16, context_dim=8, embed_dim=16)),
}  # fmt: skip
RULES = {name: ARCHITECTURES[name].tensor_rules for name in NETWORKS}
RUN = RunConfig(
    num_steps=20,
    batch_size=8,
    optim=OptimConfig(learning_rate=1e-3, warmup_steps=2, weight_decay=0.0, eps=1e-4),
    ema=EmaConfig(profile="power", posthoc=(0.05,)),
)
DIFFUSION = DiffusionConfig(zero_terminal_snr=True)


def make_batch(seed, rows=slice(0, 8)):
    """A batch of 8, or some of its rows."""
    rng = np.random.default_rng(seed)
    whole = {
        "mean": rng.normal(size=(8, 4, 4, 2)).astype(np.float16),
        "logvar": np.full((8, 4, 4, 2), -6.0, np.float16),
        "context": rng.normal(size=(8, 3, 8)).astype(np.float16),
        "mask": np.broadcast_to(np.array([True, True, False]), (8, 3)),
    }
    return {name: array[rows] for name, array in whole.items()}


def make(network):
    """Loss, validation and random weights; the same in every process."""
    kind, config = NETWORKS[network]
    build = lambda rngs: kind(config, rngs=rngs)  # noqa: E731
    structure = split(abstract(build))[0]
    loss_fn = step.diffusion_loss(structure, DIFFUSION, Scaling())
    return loss_fn, step.make_validation(structure, DIFFUSION, Scaling()), random_params(build)


def train(network, config, layout, rows=slice(0, 8)):
    """The losses of the run, and the last state."""
    loss_fn, _, params = make(network)
    state = layout.place_state(starting.initial_state(config, params))
    step_fn = step.make_train_step(loss_fn, config, layout)
    losses = []
    for i in range(config.num_steps):
        state, metrics = step_fn(state, layout.place_batch(make_batch(i % 2, rows)))
        losses.append(float(metrics["loss"]))
    return losses, state


def curves(path):
    """Trains on parts of 8 virtual devices, and hands one state from layout to layout."""
    jax.config.update("jax_num_cpu_devices", 8)
    sharding.MIN_DIVIDED = 64
    actual = {"unet": {}, "dit": {}}
    for network, axes in (
        ("unet", (1, 1, 1)),
        ("unet", (1, 2, 1)),
        ("unet", (2, 4, 1)),
        ("dit", (1, 1, 1)),
        ("dit", (2, 2, 2)),
    ):
        data, fsdp, tensor = axes
        config = dataclasses.replace(RUN, devices=DevicesConfig(data, fsdp, tensor))
        used = jax.devices()[: data * fsdp * tensor]
        layout = sharding.make_layout(config.devices, config.batch_size, RULES[network], used)
        actual[network][" x ".join(map(str, axes))], state = train(network, config, layout)
        if network == "dit" and axes == (1, 1, 1):
            actual["alone"] = actual["dit"]["1 x 1 x 1"]
            validate = make("dit")[1]
            actual["alone val_loss"] = validate(state.ema, [make_batch(7)])["val_loss"]
    Path(path).write_text(json.dumps(actual | reshard(Path(path).parent, state)))


def reshard(folder, state):
    """Saves and restores a state on 1, 2, 8 and 1 devices; returns the digests."""
    state = jax.tree.map(np.asarray, state)
    actual = {"restored on": [], "digests": [], "largest part": []}
    for i, (fsdp, tensor) in enumerate(((1, 1), (2, 1), (4, 2), (1, 1))):
        devices = jax.devices()[: fsdp * tensor]
        layout = sharding.make_layout(DevicesConfig(1, fsdp, tensor), 8, RULES["dit"], devices)
        manager = CheckpointManager(folder / "checkpoints")
        if i == 0:
            state = layout.place_state(jax.tree.map(jnp.asarray, state))
        else:
            zeros = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), state)
            state = manager.restore(layout.place_state(zeros)).state
        digest, part = hashlib.sha256(), 0
        for leaf in jax.tree.leaves(state):
            digest.update(np.asarray(leaf).tobytes())
            part = max(part, leaf.addressable_shards[0].data.size)
        actual["restored on"].append(len(state.params["patch"]["kernel"].sharding.device_set))
        actual["digests"].append(digest.hexdigest())
        actual["largest part"].append(part)
        manager.save(20, state, {}, {})
        manager.wait()
    return actual


def free_address():
    """The loopback host and a free port of it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()


def start_two(scenario, folder, *args):
    """Two processes that train together, of `scenario(index, address, folder, *args)`."""
    address = "{}:{}".format(*free_address())
    return [processes.start(scenario, i, address, folder, *args) for i in range(2)]


@contextlib.contextmanager
def joined(index, address):
    """Within it, this process is one of two; at the end it leaves as a script does."""
    jax.config.update("jax_num_cpu_devices", 1)
    sharding.join_processes(address, 2, index, patience=10)
    try:
        yield
    finally:
        jax.distributed.shutdown()


def curve_of_two(index, address, folder):
    """The DiT, its weights divided between two processes that have half of the batch each."""
    sharding.MIN_DIVIDED = 64
    with joined(index, address):
        config = dataclasses.replace(RUN, devices=DevicesConfig(1, fsdp=2))
        layout = sharding.make_layout(config.devices, config.batch_size, RULES["dit"])
        losses, state = train("dit", config, layout, slice(4 * index, 4 * index + 4))
        actual = make("dit")[1](state.ema, [make_batch(7)])
        (folder / f"{index}.json").write_text(json.dumps({"losses": losses, **actual}))


def killed_of_two(index, address, folder, victim, point):
    """`processes.killed`, by two processes, of which `victim` is killed."""
    if victim == index and point == "before the commit":
        processes.patch_third(files, "sync_all")
    if victim == index and point == "while arrays are written":
        processes.patch_third(ocp.AsyncCheckpointer, "wait_until_finished", skip=5)

    def before(count):
        if victim == index and point == "in a step" and count == 6:
            processes.die()

    with joined(index, address):
        config = helpers.make_config(checkpoint_every=1)
        loader = helpers.make_loader(config, process_index=index, process_count=2)
        batches = processes.Batches(before, loader)
        state = helpers.run(folder, config, loader=batches)
        if index == 0:
            processes.write_result(folder, state, batches)
