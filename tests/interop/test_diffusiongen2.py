"""DiffusionGen2 against numbers recorded from the published PyTorch code."""

import importlib
import json
import math
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from dg2_jax import config
from dg2_jax.diffusion import denoiser, sampling, schedules, solver_table, solvers
from dg2_jax.interop import diffusiongen2
from dg2_jax.interop.torch_checkpoint import CheckpointError, read_safetensors
from dg2_jax.models import dg2_import as dg2_folder
from dg2_jax.nn.abstract import abstract
from dg2_jax.nn.dg2_unet import DG2UNet, DG2UNetConfig
from dg2_jax.training.runs import DenoiserRunConfig
from tests.interop.published import rewritten

GOLDEN = Path(__file__).parent.parent / "golden"
TINY = GOLDEN / "dg2_tiny_velocity_curved.pt"


@pytest.fixture(scope="module")
def loaded():
    return diffusiongen2.load(TINY)


@pytest.fixture(scope="module")
def recorded():
    with np.load(GOLDEN / "dg2_tiny_velocity_curved.npz") as file:
        arrays = dict(file)
    return {k: v.transpose(0, 2, 3, 1) if v.ndim == 4 else v for k, v in arrays.items()}


def test_settings_come_from_the_file(loaded):
    assert loaded.config.unet.channels == (16, 24, 32)
    assert loaded.config.unet.n_heads == 4
    assert loaded.prediction_type == "v_prediction"
    assert loaded.schedule.name == "curved"


@pytest.mark.parametrize("weights", ["raw", "ema"])
def test_outputs_are_those_of_the_original(loaded, recorded, weights):
    t = jnp.asarray(recorded["t"], jnp.int32)
    params = getattr(loaded, weights)
    found = loaded.apply(params, jnp.asarray(recorded["x"]), t, jnp.asarray(recorded["prompt"]))
    np.testing.assert_allclose(found, recorded[f"unet_{weights}"], rtol=0, atol=2e-5)


def test_the_base_configuration_wants_the_published_names_and_shapes():
    published = json.loads((GOLDEN / "dg2_base_state_dict_shapes.json").read_text())
    base = DG2UNetConfig(legacy_time_table=True)
    unet = abstract(lambda rngs: DG2UNet(base, rngs=rngs))
    state = nnx.to_pure_dict(nnx.state(unet))
    found = {
        ".".join(map(str, k)).replace(".kernel", ".weight").replace(".scale", ".weight"): v.shape
        for k, v in flat(state)
    }
    # (out, in, 1, 1) becomes (in, out), and so on: the same axes in another order.
    wanted = {
        diffusiongen2.parameter_name(key): shape
        for key, shape in published.items()
        if diffusiongen2.parameter_name(key) is not None
    }
    assert found.pop("time_table") == (math.prod(wanted.pop("time_table")),)
    assert {k: axes(v) for k, v in found.items()} == {k: axes(v) for k, v in wanted.items()}
    assert sum(map(math.prod, found.values())) == pytest.approx(354.25e6, abs=0.01e6)


def axes(shape):
    return sorted(n for n in shape if n > 1)


def flat(tree, path=()):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from flat(value, (*path, key))
        else:
            yield (*path, key), value


def guided(loaded, recorded, batch, *prompts):
    """x0 under guidance 5 from the noise predictions, view 2 turned by 180 degrees."""
    unet = nnx.merge(loaded.graphdef, loaded.ema)

    def project(name):
        context = jnp.asarray(recorded[name])
        return unet.project_context(jnp.repeat(context, batch, axis=0))

    negative = project("negative")
    contexts = [project(p) for p in prompts]

    def network(x, t, conditioning):
        outputs = []
        for i, context in enumerate(conditioning[1:]):
            seen = jnp.rot90(x, 2 * i, axes=(1, 2))
            u, c = unet(seen, t, conditioning[0]), unet(seen, t, context)
            outputs.append(jnp.rot90(u + 5.0 * (c - u), -2 * i, axes=(1, 2)))
        return sum(outputs) / len(outputs)

    return denoiser.of_network(network, loaded.prediction_type), (negative, *contexts)


