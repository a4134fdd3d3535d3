"""Stable Diffusion against the numbers that diffusers 0.42.1 recorded on random weights."""

import functools
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file
from sd_files import GOLDEN, PROMPTS, WEIGHTS, error, original_file, reference
from torch_files import write_torch

from dg2_jax.diffusion import prediction, solver_table
from dg2_jax.diffusion.stepping import Stepping
from dg2_jax.interop import stable_diffusion
from dg2_jax.interop.hf_folder import read_weights
from dg2_jax.interop.stable_diffusion.folder import STEM, files_to_fetch
from dg2_jax.interop.stable_diffusion.parts import unet_parameter
from dg2_jax.interop.stable_diffusion.scheduler import parse_scheduler
from dg2_jax.interop.stable_diffusion.unet_config import parse_unet
from dg2_jax.interop.weights import load_params
from dg2_jax.nn.abstract import abstract
from dg2_jax.nn.sd_unet import SDUNet

NAMES = ("sd1_tiny", "sd2_small", "xl_small")


@pytest.fixture(scope="module", params=NAMES)
def name(request):
    return request.param


@functools.cache
def loaded(name):
    return stable_diffusion.load(GOLDEN / name)


@pytest.fixture(scope="module")
def model(name):
    return loaded(name)


def guided_ddim(model, x, prompt, negative, steps, scale):
    """The sampling that the recorded run did, with this model's scheduler."""
    context, pooled = model.encode([prompt, negative])
    table = model.scheduler.table(steps)
    state = solver_table.init(jnp.asarray(x))
    for i in range(steps):
        pair = jnp.concatenate([state.x, state.x])
        given, free = model.apply(model.params, pair, table.timestep[i], context, pooled)[:, None]
        output = free + scale * (given - free)
        level = (float(table.alpha[i]), float(table.sigma[i]))
        x0 = prediction.to_x0(model.prediction_type, state.x, output, *level)
        matrix = jnp.asarray(table.matrix[i], jnp.float32)
        state = solver_table.step(state, matrix, x0, jnp.zeros_like(x0))
    return state.x


def test_contexts(model, name):
    expected = reference(name)
    context, pooled = model.encode(PROMPTS)
    assert error(context, expected["context"]) < 1e-4
    assert (pooled is None) == ("pooled" not in expected)
    if pooled is not None:
        assert error(pooled, expected["pooled"]) < 1e-4


@pytest.mark.parametrize("name", ["sd2_small", "xl_small"], indirect=True)
def test_clip_skip(name):
    context, _ = loaded(name).encode(PROMPTS, clip_skip=1)
    assert error(context, reference(name)["context_clip_skip"]) < 1e-4


def test_unet(model, name):
    given = reference(name)
    extra = given.get("pooled"), given.get("time_ids")
    output = model.apply(model.params, given["x"], given["t"], given["context"], *extra)
    assert error(output, given["unet"]) < 1e-4


def test_unet_on_a_latent_that_is_not_square():
    given = reference("sd1_tiny")
    model = loaded("sd1_tiny")
    output = model.apply(model.params, given["x_wide"], 321, given["context"][:1])
    assert error(output, given["unet_wide"]) < 1e-4


def test_unet_with_mask_channels_a_guidance_input_and_levels_that_do_not_mirror():
    given, folder = reference("inpaint_small"), GOLDEN / "inpaint_small" / "unet"
    config = parse_unet(json.loads((folder / "config.json").read_text()))
    unet = abstract(lambda rngs: SDUNet(config, rngs=rngs))
    load_params(unet, load_file(folder / WEIGHTS), unet_parameter)
    guidance = jnp.asarray(given["guidance_scale"])

    @jax.jit
    def run(x, t, context):
        return unet(x, t, unet.project_context(context, guidance=guidance))

    output = run(given["x"], given["t"].astype(np.int32), given["context"])
    assert error(output, given["unet"]) < 1e-4


def test_a_whole_guided_run_and_its_picture(model, name):
    given = reference(name)
    steps, scale = (8, 5.0) if name == "sd1_tiny" else (5, 4.0)
    latent = guided_ddim(model, given["noise"], *PROMPTS[:2], steps, scale)
    assert error(latent, given["ddim_latent"]) < 1e-3
    picture = model.vae.decode(model.vae.unscale(latent))
    assert error(picture, given["ddim_image"].astype(np.float32)) < 1e-3


