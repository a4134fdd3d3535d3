"""A LoRA of the demo denoiser: its attention learns from a few captioned pictures.

    python -m scripts.prepare --source=my_pictures --model=demo --out=runs/mine
    python -m scripts.train --config configs/demo_lora.py --workdir runs/lora --data_dir runs/mine
    python -m scripts.sample --lora=runs/lora/lora.safetensors:0.8 --prompt="..."

Any value can be set on the command line, such as --config.lora.rank=4.
"""

from ml_collections import ConfigDict

from dg2_jax.configs import demo


def get_config() -> ConfigDict:
    """Data only; the keys are the fields of `training.runs.DenoiserRunConfig`."""
    config = demo.get_config()
    config.update(
        {
            "num_steps": 300,
            "batch_size": 16,
            "init_from": "demo",
            "lora": {"rank": 8, "alpha": 8.0, "targets": ("self", "cross")},
            "validation_images": 16,
            "sample_prompts": (),  # captions of held-out pictures
        }
    )
    config.optim.update({"name": "adamw", "learning_rate": 1e-3, "warmup_steps": 20})
    config.ema = {"profile": "warmup", "decay": 0.98}
    config.loop.update({"validate_every": 100, "sample_every": 100, "checkpoint_every": 100})
    return config
