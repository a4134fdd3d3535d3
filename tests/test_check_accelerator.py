"""The accelerator check: every part by itself, failures reported, and a rehearsal on this CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dg2_jax.scripts.accelerator import batching, page, parity, record, subjects, supervision
from dg2_jax.scripts.accelerator.options import MODELS, PARTS
from dg2_jax.scripts.accelerator.record import Record

ROOT = Path(__file__).parents[1]
WRITES = "import json, sys; open(sys.argv[1], 'w').write(json.dumps({'what': 'a'}) + '\\n');"
WAYS = {
    "good": WRITES,
    "wrong": WRITES + "print('first'); sys.exit('error: no such device')",
    "killed": WRITES + "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "cut off": WRITES + "open(sys.argv[1], 'a').write('{\"what\"'); sys.exit(1)",
    "early": "raise ImportError('no jax')",
}


def command(name, file, seconds):
    return [sys.executable, "-c", WAYS[name], str(file)]


def test_a_part_that_fails_is_reported_and_the_others_go_on(tmp_path):
    found = dict(supervision.run(dict.fromkeys(WAYS, 1), command, tmp_path, 600))
    assert list(found) == list(WAYS)
    errors = {name: result.get("error") for name, result in found.items()}
    assert errors["good"] is None
    assert errors["wrong"] == "exit code 1: first: error: no such device"
    assert errors["killed"] == "signal 9"
    assert "ImportError: no jax" in errors["early"]
    cases = {name: result["cases"] for name, result in found.items()}
    assert cases == {name: [{"what": "a"}] if name != "early" else [] for name in WAYS}


def test_a_part_that_does_not_end_is_stopped(tmp_path):
    def forever(name, file, seconds):
        return [sys.executable, "-c", "import time; time.sleep(1000)"]

    ((name, result),) = supervision.run({"steps": 1}, forever, tmp_path, 1)
    assert name == "steps"
    assert result["error"] == "stopped after 1 s"


def test_a_part_gets_its_share_of_what_is_left(tmp_path):
    shares = []

    def noted(name, file, seconds):
        shares.append(seconds)
        return [sys.executable, "-c", ""]

    dict(supervision.run({"a": 1, "b": 3, "c": 4}, noted, tmp_path, 8000))
    assert shares[0] == pytest.approx(1000, rel=0.1)
    assert shares[1] == pytest.approx((8000) * 3 / 7, rel=0.1)  # a took next to nothing
    assert shares[2] == pytest.approx(8000, rel=0.1)


def test_a_case_that_fails_is_kept_as_its_error(tmp_path):
    def fail():
        raise MemoryError("out of\n  memory " + "x" * 1000)

    kept = Record(tmp_path / "cases", 600)
    kept.case({"batch": 64}, fail)
    kept.case({"batch": 1}, lambda seconds: {"step_s": seconds}, 0.5)
    first, second = record.read(tmp_path / "cases")
    assert first["error"].startswith("MemoryError: out of memory xxx")
    assert len(first["error"]) <= 300
    assert second == {"batch": 1, "step_s": 0.5}


def test_no_case_begins_that_would_end_too_late(tmp_path):
    times = iter([0.0, 10.0, 20.0, 20.0, 30.0, 35.0])
    kept = Record(tmp_path / "cases", 40.0, clock=lambda: next(times))
    for name in ("first", "second", "third"):
        kept.case({"what": name}, dict)
    reasons = [case.get("skipped") for case in record.read(tmp_path / "cases")]
    assert reasons == [None, None, "no time was left"]


def test_pictures_are_compared_in_decibels():
    expected = np.full((1, 4, 4, 3), 100, np.uint8)
    equal = parity.compare_pictures(expected, expected, "float32, exact")
    assert equal == {"levels": 0, "psnr": None, "as_expected": True}
    other = parity.compare_pictures(expected - 51, expected, "bfloat16")
    assert other["levels"] == 51
    assert other["psnr"] == pytest.approx(20 * np.log10(5))
    assert not other["as_expected"]


def test_every_picture_of_a_queue_is_made_once_by_calls_of_those_that_agree():
    asked = batching.requests(10, (1, 2))
    calls = []

    def pipe(prompts, *, seed, num_inference_steps, solver):
        calls.append((num_inference_steps, solver, len(prompts)))
        assert {asked[i]["solver"] for i in seed} == {solver}
        assert {asked[i]["num_inference_steps"] for i in seed} == {num_inference_steps}

    made = list(batching.by_calls(pipe, asked, 6))
    assert sorted(made) == list(range(10))
    assert len(calls) < 10
    assert sum(count for *_, count in calls) == 10


def test_random_weights_keep_the_scale_of_what_goes_through():
    shapes = {
        "kernel": jax.ShapeDtypeStruct((3, 3, 50, 60), jnp.bfloat16),
        "scale": jax.ShapeDtypeStruct((1000,), jnp.float32),
    }
    params = subjects.random_params(shapes)
    assert {name: (leaf.shape, leaf.dtype) for name, leaf in params.items()} == {
        name: (shape.shape, shape.dtype) for name, shape in shapes.items()
    }
    kernel = np.asarray(params["kernel"], np.float32)
    assert kernel.std() == pytest.approx((3 * 3 * 50) ** -0.5, rel=0.05)
    assert np.asarray(params["scale"]).mean() == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("model", [model for model in MODELS if model != "base"])  # as toy
def test_every_model_can_be_sampled(model):
    of = subjects.subject(model, "bfloat16", quick=True)
    inputs = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in subjects.inputs(of, 3)]
    out = jax.eval_shape(subjects.sampler(of, 2), of.shapes, *inputs)
    assert (out.shape, out.dtype) == ((3, 8, 8, of.channels), jnp.float32)


FOUND = {
    "command": "python -m scripts.check_accelerator",
    "quick": False,
    "parts": {
        "device": {
            "seconds": 9.0,
            "cases": [
                {"device_kind": "NVIDIA H200", "platform": "gpu", "memory_limit_mib": 104448.0,
                 "cpus": 16, "python": "3.13", "jax": "0.12.0", "jaxlib": "0.12.0",
                 "flax": "0.13", "numpy": "2.4"},
                {"arithmetic": "bfloat16", "side": 8192, "tflops": 742.05},
            ],
        },
        "parity": {
            "seconds": 60.0,
            "cases": [
                {"what": "denoiser", "arithmetic": "bfloat16", "error": 0.004, "as_expected": True},
                {"what": "picture, 20 steps", "arithmetic": "float32", "levels": 90, "psnr": 12.0,
                 "as_expected": False},
            ],
        },
        "steps": {
            "seconds": 200.0,
            "error": "stopped after 200 s",
            "cases": [
                {"model": "sd15", "pixels": 512, "arithmetic": "bfloat16", "batch": 8,
                 "step_s": 0.1, "image_steps_per_s": 80.0, "gflop": 12367.5, "memory_mib": 9000.4,
                 "attention": "XLA", "compile_s": 41.23},
                {"model": "sd15", "arithmetic": "bfloat16", "batch": 64,
                 "error": "XlaRuntimeError: RESOURCE_EXHAUSTED"},
                {"model": "sd15", "arithmetic": "bfloat16", "batch": 2,
                 "skipped": "no time was left"},
            ],
        },
    },
}  # fmt: skip


def test_the_page_has_what_was_measured_and_what_went_wrong():
    shown = page.markdown(FOUND)
    assert "| bfloat16 | 8192 | 742 | 75% |" in shown
    assert "| denoiser | bfloat16 | 4.0e-03 | yes |" in shown
    assert "| picture, 20 steps | float32 | 12.0 dB | **no** |" in shown
    row = "| sd15 | 512 | bfloat16 | 8 | 100 ms | 80 | 124 | 12.5% | 9000 MiB | XLA | 41.2 s |"
    assert row in shown
    assert "No time was left for: sd15, bfloat16, batch 2." in shown
    assert page.wrong(FOUND) == [
        "parity: picture, 20 steps, float32: differs by more than it should",
        "steps: stopped after 200 s",
        "steps: sd15, bfloat16, batch 64: XlaRuntimeError: RESOURCE_EXHAUSTED",
    ]
    assert all(f"- {problem}" in shown for problem in page.wrong(FOUND))
    assert "rehearsal" not in shown


def test_the_share_is_of_the_product_measured_where_the_device_is_unknown():
    parts = json.loads(json.dumps(FOUND["parts"]))
    parts["device"]["cases"][0]["device_kind"] = "Fast One"
    shown = page.markdown({**FOUND, "quick": True, "parts": parts})
    assert "| 124 | 16.7% of the product |" in shown
    assert "A rehearsal" in shown


def test_a_rehearsal_on_this_processor(tmp_path):
    arguments = ["--quick", "--models=demo", "--parts=attention", f"--out={tmp_path}"]
    done = subprocess.run(
        [sys.executable, "-m", "scripts.check_accelerator", *arguments],
        cwd=ROOT, env=os.environ | {"JAX_PLATFORMS": "cpu"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "accelerator.json").read_text())
    assert list(found["parts"]) == ["device", "attention"]
    assert found["parts"]["device"]["cases"][0]["platform"] == "cpu"
    cases = found["parts"]["attention"]["cases"]
    assert len(cases) == 4
    for case in cases:
        assert case["attention"] == "XLA"
        assert 0 <= case["error"] < 1e-2
        assert case["cudnn_refuses"]
    assert (tmp_path / "accelerators.md").read_text() == done.stdout[: -len("\n")]


@pytest.mark.parametrize(
    ("flag", "message"),
    [("--parts=speed", "parts must be of device,"), ("--models=", "models must be of demo,")],
)
def test_what_there_is_not_is_refused(tmp_path, flag, message):
    done = subprocess.run(
        [sys.executable, "-m", "scripts.check_accelerator", flag, f"--out={tmp_path}"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert message in done.stderr


def test_every_part_is_a_module():
    folder = ROOT / "scripts" / "accelerator"
    assert all((folder / f"{name}.py").is_file() for name in PARTS)
    assert sum(PARTS.values()) == 100
