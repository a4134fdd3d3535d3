"""Files that are no good Stable Diffusion model: one clear sentence each, nothing run."""

import contextlib
import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from sd_files import GOLDEN, WEIGHTS, original_file
from torch_files import Call, Global, write_torch

from dg2_jax.interop import clip_tokenizer, recognition, stable_diffusion
from dg2_jax.interop.stable_diffusion import FileOptions
from dg2_jax.interop.stable_diffusion.unet_config import parse_controlnet, parse_unet


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(GOLDEN / "xl_small", tmp_path / "model")


def fails(source, message, kind=(ValueError, FileNotFoundError), **options):
    with pytest.raises(kind, match=message) as caught:
        stable_diffusion.load(source, **options)
    assert "\n" not in str(caught.value)
    assert str(caught.value).count(str(source)) <= 1


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder_2", "tokenizer", "scheduler"])
def test_a_part_is_missing(part, folder):
    shutil.rmtree(folder / part)
    fails(folder, f"has no folder {part}$", FileNotFoundError)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("model_index.json", "there is no .*model_index.json"),
        ("unet/config.json", "no config.json in .*unet"),
        (f"vae/{WEIGHTS}", "no weights in .*vae: expected"),
        ("tokenizer/tokenizer.json", "no tokenizer.json, nor vocab.json"),
        ("scheduler/scheduler_config.json", "there is no .*scheduler_config.json"),
    ],
)
def test_a_file_is_missing(file, message, folder):
    (folder / file).unlink()
    fails(folder, message, FileNotFoundError)


@pytest.mark.parametrize(
    ("kind", "part", "network"),
    [
        ("FluxPipeline", "transformer", "FluxTransformer2DModel"),
        ("StableDiffusion3Pipeline", "transformer", "SD3Transformer2DModel"),
        ("PixArtSigmaPipeline", "transformer", "PixArtTransformer2DModel"),
    ],
)
def test_other_architectures(kind, part, network, folder):
    index = {"_class_name": kind, part: ["diffusers", network], "vae": ["diffusers", "x"]}
    (folder / "model_index.json").write_text(json.dumps(index))
    fails(folder, f"holds a {kind}; of diffusers folders, Stable Diffusion 1.x, 2.x and XL")


def test_the_refiner_of_xl(folder, tmp_path):
    single = original_file(folder, tmp_path / "refiner.safetensors")
    first = "conditioner.embedders.0."
    tensors = {
        key.replace("embedders.1.", "embedders.0."): value
        for key, value in load_file(single).items()
        if not key.startswith(first)
    }
    save_file(tensors, single)
    path = folder / "model_index.json"
    index = json.loads(path.read_text())
    for changes in ({"text_encoder": [None, None]}, {"requires_aesthetics_score": True}):
        path.write_text(json.dumps(index | changes))
        for source in (folder, single):
            fails(source, f"{source.name} is Stable Diffusion XL's refiner, .*: load that")
            assert not recognition.is_whole(source)
    path.write_text(json.dumps(index))
    assert recognition.is_whole(folder)


def test_a_folder_whose_unet_or_text_encoder_is_another(folder):
    config = folder / "unet" / "config.json"
    values = json.loads(config.read_text())
    config.write_text(json.dumps(values | {"_class_name": "UNet2DModel"}))
    fails(folder, "unet: its network is a UNet2DModel")
    config.write_text(json.dumps(values))
    (folder / "text_encoder" / "config.json").write_text(json.dumps({"model_type": "t5"}))
    fails(folder, "text_encoder: model_type must be 'clip_text_model', got 't5'")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("class_embed_type", "projection"),
        ("encoder_hid_dim_type", "text_proj"),
        ("only_cross_attention", True),
        ("only_cross_attention", [True, False]),
        ("dual_cross_attention", True),
        ("resnet_time_scale_shift", "scale_shift"),
        ("time_embedding_type", "fourier"),
        ("addition_embed_type", "image"),
        ("mid_block_type", "UNetMidBlock2DSimpleCrossAttn"),
        ("down_block_types", ["AttnDownBlock2D", "CrossAttnDownBlock2D"]),
        ("up_block_types", ["CrossAttnUpBlock2D", "ResnetUpsampleBlock2D"]),
        ("num_attention_heads", 4),
        ("attention_type", "gated"),
        ("conv_in_kernel", 1),
        ("act_fn", "gelu"),
        ("center_input_sample", True),
        ("a_setting_of_tomorrow", 7),
        ("a_flag_of_tomorrow", False),
        ("attention_head_dim", [2, 3]),
        ("norm_num_groups", 3),
        ("transformer_layers_per_block", 1000),
        ("layers_per_block", [1, 2, 3]),
        ("cross_attention_dim", [8, 40]),
    ],
)
def test_settings_that_stand_for_another_network(key, value):
    values = json.loads((GOLDEN / "xl_small" / "unet" / "config.json").read_text())
    assert parse_unet(values)
    assert parse_unet({**values, "a_setting_of_tomorrow": None})
    fields = {"attention_head_dim": "num_attention_heads", "transformer_layers_per_block": "depths"}
    match = fields.get(key, key)
    with pytest.raises(ValueError, match=match):
        parse_unet({**values, key: value})


