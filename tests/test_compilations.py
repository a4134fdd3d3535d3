"""What is compiled, and when: nothing once a batch size was seen; and what an import costs."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dg2_jax.diffusion.solvers import SOLVERS
from dg2_jax.pipeline import Pipeline

_COMPILED = "/jax/core/compile/backend_compile_duration"


@pytest.fixture
def compiled():
    """The programs that XLA compiled since the test began, or since the list was cleared."""
    found = []

    def listen(event, seconds, **about):
        if event == _COMPILED:
            found.append(about)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield found
    jax.monitoring.unregister_event_duration_listener(listen)


def test_the_count_sees_a_new_program_and_not_an_old_one(compiled):
    new = jax.jit(lambda x: 1.5 * x)
    new(np.ones(3, np.float32))
    assert len(compiled) == 1
    new(np.zeros(3, np.float32))
    assert len(compiled) == 1
    new(np.zeros(4, np.float32))
    assert len(compiled) == 2


CHANGES = {
    "steps and seed": {"num_inference_steps": 9, "seed": 77},
    "drawn seed": {"seed": None},
    "guidance": {"guidance_scale": 9.5, "guidance_rescale": 0.4},
    "projected guidance": {"apg_eta": 0.2, "apg_norm_threshold": 3.0, "apg_momentum": -0.3},
    "weights": {"weights": "raw"},
    "noise and spacing": {"solver": "ddim", "eta": 0.5, "spacing": "trailing"},
    "previews": {"on_preview": lambda shown: False, "preview_every": 1},
    "the model's own size": {"height": 32, "width": 32},
    **{solver: {"solver": solver} for solver in SOLVERS},
}


@pytest.mark.parametrize("images", [1, 2])
def test_other_values_compile_nothing(pipe, compiled, images):
    pipe("a lake", "fog", images, 3, guidance_scale=4.0)
    for name, change in CHANGES.items():
        compiled.clear()
        given = {"num_inference_steps": 4, "guidance_scale": 3.0, **change}
        made = pipe(f"the {name[:4]}", "rain", images, **given)
        assert len(made.images) == images
        assert compiled == [], name


PICTURE = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
HALF = np.repeat([[0.0, 1.0]], 16, axis=1).repeat(32, axis=0)
# What is asked first, and what then compiles nothing.
KINDS = {
    "edits": (
        {"image": PICTURE, "strength": 0.5},
        [
            {"image": 255 - PICTURE, "strength": 0.9, "mask": HALF},
            {"image": PICTURE, "mask": 1 - HALF, "solver": "ddpm", "num_resamples": 2},
            {"image": PICTURE, "strength": 0.7, "strength_mode": "full"},
            {"image": PICTURE, "outpaint": (0, 8, 8, 0), "strength": 1.0},
            {"image": PICTURE, "strength": 0.0},
            {},
        ],
    ),
    "a size": (
        {"height": 32, "width": 48},
        [
            {"height": 32, "width": 48, "solver": "heun", "seed": 3},
            {"height": 32, "width": 48, "on_preview": lambda shown: False, "preview_every": 1},
        ],
    ),
    "anagrams": (
        {"prompt": "", "anagram": [("a lake", "identity"), ("a hill", "rot90")]},
        [
            {
                "prompt": "", "anagram": [("hills", "jigsaw"), ("a river", "negate")],
                "anagram_mode": "corrected",
            },
        ],
    ),
    "variations": (
        {"variation_strength": 0.5},
        [{"variation_strength": 0.1, "variation_seed": 7}, {"variation_strength": 1.0, "seed": 2}],
    ),
    "a second pass": (
        {"hires_size": (64, 64), "hires_strength": 0.9},
        [
            {"hires_size": (64, 64), "hires_strength": 0.4, "hires_steps": 9, "seed": 4},
            {"hires_size": (64, 64), "hires_strength": 1.0, "solver": "heun"},
        ],
    ),
    "reuse": ({"reuse_every": 2}, [{"reuse_every": 3}, {"reuse_every": 1000, "solver": "heun"}]),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_other_data_of_a_task_compile_nothing(pipe, compiled, kind):
    first, others = KINDS[kind]
    pipe(**{"prompt": "a lake", "num_inference_steps": 3, **first})
    compiled.clear()
    for other in others:
        pipe(**{"prompt": "a river", "num_inference_steps": 4, **other})
        assert compiled == [], other


def test_previews_by_callback_are_one_program_for_all_watchers(pipe, compiled):
    called = Pipeline(pipe.model, pipe.text_encoder, preview_transport="callback")
    called("a lake", num_inference_steps=3, on_preview=lambda shown: False)
    compiled.clear()
    seen = []
    called("a river", num_inference_steps=5, on_preview=seen.append, preview_every=2, seed=4)
    assert len(seen) == 3
    assert compiled == []


def test_further_batches_compile_nothing(pipe, compiled):
    """17 pictures are a batch of 16 and one of 1; 33 are two and one."""
    pipe("a lake", "fog", 17, 2)
    compiled.clear()
    assert len(pipe("a river", "rain", 33, 3, seed=5).images) == 33
    assert compiled == []


def test_slots_compile_nothing_once_their_sizes_were_seen(pipe, compiled):
    """Of all that `CHANGES` names, source pictures and masks, in any mixture."""
    first = [{"prompt": "a lake", "num_inference_steps": 3, "image": PICTURE}] * 4
    for size in (1, 2, 4, 8):
        list(pipe.stream([{**request, "guidance_scale": 1.0} for request in first], size=size))
        list(pipe.stream(first, size=size))
    list(pipe.stream([{"prompt": "a lake", "variation_strength": 0.5, "num_inference_steps": 1}]))
    compiled.clear()
    changes = [change for name, change in CHANGES.items() if name != "previews"]
    requests = [
        *({"prompt": "a hill", "num_inference_steps": 4, **change} for change in changes),
        {"prompt": "a hill", "image": 255 - PICTURE, "mask": HALF, "strength": 0.8},
        {"prompt": "a hill", "guidance_interval": (0.2, 0.6)},
        {"prompt": "a hill", "guidance_scale": 1.0},
        {"prompt": "a hill", "variation_strength": 0.2},
    ]
    assert len(list(pipe.stream(requests, size=8))) == len(requests)
    assert compiled == []


def test_the_sampler_is_one_program(pipe, compiled):
    sample = pipe.sampler(num_inference_steps=3)
    keys = [jax.vmap(jax.random.key)(jnp.array([seed], jnp.uint32)) for seed in (1, 2)]
    params, text = pipe.model.params["ema"], pipe.encode(["a lake"], ["fog"])
    sample(params, text, keys[0])
    compiled.clear()
    sample(pipe.model.params["raw"], pipe.encode(["a river"], ["rain"]), keys[1])
    assert compiled == []


_IMPORT = """
import sys, time
start = time.process_time()
import dg2_jax
print(time.process_time() - start, *sorted({name.partition(".")[0] for name in sys.modules}))
"""


def test_an_import_takes_under_two_seconds():
    """Of processor time, which a busy machine disturbs least; names come when first used."""
    done = subprocess.run(
        [sys.executable, "-c", _IMPORT], capture_output=True, text=True, check=True
    )
    took, *modules = done.stdout.split()
    assert not {"jax", "flax", "orbax", "numpy"} & set(modules)
    assert float(took) < 2.0
