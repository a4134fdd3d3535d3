"""A run that was stopped and resumed equals the unbroken run, bit for bit."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from dg2_jax.training import loop, optimizer, state, step
from tests.training import helpers


def assert_equal(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


@pytest.mark.parametrize("stop", [5, 7])
def test_resumed_run_equals_unbroken_run(tmp_path, stop):
    unbroken = helpers.run(tmp_path / "a")
    stopped = helpers.run(tmp_path / "b", stop_after=stop)
    assert int(stopped.step) == stop
    resumed = helpers.run(tmp_path / "b")
    assert int(resumed.step) == 20
    assert_equal(unbroken, resumed)
    lines = [
        [
            (line["step"], line["loss"])
            for line in map(json.loads, (tmp_path / run / "metrics.jsonl").read_text().splitlines())
        ]
        for run in "ab"
    ]
    assert lines[0] == lines[1]
    assert [step for step, _ in lines[0]] == list(range(1, 21))


def test_lines_of_lost_steps_are_dropped(tmp_path):
    helpers.run(tmp_path, stop_after=5)
    log = tmp_path / "metrics.jsonl"
    log.write_text(log.read_text() + '{"step": 6, "loss": 1.0}\n{"step": 7, "lo')
    helpers.run(tmp_path)
    assert [json.loads(x)["step"] for x in log.read_text().splitlines()] == list(range(1, 21))


def test_finished_run_is_left_alone(tmp_path):
    first = helpers.run(tmp_path)
    before = (tmp_path / "checkpoints" / "20" / "manifest.json").stat().st_mtime_ns
    again = helpers.run(tmp_path)
    assert_equal(first, again)
    assert (tmp_path / "checkpoints" / "20" / "manifest.json").stat().st_mtime_ns == before


def test_a_run_whose_rate_falls_at_its_end_may_be_prolonged_until_then(tmp_path):
    config = helpers.make_config()
    late = dataclasses.replace(config, optim=dataclasses.replace(config.optim, decay_steps=6))
    longer = dataclasses.replace(late, num_steps=24)
    unbroken = helpers.run(tmp_path / "a", longer)
    helpers.run(tmp_path / "b", late, stop_after=12)
    assert_equal(unbroken, helpers.run(tmp_path / "b", longer))
    helpers.run(tmp_path / "c", late, stop_after=15)  # one step into its last six
    with pytest.raises(ValueError, match="num_steps: saved 20, now 24"):
        helpers.run(tmp_path / "c", longer)


def test_another_configuration_is_refused(tmp_path):
    helpers.run(tmp_path, stop_after=5)
    config = helpers.make_config()
    other = type(config)(**{**vars(config), "batch_size": 4})
    with pytest.raises(ValueError, match=r"another configuration.*batch_size: saved 8, now 4"):
        helpers.run(tmp_path, other)


def test_loop_settings_may_change(tmp_path):
    helpers.run(tmp_path, stop_after=5)
    assert int(helpers.run(tmp_path, helpers.make_config(checkpoint_every=3)).step) == 20


SLOW_RUN = """
import sys, time
from tests.training import helpers

def loader():
    inner = helpers.make_loader(helpers.make_config())
    class Slow:
        position, seek = inner.position, inner.seek
        def __next__(self):
            batch = next(inner)
            print("batch", flush=True)
            time.sleep(0.2)
            return batch
    return Slow()

state = helpers.run(sys.argv[1], loader=loader())
print("ended at", int(state.step), flush=True)
"""


def test_sigterm_saves_and_exits_with_zero(tmp_path):
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_RUN, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
    )
    for _ in range(4):
        assert process.stdout.readline() == "batch\n"
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    step = int(output.split()[-1])
    assert 3 <= step < 20
    assert (tmp_path / "checkpoints" / str(step) / "manifest.json").exists()
    assert_equal(helpers.run(tmp_path), helpers.run(tmp_path / "unbroken"))


def test_the_smoothed_loss_goes_on_and_is_bias_corrected(tmp_path):
    unbroken, broken = tmp_path / "a", tmp_path / "b"
    helpers.run(unbroken)
    helpers.run(broken, stop_after=7)
    helpers.run(broken)
    lines = [
        [json.loads(text) for text in (run / "metrics.jsonl").read_text().splitlines()]
        for run in (unbroken, broken)
    ]
    mean, beta = 0.0, 0.95
    for n, line in enumerate(lines[0], start=1):
        mean = beta * mean + (1 - beta) * line["loss"]
        assert line["loss_smoothed"] == pytest.approx(mean / (1 - beta**n), rel=1e-6)
    assert lines[0][0]["loss_smoothed"] == pytest.approx(lines[0][0]["loss"])
    smoothed = [[line["loss_smoothed"] for line in run] for run in lines]
    assert smoothed[0] == smoothed[1]


def test_going_on_beyond_the_last_step_names_init_from(tmp_path):
    helpers.run(tmp_path)
    longer = dataclasses.replace(helpers.make_config(), num_steps=30)
    with pytest.raises(ValueError, match=r"saved 20, now 30.*--config\.init_from=.*model"):
        helpers.run(tmp_path, longer)


def test_configurations_are_compared_before_weights_are_read(tmp_path):
    helpers.run(tmp_path, stop_after=5)
    config = dataclasses.replace(helpers.make_config(), batch_size=4)
    other = {"adapters": jax.numpy.zeros((2, 2))}  # as a LoRA's in the folder of a whole run
    start = state.create(other, optimizer.make(config.optim, config.num_steps))
    train = step.make_train_step(helpers.loss_fn, config)
    with pytest.raises(ValueError, match=r"another configuration.*batch_size: saved 8, now 4"):
        loop.train(start, train, helpers.make_loader(config), config, tmp_path, progress=False)


def test_a_bar_tells_of_the_compilation_apart_from_the_rate(tmp_path, capfd):
    helpers.run(tmp_path, progress=True)
    told = capfd.readouterr().err
    assert "compiling" in told
    assert "compiled in " in told
    assert "smoothed=" in told
