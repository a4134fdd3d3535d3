"""A diffusion transformer of two billion parameters, for many devices: see docs/scaling.md.

    python -m scripts.train --config configs/dit_2b.py --workdir runs/dit_2b --data_dir SHARDS \
        --distributed --config.devices.fsdp=8

SHARDS is a folder of latent shards, as for configs/dg2_base.py. This model has not been trained:
the hyper-parameters are those that arXiv 2212.09748 used for DiT-XL, with a warm-up.
"""

from ml_collections import ConfigDict

from dg2_jax.configs import dg2_base


def get_config() -> ConfigDict:
    """Data only; the keys are the fields of `dg2_jax.training.runs.DenoiserRunConfig`."""
    config = dg2_base.get_config()
    config.batch_size = 1024
    config.num_steps = 400_000
    config.compute_dtype = "bfloat16"
    config.model = "dit"
    config.denoiser = ConfigDict(
        {
            "in_channels": 4,
            "patch_size": 2,
            "width": 2048,
            "depth": 28,
            "head_dim": 64,
            "context_dim": 512,
            "embed_dim": 1024,
            "mlp_ratio": 4,
            "dropout": 0.0,
            "remat": True,
            "remat_policy": "cheap",
        }
    )
    config.optim.warmup_steps = 5000
    config.ema = ConfigDict({"profile": "power", "sigma_rel": 0.10, "posthoc": (0.05, 0.10)})
    return config
