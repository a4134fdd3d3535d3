"""scripts/train_vae.py: a decoder that doubles, on crops, plain and with a discriminator."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image

from dg2_jax import config as config_lib
from dg2_jax.configs import demo_vae, demo_vae_crisp, demo_vae_decoder
from dg2_jax.data import encoding, loader
from dg2_jax.data.pixels import open_pixels
from dg2_jax.data.scenes import builder
from dg2_jax.data.sources.spec import SourceSpec
from dg2_jax.models import folder
from dg2_jax.scripts import train_vae
from dg2_jax.training import export, starting, state
from dg2_jax.training.runs import AutoencoderRunConfig
from tests.data import pictures

VAE = {"decoder_block_out_channels": (16, 16, 16), "head_channels": 4}
LOOP = {"wandb": "disabled", "log_every": 1, "validate_every": 3, "sample_every": 0}


def make_config(source=demo_vae_decoder, **changes) -> AutoencoderRunConfig:
    values = source.get_config().to_dict()
    values["vae"] |= VAE
    values["optim"] |= {"warmup_steps": 0}
    values["loop"] |= LOOP
    values |= {"num_steps": 3, "batch_size": 2, "dataset": "tiny", "validation_images": 8}
    return config_lib.from_mapping(AutoencoderRunConfig, values | {"crop": 32} | changes)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    builder.build(folder, "tiny", num_workers=1)
    return folder


def test_both_stages_train_the_decoder_alone(data_dir, tmp_path):
    demo = folder.load("demo")
    latents = np.random.default_rng(0).normal(size=(3, 16, 16, 8)).astype(np.float16)
    np.save(tmp_path / "latents.npy", latents)
    stage = dict(demo_vae_crisp.get_config().adversarial, own_share=0.5, channels=(8, 8))
    crisp = make_config(
        demo_vae_crisp, adversarial=stage, own_latents=str(tmp_path / "latents.npy")
    )
    for name, run in (("plain", make_config()), ("crisp", crisp)):
        assert train_vae.run(run, tmp_path / name, data_dir)
        vae = encoding.load_autoencoder(tmp_path / name)
        # The latents keep their meaning: the encoder and the scaling are the demo's.
        assert vae.config.scaling_factor == demo.autoencoder_config.scaling_factor
        assert vae.config.downsampling_factor == 16
        jax.tree.map(
            np.testing.assert_array_equal,
            nnx.to_pure_dict(nnx.state(vae.encoder)),
            demo.autoencoder_params["encoder"],
        )
        lines = (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        logged = {key: value for line in lines for key, value in json.loads(line).items()}
        assert ("discriminator" in logged) == (name == "crisp")
        assert logged["val_psnr"] > 0
        assert logged["val_sharpness"] > 0
    changed = export.with_autoencoder(demo, vae)
    export.export_model(tmp_path / "model", changed)
    output = folder.load(tmp_path / "model")
    assert (output.default_size, output.latent_shape) == (256, demo.latent_shape)
    pixels = output.autoencoder.bind(output.autoencoder_params).decode(jnp.zeros((1, 16, 16, 8)))
    assert pixels.shape == (1, 256, 256, 3)
    other = dataclasses.replace(vae.config, scaling_factor=1.0)
    vae.config = other
    with pytest.raises(ValueError, match=r"autoencoder\.scaling_factor must be 0\.34"):
        export.with_autoencoder(demo, vae)


def test_a_decoder_takes_what_fits_of_the_one_it_starts_from():
    config = make_config(vae=demo_vae_decoder.get_config().vae.to_dict())
    demo = folder.load("demo")
    _, params = state.network(
        lambda rngs: train_vae.AutoencoderKL(config.vae, rngs=rngs), config.seed
    )
    network, started = starting.autoencoder(config, params)
    assert network.shift_factor == demo.autoencoder_config.shift_factor
    for path in (("conv_in", "kernel"), ("mid_block", "resnets", 0, "conv1", "kernel")):
        own, other = started["decoder"], demo.autoencoder_params["decoder"]
        for key in path:
            own, other = own[key], other[key]
        np.testing.assert_array_equal(own, other)
    block = started["decoder"]["up_blocks"][1]["resnets"][0]["conv1"]["kernel"]
    new = params["decoder"]["up_blocks"][1]["resnets"][0]["conv1"]["kernel"]
    np.testing.assert_array_equal(block, new)  # 128 channels where the demo has 64
    other = dataclasses.replace(
        config, vae=dataclasses.replace(config.vae, block_out_channels=(64, 64))
    )
    with pytest.raises(ValueError, match=r"vae\.block_out_channels must be .* as in init_from"):
        starting.autoencoder(other, params)


def test_crops_are_of_the_picture_and_not_larger():
    image = np.arange(5 * 6 * 3).reshape(5, 6, 3)
    crop = loader.in_turn(loader.only("image"), loader.random_crop(4))
    corners = set()
    for seed in range(40):
        actual = crop({"image": image, "id": 1}, np.random.default_rng(seed))
        assert list(actual) == ["image"]
        top, left = divmod(int(actual["image"][0, 0, 0]) // 3, 6)
        np.testing.assert_array_equal(actual["image"], image[top : top + 4, left : left + 4])
        corners.add((top, left))
    assert len(corners) == 2 * 3
    with pytest.raises(ValueError, match="crop must be at most 5, got 6"):
        loader.random_crop(6)({"image": image}, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("change", "name"),
    [({"crop": 24}, "crop must be"), ({"own_latents": "x.npy"}, "own_latents")],
)
def test_bad_settings_are_named(change, name):
    with pytest.raises(ValueError, match=name):
        make_config(demo_vae_crisp, **change)


def own_pictures(source, **changes):
    """A tiny autoencoder on a folder of pictures."""
    values = demo_vae.get_config().to_dict()
    values["vae"] |= {"block_out_channels": [8, 8], "norm_num_groups": 4, "head_channels": 4}
    values["loop"] |= LOOP | {"sample_every": 2}
    values["optim"] |= {"warmup_steps": 0}
    values |= {"num_steps": 2, "batch_size": 2, "validation_images": 8, "dead_leaves": 2}
    values |= {"source": str(source), "size": 32, "crop": 0}
    return config_lib.from_mapping(AutoencoderRunConfig, values | changes)


def test_pictures_of_ones_own_of_any_size_without_captions(tmp_path):
    root = tmp_path / "pictures"
    for i, (width, height) in enumerate([(40, 30), (32, 32), (31, 90), (20, 16)] * 4):
        pictures.write_picture(root / f"{i:02d}.png", i, width, height, captions=())
    pictures.write_picture(root / "tiny.png", 99, 8, 30)
    (root / "broken.jpg").write_bytes(b"no picture")
    Image.fromarray(pictures.pixels(50, 30, 30)).save(root / "page.tif")
    config = own_pictures(root, num_steps=0, num_epochs=0.25)
    assert train_vae.run(config, tmp_path / "run", tmp_path)
    assert encoding.load_autoencoder(tmp_path / "run").config.block_out_channels == (8, 8)
    report = json.loads((tmp_path / "run" / "pictures.json").read_text())
    assert {line["name"] for line in report["problems"]} == {"tiny.png", "broken.jpg"}
    train, held_out = open_pixels(SourceSpec(str(root)), 32, tmp_path / "run")
    assert len(train) + len(held_out) == 17
    lines = [json.loads(x) for x in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == -(-(len(train) + 2) // 8)
    actual = next(train[i]["image"] for i in range(len(train)) if train._indices[i] == 1)
    np.testing.assert_array_equal(actual, pictures.pixels(1, 32, 32))
    # A run starts from the result of another.
    again = own_pictures(root, init_from=str(tmp_path / "run"))
    _, params = starting.autoencoder(again, encoding_params(tmp_path / "run", scale=0.0))
    jax.tree.map(np.testing.assert_array_equal, params, encoding_params(tmp_path / "run"))


def encoding_params(folder, scale=1.0):
    params = nnx.to_pure_dict(nnx.state(encoding.load_autoencoder(folder)))
    return jax.tree.map(lambda leaf: scale * leaf, params)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 20}, "size must be a multiple of 16"),
        ({"crop": 48}, r"crop must be at most size \(32\)"),
    ],
)
def test_sizes_that_do_not_fit_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        own_pictures("pictures", **changes)