def test_unet_between_two_timesteps():
    given, between = (reference("sd2_small", f"{file}.npz") for file in ("reference", "between"))
    model = loaded("sd2_small")
    output = model.apply(model.params, given["x"], between["t"], given["context"])
    assert error(output, between["unet"]) < 1e-4


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("sd2_small", "controlnet_sd2"),
        ("xl_small", "controlnet_xl"),
        ("xl_small", "controlnet_xl_plain"),
    ],
    indirect=["name"],
)
def test_controlnet(name, kind):
    model = loaded(name)
    given, steered = reference(name), reference(kind)
    control = model.load_controlnet(GOLDEN / kind)
    inputs = given["x"], given["t"], given["context"]
    extra = given.get("pooled"), given.get("time_ids")
    residuals = control.apply(control.params, *inputs, steered["image"] / 255, 0.7, *extra)
    output = model.apply(model.params, *inputs, *extra, residuals=residuals)
    assert error(output, steered["unet"]) < 1e-4
    assert error(output, given["unet"]) > 1e-2


def test_a_controlnet_of_another_model_is_refused():
    model = loaded("xl_small")
    with pytest.raises(ValueError, match=r"cross_attention_dim is 16, that of .* 40"):
        model.load_controlnet(GOLDEN / "controlnet_sd2")
    control = stable_diffusion.load_controlnet(GOLDEN / "controlnet_sd2")
    with pytest.raises(ValueError, match="must be 8 x 8 pixels for these latents, got 9 x 8"):
        control.apply(
            control.params, np.zeros((1, 4, 4, 4)), 0, np.zeros((1, 7, 16)), np.zeros((1, 9, 8, 3))
        )


def test_latents_that_are_normalised_by_channel(tmp_path):
    folder = shutil.copytree(GOLDEN / "xl_small", tmp_path / "xl")
    config = folder / "vae" / "config.json"
    mean, std = [0.1, -0.2, 0.3, 0.0], [1.1, 0.7, 0.9, 2.0]
    changes = {"latents_mean": mean, "latents_std": std, "scaling_factor": 0.5}
    config.write_text(json.dumps({**json.loads(config.read_text()), **changes}))
    vae, plain = stable_diffusion.load(folder).vae, loaded("xl_small").vae
    latents = jnp.asarray(np.random.default_rng(0).normal(size=(1, 4, 6, 4)), jnp.float32)
    # As diffusers' pipeline of XL decodes.
    m, s = (jnp.reshape(jnp.asarray(values), (1, 1, 1, 4)) for values in (mean, std))
    expected = plain.decode(latents * s / 0.5 + m)
    assert error(vae.decode(vae.unscale(latents)), np.asarray(expected)) < 1e-4
    single = original_file(folder, tmp_path / "xl.safetensors")
    options = stable_diffusion.FileOptions(config=folder)
    of_file = stable_diffusion.load(single, file_options=options).vae
    assert error(of_file.decode(of_file.unscale(latents)), np.asarray(expected)) < 1e-4


def test_no_prompt_is_zeros_where_the_model_says_so():
    xl, sd = (loaded(name) for name in ("xl_small", "sd2_small"))
    context, pooled = xl.encode([None, ""])
    assert [bool(np.any(row)) for row in (*context, *pooled)] == [False, True] * 2
    context, pooled = sd.encode([None, ""])
    assert pooled is None
    np.testing.assert_array_equal(context[0], context[1])


def test_long_prompts_go_in_chunks_and_break_begins_one():
    model = loaded("xl_small")
    lake, dawn, empty = model.encode(["a lake", "at dawn", ""])[0]
    context, pooled = model.encode(["a lake BREAK at dawn", "a lake"])
    np.testing.assert_allclose(context[0], np.concatenate([lake, dawn]), atol=1e-5)
    np.testing.assert_allclose(context[1], np.concatenate([lake, empty]), atol=1e-5)
    np.testing.assert_allclose(pooled[0], pooled[1], atol=1e-5)
    words = ["lake"] * 80  # "lake" is one token
    context, _ = model.encode([" ".join(words), " ".join(words[:75])])
    rest = model.encode([" ".join(words[75:])])[0][0]
    np.testing.assert_allclose(context[0], np.concatenate([context[1, :77], rest]), atol=1e-5)


def test_where_tokens_stand_in_their_prompts():
    encoders = loaded("xl_small").text
    prompts = ["a lake BREAK at dawn", " ".join(["lake"] * 80)]
    offsets = encoders.offsets(prompts)
    assert offsets.shape == (2, 2 * 77, 2)
    words = [[prompt[i:j] for i, j in row] for prompt, row in zip(prompts, offsets, strict=True)]
    # "a" and "at" are tokens of the small vocabulary, as are "lake" and "dawn".
    assert words[0][:5] == ["", "a", "lake", "", ""]
    assert words[0][77:82] == ["", "at", "dawn", "", ""]
    assert [word for word in words[1] if word] == ["lake"] * 80
    assert words[1][75:79] == ["lake", "", "", "lake"]


