r"""The demo denoiser for 256x256 pictures, trained further for as long as you like.

    python -m scripts.train --config configs/demo_256.py --workdir runs/demo_256 \
        --data_dir runs/encoded --config.init_from=runs/stage1

Its latents are the demo's, so it starts from the demo's weights (`init_from`). The learning rate is
constant until the last 4,000 steps. Until they begin, another `--config.num_steps` lengthens or
shortens the run. A loss cap of 20 instead of 5 gives more weight to low noise levels, which decide
rain and snowflakes. Two averages are kept, from which scripts.reconstruct_ema makes any other.
"""

from ml_collections import ConfigDict

from dg2_jax.configs import demo


def get_config() -> ConfigDict:
    """Data only; the keys are the fields of `dg2_jax.training.runs.DenoiserRunConfig`."""
    config = demo.get_config()
    config.update(num_steps=20_000, init_from="demo")
    config.diffusion.min_snr_gamma = 20.0
    config.optim.update(
        learning_rate=2.5e-3, final_learning_rate=2.5e-5, warmup_steps=50, decay_steps=4000
    )
    config.ema.update(posthoc=(0.05, 0.10), snapshot_every=500)
    config.loop.update(validate_every=500, sample_every=1000, checkpoint_every=250)
    return config
