"""The declaration of the controls, and what the library derives from it."""

import dataclasses
import inspect
import math
from typing import get_type_hints

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dg2_jax import Pipeline, Settings
from dg2_jax.checks import ParameterError
from dg2_jax.controls import declaration, model_facts
from dg2_jax.controls.arguments import ARGUMENTS, declared
from dg2_jax.controls.keywords import Controls, SamplerControls
from dg2_jax.controls.values import Choice, Integer, Numbers, Pairs, Real, Text
from dg2_jax.models import folder
from dg2_jax.scripts import write_keywords
from dg2_jax.settings import NAMED, SAMPLER_GROUPS
from tests import tiny_model

CONTROLS = declaration.of(Settings)
ODD = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5),
    st.lists(st.floats(), max_size=5), st.just({}), st.just(10**400),
)  # fmt: skip


def test_the_keywords_of_type_checkers_are_those_of_the_declarations():
    """After a change of a control: python -m scripts.write_keywords."""
    assert write_keywords.PATH.read_text("utf-8") == write_keywords.source()
    hints = get_type_hints(Controls)
    assert set(hints) | {*NAMED} == set(CONTROLS)
    for name, kind in hints.items():
        assert kind == CONTROLS[name].python
    groups = {CONTROLS[name].group for name in get_type_hints(SamplerControls)}
    assert groups <= set(SAMPLER_GROUPS)
    assert set(inspect.signature(Pipeline.sampler).parameters) == {
        "self", *NAMED, *get_type_hints(SamplerControls),
    }  # fmt: skip


@pytest.mark.parametrize("name", declared())
def test_every_default_is_allowed_and_described(name):
    entry = declared()[name]
    assert entry.checked(entry.default) == entry.default
    for value in entry.kind_defaults.values():
        entry.checked(value)
    assert entry.help.endswith(".")
    assert set(entry.kinds) <= set(declaration.KINDS)


@given(name=st.sampled_from(sorted(declared())), value=ODD)
def test_what_is_not_allowed_is_refused_by_name(name, value):
    """A value is taken unchanged, or the error names the control; nothing else may happen."""
    refused = None
    try:
        taken = declared()[name].checked(value)
        assert taken == (tuple(value) if isinstance(value, list) else value)
    except ParameterError as error:
        refused = error
    if refused is not None:
        assert refused.name == name
        assert len(str(refused)) < 400


@pytest.mark.parametrize(
    "name", [n for n, c in declared().items() if isinstance(c.values, Integer | Real)]
)
def test_bounds_are_allowed_and_what_lies_outside_is_not(name):
    entry = declared()[name]
    for bound in (entry.values.low, entry.values.high):
        assert entry.checked(bound) == bound
    for beyond in (entry.values.low - 1, entry.values.high + 1, math.nan, math.inf):
        with pytest.raises(ParameterError) as caught:
            entry.checked(beyond)
        assert caught.value.name == name


@pytest.mark.parametrize(
    ("values", "text", "expected"),
    [
        (Integer(1, 9), "4", 4),
        (Real(-1.0, 1.0), "-0.5", -0.5),
        (Choice((2, 4)), "4", 4),
        (Text(), "5", "5"),
        (Numbers(Integer(0, 9), 2), "1,2", (1, 2)),
        (
            Pairs(2, 4, ("identity", "rot90")),
            "a: b:identity|c:rot90",
            (("a: b", "identity"), ("c", "rot90")),
        ),
    ],
)
def test_texts_are_read_as_values(values, text, expected):
    assert values.checked("x", values.parse(text)) == expected


def test_numpy_numbers_become_plain_ones():
    assert type(CONTROLS["num_inference_steps"].checked(np.int64(7))) is int
    assert type(CONTROLS["guidance_scale"].checked(np.float32(2.5))) is float


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"autoguidance_scale": 2.0}, "autoguidance_scale"),
        ({"guidance_interval": (0.8, 0.2)}, "guidance_interval"),
        ({"num_resamples": 2, "solver": "unipc"}, "num_resamples"),
        ({"num_resamples": 20, "num_inference_steps": 500, "solver": "ddim"}, "num_resamples"),
    ],
)
def test_controls_that_do_not_go_together_are_refused(fields, name):
    with pytest.raises(ParameterError) as caught:
        Settings(**fields)
    assert caught.value.name == name


