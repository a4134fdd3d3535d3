r"""The demo's decoder, retrained while the encoder is frozen, so that latents keep their meaning.

    python -m scripts.train_vae --config configs/demo_vae_decoder.py --workdir runs/decoder \
        --data_dir data

The decoder doubles what the encoder sees, the means of 2 x 2 pixels, and starts from the demo's
weights where shapes agree. configs/demo_vae_crisp.py continues with it; see docs/training.md.
"""

from ml_collections import ConfigDict

from dg2_jax.configs import demo_vae


def get_config() -> ConfigDict:
    """Data only; the keys are the fields of `dg2_jax.training.runs.AutoencoderRunConfig`."""
    config = demo_vae.get_config()
    config.update(batch_size=12, init_from="demo", dead_leaves=0, validation_images=64)
    config.loss.equivariant_share = 0.25
    config.optim.frozen = ("encoder",)
    return config
