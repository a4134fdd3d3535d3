"""Where time goes and how much of the peak is used, against closed forms."""

import json
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dg2_jax.training import goodput, loop
from tests.training import helpers


def test_shares_are_of_all_the_time():
    clock = iter([0.0, 1.0, 3.0, 4.0, 5.0, 10.0])  # input from 1 to 3, a save from 4 to 5
    actual = goodput.Goodput(lambda: next(clock))
    with actual.measure("input"):
        pass
    with actual.measure("save"):
        pass
    assert actual.shares() == {
        "goodput/compile": 0.0,
        "goodput/step": 0.7,
        "goodput/input": 0.2,
        "goodput/save": 0.1,
        "goodput/validate": 0.0,
        "goodput/sample": 0.0,
    }


def test_operations_of_a_product():
    a, b = jnp.ones((64, 128)), jnp.ones((128, 32))
    assert goodput.step_flops(jax.jit(jnp.matmul), a, b) == 2 * 64 * 128 * 32
    assert goodput.step_flops(lambda a, b: a @ b, a, b) is None  # not compiled


def test_the_peak_is_of_the_fastest_product(monkeypatch):
    clock = iter([0.0, 3.0, 10.0, 10.5, 20.0, 21.0])
    monkeypatch.setattr(goodput, "time", types.SimpleNamespace(perf_counter=lambda: next(clock)))
    assert goodput.measured_peak(size=64, repeats=3) == 2 * 64**3 / 0.5


def test_mfu_is_the_rate_of_operations_over_the_peak(tmp_path):
    """Steps that are one product of matrices and next to nothing else."""
    size, peak_tflops = 256, 1e-3
    matrix = jnp.asarray(np.random.default_rng(0).normal(size=(size, size)), jnp.float32)

    @jax.jit
    def step_fn(state, batch):
        loss = jnp.sum((matrix @ (matrix * batch["y"][0]))[0])
        metrics = {"loss": loss, "grad_norm": loss, "learning_rate": loss}
        return state._replace(step=state.step + 1), metrics

    config = helpers.make_config(log_every=5, peak_tflops=peak_tflops)
    start, loader = helpers.make_state(config), helpers.make_loader(config)
    loop.train(start, step_fn, loader, config, tmp_path, progress=False)
    lines = [json.loads(text) for text in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [5, 10, 15, 20]
    for line in lines:
        rate = line["steps_per_second"] * 2 * size**3
        assert line["mfu"] == pytest.approx(rate / (peak_tflops * 1e12), rel=0.01)
