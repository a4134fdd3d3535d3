"""Distillation: the target is where the teacher's own steps lead, and a student learns it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dg2_jax import config as config_lib
from dg2_jax.diffusion import prediction, schedules
from dg2_jax.models import folder as model
from dg2_jax.nn.modules import split
from dg2_jax.nn.unet import UNetConfig
from dg2_jax.training import distillation, export, optimizer, starting, state, step
from dg2_jax.training.config import OptimConfig, RunConfig
from dg2_jax.training.process import DiffusionConfig
from dg2_jax.training.runs import DistillationRunConfig
from tests import tiny_model
from tests.networks import random_network
from tests.training.test_step import DIFFUSION, SCALING, TINY, UNet, make_batch

SCHEDULE = schedules.make("curved", 1000, True)
GUIDANCE = 3.0


@pytest.fixture(scope="module")
def teacher():
    """A random network's structure and parameters."""
    return split(random_network(lambda rngs: UNet(TINY, rngs=rngs)))


def make_teacher(teacher, parts, own_share=0.75):
    return distillation.make_teacher(*teacher, DIFFUSION, GUIDANCE, parts, SCALING, own_share)


def test_levels_of_the_student_are_levels_of_the_teacher():
    parts = distillation.segments(SCHEDULE, 4, 5)
    assert len(parts.table.timestep) == 20
    np.testing.assert_array_equal(parts.timestep, [999, 749, 499, 249])
    np.testing.assert_array_equal(parts.table.timestep[::5], parts.timestep)
    np.testing.assert_allclose(parts.alpha**2 + parts.sigma**2, 1.0, atol=1e-6)
    assert parts.sigma[-1] == 0
    with pytest.raises(ValueError, match="student_steps and substeps must be at least 1"):
        distillation.segments(SCHEDULE, 0, 5)


@pytest.mark.parametrize("segment", [0, 1, 2])
def test_one_step_to_the_target_ends_where_the_teacher_does(teacher, segment):
    """The teacher's guided DDIM steps written out, from equation 12 of arXiv 2010.02502."""
    parts = distillation.segments(SCHEDULE, 3, 2)
    batch = make_batch(0, 4)
    result = make_teacher(teacher, parts)(teacher[1], batch, jax.random.key(1))
    result = {name: rows[4 * segment : 4 * segment + 4] for name, rows in result.items()}
    network, params = teacher
    model = network.bind(params)
    null = model.null_context(4, 3)
    texts = (jnp.asarray(batch["context"], jnp.float32), jnp.asarray(batch["mask"])), null

    @jax.jit
    def guided(x, t, alpha, sigma):
        c, u = (
            prediction.to_x0(
                "v_prediction", x, model(x, t, model.project_context(*text)), alpha, sigma
            )
            for text in texts
        )
        return u + GUIDANCE * (c - u)

    visited = schedules.timesteps(6, 1000, "trailing")[2 * segment : 2 * segment + 2]
    following = [*schedules.timesteps(6, 1000, "trailing"), None][2 * segment + 1 :][:2]
    x = result["x"]
    for t, t_next in zip(visited, following, strict=True):
        a, s = float(SCHEDULE.alpha[t]), float(SCHEDULE.sigma[t])
        a1, s1 = (1.0, 0.0) if t_next is None else (SCHEDULE.alpha[t_next], SCHEDULE.sigma[t_next])
        x0 = guided(x, jnp.full(4, t), jnp.float32(a), jnp.float32(s))
        x = float(a1) * x0 + float(s1) * (x - a * x0) / s
    a, s, a1, s1 = (
        float(level[segment + i]) for i in (0, 1) for level in (parts.alpha, parts.sigma)
    )
    one_step = a1 * result["target"] + s1 * (result["x"] - a * result["target"]) / s
    np.testing.assert_allclose(one_step, x, atol=2e-3)
    assert result["timestep"].tolist() == [visited[0]] * 4


