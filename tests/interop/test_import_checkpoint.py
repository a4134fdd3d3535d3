"""From a checkpoint to pictures: scripts/import_checkpoint.py, then `Pipeline.load`."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from dg2_jax import Pipeline
from dg2_jax.diffusion import schedules
from dg2_jax.models import dg2_import as dg2_folder
from dg2_jax.models import folder as model
from tests import tiny_model
from tests.interop import published

ROOT = Path(__file__).parents[2]


def convert(*arguments):
    command = [sys.executable, "-m", "scripts.import_checkpoint", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_checkpoint_to_pictures(tmp_path):
    def other_betas(content):
        content["config"]["diffusion"].update(schedule="linear", beta2=0.02)
        for state in (content["model_state_dict"], content["ema_state_dict"]):
            for name in ("beta", "alpha", "alpha_bar", "sqrt_alpha_bar"):
                del state[name]
            del state["sqrt_one_minus_alpha_bar"]

    path = published.narrow_checkpoint(tmp_path / "a.pt", other_betas)
    clip = published.clip_folder(tmp_path / "clip")
    options = (f"--vae={published.VAE}", f"--text_encoder={clip}", "--default_size=16")
    done = convert(path, tmp_path / "model", *options)
    assert done.returncode == 0, done.stderr
    pipe = Pipeline.load(tmp_path / "model")
    np.testing.assert_array_equal(
        pipe.model.schedule.alpha_bar, schedules.linear(1000, 0.00085, 0.02).alpha_bar
    )
    calls = [
        pipe(prompt, num_images=2, num_inference_steps=3, seed=1).images
        for prompt in ("a lake at dawn", "a lake at dawn", "a volcano")
    ]
    assert calls[0].shape == (2, 16, 16, 3)
    assert calls[0].dtype == np.uint8
    assert calls[0].std() > 1.0
    np.testing.assert_array_equal(calls[0], calls[1])
    assert (calls[0] != calls[2]).any()


def test_the_models_that_the_file_names_are_kept(tmp_path):
    def name_others(content):
        content["config"]["data"]["vae_model_id"] = "owner/another-vae"
        content["config"]["data"]["clip_model_id"] = "owner/another-clip"

    dg2_folder.convert(published.narrow_checkpoint(tmp_path / "a.pt", name_others), tmp_path / "m")
    written = json.loads((tmp_path / "m" / "config.json").read_text())
    assert written["vae"] == {"pretrained": "owner/another-vae"}
    assert written["text_encoder"] == {"name": "owner/another-clip"}
    assert "alpha_bar" not in written["diffusion"]
    dg2_folder.convert(published.CHECKPOINT, tmp_path / "m")
    written = json.loads((tmp_path / "m" / "config.json").read_text())
    assert written["vae"] == {"pretrained": "stabilityai/sd-vae-ft-ema"}
    assert written["text_encoder"] == {"name": "openai/clip-vit-base-patch32"}
    with pytest.raises(FileNotFoundError, match=r"stabilityai/sd-vae-ft-ema.*could not be fetched"):
        model.load(tmp_path / "m")


def test_wrong_options_are_one_line(tmp_path):
    for arguments, message in (
        ((tmp_path / "absent.pt", tmp_path / "m"), "no checkpoint at"),
        ((published.CHECKPOINT, tmp_path / "m", "--vae=/no/such"), "neither a folder nor a hub id"),
        ((published.CHECKPOINT, tmp_path / "m", "--default_size=0"), "default_size must be"),
    ):
        done = convert(*arguments)
        assert done.returncode == 1
        assert message in done.stderr
        assert "Traceback" not in done.stderr
    assert not (tmp_path / "m" / "config.json").exists()


def test_what_is_no_checkpoint_is_called_what_it_is(tmp_path):
    def refused(path):
        with pytest.raises(ValueError, match=r"is a folder|is a|is an|is part") as caught:
            dg2_folder.convert(path, tmp_path / "out")
        assert not (tmp_path / "out").exists()
        return str(caught.value).removeprefix(f"{path} is ")

    def weights(name, metadata=None, folder=tmp_path / "loose"):
        folder.mkdir(exist_ok=True)
        save_file({name: np.zeros(1, np.float32)}, folder / "a.safetensors", metadata)
        return folder / "a.safetensors"

    tiny_model.save(tmp_path / "model")
    assert refused(tmp_path / "model").startswith("a model folder already: use it as --model=")
    part = tmp_path / "model" / "denoiser.ema.safetensors"
    assert refused(part).startswith(f"part of a model folder: use --model={tmp_path}/model")
    assert "--vae" in refused(published.VAE)
    assert "--text_encoder" in refused(published.GOLDEN / "hf_clip_tiny")
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    assert "dg2 export" in refused(tmp_path / "run")
    (tmp_path / "files").mkdir()
    assert refused(tmp_path / "files").startswith("a folder, and not one of a model")
    (tmp_path / "files" / "epoch_3.pt").write_bytes(b"")
    assert "name one of these" in refused(tmp_path / "files")
    (tmp_path / "files" / "model_index.json").write_text('{"_class_name": "AnyPipeline"}')
    assert refused(tmp_path / "files").startswith("a pipeline of diffusers (AnyPipeline)")
    assert "--lora=" in refused(weights("q.a", {"format": "dg2_jax.lora"}))
    assert "--lora=" in refused(weights("lora_unet_down.lora_up.weight"))
    assert "Stable Diffusion checkpoint" in refused(weights("model.diffusion_model.out.2.bias"))
    assert "--vae" in refused(weights("decoder.conv_in.weight"))
    assert "--text_encoder" in refused(weights("text_model.embeddings.position_ids"))
    assert "other weights (abc, ...)" in refused(weights("abc"))
    pointer = tmp_path / "a.pt"
    pointer.write_bytes(b"version https://git-lfs.github.com/spec/v1")
    with pytest.raises(ValueError, match="it is a Git LFS pointer"):
        dg2_folder.convert(pointer, tmp_path / "out")
