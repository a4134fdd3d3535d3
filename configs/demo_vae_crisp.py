r"""The last stage of the demo's decoder: a patch discriminator makes it crisp.

    python -m scripts.train_vae --config configs/demo_vae_crisp.py --workdir runs/crisp \
        --data_dir data --config.init_from=runs/stage1

`init_from` is a model folder with the autoencoder of configs/demo_vae_decoder.py. Part of each
batch is decoded from latents that the denoiser sampled, so that generated pictures are crisp as
well; `python -m scripts.make_latents --model=runs/stage1 --out=runs/latents.npy` writes them.
"""

from ml_collections import ConfigDict

from dg2_jax.configs import demo_vae_decoder


def get_config() -> ConfigDict:
    """Data only; the keys are the fields of `dg2_jax.training.runs.AutoencoderRunConfig`."""
    config = demo_vae_decoder.get_config()
    config.update(num_steps=2000, batch_size=8, own_latents="")
    config.loss.equivariant_share = 0.0
    config.adversarial = ConfigDict(
        {
            "weight": 0.5,
            "feature_matching": 1.0,
            "perceptual": 0.0,
            "r1": 1.0,
            "own_share": 0.0,
            "channels": (32, 64, 128, 128),
            "learning_rate": 2e-4,
        }
    )
    config.optim.update(learning_rate=1e-3, final_learning_rate=1e-4, warmup_steps=50)
    config.ema.decay = 0.995
    return config
