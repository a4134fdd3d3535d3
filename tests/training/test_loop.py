"""The loop: learning, the log, validation, samples, failures."""

import dataclasses
import io
import json
import struct
import sys
import types

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from dg2_jax.data.loader import Loader
from dg2_jax.training import loop, optimizer
from dg2_jax.training.checkpoint import CheckpointManager
from dg2_jax.training.config import OptimConfig
from tests.training import helpers


def lines(workdir):
    return [json.loads(text) for text in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_linear_regression_finds_its_weights(tmp_path):
    base = helpers.make_config(checkpoint_every=1000)
    config = type(base)(**{**vars(base), "num_steps": 200})
    state = helpers.run(tmp_path, config)
    np.testing.assert_allclose(state.params["w"], helpers.TRUE_WEIGHTS, atol=1e-3)
    np.testing.assert_allclose(state.ema["w"], helpers.TRUE_WEIGHTS, atol=1e-2)
    actual = lines(tmp_path)
    assert actual[-1]["loss"] < 1e-5 < 1.0 < actual[0]["loss"]
    assert CheckpointManager(tmp_path / "checkpoints").steps() == [200]


def test_log_averages_its_window(tmp_path):
    helpers.run(tmp_path / "each", helpers.make_config(log_every=1))
    helpers.run(tmp_path / "four", helpers.make_config(log_every=4))
    each = [line["loss"] for line in lines(tmp_path / "each")]
    four = lines(tmp_path / "four")
    assert [line["step"] for line in four] == [4, 8, 12, 16, 20]
    for i, line in enumerate(four):
        assert line["loss"] == pytest.approx(np.mean(each[4 * i : 4 * i + 4]), rel=1e-6)
        assert line["steps_per_second"] > 0


def test_validation_and_samples_come_when_due(tmp_path):
    seen = []

    def validate(state):
        seen.append(int(state.step))
        return {"val": float(state.ema["w"][0])}

    def sample(state):
        return {"grid": np.full((4, 6, 3), int(state.step), np.uint8)}

    config = helpers.make_config(validate_every=8, sample_every=12)
    helpers.run(tmp_path, config, validate=validate, sample=sample)
    assert seen == [8, 16, 20]
    assert [line["step"] for line in lines(tmp_path) if "val" in line] == [8, 16, 20]
    pictures = sorted(p.name for p in (tmp_path / "samples").iterdir())
    assert pictures == ["grid_0000012.png", "grid_0000020.png"]


@pytest.mark.parametrize("bad_step", [1, 7, 10])
def test_non_finite_loss_ends_the_run_without_a_checkpoint_of_it(tmp_path, bad_step):
    class Poisoned(Loader):
        """Batch number `bad_step` holds a NaN."""

        count = 0

        def __next__(self):
            self.count += 1
            batch = super().__next__()
            return {**batch, "y": batch["y"] * np.nan} if self.count == bad_step else batch

    with pytest.raises(loop.NonFiniteLossError, match=f"^step {bad_step}: loss is nan"):
        helpers.run(tmp_path, loader=Poisoned(helpers.Points(), batch_size=8, seed=3))
    steps = CheckpointManager(tmp_path / "checkpoints").steps()
    assert steps == ([] if bad_step <= 5 else [5])


def test_wandb_trouble_never_stops_a_run(tmp_path, monkeypatch, caplog):
    class Run:
        def log(self, *args, **kwargs):
            raise RuntimeError("the service died")

    broken = types.SimpleNamespace(init=lambda **kwargs: Run(), Settings=lambda **kwargs: None)
    monkeypatch.setitem(sys.modules, "wandb", broken)
    state = helpers.run(tmp_path, helpers.make_config(wandb="offline"))
    assert int(state.step) == 20
    assert len(lines(tmp_path)) == 20
    assert caplog.text.count("wandb is switched off: the service died") == 1


def tensorboard_values(folder):
    """Every value of the event files by step and tag."""
    from tensorboardX.proto.event_pb2 import Event

    actual = {}
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        while data:  # TFRecord: length, its checksum, data, its checksum
            (length,) = struct.unpack("<Q", data[:8])
            event = Event.FromString(data[12 : 12 + length])
            actual |= {(event.step, value.tag): value for value in event.summary.value}
            data = data[16 + length :]
    return actual


def test_tensorboard_has_what_the_files_have(tmp_path):
    pytest.importorskip("tensorboardX")

    def sample(state):
        return {"grid": np.full((4, 6, 3), int(state.step), np.uint8)}

    config = helpers.make_config(tensorboard=True, sample_every=10)
    helpers.run(tmp_path, config, sample=sample, stop_after=12)
    helpers.run(tmp_path, config, sample=sample)
    actual = tensorboard_values(tmp_path / "tensorboard")
    logged = lines(tmp_path)
    assert [line["step"] for line in logged] == list(range(1, 21))
    for line in logged:
        for name, value in line.items():
            if name != "step":
                assert actual.pop((line["step"], name)).simple_value == pytest.approx(value, 1e-6)
    for step in (10, 20):
        with Image.open(io.BytesIO(actual.pop((step, "grid")).image.encoded_image_string)) as image:
            np.testing.assert_array_equal(image, np.full((4, 6, 3), step))
    assert not actual


def test_learning_rate_warms_up_and_decays():
    config = OptimConfig(learning_rate=1.0, final_learning_rate=0.1, warmup_steps=10)
    rate = optimizer.learning_rate(config, 110)
    actual = [float(rate(s)) for s in (0, 5, 10, 60, 110)]
    np.testing.assert_allclose(actual, [0.0, 0.5, 1.0, 0.55, 0.1], atol=1e-6)
    within = optimizer.learning_rate(config, 5)
    np.testing.assert_allclose([float(within(s)) for s in range(5)], np.arange(5) / 10, atol=1e-6)
    config = dataclasses.replace(config, decay_steps=4)
    with pytest.raises(ValueError, match=r"optim\.decay_steps must be at most 3, num_steps"):
        optimizer.learning_rate(config, 13)


def test_weight_decay_spares_biases():
    config = OptimConfig(learning_rate=0.1, warmup_steps=0, weight_decay=0.5)
    params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
    transform = optimizer.make(config, 10)
    zeros = {"kernel": jnp.zeros((2, 2)), "bias": jnp.zeros(2)}
    updates, _ = transform.update(zeros, transform.init(params), params)
    np.testing.assert_allclose(updates["kernel"], -0.1 * 0.5 * np.ones((2, 2)), rtol=1e-6)
    np.testing.assert_array_equal(updates["bias"], np.zeros(2))
