"""scripts/reconstruct_ema.py, against averages in closed form."""

import subprocess
import sys
from pathlib import Path

import jax
import numpy as np

from dg2_jax.models import folder as model
from dg2_jax.training import averages, ema


def test_a_model_gets_an_average_of_another_width(folder, tmp_path):
    """Weights that grow as w τ/T have at t the power average w t/T (γ+1)/(γ+2)."""
    steps, kept = 512, (0.05, 0.10)
    (tmp_path / "model").symlink_to(folder)
    trained = model.load(folder)

    def average(sigma_rel, step):
        gamma = ema.power_gamma(sigma_rel)
        factor = step / steps * (gamma + 1) / (gamma + 2)
        return jax.tree.map(lambda leaf: factor * leaf, trained.params["ema"])

    for step in range(64, steps + 1, 64):
        averages.write(tmp_path / "averages", step, kept, [average(s, step) for s in kept])
    options = [f"--workdir={tmp_path}", "--sigma_rel=0.07"]
    done = subprocess.run(
        [sys.executable, "-m", "scripts.reconstruct_ema", *options],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "model_0.07")
    output = model.load(tmp_path / "model_0.07")
    # Stored as bfloat16; the widths that were kept are 2% and 4% away.
    for name, expected in (("ema", average(0.07, steps)), ("raw", trained.params["raw"])):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=8e-3), output.params[name], expected
        )
    assert output.config["denoiser"] == trained.config["denoiser"]
