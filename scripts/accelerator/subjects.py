"""The networks that are measured: those of the configurations, and Stable Diffusion 1.5's UNet.

Weights are random, so that nothing is fetched: times, memory and kernels depend on shapes alone.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dg2_jax import config as config_lib
from dg2_jax.configs import demo, dg2_base, dg2_toy
from dg2_jax.diffusion import denoiser, guidance, sampling, schedules, solvers
from dg2_jax.interop.stable_diffusion.unet_config import parse_unet
from dg2_jax.models.model import Network, Params
from dg2_jax.nn.abstract import abstract
from dg2_jax.nn.modules import split
from dg2_jax.nn.precision import with_compute_dtype
from dg2_jax.nn.sd_unet import SDUNet
from dg2_jax.scripts.published_unets import PUBLISHED, TOKENS
from dg2_jax.training import starting
from dg2_jax.training.runs import DenoiserRunConfig

# Module of a configuration, and the side of its latents.
_RUNS = {"demo": (demo, 16), "toy": (dg2_toy, 32), "base": (dg2_base, 32)}
_SD_SIDE = 64  # of 512 pixels
_SMALL = 8  # side in a rehearsal
_NOISE = np.random.default_rng(0).normal(size=2**20 + 7).astype(np.float32)


class Subject(NamedTuple):
    """A denoiser and the shapes of what it takes.

    Attributes:
        network: its structure.
        shapes: of its weights.
        side: of its square latents.
        channels: of its latents.
        text: tokens, and their width.
        masked: whether it is given a mask of the tokens; Stable Diffusion's is not.
    """

    network: Network
    shapes: Params
    side: int
    channels: int
    text: tuple[int, int]
    masked: bool


def run_config(name: str, **changes: Any) -> DenoiserRunConfig:
    """The training configuration of a model other than sd15."""
    values = _RUNS[name][0].get_config().to_dict()
    return config_lib.from_mapping(DenoiserRunConfig, values | changes)


def side_of(name: str, quick: bool) -> int:
    """The side of a model's latents; small in a rehearsal."""
    if quick:
        return _SMALL
    return _RUNS[name][1] if name in _RUNS else _SD_SIDE


def subject(name: str, dtype: str, quick: bool = False) -> Subject:
    """A denoiser that computes in a dtype, with weights in the dtype that the library holds."""
    side = side_of(name, quick)
    if name in _RUNS:
        config = run_config(name, compute_dtype=dtype)
        network, shapes = starting.abstract_denoiser(config)
        width = config.architecture.context_dim(config.denoiser)
        text = config.max_length, width
        return Subject(network, shapes, side, config.denoiser.in_channels, text, True)
    unet = parse_unet(PUBLISHED["1.5"])
    module = with_compute_dtype(abstract(lambda rngs: SDUNet(unet, rngs=rngs)), dtype)
    network, shapes = split(module)
    held = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, dtype), shapes)
    text = TOKENS, unet.cross_attention_dim
    return Subject(network, held, side, unet.in_channels, text, False)


def random_params(shapes: Params) -> Params:
    """Weights with which activations neither vanish nor grow: kernels N(0, 1/inputs), gains 1."""

    def fill(path: Any, leaf: Any) -> Any:
        name, values = path[-1].key, _NOISE[: leaf.size]
        if name == "kernel":
            values = values * np.float32(np.prod(leaf.shape[:-1]) ** -0.5)
        else:
            values = 0.1 * values + np.float32(name == "scale")
        # Repeated in its dtype: a billion numbers take seconds otherwise.
        return jnp.asarray(np.resize(values.astype(leaf.dtype), leaf.shape))

    return jax.tree_util.tree_map_with_path(fill, shapes)


def inputs(of: Subject, batch: int) -> tuple[Any, ...]:
    """Noise and two texts of a batch, as `evaluation` and `sampler` take them."""
    noise = np.resize(_NOISE, (batch, of.side, of.side, of.channels))
    text = np.resize(_NOISE[1000:], (2, batch, *of.text))
    return noise, text


def evaluation(of: Subject) -> Callable[..., Any]:
    """One evaluation of the network: (params, noise, text) to its output in float32."""

    def evaluate(params: Params, noise: Any, text: Any) -> Any:
        model = of.network.bind(params)
        conditioning = _conditioning(of, model, text[0])
        output = model(noise, jnp.full(len(noise), 500), conditioning)
        return output.astype(jnp.float32)

    return evaluate


def sampler(of: Subject, steps: int) -> Callable[..., Any]:
    """Guided sampling: (params, noise, text) to latents, as the library samples."""
    schedule = schedules.make("curved", 1000)
    table = solvers.make_table("dpmpp_2m", schedule, schedules.timesteps(steps, 1000, "linspace"))

    def sample(params: Params, noise: Any, text: Any) -> Any:
        model = of.network.bind(params)
        texts = [_conditioning(of, model, one) for one in text]
        network = denoiser.of_network(model, "v_prediction")
        denoise = guidance.classifier_free(network, jnp.full(len(noise), 3.0))
        keys = sampling.image_keys(jnp.arange(len(noise)))
        return sampling.sample(denoise, guidance.pair(*texts), noise, table, keys)

    return sample


def _conditioning(of: Subject, model: Any, context: Any) -> Any:
    mask = jnp.ones(context.shape[:2], bool) if of.masked else None
    return model.project_context(context, mask)
