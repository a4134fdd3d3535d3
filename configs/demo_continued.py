r"""The demo denoiser, continued from the end of configs/demo.py with more weight on fine detail.

    python -m scripts.train --config configs/demo_continued.py --workdir runs/continued \
        --data_dir runs/encoded

Any value can be set on the command line. A loss cap of 20 instead of 5 gives more weight to low
noise levels, which decide rain and snowflakes. `--config.init_from=runs/demo/model` starts from
your own first run. Expect a val_loss of 0.123 (not comparable with that of another cap).
"""

from ml_collections import ConfigDict

from configs import demo


def get_config() -> ConfigDict:
    """Data only; the keys are the fields of `dg2_jax.training.runs.DenoiserRunConfig`."""
    config = demo.get_config()
    config.update(num_steps=1200, init_from="demo")
    config.diffusion.min_snr_gamma = 20.0
    config.optim.update(learning_rate=2.5e-3, final_learning_rate=2.5e-5, warmup_steps=50)
    return config