def run(loaded, recorded, solver, timesteps, x, *prompts):
    denoise, conditioning = guided(loaded, recorded, len(x), *prompts)
    table = solvers.make_table(solver, loaded.schedule, timesteps)
    matrix = table.matrix.copy()
    matrix[:, :, solver_table.Z] = 0.0
    keys = sampling.image_keys(jnp.arange(len(x)))
    return sampling.sample(denoise, conditioning, x, table._replace(matrix=matrix), keys)


@pytest.mark.parametrize(
    ("name", "prompts"), [("ddim_txt2img", ["prompt1"]), ("ddim_anagram", ["prompt1", "prompt2"])]
)
def test_ddim_trajectories(loaded, recorded, name, prompts):
    found = run(
        loaded, recorded, "ddim", schedules.timesteps(8), jnp.asarray(recorded["noise"]), *prompts
    )
    np.testing.assert_allclose(found, recorded[name], rtol=0, atol=1e-3)


def test_ddim_from_an_image(loaded, recorded):
    start = int(0.6 * 999)
    timesteps = np.round(np.linspace(start, 0, 8)).astype(np.int64)
    alpha, sigma = loaded.schedule.alpha[start], loaded.schedule.sigma[start]
    x = jnp.asarray(alpha * recorded["init_latent"] + sigma * recorded["noise"], jnp.float32)
    found = run(loaded, recorded, "ddim", timesteps, x, "prompt1")
    np.testing.assert_allclose(found, recorded["ddim_img2img"], rtol=0, atol=1e-3)


def test_ddpm_over_all_steps_without_noise(loaded, recorded):
    x = jnp.asarray(recorded["noise"])
    found = run(loaded, recorded, "ddpm", np.arange(999, -1, -1), x, "prompt1")
    np.testing.assert_allclose(found, recorded["ddpm_1000_zero_noise"], rtol=0, atol=1e-3)


def test_configuration_may_be_a_dictionary_and_optional_fields_may_be_missing(tmp_path, loaded):
    def change(content):
        del content["ema_state_dict"]
        content["config"]["unet"] = {
            k: v for k, v in content["config"]["unet"].items() if k not in ("T", "dropout")
        }
        content["config"]["unet"]["channels"] = [16, 24, 32]
        del content["config"]["diffusion"]["prediction_type"]
        content["model_state_dict"] = {
            f"_orig_mod.{k}": v for k, v in content["model_state_dict"].items()
        }

    found = diffusiongen2.load(rewritten(tmp_path / "a.pt", change))
    assert found.prediction_type == "epsilon"
    assert found.config.unet.channels == (16, 24, 32)
    kernel = loaded.raw["in_conv"]["kernel"][...]
    np.testing.assert_array_equal(found.ema["in_conv"]["kernel"][...], kernel)


@pytest.mark.parametrize("empty", [None, {}, "absent"])
def test_a_file_may_hold_the_average_alone(tmp_path, loaded, empty):
    def change(content):
        content["model_state_dict"] = empty
        if empty == "absent":
            del content["model_state_dict"]
        average = {f"module.{name}": v for name, v in content["ema_state_dict"].items()}
        content["ema_state_dict"] = average | {"n_averaged": np.int64([3])}

    path = rewritten(tmp_path / "a.pt", change)
    found = diffusiongen2.load(path)
    kernel = loaded.ema["in_conv"]["kernel"][...]
    np.testing.assert_array_equal(found.ema["in_conv"]["kernel"][...], kernel)
    np.testing.assert_array_equal(found.raw["in_conv"]["kernel"][...], kernel)
    dg2_folder.convert(path, tmp_path / "model")
    written = read_safetensors(tmp_path / "model" / "denoiser.ema.safetensors")
    np.testing.assert_array_equal(written["in_conv.kernel"], kernel)


@pytest.mark.parametrize(
    ("figures", "expected"),
    [
        ({"schedule": "linear", "beta2": 0.02}, schedules.linear(1000, 0.00085, 0.02)),
        ({"schedule": "curved", "beta1": 0.001}, schedules.curved(1000, 0.001)),
        ({"schedule": "cosine", "s": 0.02}, schedules.cosine_legacy(1000, 0.02)),
        ({"schedule": "sigmoid"}, schedules.shifted_cosine(1000)),
    ],
)
def test_schedules_without_a_name_keep_their_figures(tmp_path, figures, expected):
    def change(content):
        content["config"]["diffusion"].update(figures)
        for state in (content["model_state_dict"], content["ema_state_dict"]):
            for name in ("beta", "alpha"):
                del state[name]
            state["alpha_bar"] = expected.alpha_bar.astype(np.float32)
            state["sqrt_alpha_bar"] = expected.alpha.astype(np.float32)
            state["sqrt_one_minus_alpha_bar"] = expected.sigma.astype(np.float32)

    found = diffusiongen2.open_checkpoint(rewritten(tmp_path / "a.pt", change)).schedule
    assert found.name == "imported"
    np.testing.assert_allclose(found.alpha_bar, expected.alpha_bar, rtol=0, atol=1e-6)