def test_time_ids_are_the_size_of_the_latents_unless_given():
    given, model = reference("xl_small"), loaded("xl_small")
    x = given["x"][:1]
    size = [2 * x.shape[1], 2 * x.shape[2]]
    rest = given["t"][:1], given["context"][:1], given["pooled"][:1]
    spelt = model.apply(model.params, x, *rest, np.array([[*size, 0, 0, *size]]))
    np.testing.assert_array_equal(model.apply(model.params, x, *rest), spelt)
    with pytest.raises(ValueError, match="needs pooled and time_ids"):
        model.apply(model.params, x, *rest[:2])
    with pytest.raises(ValueError, match="x must have 4 channels, got 5"):
        model.apply(model.params, np.zeros((1, 8, 8, 5)), *rest)


def test_half_precision_is_kept_and_close(tmp_path):
    folder = shutil.copytree(GOLDEN / "xl_small", tmp_path / "xl")
    full = stable_diffusion.load(folder)
    for path, stem in ((folder / "unet", STEM), *((p, "model") for p in folder.glob("text_*"))):
        held = load_file(path / f"{stem}.safetensors")
        halves = {k: v.astype(np.float16) for k, v in held.items()}
        save_file(halves, path / f"{stem}.fp16.safetensors")
        (path / f"{stem}.safetensors").unlink()
    seen = []
    half = stable_diffusion.load(folder, on_progress=lambda *args: seen.append(args))
    leaves = jax.tree.leaves((half.params, half.text.params))
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype(jnp.float16)}
    everything = leaves + jax.tree.leaves(nnx.to_pure_dict(nnx.state(half.vae)))
    assert seen[-1][0] == seen[-1][1] == sum(leaf.nbytes for leaf in everything)
    assert [a for a, _ in seen] == sorted(a for a, _ in seen)
    given = reference("xl_small")
    inputs = given["x"], given["t"], given["context"], given["pooled"], given["time_ids"]
    assert error(half.apply(half.params, *inputs), given["unet"]) < 5e-3
    assert error(half.encode(PROMPTS)[0], given["context"]) < 5e-3
    wide = stable_diffusion.load(folder, dtype=jnp.float32, variant="fp16")
    assert {leaf.dtype for leaf in jax.tree.leaves(wide.params)} == {jnp.dtype(jnp.float32)}
    bfloat = stable_diffusion.load(folder, dtype=jnp.bfloat16, compute_dtype=jnp.bfloat16)
    assert bfloat.apply(bfloat.params, *inputs).dtype == jnp.float32
    assert error(bfloat.apply(bfloat.params, *inputs), given["unet"]) < 0.1
    assert full.config == half.config