@pytest.mark.parametrize("own_share", [0.0, 1.0])
def test_the_student_is_asked_where_its_own_steps_lead(teacher, own_share):
    """With a share of 1 each level's latents are one step of the student from the level before."""
    network, params = teacher
    parts = distillation.segments(SCHEDULE, 3, 2)
    student = jax.tree.map(lambda leaf: 1.01 * leaf, params)
    batch = make_batch(0, 4)
    result = make_teacher(teacher, parts, own_share)(student, batch, jax.random.key(1))
    model = network.bind(student)
    output = nnx.jit(lambda x, t, *text: model(x, t, model.project_context(*text)))(
        result["x"], result["timestep"], result["context"], result["mask"]
    )
    levels = [
        np.asarray(level, np.float32)[:, None, None, None, None]
        for level in (parts.alpha, parts.sigma)
    ]
    x, output = (a.reshape(3, 4, *a.shape[1:]) for a in (result["x"], output))
    (a, a1), (s, s1) = ((level[:-1], level[1:]) for level in levels)
    x0 = a * x - s * output  # of v-prediction, Salimans and Ho
    led = (a1 * x0 + s1 * (x - a * x0) / s)[:2]
    distance = float(jnp.abs(led - x[1:]).max())
    assert distance < 1e-4 if own_share == 1 else distance > 0.1
    noise = np.asarray(x[0] if parts.alpha[0] == 0 else x[0] / parts.sigma[0])
    assert 0.8 < noise.std() < 1.2


def test_a_student_learns_its_teacher_at_every_level(teacher):
    network, params = teacher
    parts = distillation.segments(SCHEDULE, 2, 2)
    config = RunConfig(
        num_steps=60, batch_size=16, optim=OptimConfig(learning_rate=3e-3, warmup_steps=10)
    )
    loss = distillation.student_loss(network, DIFFUSION)
    teach = make_teacher(teacher, parts)
    step_fn = distillation.taught(step.make_train_step(loss, config), teach, seed=0)
    measure = jax.jit(lambda params, batch: loss(params, batch, jax.random.key(0))[0])

    def losses(student):
        """One a level, at what the student of that time meets."""
        result = teach(student, make_batch(1000), jax.random.key(1))
        levels = ({name: np.split(rows, 2)[i] for name, rows in result.items()} for i in (0, 1))
        return np.array([float(measure(student, level)) for level in levels])

    current = state.create(jax.tree.map(jnp.copy, params), optimizer.make(config.optim, 60))
    before = losses(current.params)
    for i in range(config.num_steps):
        current, _ = step_fn(current, make_batch(i, 16))
    assert (losses(current.params) < 0.65 * before).all()


def test_the_model_folder_is_the_teachers_with_the_student_in_it(folder, tmp_path):
    teacher = model.load(folder)
    student = jax.tree.map(lambda leaf: leaf + 1, teacher.params["ema"])
    config = DistillationRunConfig(init_from=str(folder))
    export.export_distilled(tmp_path / "model", config, state.TrainState(0, None, student, None))
    result = model.load(tmp_path / "model")
    assert list(result.params) == ["ema", "raw", "fast"]
    assert result.config["sampling"] == {"fast": tiny_model.FAST}
    for name in ("ema", "raw"):
        jax.tree.map(np.testing.assert_array_equal, result.params[name], teacher.params[name])
    jax.tree.map(  # stored as bfloat16
        lambda found, given: np.testing.assert_allclose(found, given, rtol=4e-3),
        result.params["fast"],
        student,
    )


@pytest.mark.parametrize(
    ("field", "value"), [("student", "raw"), ("own_share", 1.5), ("student_steps", 0)]
)
def test_bad_settings_are_named(field, value):
    with pytest.raises(ValueError, match=field):
        DistillationRunConfig(init_from="demo", **{field: value})


def test_a_run_starts_from_the_weights_that_are_asked_for(folder):
    start = model.load(folder)
    config = DistillationRunConfig(
        init_from=str(folder),
        denoiser=config_lib.from_mapping(UNetConfig, start.config["denoiser"]),
        diffusion=DiffusionConfig(prediction_type=start.prediction_type),
    )
    for weights in ("ema", "raw"):
        actual = starting.weights(config, weights)
        jax.tree.map(np.testing.assert_array_equal, actual, start.params[weights])
