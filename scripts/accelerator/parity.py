"""The accelerator's results beside those of the CPU of the same machine, in exact float32.

The embedded model's text encoder, denoiser, decoder and a whole picture with a fixed seed; then the
denoisers of the other configurations with random weights.
"""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dg2_jax.models.model import Network
from dg2_jax.nn.modules import split
from dg2_jax.nn.precision import with_compute_dtype
from dg2_jax.pipeline import Pipeline
from dg2_jax.scripts.accelerator import subjects
from dg2_jax.scripts.accelerator.attention import relative_error
from dg2_jax.scripts.accelerator.options import Options
from dg2_jax.scripts.accelerator.peaks import PRECISIONS
from dg2_jax.scripts.accelerator.record import Record
from dg2_jax.text.encoder import TextEncoder
from dg2_jax.text.forward import Forward, bert_output

PROMPT = "a volcano at sunset"
_TEXTS = [PROMPT, "a calm lake under a clear sky at dawn"]
# Root mean squares of the error, of that of the result, beyond which something is wrong: about ten
# times what rounding alone makes of bfloat16 (8 bits), tensorfloat32 (11 bits) and float32 (24).
EXPECTED = {"bfloat16": 5e-2, "float32": 1e-2, "float32, exact": 1e-4}
# Of pictures, whose errors grow over 20 steps: the least peak signal-to-noise ratio in decibels.
EXPECTED_PSNR = {"bfloat16": 20.0, "float32": 30.0, "float32, exact": 45.0}


def run(record: Record, options: Options) -> None:
    """A case for each thing compared and each arithmetic."""
    cpu, device = jax.devices("cpu")[0], jax.devices()[0]
    pipes = {}
    for place in {cpu, device}:
        with jax.default_device(place):
            pipes[place] = Pipeline.load("demo", compile_cache=False)
    steps = 2 if options.quick else 20
    with on(cpu, "highest"):
        reference = picture(pipes[cpu], "float32", steps)
    latents = np.asarray(reference.latents)
    for name, make in _parts(pipes[cpu], latents):
        _compare(record, {"what": name}, make, cpu, device)
    for arithmetic, (dtype, precision) in PRECISIONS.items():

        def compared(arithmetic: str = arithmetic, dtype: str = dtype, precision: str = precision):
            with on(device, precision):
                found = picture(pipes[device], dtype, steps)
            return compare_pictures(found.images, reference.images, arithmetic)

        record.case({"what": f"picture, {steps} steps", "arithmetic": arithmetic}, compared)
    for model in options.models:
        if model != "demo":
            of = _evaluation(model)
            _compare(record, {"what": f"denoiser of {model}"}, of, cpu, device)


@contextlib.contextmanager
def on(device: jax.Device, precision: str) -> Iterator[None]:
    """Computes on a device, with a precision of products."""
    with jax.default_device(device), jax.default_matmul_precision(precision):
        yield


def _compare(
    record: Record,
    names: dict[str, Any],
    make: Callable[[str], tuple[Callable, tuple]],
    cpu: jax.Device,
    device: jax.Device,
) -> None:
    """The cases of a function: `make(dtype)` gives it and its arguments."""
    expected: list[np.ndarray] = []

    def compared(arithmetic: str) -> dict[str, Any]:
        if not expected:
            expected.append(computed(make("float32"), cpu, "highest"))
        dtype, precision = PRECISIONS[arithmetic]
        error = relative_error(computed(make(dtype), device, precision), expected[0])
        return {"error": error, "as_expected": error <= EXPECTED[arithmetic]}

    for arithmetic in PRECISIONS:
        record.case({**names, "arithmetic": arithmetic}, compared, arithmetic)


def computed(of: tuple[Callable, tuple], device: jax.Device, precision: str) -> np.ndarray:
    """The result of a function of arrays on a device."""
    function, args = of
    with on(device, precision):
        return np.asarray(jax.jit(function)(*jax.device_put(args, device)), np.float32)


def _parts(
    pipe: Pipeline, latents: np.ndarray
) -> list[tuple[str, Callable[[str], tuple[Callable, tuple]]]]:
    """The networks of the embedded model, each as `_compare` takes it."""
    model, encoder = pipe.model, pipe.text_encoder
    assert isinstance(encoder, TextEncoder)  # the embedded model's
    assert isinstance(encoder.forward, Forward)
    bert = encoder.forward.network.bind(encoder.params)
    tokens = encoder.tokenize(_TEXTS)
    encoding = encoder.encode(_TEXTS)
    text = np.asarray(encoding.context), np.asarray(encoding.mask)
    noise = np.random.default_rng(0).normal(size=(2, *model.latent_shape)).astype(np.float32)

    def text_encoder(dtype: str) -> tuple[Callable, tuple]:
        network, params = split(with_compute_dtype(nnx.clone(bert), dtype))
        return (lambda p, *of: bert_output(network.bind(p), *of)[0]), (params, *tokens)

    def denoiser(dtype: str) -> tuple[Callable, tuple]:
        network = computing_in(model.denoiser, model.params["ema"], dtype)

        def evaluate(params: Any, noise: Any, *text: Any) -> Any:
            bound = network.bind(params)
            return bound(noise, jnp.array([900, 100]), bound.project_context(*text))

        return evaluate, (model.params["ema"], noise, *text)

    def decoder(dtype: str) -> tuple[Callable, tuple]:
        network = computing_in(model.autoencoder, model.autoencoder_params, dtype)

        def decode(params: Any, latents: Any) -> Any:
            vae = network.bind(params)
            return vae.decode(vae.unscale(latents))

        return decode, (model.autoencoder_params, latents)

    return [("text encoder", text_encoder), ("denoiser", denoiser), ("VAE decoder", decoder)]


def _evaluation(model: str) -> Callable[[str], tuple[Callable, tuple]]:
    """A denoiser with random weights, on small latents, so that a CPU is not long about it."""

    def make(dtype: str) -> tuple[Callable, tuple]:
        of = subjects.subject(model, dtype, quick=True)
        arguments = subjects.random_params(of.shapes), *subjects.inputs(of, 1)
        return subjects.evaluation(of), arguments

    return make


def computing_in(network: Network, params: Any, dtype: str) -> Network:
    """The same network in another dtype."""
    return split(with_compute_dtype(network.bind(params), dtype))[0]


def picture(pipe: Pipeline, dtype: str, steps: int) -> Any:
    """One picture of a fixed seed, by networks that compute in a dtype."""
    model = pipe.model
    changed = dataclasses.replace(
        model,
        denoiser=computing_in(model.denoiser, model.params["ema"], dtype),
        autoencoder=computing_in(model.autoencoder, model.autoencoder_params, dtype),
    )
    return Pipeline(changed, pipe.text_encoder)(PROMPT, seed=0, num_inference_steps=steps)


def compare_pictures(found: np.ndarray, expected: np.ndarray, arithmetic: str) -> dict[str, Any]:
    """The largest difference in levels of 255, and the signal-to-noise ratio; None if equal."""
    difference = np.abs(found.astype(np.int32) - expected)
    squared = float(np.mean(difference.astype(np.float64) ** 2))
    psnr = 10.0 * math.log10(255.0**2 / squared) if squared else None
    return {
        "levels": int(difference.max()),
        "psnr": psnr,
        "as_expected": psnr is None or psnr >= EXPECTED_PSNR[arithmetic],
    }
