r"""The demo's decoder, trained anew while the encoder stays: latents keep their meaning.

    python -m scripts.train_vae --config configs/demo_vae_decoder.py --workdir runs/decoder \
        --data_dir data

The decoder doubles what the encoder sees, the means of 2 x 2 pixels, and starts from the demo's
where shapes are the same. configs/demo_vae_crisp.py goes on with it. docs/training.md tells more.
"""

from ml_collections import ConfigDict

from configs import demo_vae


def get_config() -> ConfigDict:
    """Data only; the keys are the fields of `dg2_jax.training.runs.AutoencoderRunConfig`."""
    config = demo_vae.get_config()
    config.update(batch_size=12, init_from="demo", dead_leaves=0, validation_images=64)
    config.loss.equivariant_share = 0.25
    config.optim.frozen = ("encoder",)
    return config
