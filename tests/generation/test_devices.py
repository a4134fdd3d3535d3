"""A pipeline on several devices: they divide its batches, and pictures are those of one device."""

import os
import subprocess
import sys

import numpy as np
import pytest

CALLS = {
    "txt2img": {"num_images": 4, "guidance_scale": 3.0},
    "unguided": {"num_images": 4, "guidance_scale": 1.0, "solver": "unipc"},
    "two": {"num_images": 2, "guidance_scale": 3.0, "preview_mode": "vae"},
    "not divided": {"num_images": 1, "guidance_scale": 3.0},
    "masked": {"num_images": 4, "image": "image", "mask": "mask", "strength": 0.7},
    "reused": {"num_images": 4, "reuse_every": 2},
    "anagram": {
        "num_images": 4,
        "prompt": None,
        "anagram": [["a lake", "identity"], ["x", "rot180"]],
    },
    "second pass": {"num_images": 4, "hires_size": (64, 64)},
}
QUANTIZED = {"prompt": "a lake", "num_images": 4, "num_inference_steps": 3}
STREAMED = [
    {"prompt": "a lake", "num_inference_steps": 4, "num_images": 3},
    {"prompt": "dunes", "num_inference_steps": 3, "solver": "ddim", "seed": 9, "num_images": 3},
    {"prompt": "a volcano", "guidance_scale": 1.0, "seed": 5, "num_images": 4},
]
SCRIPT = """
import sys
import jax, numpy as np
from dg2_jax import Pipeline
from dg2_jax.serve.models import load_pipeline
from tests.generation import test_devices

pipe = Pipeline.load(sys.argv[1])
spread = load_pipeline(sys.argv[1])  # as a worker does
assert spread.model.mesh.size == 4
small, small_spread = pipe.quantized("int8"), load_pipeline(sys.argv[1], "int8")
np.savez(
    sys.argv[2],
    **{f"one {name}": images for name, images in test_devices.pictures(pipe)},
    **{f"four {name}": images for name, images in test_devices.pictures(spread)},
    **{"one quantized": small(**test_devices.QUANTIZED).images},
    **{"four quantized": small_spread(**test_devices.QUANTIZED).images},
    flops=[test_devices.flops_of_a_batch(p) for p in (pipe, spread)],
)
"""


def pictures(pipe):
    """The pictures of all calls, each by itself, and of those that share batches."""
    drawn = np.random.default_rng(0)
    image = drawn.integers(0, 256, (32, 32, 3)).astype(np.uint8)
    given = {"image": image, "mask": np.tril(np.full((32, 32), 255, np.uint8))}
    for name, call in CALLS.items():
        call = {key: given.get(key, value) for key, value in call.items()}
        seen = []
        call = {"prompt": "a lake", "num_inference_steps": 3, **call}
        yield (
            name,
            pipe(
                **call, on_preview=lambda p, seen=seen: seen.append(p.images), preview_every=1
            ).images,
        )
        yield f"{name}, previews", np.concatenate([shown.ravel() for shown in seen])
    for number, result in pipe.stream(STREAMED, size=8):
        yield f"stream {number}", result.images


def flops_of_a_batch(pipe):
    """Operations of one device for a row of four guided pictures that share a batch."""
    import jax

    from dg2_jax.generation import packed

    captured = []
    inner, packed.advance = packed.advance, lambda *args: captured.append(args) or inner(*args)
    list(pipe.stream([{"prompt": "a lake", "num_images": 4, "num_inference_steps": 1}], size=8))
    packed.advance = inner
    compiled = jax.jit(packed.advanced, static_argnums=0).lower(*captured[0]).compile()
    return compiled.cost_analysis()["flops"]


@pytest.fixture(scope="module")
def made(folder, tmp_path_factory):
    file = tmp_path_factory.mktemp("devices") / "made.npz"
    flags = os.environ["XLA_FLAGS"] + " --xla_force_host_platform_device_count=4"
    command = [sys.executable, "-c", SCRIPT, str(folder), str(file)]
    subprocess.run(command, env=os.environ | {"XLA_FLAGS": flags}, check=True)
    return np.load(file)


def test_four_devices_make_the_pictures_of_one(made):
    """At most one grey level of difference, in at most 0.01% of the values."""
    names = [name.removeprefix("one ") for name in made if name.startswith("one ")]
    assert len(names) == 2 * len(CALLS) + len(STREAMED) + 1
    off = {n: np.abs(made[f"one {n}"].astype(int) - made[f"four {n}"]) for n in names}
    assert {name: values.max() for name, values in off.items() if values.max() > 1} == {}
    assert np.mean(np.concatenate([values.ravel() for values in off.values()]) > 0) <= 1e-4


def test_each_device_does_its_share(made):
    one, four = made["flops"]
    assert four < 0.4 * one