def test_settings_of_a_controlnet():
    values = json.loads((GOLDEN / "controlnet_xl" / "config.json").read_text())
    assert parse_controlnet(values).bgr
    heads = parse_controlnet({**values, "num_attention_heads": [1, 2]}).unet.num_attention_heads
    assert heads == (1, 2)  # ControlNets, unlike UNets, may have this key
    for key, value in (("global_pool_conditions", True), ("_class_name", "ControlNetUnionModel")):
        with pytest.raises(ValueError, match=str(key if value is True else value)):
            parse_controlnet({**values, key: value})


def test_weights_that_do_not_fit_the_configuration(folder):
    path = folder / "unet" / WEIGHTS
    tensors = load_file(path)
    save_file({k: v for k, v in tensors.items() if k != "conv_out.bias"}, path)
    fails(folder, "do not fit SDUNet: .* no tensor for conv_out.bias")


def test_a_truncated_file(folder, tmp_path):
    path = folder / "unet" / WEIGHTS
    path.write_bytes(path.read_bytes()[:-1000])
    fails(folder, "its tensors take")
    whole = original_file(GOLDEN / "xl_small", tmp_path / "whole.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    fails(tmp_path / "cut.safetensors", "cut.safetensors: its tensors take")
    (tmp_path / "start.safetensors").write_bytes(whole[:100])
    fails(tmp_path / "start.safetensors", "start.safetensors: its header claims")


def test_pickled_code_is_not_run(tmp_path):
    marker = tmp_path / "ran"
    hostile = Call(Global("os", "system"), (f"touch {marker}",))
    path = tmp_path / "model.ckpt"
    write_torch(path, {"state_dict": {"a": np.zeros(3, np.float32), "b": hostile}})
    fails(path, "model.ckpt.*(is not|os.system)")
    assert not marker.exists()


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("double_blocks.0.img_attn.qkv.weight", "Flux"),
        ("model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight", "Stable Diffusion 3"),
        ("adaln_single.linear.weight", "PixArt"),
        ("lora_unet_mid_block_attentions_0_proj_in.lora_down.weight", "LoRA"),
        ("control_model.zero_convs.0.0.weight", "ControlNet"),
        ("encoder.weight", "is not a Stable Diffusion model: it has no"),
    ],
)
def test_single_files_of_other_kinds(key, kind, tmp_path):
    save_file({key: np.zeros(1, np.float32)}, tmp_path / "model.safetensors")
    fails(tmp_path / "model.safetensors", kind)


@pytest.mark.parametrize(
    ("prefix", "message"),
    [
        ("first_stage_model.decoder.", "its autoencoder lacks"),
        ("conditioner.", "it holds no text encoder"),
        ("model.diffusion_model.out.", "it lacks parts of a Stable Diffusion UNet"),
    ],
)
def test_a_single_file_without_a_part(prefix, message, tmp_path):
    tensors = load_file(original_file(GOLDEN / "xl_small", tmp_path / "model.safetensors"))
    kept = {k: v for k, v in tensors.items() if not k.startswith(prefix)}
    save_file(kept, tmp_path / "part.safetensors")
    options = FileOptions(config=GOLDEN / "xl_small")
    fails(tmp_path / "part.safetensors", f"part.safetensors: {message}", file_options=options)


