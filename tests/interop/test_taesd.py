"""TAESD against the numbers that diffusers 0.42.1 recorded on random weights."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from sd_files import GOLDEN, error, reference

from dg2_jax.interop import taesd

FOLDER = GOLDEN / "taesd_tiny"


def test_encode_and_decode_agree_with_diffusers():
    vae = taesd.from_pretrained(FOLDER)
    given = {key: jnp.asarray(value) for key, value in reference("taesd_tiny").items()}
    assert error(vae.encode(given["x"]), given["encoded"]) < 1e-4
    assert error(vae.decode(given["z"]), given["decoded"]) < 1e-4
    assert vae.downsampling_factor == 8
    np.testing.assert_allclose(vae.unscale(vae.scale(given["z"])), given["z"], rtol=1e-6)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("_class_name", "AutoencoderKL"),
        ("act_fn", "gelu"),
        ("upsampling_scaling_factor", 4),
        ("decoder_block_out_channels", [8, 8, 8, 16]),
        ("num_encoder_blocks", [1, 2]),
        ("a_setting_of_tomorrow", 1),
    ],
)
def test_settings_that_stand_for_another_network(key, value):
    values = json.loads((FOLDER / "config.json").read_text())
    with pytest.raises(ValueError, match=key):
        taesd.parse_config({**values, key: value})
