"""The demo autoencoder: 256x256 pictures to 16x16 latents of 8 channels, sized for two CPU cores.

    python -m scripts.train_vae --config configs/demo_vae.py --workdir runs/vae --data_dir data

Any value can be set on the command line, such as --config.optim.learning_rate=2e-3.
The encoder sees the means of 2 x 2 pixels, and the decoder restores the detail. Both learn from
random crops, a quarter of a picture each. configs/demo_vae_crisp.py continues with the decoder.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Data only; the keys are the fields of `dg2_jax.training.runs.AutoencoderRunConfig`."""
    return ConfigDict(
        {
            "num_steps": 3000,
            "batch_size": 8,
            "seed": 0,
            "init_from": "",
            "dataset": "full",
            "dead_leaves": 4000,
            "crop": 128,
            "validation_images": 128,
            "vae": {
                "latent_channels": 8,
                "block_out_channels": (64, 128),
                "layers_per_block": 1,
                "decoder_block_out_channels": (64, 128, 128),
                "decoder_layers_per_block": 1,
                "norm_num_groups": 16,
                "mid_block_add_attention": False,
                "use_quant_conv": False,
                "use_post_quant_conv": False,
                "scaling_factor": 1.0,
                "patch_size": 4,
                "head_channels": 16,
                "downsample": "symmetric",
            },
            "loss": {"equivariant_share": 0.5},
            "optim": {
                "name": "muon",
                "learning_rate": 6e-3,
                "final_learning_rate": 6e-5,
                "warmup_steps": 100,
                "b1": 0.9,
                "b2": 0.99,
                "weight_decay": 1e-4,
                "clip_norm": 1.0,
            },
            "ema": {"profile": "warmup", "decay": 0.995},
            "compute_dtype": "float32",
            "loop": {
                "log_every": 20,
                "validate_every": 300,
                "sample_every": 600,
                "checkpoint_every": 300,
                "keep": 3,
                "read_threads": 2,
                "prefetch": 4,
                "wandb": "offline",
            },
        }
    )
