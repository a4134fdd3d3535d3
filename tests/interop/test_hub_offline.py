"""Hub ids work without a network where the hub's cache has the model."""

import shutil

import huggingface_hub.constants
import pytest

from dg2_jax.interop import diffusers_vae, hf_text, stable_diffusion
from dg2_jax.models import sources
from tests.sd_models import GOLDEN

COMMIT = "0" * 40


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Puts folders into the hub's cache, as it lies on disk; no network may be used."""
    assert huggingface_hub.constants.HF_HUB_OFFLINE
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))

    def add(name, folder):
        place = tmp_path / f"models--{name.replace('/', '--')}"
        (place / "refs").mkdir(parents=True)
        (place / "refs" / "main").write_text(COMMIT)
        return shutil.copytree(folder, place / "snapshots" / COMMIT)

    return add


def test_stable_diffusion_is_found_by_its_id(cache):
    cache("owner/small", GOLDEN / "xl_small")
    here = stable_diffusion.read_parts("owner/small")
    assert here.unet == stable_diffusion.read_parts(GOLDEN / "xl_small").unet
    assert sources.described("owner/small") == sources.described(GOLDEN / "xl_small")


def test_autoencoders_and_text_encoders_are_found_by_their_ids(cache):
    cache("owner/vae", GOLDEN.parent / "hf_vae_tiny")
    clip = GOLDEN.parent / "hf_clip_tiny"
    cache("owner/clip", clip)
    assert diffusers_vae.from_pretrained("owner/vae").config.latent_channels == 4
    folder = hf_text.find_folder("owner/clip")
    assert hf_text.load_clip_text(folder)[1] == hf_text.load_clip_text(clip)[1]


def test_weights_in_half_precision_or_of_pytorch_are_found_too(cache):
    folder = cache("owner/vae", GOLDEN.parent / "hf_vae_tiny")
    (weights,) = folder.glob("*.safetensors")
    weights.rename(folder / "diffusion_pytorch_model.fp16.safetensors")
    assert diffusers_vae.from_pretrained("owner/vae").config.latent_channels == 4


def test_what_was_not_fetched_is_named(cache):
    cache("owner/vae", GOLDEN.parent / "hf_vae_tiny")
    with pytest.raises(FileNotFoundError, match="'owner/other' is not on this machine"):
        hf_text.find_folder("owner/other")
