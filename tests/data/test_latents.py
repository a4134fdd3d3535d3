"""The encoded data set, from small real networks."""

import json
from collections import Counter

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dg2_jax.data import encoding, latents
from dg2_jax.nn.autoencoder import AutoencoderConfig, AutoencoderKL
from dg2_jax.preview import LatentToRGB
from dg2_jax.text import Encoding

VAE = AutoencoderConfig(
    latent_channels=2,
    block_out_channels=(8, 8),
    layers_per_block=1,
    norm_num_groups=4,
    mid_block_add_attention=False,
    scaling_factor=1.0,
)


class Words:
    """A stand-in text encoder: one token a word, all of whose entries are the word's length."""

    name, max_length, context_dim = "words", 40, 3

    def encode(self, prompts):
        context = np.zeros((len(prompts), self.max_length, self.context_dim), np.float32)
        mask = np.zeros((len(prompts), self.max_length), bool)
        for i, prompt in enumerate(prompts):
            for j, word in enumerate(prompt.split()):
                context[i, j], mask[i, j] = len(word), True
        return Encoding(jnp.asarray(context), jnp.asarray(mask), jnp.asarray(context[:, 0]))


def read_all(folder):
    source = latents.LatentSource(folder, "train")
    return [source[i] for i in range(len(source))]


def make_source(count, seed=0):
    rng = np.random.default_rng(seed)
    return [
        {
            "image": rng.integers(0, 256, (8, 8, 3), np.uint8),
            "captions": [b"a", b"bb ccc", f"{'d ' * (i % 35)}end".encode()],
            "kind": i % 2,
        }
        for i in range(count)
    ]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """An autoencoder's folder, the encoded folder, the sources."""
    root = tmp_path_factory.mktemp("encoded")
    params = nnx.to_pure_dict(nnx.split(AutoencoderKL(VAE, rngs=nnx.Rngs(0)))[1])
    encoding.save_autoencoder(root / "vae", VAE, params)
    sources = {"train": make_source(70), "validation": make_source(5, seed=1)}
    encode(root / "vae", root / "out", sources)
    return root / "vae", root / "out", sources


def encode(vae_dir, output_dir, sources):
    kinds = {"kind": ("even", "odd")}
    return encoding.encode_dataset(
        sources, kinds, vae_dir, Words(), output_dir, dataset="test", progress=False
    )


def test_records_hold_what_the_networks_give(folders):
    vae_dir, output, sources = folders
    vae = encoding.load_autoencoder(vae_dir)
    source = latents.LatentSource(output, "train")
    assert len(source) == 70
    for i in (0, 63, 64, 69):
        record, pixels = source[i], sources["train"][i]["image"][None] / 127.5 - 1.0
        posterior = vae.encode(jnp.asarray(pixels, jnp.float32))
        np.testing.assert_allclose(record["mean"], posterior.mean[0], rtol=2e-3, atol=2e-3)
        np.testing.assert_allclose(record["logvar"], posterior.logvar[0], rtol=2e-3, atol=2e-3)
        assert record["offsets"].tolist() == [0, 1, 3, 4 + i % 35]
        assert record["tokens"][:3, 0].tolist() == [1, 2, 3]
        assert record["tokens"].dtype == np.float16
        assert record["attributes"].tolist() == [i % 2]


def test_scaling_gives_mean_zero_and_variance_one(folders):
    _, output, _ = folders
    vae = encoding.load_autoencoder(output)
    source = latents.LatentSource(output, "train")
    manifest = latents.read_manifest(output)
    assert vae.config.scaling_factor == manifest["scaling_factor"]
    linear = LatentToRGB.from_dict(manifest["preview"])
    assert linear.weight.shape == (VAE.latent_channels, 3)
    assert np.isfinite(linear.weight).all()
    rng = np.random.default_rng(0)
    mean, logvar = (
        np.stack([source[i][k] for i in range(70)]).astype(np.float64) for k in ("mean", "logvar")
    )
    drawn = mean + np.exp(logvar / 2) * rng.standard_normal((50, *mean.shape))
    scaled = (drawn - vae.config.shift_factor) * vae.config.scaling_factor
    assert scaled.mean() == pytest.approx(0.0, abs=0.01)
    assert scaled.std() == pytest.approx(1.0, abs=0.01)
    np.testing.assert_allclose(manifest["latent_std"], drawn.std((0, 1, 2, 3)), rtol=0.02)


def test_encoding_again_does_nothing_and_something_else_is_refused(folders):
    vae_dir, output, sources = folders
    before = (output / "train.array_record").stat().st_mtime_ns
    assert encode(vae_dir, output, sources) == latents.read_manifest(output)
    assert (output / "train.array_record").stat().st_mtime_ns == before
    with pytest.raises(ValueError, match=r"output_dir: .* differs in splits"):
        encode(vae_dir, output, {"train": make_source(3)})


def test_interrupted_encoding_leaves_no_folder(folders, tmp_path):
    vae_dir, _, _ = folders
    broken = [*make_source(3), {"image": None}]
    with pytest.raises(KeyError):
        encode(vae_dir, tmp_path / "out", {"train": broken})
    assert not (tmp_path / "out").exists()
    encode(vae_dir, tmp_path / "out", {"train": make_source(3)})
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_every_caption_is_drawn_and_padding_is_bucketed(folders):
    _, output, _ = folders
    source, rng = latents.LatentSource(output, "train"), np.random.default_rng(0)
    record = source[34]  # its longest caption has 35 tokens
    lengths = Counter(len(latents.draw_caption(record, rng)["context"]) for _ in range(300))
    assert set(lengths) == {1, 2, 35}
    assert min(lengths.values()) > 60
    assert len(latents.draw_caption(record)["context"]) == 1
    short = [latents.draw_caption(record)] * 2
    long = {**short[0], "context": record["tokens"][3:]}
    assert latents.collate(short)["context"].shape == (2, 32, 3)
    batch = latents.collate([*short, long])
    assert batch["context"].shape == (3, 64, 3)
    assert batch["mask"].sum(axis=1).tolist() == [1, 1, 35]
    assert not batch["context"][~batch["mask"]].any()


def test_bad_folders_are_named(folders, tmp_path):
    _, output, _ = folders
    with pytest.raises(FileNotFoundError, match=r"no encoded data set in .*scripts\.encode"):
        latents.LatentSource(tmp_path, "train")
    with pytest.raises(ValueError, match="split must be one of train, validation; got 'tset'"):
        latents.LatentSource(output, "tset")
    (tmp_path / "manifest.json").write_text((output / "manifest.json").read_text())
    with pytest.raises(FileNotFoundError, match=r"train\.array_record is missing"):
        latents.LatentSource(tmp_path, "train")
    data = (output / "train.array_record").read_bytes()
    for damaged in (b"", data[: len(data) // 2], data[:-1]):
        (tmp_path / "train.array_record").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"train\.array_record.*damaged"):
            read_all(tmp_path)
    manifest = json.loads((output / "manifest.json").read_text()) | {"format": 99}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="format must be 1, got 99"):
        latents.read_manifest(tmp_path)
