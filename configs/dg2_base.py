"""DiffusionGen2, the published 354 M model, with the original's hyper-parameters.

    python -m scripts.train --config configs/dg2_base.py --workdir runs/dg2_base --data_dir SHARDS

SHARDS is a folder of the original's latent shards (`dg2_jax.interop.dg2_latents`): 32x32x4 latents
of 256x256 images and 77 CLIP tokens of width 512. Sample grids (--config.loop.sample_every=5000)
need its autoencoder and CLIP, from the hub or from folders (--vae, --text_encoder).
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Data only; the keys are the fields of `dg2_jax.training.runs.DenoiserRunConfig`."""
    return ConfigDict(
        {
            # 25 epochs of 600,000 images in batches of 64
            "num_steps": 234_000,
            "init_from": "",
            "batch_size": 64,
            "seed": 89,
            "model": "dg2_unet",
            "denoiser": {
                "in_channels": 4,
                "channels": (128, 256, 512, 1024),
                "n_layers": 3,
                "n_bn": 1,
                "n_groups": 16,
                "n_heads": 16,
                "n_embd": 512,
                "t_embd": 128,
                "t_embd_scale": 4,
                "num_train_timesteps": 1000,
                "dropout": 0.1,
            },
            "diffusion": {
                "schedule": "curved",
                "prediction_type": "v_prediction",
                "num_train_timesteps": 1000,
                "min_snr_gamma": 5.0,
                "caption_dropout": 0.1,
            },
            "max_length": 77,
            "optim": {
                "learning_rate": 1e-4,
                "final_learning_rate": 1e-5,
                "warmup_steps": 0,
                "b1": 0.9,
                "b2": 0.999,
                "weight_decay": 0.01,
                "clip_norm": 1.0,
            },
            "ema": {"profile": "warmup", "decay": 0.995},
            "compute_dtype": "float32",
            "devices": {"data": -1, "fsdp": 1, "tensor": 1, "accumulation_steps": 1},
        }
    )
