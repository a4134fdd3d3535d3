"""The autoencoder's figures against NumPy; photographs are cut and turned, not squeezed."""

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from dg2_jax.evaluation import reconstruction
from dg2_jax.models import folder as model_lib
from dg2_jax.pictures.images import from_uint8


def test_quality_is_that_of_each_picture(folder):
    model = model_lib.load(folder)
    size = model.default_size
    images = np.random.default_rng(0).integers(0, 256, (18, size, size, 3), dtype=np.uint8)
    actual = reconstruction.quality(model, images)
    vae = model.autoencoder.bind(model.autoencoder_params)
    pixels = np.asarray(from_uint8(images))
    rebuilt = np.clip(vae.decode(vae.encode(jnp.asarray(pixels)).mode()), -1, 1)
    decibels = 10 * np.log10(4 / ((rebuilt - pixels) ** 2).mean((1, 2, 3)))
    assert actual["psnr"] == pytest.approx(decibels.mean(), abs=1e-3)


def test_photographs(tmp_path):
    wide = np.zeros((40, 100, 3), np.uint8)
    wide[:, 30:70] = 200  # the middle square
    Image.fromarray(wide).save(tmp_path / "b.png")
    turned = Image.fromarray(wide.swapaxes(0, 1))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "a.jpg", exif=exif)
    (tmp_path / "notes.txt").write_text("no picture")
    actual = reconstruction.photographs(tmp_path, 16)
    assert actual.shape == (2, 16, 16, 3)
    assert actual[:, 2:-2, 2:-2].min() > 190  # JPEG rings at the edges
    with pytest.raises(ValueError, match="photos must be a folder with pictures"):
        reconstruction.photographs(tmp_path / "..", 16)