def test_shards_and_bin_files_hold_the_same(tmp_path):
    tensors = load_file(GOLDEN / "sd2_small" / "unet" / WEIGHTS)
    names = sorted(tensors)
    halves = names[: len(names) // 2], names[len(names) // 2 :]
    sharded, legacy, parts = (tmp_path / name for name in ("sharded", "legacy", "parts"))
    for folder in (sharded, legacy, parts):
        folder.mkdir()
    files = [f"{STEM}-0000{i}-of-00002" for i in (1, 2)]
    for file, keys in zip(files, halves, strict=True):
        save_file({key: tensors[key] for key in keys}, sharded / f"{file}.safetensors")
        write_torch(parts / f"{file}.bin", {key: tensors[key] for key in keys})
    for folder, ending in ((sharded, "safetensors"), (parts, "bin")):
        index = {
            k: f"{file}.{ending}" for file, keys in zip(files, halves, strict=True) for k in keys
        }
        text = json.dumps({"metadata": {}, "weight_map": index})
        (folder / f"{STEM}.{ending}.index.json").write_text(text)
    write_torch(legacy / f"{STEM}.bin", tensors)
    for folder in (sharded, legacy, parts):
        read = read_weights(folder, STEM)
        assert read.keys() == tensors.keys()
        for key, value in tensors.items():
            np.testing.assert_array_equal(read[key], value)
    (parts / f"{files[0]}.bin").unlink()
    with pytest.raises(FileNotFoundError, match=files[0]):
        read_weights(parts, STEM)
    with pytest.raises(FileNotFoundError, match="no weights of the variant 'fp16'"):
        read_weights(legacy, STEM, "fp16")


def test_what_is_fetched_of_a_model_on_the_hub():
    files = [
        *("README.md", "model_index.json", "v1-5.ckpt", "v1-5.safetensors"),
        *("unet/config.json", f"unet/{STEM}.bin", f"unet/{STEM}.fp16.safetensors"),
        *(f"unet/{STEM}.safetensors", f"unet/{STEM}.non_ema.safetensors"),
        *("vae/config.json", f"vae/{STEM}.fp16.safetensors", f"vae/{STEM}.bin"),
        *("text_encoder/config.json", "text_encoder/pytorch_model.bin"),
        *("text_encoder/pytorch_model.fp16.bin", "safety_checker/model.safetensors"),
        *("tokenizer/vocab.json", "tokenizer/merges.txt", "scheduler/scheduler_config.json"),
        *(f"text_encoder_2/model-0000{i}-of-00002.safetensors" for i in (1, 2)),
        *(f"text_encoder_2/model.fp16-0000{i}-of-00002.safetensors" for i in (1, 2)),
        "text_encoder_2/model.safetensors.index.json",
    ]
    left_out = [
        *("README.md", "v1-5.ckpt", "v1-5.safetensors", f"unet/{STEM}.bin"),
        *(f"unet/{STEM}.fp16.safetensors", f"unet/{STEM}.non_ema.safetensors"),
        *(f"vae/{STEM}.fp16.safetensors", "text_encoder/pytorch_model.fp16.bin"),
        "safety_checker/model.safetensors",
        *(f"text_encoder_2/model.fp16-0000{i}-of-00002.safetensors" for i in (1, 2)),
    ]
    assert sorted([*files_to_fetch(files), *left_out]) == sorted(files)
    halves = files_to_fetch(files, "fp16")
    assert {f"{part}/{STEM}.fp16.safetensors" for part in ("unet", "vae")} < set(halves)
    assert f"unet/{STEM}.safetensors" not in halves
    assert "text_encoder/pytorch_model.fp16.bin" in halves


def test_scheduler_configurations():
    base = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
    pndm = parse_scheduler({**base, "_class_name": "PNDMScheduler", "steps_offset": 1})
    assert (pndm.stepping.spacing, pndm.solver) == ("leading", "dpmpp_2m")
    assert pndm.timesteps(4).tolist() == [751, 501, 251, 1]
    assert pndm.stepping.final_alpha_bar == pndm.schedule.alpha_bar[0] == pytest.approx(0.99915)
    euler = parse_scheduler({**base, "_class_name": "EulerDiscreteScheduler"})
    assert (euler.stepping, euler.solver) == (Stepping("linspace"), "euler")
    ddim = {**base, "_class_name": "DDIMScheduler", "prediction_type": "v_prediction"}
    assert parse_scheduler({**ddim, "rescale_betas_zero_snr": True}).schedule.is_zero_terminal
    assert parse_scheduler(ddim, zero_terminal_snr=True).schedule.is_zero_terminal
    assert not parse_scheduler(ddim).schedule.is_zero_terminal
    assert parse_scheduler(ddim, "sample").prediction_type == "sample"
    lcm = parse_scheduler({**base, "_class_name": "LCMScheduler"})
    assert (lcm.solver, lcm.stepping.final_alpha_bar) == ("lcm", 1.0)
    # As diffusers 0.42.1 has them.
    assert lcm.timesteps(4).tolist() == [999, 759, 499, 259]
    assert lcm.timesteps(7).tolist() == [999, 859, 719, 579, 439, 299, 159]
    with pytest.raises(ValueError, match="num_inference_steps must be an integer from 1 to 50"):
        lcm.timesteps(51)
    given = parse_scheduler({"trained_betas": [0.1, 0.2, 0.5]})
    np.testing.assert_allclose(given.schedule.alpha_bar, [0.9, 0.72, 0.36])
    assert parse_scheduler({"_class_name": "TCDScheduler"}).stepping.spacing == "leading"
    # Euler does not clip, but configurations handed from another class keep the key.
    assert parse_scheduler({"_class_name": "EulerDiscreteScheduler", "clip_sample": True})
    for values, message in (
        ({"_class_name": "EulerDiscreteScheduler", "timestep_type": "continuous"}, '"discrete"'),
        ({"_class_name": "EulerDiscreteScheduler", "sigma_max": 80.0}, "sigma_max must be null"),
        ({"_class_name": "ScoreSdeVeScheduler"}, "its scheduler is a ScoreSdeVeScheduler"),
        ({"_class_name": ["DDIMScheduler"]}, "_class_name must be a text"),
        ({"set_alpha_to_one": "no"}, "set_alpha_to_one must be true or false, got 'no'"),
        ({"final_sigmas_type": "x"}, "final_sigmas_type must be"),
        ({"_class_name": "FlowMatchEulerDiscreteScheduler"}, "FlowMatchEuler"),
        ({"clip_sample": True}, "clip_sample must be false"),
        ({"rescale_betas_zero_snr": True}, "needs prediction_type v_prediction"),
        ({"beta_schedule": "sigmoid"}, "beta_schedule must be .* got 'sigmoid'"),
        ({"timestep_spacing": "middle"}, "timestep_spacing must be"),
        ({"prediction_type": "flow"}, "prediction_type must be"),
    ):
        with pytest.raises(ValueError, match=message):
            parse_scheduler(values)
