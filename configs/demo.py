"""The demo denoiser: a UNet on 16x16x8 latents, sized for two CPU cores.

    python -m scripts.train --config configs/demo.py --workdir runs/demo --data_dir data/encoded

Any value can be set on the command line, such as --config.optim.learning_rate=3e-4.
A step takes 1.2 to 1.4 s on two otherwise idle cores, the whole run 70 to 80 minutes. Expect a
val_loss of 0.097 at its end, on latents of the autoencoder that configs/demo_vae.py describes.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Data only; the keys are the fields of `dg2_jax.training.runs.DenoiserRunConfig`."""
    return ConfigDict(
        {
            "num_steps": 3400,
            "batch_size": 32,
            "seed": 0,
            "init_from": "",
            "validation_images": 256,
            "model": "unet",
            "denoiser": {
                "in_channels": 8,
                "channels": (64, 128, 192),
                "blocks_per_level": 1,
                "attention_levels": (False, True, True),
                "head_dim": 32,
                "context_dim": 384,
                "embed_dim": 256,
                "norm_groups": 16,
                "dropout": 0.0,
                "remat": False,
            },
            "diffusion": {
                "schedule": "curved",
                "prediction_type": "v_prediction",
                "num_train_timesteps": 1000,
                "zero_terminal_snr": True,
                "min_snr_gamma": 5.0,
                "caption_dropout": 0.1,
                "assign_noise": False,
            },
            "optim": {
                "name": "muon",
                "learning_rate": 5e-3,
                "final_learning_rate": 5e-5,
                "warmup_steps": 100,
                "decay_steps": 0,
                "b1": 0.9,
                "b2": 0.99,
                "weight_decay": 0.01,
                "clip_norm": 1.0,
            },
            "ema": {"profile": "power", "sigma_rel": 0.10, "posthoc": (), "snapshot_every": 200},
            "compute_dtype": "float32",
            "devices": {"data": -1, "fsdp": 1, "tensor": 1, "accumulation_steps": 1},
            "loop": {
                "log_every": 20,
                "validate_every": 400,
                "sample_every": 600,
                "checkpoint_every": 200,
                "keep": 3,
                "keep_every": 0,
                "read_threads": 2,
                "prefetch": 4,
                "wandb": "offline",
            },
            "sample_prompts": (
                "a volcano at sunset",
                "a snowy mountain at dawn",
                "a calm lake under a clear sky",
                "a forest in the fog",
                "a desert at noon",
                "an aurora over the hills at night",
            ),
            "sample_guidance": (1.0, 3.0, 5.0),
        }
    )
