"""The demo's data and schedule with a diffusion transformer in place of the UNet.

    python -m scripts.train --config configs/demo_dit.py --workdir runs/dit --data_dir data/encoded

Any value can be set on the command line, such as --config.denoiser.depth=12.
"""

from ml_collections import ConfigDict

from dg2_jax.configs import demo


def get_config() -> ConfigDict:
    """Data only; the keys are the fields of `dg2_jax.training.runs.DenoiserRunConfig`."""
    config = demo.get_config()
    config.model = "dit"
    config.denoiser = ConfigDict(
        {
            "in_channels": 8,
            "patch_size": 2,
            "width": 256,
            "depth": 10,
            "head_dim": 32,
            "context_dim": 384,
            "embed_dim": 256,
            "mlp_ratio": 4,
            "dropout": 0.0,
            "remat": False,
        }
    )
    return config
