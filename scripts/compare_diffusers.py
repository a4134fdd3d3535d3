"""Compares Stable Diffusion's UNets with diffusers', in the published sizes with random weights.

    pip install -r requirements.txt -r requirements/torch.txt     # an environment of its own
    python -m scripts.compare_diffusers --rounds=9

Nothing is downloaded: the configurations are those of the published config.json files. 1.5 and 2.1
get the same weights on both sides; it prints the largest error of a guided step's two outputs,
relative to the largest value, and the time of that step, both sides in turns. XL, whose two copies
would take 20 GB, is compared by the names and shapes of its weights and of its output. The command
fails above an error of 1e-4, or where shapes differ.

1.5 takes 8 GB of memory. Keep the machine quiet for the times.
"""

import gc
import statistics
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from flax import nnx

from dg2_jax.interop.stable_diffusion.parts import unet_parameter
from dg2_jax.interop.stable_diffusion.unet_config import parse_unet
from dg2_jax.interop.weights import load_params, matched
from dg2_jax.nn.abstract import abstract
from dg2_jax.nn.modules import slots_of
from dg2_jax.nn.sd_unet import SDUNet
from dg2_jax.scripts.benchmark_cases import seconds
from dg2_jax.scripts.command import command
from dg2_jax.scripts.published_unets import PUBLISHED, TOKENS

_CASE = flags.DEFINE_string("case", "", "Only the models whose name holds this text.")
_SIZE = flags.DEFINE_integer("size", 256, "Side of the picture in pixels.", 64)
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Timed turns.", 1)

LIMIT = 1e-4
SHAPES_ONLY = ("XL",)


def theirs(name: str, device: str) -> Any:
    """Diffusers' network with random weights; without numbers on the device "meta"."""
    import torch
    from diffusers import UNet2DConditionModel

    generator = torch.Generator().manual_seed(0)
    with torch.device(device):
        network = UNet2DConditionModel(**PUBLISHED[name]).eval()
    if device == "cpu":
        with torch.no_grad():
            for parameter in network.parameters():  # biases and gains too
                if parameter.ndim == 1:
                    parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return network


def abstract_unet(name: str) -> SDUNet:
    """Our network without numbers."""
    config = parse_unet(PUBLISHED[name])
    return abstract(lambda rngs: SDUNet(config, rngs=rngs))


def inputs(name: str) -> dict[str, np.ndarray]:
    """Of a guided step of one picture, NHWC: two latents with two texts."""
    rng, config = np.random.default_rng(0), parse_unet(PUBLISHED[name])
    side = _SIZE.value // 8
    x = rng.normal(size=(1, side, side, 4))
    context = rng.normal(size=(2, TOKENS, config.cross_attention_dim))
    given = {"x": np.concatenate([x, x]), "context": context}
    if config.addition_time_embed_dim:
        width = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
        given["pooled"] = rng.normal(size=(2, width))
        given["time_ids"] = np.tile([1024.0, 1024, 0, 0, 1024, 1024], (2, 1))
    return {key: value.astype(np.float32) for key, value in given.items()}


def run_theirs(network: Any, given: dict[str, np.ndarray], device: str = "cpu") -> Any:
    """Their output, NHWC."""
    import torch

    tensors = {key: torch.from_numpy(value).to(device) for key, value in given.items()}
    added = None
    if "pooled" in given:
        added = {"text_embeds": tensors["pooled"], "time_ids": tensors["time_ids"]}
    x = tensors["x"].permute(0, 3, 1, 2).contiguous()
    t = torch.full((2,), 500, device=device)
    with torch.inference_mode():
        sample = network(x, t, tensors["context"], added_cond_kwargs=added).sample
    return sample.permute(0, 2, 3, 1)


def our_step(graphdef: Any) -> Callable[..., jax.Array]:
    """Our output as a function of parameters and inputs; the text's keys and values included."""

    def step(params: Any, x: Any, context: Any, pooled: Any = None, time_ids: Any = None) -> Any:
        unet = nnx.merge(graphdef, params)
        conditioning = unet.project_context(context, pooled=pooled, time_ids=time_ids)
        return unet(x, jnp.full(2, 500), conditioning)

    return step


def compare_outputs(name: str) -> Iterator[str]:
    """Parameters, error, and times of both sides."""
    network, module, given = theirs(name, "cpu"), abstract_unet(name), inputs(name)
    tensors = {key: value.numpy() for key, value in network.state_dict().items()}
    load_params(module, tensors, unet_parameter)
    graphdef, params = nnx.split(module)
    step = jax.jit(our_step(graphdef)).lower(params, **given).compile()
    placed = jax.device_put(given)
    ours, expected = np.asarray(step(params, **placed)), run_theirs(network, given).numpy()
    error = float(np.abs(ours - expected).max() / np.abs(expected).max())
    yield f"{sum(value.size for value in tensors.values()) / 1e6:,.0f} M"
    yield f"{error:.1e}"
    times: list[list[float]] = [[], []]
    for _ in range(_ROUNDS.value):
        times[0].append(seconds(lambda: jax.block_until_ready(step(params, **placed))))
        times[1].append(seconds(lambda: run_theirs(network, given)))
    best, median = [min(each) for each in times], [statistics.median(each) for each in times]
    for fastest, usual in zip(best, median, strict=True):
        yield f"{usual:.2f} s ({fastest:.2f})"
    yield f"{median[1] / median[0]:.2f} ({best[1] / best[0]:.2f})"
    if not error <= LIMIT:
        raise ValueError(f"{name}: the outputs differ by {error:.1e}, allowed is {LIMIT:.0e}")


def compare_shapes(name: str) -> Iterator[str]:
    """Parameters; ValueError where names or shapes differ."""
    network, module, given = theirs(name, "meta"), abstract_unet(name), inputs(name)
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    held = {key: np.broadcast_to(np.float32(0), shape) for key, shape in shapes.items()}
    matched(slots_of(module), name, held, unet_parameter)
    graphdef, params = nnx.split(module)
    output = jax.eval_shape(our_step(graphdef), params, **given)
    expected = tuple(run_theirs(network, given, "meta").shape)
    if output.shape != expected:
        raise ValueError(f"{name}: the output is {output.shape}, theirs {expected}")
    yield f"{sum(value.size for value in held.values()) / 1e6:,.0f} M"
    yield "shapes are equal"
    yield from ("",) * 3


def main() -> None:
    """Prints a table."""
    import diffusers
    import torch

    versions = (
        f"jax {jax.__version__}, torch {torch.__version__}, diffusers {diffusers.__version__}"
    )
    print(f"{_SIZE.value} x {_SIZE.value} pixels, {jax.default_backend()}, {versions}; ", end="")
    print(f"medians of {_ROUNDS.value} turns, the fastest in brackets.\n")
    print("| model | parameters | largest error | dg2_jax | diffusers | ratio |")
    print("|---|--:|--:|--:|--:|--:|")
    for name in PUBLISHED:
        if _CASE.value in name:
            compare = compare_shapes if name in SHAPES_ONLY else compare_outputs
            print(f"| {name} ", end="", flush=True)
            for cell in compare(name):
                print(f"| {cell} ", end="", flush=True)
            print("|", flush=True)
            gc.collect()


if __name__ == "__main__":
    command(main)