def test_the_pipelines_signature_is_the_declaration():
    parameters = inspect.signature(Pipeline.__call__).parameters
    assert set(declared()) <= set(parameters)
    weights_choose = {"num_inference_steps", "guidance_scale", "solver"}  # None: theirs
    for name, entry in declared().items():
        if name not in weights_choose | {"seed"}:  # a call without a seed is reproducible
            assert parameters[name].default == entry.default, name
    sampler = set(inspect.signature(Pipeline.sampler).parameters) - {"self"}
    assert sampler == {n for n, c in CONTROLS.items() if c.group in SAMPLER_GROUPS}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    paths = {name: tmp_path_factory.mktemp("models") / name for name in tiny_model.DENOISERS}
    for architecture, path in paths.items():
        tiny_model.save(path, architecture)
    return paths


@pytest.fixture(scope="module")
def tiny(folders):
    return {name: folder.load(path) for name, path in folders.items()}


@pytest.mark.parametrize("architecture", tiny_model.DENOISERS)
def test_facts_of_a_configuration_are_those_of_the_loaded_model(tiny, architecture):
    model = tiny[architecture]
    facts = model_facts.from_config(model.name, model.config)
    assert facts == model_facts.facts_of(model)
    assert facts.has_deep_levels == model.has_deep_levels == (architecture == "unet")
    assert facts.latents == (model.latent_channels, model.prediction_type)


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"weights": "fast"}, "weights"),
        ({"num_inference_steps": 101}, "num_inference_steps"),
        ({"height": 40}, "height"),
        ({"width": 24}, "width"),
        ({"outpaint": (15, 0, 14, 0)}, "outpaint"),
        ({"outpaint": (0, 0, 0, 0)}, "outpaint"),
        ({"outpaint": (0, 16, 0, 16), "width": 64}, "outpaint"),
    ],
)
def test_what_a_model_cannot_do_is_refused_by_name(tiny, fields, name):
    facts = dataclasses.replace(model_facts.facts_of(tiny["unet"]), num_train_timesteps=100)
    with pytest.raises(ParameterError) as caught:
        facts.check(Settings(**fields))
    assert caught.value.name == name
    facts.check(Settings(height=64, width=48, outpaint=(15, 0, 14, 30), weights="raw"))


def test_facts_know_about_reuse_and_autoguidance(tiny):
    unet, dit = (model_facts.facts_of(tiny[name]) for name in ("unet", "dit"))
    unet.check(Settings(reuse_every=3))
    with pytest.raises(ParameterError, match="reuse_every must be 1"):
        dit.check(Settings(reuse_every=3))
    guided = Settings(autoguidance_model="other", autoguidance_scale=2.0)
    unet.check(guided, dit)
    other = dataclasses.replace(dit, latents=(8, "epsilon"))
    with pytest.raises(ParameterError, match="autoguidance_model must have 4 latent channels"):
        unet.check(guided, other)


def test_a_misspelt_name_is_told_what_was_meant(folders):
    pipe = Pipeline.load(folders["unet"])
    with pytest.raises(ParameterError, match=r"guidence_scale .* did you mean guidance_scale"):
        pipe("x", guidence_scale=3)
    with pytest.raises(ParameterError, match=r"promt .* did you mean prompt"):
        pipe(promt="x")
    with pytest.raises(ParameterError, match=r"strength is not a parameter of Pipeline\.sampler"):
        pipe.sampler(strength=0.5)


def test_call_controls_are_checked():
    assert set(ARGUMENTS) == {
        "prompt", "negative_prompt", "num_images", "seed", "preview_every", "preview_mode"
    }  # fmt: skip
