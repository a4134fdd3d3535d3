"""Training step and sampler are programs for CPU, CUDA and TPU, of every configuration here.

Nothing is compiled, and there are no weights: shapes are enough to lower.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dg2_jax.config import from_mapping
from dg2_jax.configs import demo, demo_dit, dg2_base, dg2_toy
from dg2_jax.diffusion import denoiser, guidance, sampling, schedules, solvers
from dg2_jax.diffusion.guidance import Branches
from dg2_jax.generation import packed
from dg2_jax.generation.inputs import Inputs, Source, conditions_of, guidance_of
from dg2_jax.generation.packed import Mixture
from dg2_jax.generation.program import Program, Weights
from dg2_jax.generation.tasks import Plain
from dg2_jax.generation.text import Text, TextInputs
from dg2_jax.pictures.preview import LatentToRGB
from dg2_jax.settings import MAX_ROWS, Settings
from dg2_jax.training import step
from dg2_jax.training.runs import DenoiserRunConfig
from dg2_jax.training.shapes import abstract_run

PLATFORMS = ("cpu", "cuda", "tpu")
RUNS = {  # configuration, side of its latents, parameters in millions
    "demo": (demo, 16, 11.6),
    "dit": (demo_dit, 16, 15.5),
    "toy": (dg2_toy, 32, 34.5),
    "base": (dg2_base, 32, 354),
}


@functools.cache
def open_run(name):
    module, side, millions = RUNS[name]
    config = from_mapping(DenoiserRunConfig, module.get_config().to_dict())
    return config, abstract_run(config, side, batch_size=2), millions


@pytest.mark.parametrize("name", RUNS)
def test_networks_have_the_size_they_should(name):
    _, run, millions = open_run(name)
    count = sum(leaf.size for leaf in jax.tree.leaves(run.state.params))
    assert count == pytest.approx(millions * 1e6, rel=0.01)


# toy is base's network with other sizes.
@pytest.mark.parametrize("name", ["demo", "dit", "base"])
def test_training_step_lowers(name):
    config, run, _ = open_run(name)
    train = step.make_train_step(run.loss, dataclasses.replace(config, batch_size=2))
    exported = jax.export.export(train, platforms=PLATFORMS)(run.state, run.batch)
    assert exported.platforms == PLATFORMS
    after = jax.tree.unflatten(exported.out_tree, exported.out_avals)[0]
    assert jax.tree.map(lambda a: (a.shape, a.dtype), after) == jax.tree.map(
        lambda a: (a.shape, a.dtype), run.state
    )


@pytest.mark.parametrize("name", RUNS)
def test_sampler_lowers(name):
    config, run, _ = open_run(name)
    schedule = schedules.make(config.diffusion.schedule, config.diffusion.num_train_timesteps)
    table = solvers.make_table("dpmpp_2m", schedule, schedules.timesteps(20, 1000, "linspace"))

    @jax.jit
    def sample(params, context, mask, noise):
        model = run.network.bind(params)
        kv = model.project_context(context.astype(jnp.float32), mask)
        denoise = guidance.classifier_free(
            denoiser.of_network(model, config.diffusion.prediction_type), jnp.full(2, 3.0)
        )
        keys = sampling.image_keys(jnp.arange(2))
        return sampling.sample(denoise, guidance.pair(kv, kv), noise, table, keys)

    noise = jax.ShapeDtypeStruct(run.batch["mean"].shape, jnp.float32)
    exported = jax.export.export(sample, platforms=PLATFORMS)(
        run.state.params, run.batch["context"], run.batch["mask"], noise
    )
    assert exported.platforms == PLATFORMS
    assert [(a.shape, a.dtype) for a in exported.out_avals] == [(noise.shape, noise.dtype)]


@pytest.mark.parametrize("name", ["demo", "dit", "base"])
def test_slots_lower(name):
    """Four branches of pictures that share a batch, a guided one among them."""
    config, run, _ = open_run(name)
    batch, channels = run.batch, config.denoiser.in_channels
    shape = run.batch["mean"].shape[1:]
    program = Program(run.network, config.diffusion.prediction_type, Plain())
    schedule = schedules.make(config.diffusion.schedule, config.diffusion.num_train_timesteps)
    table = solvers.make_table("heun", schedule, schedules.timesteps(4, 1000, "linspace"))
    settings = Settings(height=8 * shape[0], width=8 * shape[1])
    context = jnp.zeros((1, *batch["context"].shape[1:]))
    text = Text(context, jnp.ones(context.shape[:2], bool), None, jnp.zeros(1, bool))
    inputs = Inputs(
        text=TextInputs(text, text),
        guidance=guidance_of(settings, np.ones((1, 1), np.float32)),
        table=table.padded(MAX_ROWS),
        keys=sampling.image_keys(jnp.zeros(1, jnp.uint32)),
        reuse_every=jnp.int32(1),
        source=Source.noise(shape),
        views=None,
        corrected=jnp.asarray(False),
        to_rgb=LatentToRGB(np.zeros((channels, 3), np.float32), np.zeros(3, np.float32)),
        conditions=conditions_of(settings, (settings.height, settings.width)),
    )
    weights = Weights(run.state.params)
    slot, texts = jax.eval_shape(functools.partial(packed.enter, program), weights, inputs)
    numbers = np.array([0, 0, 1, 2], np.int32)
    branches = Branches(numbers, numbers[:, None], numbers)
    mixture = Mixture(branches, np.ones((4, 1), np.float32))
    advance = jax.jit(functools.partial(packed.advanced, program))
    arguments = weights, (slot,) * 4, (*texts, *texts), mixture, np.int32(1)
    exported = jax.export.export(advance, platforms=PLATFORMS)(*arguments)
    assert exported.platforms == PLATFORMS
    progress, shown = jax.tree.unflatten(exported.out_tree, exported.out_avals)
    assert [p.state.x.shape for p in progress] == [(1, *shape)] * 4
    assert shown.shape == (4, *shape[:2], 3)