@pytest.mark.parametrize("held", ["cosine_legacy", "linear"])
def test_other_schedules(tmp_path, held):
    expected = schedules.make(held)

    def change(content):
        content["config"]["diffusion"]["schedule"] = held.removesuffix("_legacy")
        tables = {
            "alpha_bar": expected.alpha_bar,
            "sqrt_alpha_bar": expected.alpha,
            "sqrt_one_minus_alpha_bar": expected.sigma,
        }
        for state in (content["model_state_dict"], content["ema_state_dict"]):
            state.update({k: v.astype(np.float32) for k, v in tables.items()})

    found = diffusiongen2.open_checkpoint(rewritten(tmp_path / "a.pt", change)).schedule
    assert found.name == held
    np.testing.assert_allclose(found.alpha_bar, expected.alpha_bar, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda c: c["model_state_dict"].update(extra=np.zeros(3, np.float32)),
            "no parameter for extra",
        ),
        (
            lambda c: c["ema_state_dict"].pop("unet.in_conv.bias"),
            r"ema weights.*no tensor for in_conv\.bias",
        ),
        (
            lambda c: c["model_state_dict"].update({"unet.in_conv.bias": np.zeros(17, np.float32)}),
            "wrong shapes",
        ),
        (lambda c: c["config"]["unet"].pop("n_heads"), r"unet\.n_heads"),
        (lambda c: c["config"]["unet"].update(n_heads=5), "n_heads=5 must divide"),
        (lambda c: c["config"]["unet"].update(n_layers=10**9), "n_layers must be"),
        (lambda c: c["config"]["unet"].update(T=500), "must be one integer"),
        (lambda c: c["config"]["data"].update(vae_model_id=3), "vae_model_id must be text"),
        (
            lambda c: c["model_state_dict"].update(alpha_bar=np.ones(1000, np.float32)),
            "decreasing numbers",
        ),
        (lambda c: c["config"]["diffusion"].update(prediction_type="x"), "prediction_type must"),
        (
            lambda c: (c.pop("model_state_dict"), c.pop("ema_state_dict")),
            "no model_state_dict and no ema_state_dict",
        ),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, change, message):
    with pytest.raises(CheckpointError, match=message):
        diffusiongen2.load(rewritten(tmp_path / "a.pt", change))


def test_conversion_to_a_model_folder(tmp_path, loaded):
    dg2_folder.convert(TINY, tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    assert written["model"] == "dg2_unet"
    assert written["diffusion"] == {
        "schedule": "curved",
        "prediction_type": "v_prediction",
        "num_train_timesteps": 1000,
    }
    network = written["denoiser"]
    assert DG2UNetConfig(**network | {"channels": (16, 24, 32)}) == loaded.config.unet
    assert network["channels"] == [16, 24, 32]
    for weights in ("raw", "ema"):
        found = read_safetensors(tmp_path / f"denoiser.{weights}.safetensors")
        state = dict(flat(nnx.to_pure_dict(getattr(loaded, weights))))
        assert found.keys() == {".".join(map(str, k)) for k in state}
        for key, value in state.items():
            np.testing.assert_array_equal(found[".".join(map(str, key))], value)


@pytest.mark.parametrize(("name", "millions"), [("dg2_base", 354.25), ("dg2_toy", 34.5)])
def test_training_configurations(name, millions):
    values = importlib.import_module(f"configs.{name}").get_config().to_dict()
    built = config.from_mapping(DenoiserRunConfig, values).denoiser
    unet = abstract(lambda rngs: DG2UNet(built, rngs=rngs))
    size = sum(v.size for _, v in flat(nnx.to_pure_dict(nnx.state(unet))))
    assert size / 1e6 == pytest.approx(millions, abs=0.1)
