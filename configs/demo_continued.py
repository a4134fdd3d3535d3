r"""The demo denoiser, trained on from the end of configs/demo.py with more weight on fine detail.

    python -m scripts.train --config configs/demo_continued.py --workdir runs/continued \
        --data_dir runs/encoded

Any value can be set on the command line. A cap of 20 in place of 5 lets levels of little noise
count, where rain and snowflakes are decided. `--config.init_from=runs/demo/model` takes the result
of your own first run. Expect a val_loss of 0.123 (which does not compare with that of another cap).
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
