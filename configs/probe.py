"""The attribute probe, a classifier of renders that judges generated pictures.

python -m scripts.train_probe --config configs/probe.py --workdir runs/probe --data_dir runs/data

Expect a val_joint of 0.998 after 10 to 16 minutes on two cores.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Data only; the keys are the fields of `dg2_jax.training.runs.ProbeRunConfig`."""
    return ConfigDict(
        {
            "num_steps": 1200,
            "batch_size": 32,
            "seed": 0,
            "dataset": "full",
            "probe": {"patch_size": 4, "channels": (64, 128, 256), "norm_groups": 16},
            "optim": {
                "name": "muon",
                "learning_rate": 5e-3,
                "final_learning_rate": 5e-5,
                "warmup_steps": 50,
                "weight_decay": 0.01,
                "clip_norm": 1.0,
            },
            "ema": {"profile": "power", "sigma_rel": 0.10},
            "loop": {
                "log_every": 20,
                "validate_every": 300,
                "sample_every": 0,
                "checkpoint_every": 200,
                "keep": 2,
                "wandb": "offline",
            },
        }
    )
