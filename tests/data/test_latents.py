"""The encoded data set, from small real networks."""

import json
from collections import Counter

import jax.numpy as jnp
import numpy as np
import pytest

from dg2_jax.data import encoding, latents
from dg2_jax.data.loader import Loader
from dg2_jax.nn.autoencoder import AutoencoderKL
from dg2_jax.nn.autoencoder_config import AutoencoderConfig
from dg2_jax.text.encoder import Encoding
from tests.networks import random_network

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


def write(folder, counts=((3, 4), (2,))):
    """A data set of small records: the counts of the shards of train and of validation."""
    folder.mkdir(exist_ok=True)
    shards, number = [], 0
    for split, of_split in zip(("train", "validation"), counts, strict=True):
        for i, count in enumerate(of_split):
            name = f"{split}-8x8-{i:05d}.array_record"
            records = [{"mean": np.full((2, 2, 1), number + k, np.float16)} for k in range(count)]
            latents.write_split(folder / name, records)
            shards.append({"file": name, "split": split, "size": [8, 8], "count": count})
            number += count
    manifest = {"format": 2, "splits": {"train": sum(counts[0]), "validation": sum(counts[1])}}
    (folder / "manifest.json").write_text(json.dumps(manifest | {"shards": shards}))
    return folder


def numbers(folder, **options):
    (source,) = latents.open_split(folder, "train", **options)
    return source, [int(source[i]["mean"][0, 0, 0]) for i in range(len(source))]


@pytest.fixture(scope="module")
def vae():
    return random_network(lambda rngs: AutoencoderKL(VAE, rngs=rngs))


def test_records_hold_what_the_networks_give(vae):
    source = make_source(70)
    encoder = encoding.Encoder(vae, Words(), ["kind"])
    images = [example["image"] for example in source]
    captions = [[c.decode() for c in example["captions"]] for example in source]
    records = list(encoder.records(images, captions, [{"kind": e["kind"]} for e in source]))
    assert len(records) == 70
    statistics, halves = (encoding.Statistics(VAE.latent_channels) for _ in range(2))
    for i, record in enumerate(records):
        statistics.add(record["mean"], record["logvar"])
        if i % 2:
            half = encoding.Statistics(VAE.latent_channels)
            for r in records[i - 1 : i + 1]:
                half.add(r["mean"], r["logvar"])
            halves.add_dict(json.loads(json.dumps(half.to_dict())))
    for i in (0, 63, 64, 69):
        record, pixels = records[i], images[i][None] / 127.5 - 1.0
        posterior = vae.encode(jnp.asarray(pixels, jnp.float32))
        np.testing.assert_allclose(record["mean"], posterior.mean[0], rtol=2e-3, atol=2e-3)
        np.testing.assert_allclose(record["logvar"], posterior.logvar[0], rtol=2e-3, atol=2e-3)
        assert record["offsets"].tolist() == [0, 1, 3, 4 + i % 35]
        assert record["tokens"][:3, 0].tolist() == [1, 2, 3]
        assert record["tokens"].dtype == np.float16
        assert record["attributes"].tolist() == [i % 2]
    # Scaled by what was measured, latents have mean 0 and variance 1.
    shift, spread = statistics.overall()
    np.testing.assert_allclose(halves.overall(), (shift, spread))
    rng = np.random.default_rng(0)
    mean, logvar = (
        np.stack([r[k] for r in records]).astype(np.float64) for k in ("mean", "logvar")
    )
    drawn = mean + np.exp(logvar / 2) * rng.standard_normal((50, *mean.shape))
    scaled = (drawn - shift) / spread
    assert scaled.mean() == pytest.approx(0.0, abs=0.01)
    assert scaled.std() == pytest.approx(1.0, abs=0.01)
    np.testing.assert_allclose(statistics.channels()[1], drawn.std((0, 1, 2, 3)), rtol=0.02)


def test_every_caption_is_drawn_and_padding_is_bucketed():
    rng = np.random.default_rng(0)
    record = {
        "mean": np.zeros((1, 1, 2), np.float16),
        "logvar": np.zeros((1, 1, 2), np.float16),
        "tokens": np.ones((38, 3), np.float16),
        "offsets": np.array([0, 1, 3, 38], np.int32),
    }
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


def test_records_of_all_shards_in_order(tmp_path):
    assert numbers(write(tmp_path))[1] == list(range(7))
    assert len(latents.open_split(tmp_path, "validation")[0]) == 2


def test_bad_folders_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no encoded data set in .*dg2 prepare"):
        latents.open_split(tmp_path, "train")
    write(tmp_path)
    with pytest.raises(ValueError, match="split must be one of train, validation; got 'tset'"):
        latents.open_split(tmp_path, "tset")
    manifest = json.loads((tmp_path / "manifest.json").read_text()) | {"format": 99}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="format must be 2, got 99"):
        latents.read_manifest(tmp_path)


def damage(path, how):
    content = path.read_bytes()
    if how == "missing":
        path.unlink()
    elif how == "record":
        # The second record's own bytes: its tensor's name.
        place = [i for i in range(len(content)) if content.startswith(b'"mean"', i)][1]
        path.write_bytes(content[:place] + b"!!!!!!" + content[place + 6 :])
    else:
        keep = {"empty": 0, "half": len(content) // 2, "a byte less": len(content) - 1}[how]
        path.write_bytes(content[:keep])


@pytest.mark.parametrize("how", ["missing", "empty", "half", "a byte less", "record"])
def test_bad_shards_are_named_or_skipped(tmp_path, how):
    damage(write(tmp_path) / "train-8x8-00001.array_record", how)
    message = r"train-8x8-00001\.array_record: record 1" if how == "record" else "train-8x8-00001"
    with pytest.raises(ValueError, match=message):
        numbers(tmp_path)
    source, actual = numbers(tmp_path, skip_damaged=True)
    # What cannot be read gives way to the next record that can, after the last to the first.
    expected = [0, 1, 2, 3, 5, 5, 6] if how == "record" else [0, 1, 2, 0, 0, 0, 0]
    assert actual == expected
    assert source.damaged == ({4} if how == "record" else {3, 4, 5, 6})


def test_skipping_is_the_same_on_resume_and_nothing_else_moves(tmp_path):
    def batches(count, position=None):
        (source,) = latents.open_split(tmp_path, "train", skip_damaged=True)
        loader = Loader(source, 3, seed=1)
        if position is not None:
            loader.seek(position)
        rows = [next(loader)["mean"][:, 0, 0, 0].tolist() for _ in range(count)]
        return np.array(rows), loader.position()

    write(tmp_path)
    good, _ = batches(10)
    damage(tmp_path / "train-8x8-00001.array_record", "record")
    whole, _ = batches(10)
    first, position = batches(4)
    rest, _ = batches(6, position)
    np.testing.assert_array_equal(np.concatenate([first, rest]), whole)
    np.testing.assert_array_equal(whole, np.where(good == 4, 5, good))


def test_where_nothing_can_be_read_it_is_said(tmp_path):
    write(tmp_path, ((2,), (1,)))
    damage(tmp_path / "train-8x8-00000.array_record", "empty")
    (source,) = latents.open_split(tmp_path, "train", skip_damaged=True)
    with pytest.raises(ValueError, match=r"train-8x8-00000\.array_record is damaged"):
        source[0]
