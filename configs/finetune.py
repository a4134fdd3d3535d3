"""The embedded model, fine-tuned on a folder of about 50 of your own pictures.

    python -m scripts.prepare --source=my_pictures --model=demo --out=runs/mine
    python -m scripts.train --config=configs/finetune.py --data_dir=runs/mine --workdir=runs/tuned

To fine-tune another model, give its folder as --config.init_from and --model, and its configuration
instead of `model` and `denoiser`.
"""

from ml_collections import ConfigDict

from dg2_jax.configs import demo


def get_config() -> ConfigDict:
    """Data only; the keys are the fields of `dg2_jax.training.runs.DenoiserRunConfig`."""
    config = demo.get_config()
    config.update(
        {
            "init_from": "demo",
            "num_steps": 300,
            "batch_size": 16,
            "optim": {
                "learning_rate": 6e-3,
                "final_learning_rate": 1e-4,
                "warmup_steps": 20,
            },
            "ema": {"profile": "warmup", "decay": 0.98},
            "sample_prompts": (),  # captions of held-out pictures
            "loop": {
                "log_every": 10,
                "validate_every": 100,
                "sample_every": 100,
                "checkpoint_every": 100,
                "keep": 2,
            },
        }
    )
    return config
