"""A LoRA of small Stable Diffusion models: from pictures to a file in kohya's layout."""

import dataclasses
import io
import json
import tarfile

import jax
import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open

from dg2_jax import config as config_lib
from dg2_jax.configs import sd_lora
from dg2_jax.data import latents, preparation
from dg2_jax.data.recipe import Recipe
from dg2_jax.data.sources.spec import SourceSpec
from dg2_jax.interop.stable_diffusion import lora_file
from dg2_jax.models import lora, sources
from dg2_jax.pictures.images import from_uint8
from dg2_jax.pipeline import Pipeline
from dg2_jax.scripts import train
from dg2_jax.training import optimizer, starting, state
from dg2_jax.training.checkpoint import CheckpointManager
from dg2_jax.training.runs import DenoiserRunConfig
from tests.sd_models import GOLDEN

FEW = {"num_inference_steps": 2, "seed": 3}
SIDE = 32
PROCESS = {
    "sd2_small": {"prediction_type": "v_prediction", "zero_terminal_snr": True},
    "xl_small": {"prediction_type": "epsilon"},
}
CAPTIONS = ("a lake at dawn", "snow " * 80)  # the second takes two chunks


def png(seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def write_folder(folder, count=6):
    """Pictures with a metadata.jsonl."""
    folder.mkdir()
    lines = []
    for i in range(count):
        (folder / f"{i}.png").write_bytes(png(i))
        lines.append(json.dumps({"file_name": f"{i}.png", "text": CAPTIONS[i % 2]}))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return folder


def write_tar(folder, count=6):
    """The same as a tar of WebDataset."""
    folder.mkdir()
    with tarfile.open(folder / "all.tar", "w") as tar:
        for i in range(count):
            for name, data in ((f"{i}.png", png(i)), (f"{i}.txt", CAPTIONS[i % 2].encode())):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return folder


@pytest.fixture(scope="module", params=["sd2_small", "xl_small"])
def name(request):
    return request.param


@pytest.fixture(scope="module")
def encoded(name, tmp_path_factory):
    """Pictures encoded by the model's own autoencoder and text encoders."""
    root = tmp_path_factory.mktemp(name)
    write = write_tar if name == "xl_small" else write_folder
    spec = SourceSpec(str(write(root / "pictures")))
    recipe = Recipe(spec, root / "out", model=str(GOLDEN / name), validation_share=0.3)
    preparation.prepare(recipe, progress=False)
    return root / "out"


def make_config(name, **changes):
    values = sd_lora.get_config().to_dict()
    values |= {"init_from": str(GOLDEN / name), "num_steps": 4, "batch_size": 2,
               "compute_dtype": "float32", "sample_guidance": (2.0,)}  # fmt: skip
    values["lora"] |= {"rank": 2, "alpha": 4.0}
    values["diffusion"] |= PROCESS[name]
    values["optim"] |= {"learning_rate": 0.05, "warmup_steps": 1}
    values["loop"] |= {"log_every": 1, "validate_every": 4, "sample_every": 4,
                       "checkpoint_every": 4, "wandb": "disabled"}  # fmt: skip
    return config_lib.from_mapping(DenoiserRunConfig, values | changes)


def test_pictures_are_encoded_by_the_model_itself(name, encoded):
    manifest = latents.read_manifest(encoded)
    loaded = sources.load(GOLDEN / name)
    assert manifest["size"] == SIDE
    assert manifest["text_encoder"]["model"] == str(GOLDEN / name)
    assert manifest["scaling_factor"] == loaded.model.autoencoder_config.scaling_factor
    (source,) = latents.open_split(encoded, "train")
    records = [source[i] for i in range(len(source))]
    vae = loaded.model.autoencoder.bind(loaded.model.autoencoder_params)
    means = [np.asarray(vae.encode(from_uint8(decoded(i)[None])).mean[0]) for i in range(6)]
    found = records[0]["mean"].astype(np.float32)
    assert min(np.abs(found - mean).max() for mean in means) < 2e-2  # stored in half precision
    texts = loaded.text_encoder.encode(list(CAPTIONS))
    lengths = {len(record["tokens"]) for record in records}
    assert lengths <= {77, 154}
    assert 77 in lengths
    short = next(record for record in records if len(record["tokens"]) == 77)
    np.testing.assert_allclose(short["tokens"], texts.context[0, :77], atol=2e-3)
    assert ("pooled" in short) == (name == "xl_small")
    if name == "xl_small":
        np.testing.assert_allclose(short["pooled"][0], texts.pooled[0], atol=2e-3)
        batch = latents.collate([latents.draw_caption(short, max_length=231)] * 2, cell=2)
        assert batch["time_ids"].tolist() == [[SIDE, SIDE, 0, 0, SIDE, SIDE]] * 2


def decoded(seed):
    return np.asarray(Image.open(io.BytesIO(png(seed))))


def test_a_lora_is_trained_and_read_back(name, encoded, tmp_path):
    config = make_config(name)
    base = Pipeline.load(GOLDEN / name)
    assert config.denoiser == base.model.denoiser_config
    assert train.run(config, tmp_path / "run", encoded, "unused", "unused")
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert np.isfinite(json.loads(lines[-1])["val_loss"])
    with Image.open(tmp_path / "run" / "samples" / "ema_0000004.png") as grid:
        assert grid.height == SIDE

    # The file in kohya's layout holds the average of the last checkpoint.
    path = tmp_path / "run" / "lora.safetensors"
    first = base.model.params["ema"]
    held = lora_file.read(config.denoiser, first, base.text_encoder.encoders.params, path)
    transform = optimizer.make(config.optim, config.num_steps)
    like = state.create(lora.create(first, config.lora, 0, "sd_unet"), transform)
    trained = CheckpointManager(tmp_path / "run" / "checkpoints").restore(like).state.ema
    found = {".".join(map(str, at[:-1])): factors for at, factors in held.unet.items()}
    assert found.keys() == trained.keys()
    for layer, factors in trained.items():
        np.testing.assert_array_equal(found[layer].a, factors["a"])
        np.testing.assert_array_equal(found[layer].b, factors["b"])
        assert found[layer].scale == 2.0
        assert np.abs(factors["b"]).max() > 0
    with safe_open(path, "numpy") as file:
        assert file.metadata()["ss_network_dim"] == "2"
        assert all(key.startswith("lora_unet_") for key in file.keys())  # noqa: SIM118

    # It acts as the merged model does, which has the base model's text encoders and defaults.
    adapted = base.with_lora(path)("a lake", **FEW)
    assert np.abs(adapted.latents - base("a lake", **FEW).latents).max() > 1e-2
    merged = Pipeline.load(tmp_path / "run" / "model")("a lake", **FEW)
    assert merged.settings == adapted.settings
    error = np.abs(merged.latents - adapted.latents).max()
    assert error < 0.05 * np.abs(adapted.latents).max()  # stored as bfloat16


def test_text_encoders_are_trained_too(name, encoded, tmp_path):
    config = make_config(name, train_text_encoder=True, max_length=2 * 77)
    base = Pipeline.load(GOLDEN / name, loras=tmp_path / "run")
    assert train.run(config, tmp_path / "run", encoded, "unused", "unused")
    path = tmp_path / "run" / "lora.safetensors"
    encoders = base.text_encoder.encoders
    held = lora_file.read(config.denoiser, base.model.params["ema"], encoders.params, path)
    towers = 2 if name == "xl_small" else 1
    layers = [
        {".".join(map(str, at[:-1])) for at, factors in text.items() if np.any(factors.b)}
        for text in held.texts
    ]
    # XL's context is of the last layer but one, and its pooled vector of the second encoder's last.
    depths = [2, 3] if towers == 2 else [3]
    assert layers == [
        {
            f"layers.{i}.attention.{part}_proj"
            for i in range(depth)
            for part in ("q", "k", "v", "out")
        }
        for depth in depths
    ]
    with safe_open(path, "numpy") as file:
        prefixes = {key.partition("_text_model")[0] for key in file.keys() if "_te" in key}  # noqa: SIM118
    assert prefixes == ({"lora_te1", "lora_te2"} if towers == 2 else {"lora_te"})

    # As a word of the prompt it does what the merged model does, whose text encoders are changed.
    tagged = base("a lake <lora:lora:1>", **FEW)
    merged = Pipeline.load(tmp_path / "run" / "model")
    plain, changed = (p.text_encoder.encode(["a lake"]).context for p in (base, merged))
    assert np.abs(plain - changed).max() > 1e-2
    adapted = base.with_lora(path).text_encoder.encode(["a lake"]).context
    np.testing.assert_allclose(changed, adapted, atol=1e-4)
    error = np.abs(merged("a lake", **FEW).latents - tagged.latents).max()
    assert error < 0.05 * np.abs(tagged.latents).max()  # stored as bfloat16


def test_what_training_text_encoders_needs_is_named(name, encoded, tmp_path):
    with pytest.raises(ValueError, match="train_text_encoder must be false without lora"):
        make_config(name, train_text_encoder=True, lora=None)
    config = make_config(name, train_text_encoder=True, max_length=64)
    with pytest.raises(ValueError, match="max_length must be a multiple of 77 with"):
        train.run(config, tmp_path / "run", encoded, "unused", "unused")


def test_small_changes_of_half_precision_weights_are_learnt(name):
    first = jax.tree.map(
        lambda a: a.astype(np.float16), Pipeline.load(GOLDEN / name).model.params["ema"]
    )
    adapters = lora.create(first, lora.LoraConfig(rank=1), 0, "sd_unet")
    changed = {k: {"a": f["a"], "b": f["b"] + 1e-6} for k, f in adapters.items()}
    kernel = f"{next(iter(adapters))}.kernel"
    kept = lora.flatten(lora.apply(lora.prepared(first, adapters), changed, 1.0))[kernel]
    assert kept.dtype == np.float32
    assert 0 < np.abs(kept - lora.flatten(first)[kernel].astype(np.float32)).max() < 1e-4
    assert lora.flatten(lora.apply(first, changed, 1.0))[kernel].dtype == np.float16


def test_what_changes_no_network_may_be_set_alone(name):
    config = make_config(name, denoiser={"remat": True, "remat_policy": "cheap"})
    own = Pipeline.load(GOLDEN / name).model.denoiser_config
    assert config.denoiser == dataclasses.replace(own, remat=True, remat_policy="cheap")
    with pytest.raises(ValueError, match=r"denoiser\.in_channels must be 4, as in"):
        starting.weights(make_config(name, denoiser={**config_lib.to_dict(own), "in_channels": 9}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "unet"}, "model must be 'sd_unet', as in init_from"),
        ({"init_from": "nowhere.safetensors"}, "there is no nowhere.safetensors"),
    ],
)
def test_what_does_not_fit_the_model_is_named(changes, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        make_config("sd2_small", **changes)


def test_the_process_is_that_of_the_model(encoded, name, tmp_path):
    for field, value, message in (
        ("prediction_type", "sample", "diffusion.prediction_type must be"),
        ("beta2", 0.02, "diffusion.schedule, its figures and zero_terminal_snr must be those"),
    ):
        diffusion = {**config_lib.to_dict(make_config(name).diffusion), field: value}
        config = make_config(name, diffusion=diffusion)
        with pytest.raises(ValueError, match=message):
            train.run(config, tmp_path / "run", encoded, "unused", "unused")
