"""A LoRA of Stable Diffusion: the UNet's attention learns from a few captioned pictures.

    python -m scripts.prepare --source=my_pictures --model=models/sd15 --out=runs/mine
    python -m scripts.train --config configs/sd_lora.py --workdir runs/lora --data_dir runs/mine \
        --config.init_from=models/sd15
    python -m scripts.sample --model=models/sd15 --loras=runs --prompt="... <lora:lora:0.8>"

For models that predict v, such as 2.1 at 768 pixels, add
--config.diffusion.prediction_type=v_prediction; on a CPU,
--config.compute_dtype=float32 is quicker.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Data only; the keys are the fields of `training.runs.DenoiserRunConfig`."""
    return ConfigDict(
        {
            "num_steps": 1000,
            "batch_size": 4,
            "model": "sd_unet",
            "init_from": "stable-diffusion-v1-5/stable-diffusion-v1-5",
            "lora": {"rank": 16, "alpha": 16.0, "targets": ("self", "cross")},
            "diffusion": {
                "schedule": "curved",
                "prediction_type": "epsilon",
                "min_snr_gamma": 5.0,
                "caption_dropout": 0.1,
            },
            "optim": {
                "learning_rate": 1e-4,
                "final_learning_rate": 1e-6,
                "warmup_steps": 50,
                "b2": 0.999,
            },
            "ema": {"profile": "warmup", "decay": 0.98},
            "compute_dtype": "bfloat16",
            "max_length": 3 * 77,  # of captions: three chunks
            "validation_images": 16,
            "sample_guidance": (7.5,),
            "loop": {
                "log_every": 10,
                "validate_every": 200,
                "sample_every": 200,
                "checkpoint_every": 200,
                "keep": 2,
            },
        }
    )