def test_sources_that_are_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    fails("nowhere.safetensors", "there is no file nowhere", FileNotFoundError)
    fails("no-such-folder", "neither a folder nor a hub id", FileNotFoundError)
    fails("owner/no-such-model", "is not on this machine", FileNotFoundError)
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    fails(tmp_path / "model.gguf", "must end in .safetensors or .ckpt")


WRONG = (None, True, -1, 0, 1.5, 10**9, "x", [], [1], {}, {"a": 1}, float("nan"))


@pytest.mark.parametrize(
    ("file", "keys"),
    [
        ("unet/config.json", ("in_channels", "norm_num_groups", "norm_eps", "attention_head_dim",
                              "sample_size", "addition_time_embed_dim", "cross_attention_dim")),
        ("text_encoder_2/config.json", ("vocab_size", "hidden_size", "num_attention_heads")),
        ("tokenizer_2/tokenizer_config.json", ("pad_token",)),
        ("scheduler/scheduler_config.json", ("num_train_timesteps", "beta_start")),
    ],
)  # fmt: skip
def test_values_of_a_wrong_type_or_size_are_named(file, keys, folder):
    config = folder / file
    values = json.loads(config.read_text())
    for key in keys:
        for value in WRONG:
            config.write_text(json.dumps(values | {key: value}))
            with contextlib.suppress(ValueError):  # some stand for the default, none is a crash
                stable_diffusion.read_parts(folder)
        config.write_text(json.dumps(values | {key: {"a": 1}}))
        fails(folder, str(config.parent))


def test_weights_that_are_integers(folder):
    path = folder / "unet" / WEIGHTS
    tensors = load_file(path)
    whole = np.zeros(tensors["conv_out.bias"].shape, np.int8)
    save_file(tensors | {"conv_out.bias": whole}, path)
    fails(folder, r"weights of SDUNet must be real numbers: conv_out.bias \(int8\)")


@pytest.mark.parametrize(
    ("file", "dtype"),
    [(f"unet/{WEIGHTS}", np.float16), (f"vae/{WEIGHTS}", np.float32),
     ("text_encoder_2/model.safetensors", np.float64)],
)  # fmt: skip
@pytest.mark.parametrize("number", [np.nan, -np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite(file, dtype, number, folder):
    tensors = {key: value.astype(dtype) for key, value in load_file(folder / file).items()}
    name = sorted(tensors)[3]
    tensors[name].flat[-1] = number
    save_file(tensors, folder / file)
    fails(folder, f"weights of [A-Z]\\w+ must be finite: {name}$")


@pytest.mark.parametrize("number", [-1, 2**31, 1.5, "x", None])
def test_ids_of_a_vocabulary(number, tmp_path):
    (tmp_path / "vocab.json").write_text(json.dumps({"a": 0, "b": number}))
    (tmp_path / "merges.txt").write_text("a b\n")
    with pytest.raises(ValueError, match=r"the ids in vocab.json must be integers") as caught:
        clip_tokenizer.read_vocabulary(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "file",
    [*(f"{part}/config.json" for part in ("unet", "vae", "text_encoder")), "model_index.json",
     "scheduler/scheduler_config.json", "tokenizer/tokenizer_config.json"],
)  # fmt: skip
@pytest.mark.parametrize("text", ["", "[]", "{", "null", "[" * 100_000, '{"a":' * 100_000])
def test_json_that_is_damaged_or_nested_without_end(file, text, folder):
    (folder / file).write_text(text)
    with pytest.raises(ValueError, match=r"(not|no|a) JSON") as caught:
        stable_diffusion.read_parts(folder)
    assert str(caught.value).count(str(folder / file)) == 1


@pytest.mark.parametrize("text", ["", "[]", "null", '"x"', '{"a":', "\ufeff{}"])
def test_damaged_json_of_a_tokenizer(text, folder):
    for name in ("tokenizer_config.json", "tokenizer.json"):
        path = folder / "tokenizer" / name
        before = path.read_text() if path.is_file() else None
        path.write_text(text, encoding="utf-8")
        fails(folder, "tokenizer")
        path.unlink() if before is None else path.write_text(before)
