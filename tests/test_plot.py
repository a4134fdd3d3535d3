"""The comparison of runs, from logs written by hand."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dg2_jax.scripts import plot, schedule_plot
from dg2_jax.training.process import DiffusionConfig

ROOT = Path(__file__).parents[1]


@pytest.fixture
def runs(tmp_path):
    logs = {
        "fast": [
            {"step": 10, "loss": 0.5, "steps_per_second": 2.0},
            {"step": 10, "val_loss": 0.4},
            {"step": 20, "loss": 0.25, "steps_per_second": 4.0},
            {"step": 20, "val_loss": 0.3},
        ],
        "slow": [
            {"step": 10, "loss": 0.75, "steps_per_second": 1.0},
            {"step": 10, "val_loss": 0.6},
        ],
    }
    for name, lines in logs.items():
        (tmp_path / name).mkdir()
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (tmp_path / name / "metrics.jsonl").write_text(text + '{"step": 30, "lo')  # killed here
    return {name: plot.read(tmp_path / name) for name in logs}


def test_table(runs):
    assert plot.table(runs).splitlines() == [
        "| run | steps | loss | val_loss | val_loss at 10 | steps a second |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        "| fast | 20 | 0.25 | 0.3 | 0.4 | 3 |",
        "| slow | 10 | 0.75 | 0.6 | 0.6 | 1 |",
    ]


def test_a_run_without_validation_has_none(runs):
    without = {"slow": runs["slow"][:1], "fast": runs["fast"]}
    rows = plot.table(without).splitlines()
    assert rows[0] == "| run | steps | loss | val_loss | steps a second |"
    assert rows[2] == "| slow | 10 | 0.75 | – | 1 |"


def test_curves_are_drawn(runs, tmp_path):
    plot.draw(runs, tmp_path / "out" / "curves.png", "two runs")
    with Image.open(tmp_path / "out" / "curves.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3).astype(int)
    for colour in ((31, 119, 180), (255, 127, 14)):  # matplotlib's first two
        assert np.abs(pixels - colour).sum(1).min() < 30


def test_what_is_no_run_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has no metrics\.jsonl"):
        plot.read(tmp_path)
    (tmp_path / "metrics.jsonl").write_text("")
    with pytest.raises(ValueError, match=r"metrics\.jsonl is empty"):
        plot.read(tmp_path)


def test_schedules_as_a_table(tmp_path):
    cosine = schedule_plot.curves(DiffusionConfig(schedule="cosine"))
    f = np.cos((np.arange(1001) / 1000 + 0.008) / 1.008 * np.pi / 2) ** 2
    np.testing.assert_allclose(cosine.alpha_bar[:-1], f[1:-1] / f[0], rtol=1e-9)
    np.testing.assert_allclose(cosine.snr, cosine.alpha_bar / (1 - cosine.alpha_bar))
    np.testing.assert_allclose(
        cosine.weight, np.minimum(cosine.snr, 5) / (cosine.snr + 1), rtol=1e-5
    )
    rows = schedule_plot.table({"cosine": cosine}).splitlines()
    assert rows[0] == "| schedule | t | β | ᾱ | SNR | weight |"
    assert [row.split(" | ")[1] for row in rows[2:]] == ["0", "249", "499", "749", "999"]


def test_the_command_draws_schedules(tmp_path):
    command = [sys.executable, "-m", "scripts.plot", "--schedule=cosine", "--schedule=linear"]
    command += ["--beta2=0.02", f"--out={tmp_path / 'noise.png'}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"{np.prod(1 - np.linspace(0.00085, 0.02, 1000)):.4g}" in done.stdout
    with Image.open(tmp_path / "noise.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3).astype(int)
    for colour in ((31, 119, 180), (255, 127, 14)):
        assert np.abs(pixels - colour).sum(1).min() < 30
    for wrong, message in (
        (["--schedule=cosine", "--run=x"], "either --run or --schedule"),
        (["--schedule=cosine", "--beta2=0.02"], "beta2 is of none of the schedules cosine"),
    ):
        command = [sys.executable, "-m", "scripts.plot", *wrong]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert message in done.stderr
