r"""The demo autoencoder's decoder, trained on while the encoder stays: latents keep their meaning.

    python -m scripts.train_vae --config configs/demo_vae_decoder.py --workdir runs/decoder \
        --data_dir data

Half of what it sees are dead leaves (`dg2_jax.data.dead_leaves`), which stand for photographs.
"""

from ml_collections import ConfigDict

from configs import demo_vae


def get_config() -> ConfigDict:
    """Data only; the keys are the fields of `dg2_jax.training.runs.AutoencoderRunConfig`."""
    config = demo_vae.get_config()
    config.update(num_steps=1200, init_from="demo", dead_leaves=9000)
    config.optim.update(learning_rate=2e-3, final_learning_rate=2e-5, frozen=("encoder",))
    return config
