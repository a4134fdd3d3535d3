r"""The demo autoencoder with a decoder that doubles: 256x256 pictures of the same 16x16 latents.

    python -m scripts.train_vae --config configs/demo_vae_256.py --workdir runs/decoder \
        --data_dir data

The encoder stays as it is and sees the means of 2 x 2 pixels, so denoisers keep their latents. The
decoder starts from the demo's where shapes are the same. It learns from random crops, at a quarter
of the cost of whole pictures; configs/demo_vae_crisp.py goes on with it.
"""

from ml_collections import ConfigDict

from configs import demo_vae


def get_config() -> ConfigDict:
    """Data only; the keys are the fields of `dg2_jax.training.runs.AutoencoderRunConfig`."""
    config = demo_vae.get_config()
    config.update(num_steps=3000, batch_size=12, init_from="demo", dead_leaves=0, crop=128)
    config.validation_images = 64
    config.vae.decoder_block_out_channels = (64, 128, 128)
    config.loss.equivariant_share = 0.25
    config.optim.update(learning_rate=6e-3, final_learning_rate=6e-5, frozen=("encoder",))
    return config
