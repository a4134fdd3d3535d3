"""What a run starts with: its network, weights, state and the order of its data."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import numpy as np
import optax
from flax import nnx

from dg2_jax import config as config_lib
from dg2_jax.checks import check
from dg2_jax.data import encoding
from dg2_jax.data.loader import Batch, Buckets, Example, Loader, Source, Transform
from dg2_jax.interop import diffusers_vae
from dg2_jax.models import folder, sources
from dg2_jax.nn.abstract import abstract
from dg2_jax.nn.autoencoder_config import AutoencoderConfig
from dg2_jax.nn.modules import split
from dg2_jax.nn.network import Network, Params
from dg2_jax.nn.precision import with_compute_dtype
from dg2_jax.nn.scaling import Scaling
from dg2_jax.training import optimizer, state
from dg2_jax.training.config import RunConfig
from dg2_jax.training.runs import OF_THE_TRAINING, AutoencoderRunConfig, DenoiserRunConfig

_OF_THE_DECODER = (
    "out_channels",
    "decoder_block_out_channels",
    "decoder_layers_per_block",
    "head_channels",
)


def initial_state(
    config: RunConfig, params: Params, transform: optax.GradientTransformation | None = None
) -> state.TrainState:
    """The state of a run before its first step; the averages start as copies of the weights.

    Args:
        config: the run.
        params: its weights.
        transform: the optimiser, by default what `config.optim` asks for.
    """
    transform = transform or optimizer.make(config.optim, config.num_steps)
    return state.create(params, transform, averages=len(config.ema.posthoc))


def make_loader(
    config: RunConfig,
    source: Source | Buckets,
    transform: Transform | None = None,
    collate: Callable[[Sequence[Example]], Batch] | None = None,
) -> Loader:
    """The batches of a run, this process's rows of them; the other arguments as of `Loader`."""
    return Loader(
        source,
        config.batch_size,
        seed=config.seed,
        transform=transform,
        collate=collate,
        read_threads=config.loop.read_threads,
        prefetch=config.loop.prefetch,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )


def abstract_denoiser(config: DenoiserRunConfig) -> tuple[Network, Params]:
    """The run's network, which computes in `compute_dtype`, and the shapes of its parameters."""
    return split(abstract(lambda rngs: _denoiser(config, rngs)))


def build_denoiser(config: DenoiserRunConfig) -> tuple[Network, Params]:
    """The run's network, which computes in `compute_dtype`, and the parameters it starts from.

    Raises:
        ValueError, FileNotFoundError: as `weights`.
    """
    return state.network(lambda rngs: _denoiser(config, rngs), config.seed, weights(config))


def _denoiser(config: DenoiserRunConfig, rngs: nnx.Rngs) -> nnx.Module:
    module = config.architecture.constructor(config.denoiser, rngs=rngs)
    return with_compute_dtype(module, config.compute_dtype)


def check_data(
    config: DenoiserRunConfig, latent_shape: tuple[int, int, int], context_dim: int
) -> None:
    """Raises ValueError unless the denoiser fits the latents (h, w, c) and the text's width."""
    width = config.architecture.context_width
    for name, needed in (("in_channels", latent_shape[-1]), (width, context_dim)):
        value = getattr(config.denoiser, name)
        check(value == needed, f"denoiser.{name}", f"{needed}, as the encoded data has", value)


def check_scaling(config: DenoiserRunConfig, vae: AutoencoderConfig) -> None:
    """Raises ValueError unless the latents are scaled as those that `config.init_from` learnt."""
    if not config.init_from:
        return
    described = sources.described(config.init_from)["vae"]
    if "pretrained" in described:
        start = diffusers_vae.published_config(described["pretrained"]).scaling
    else:
        start = AutoencoderConfig.from_dict(described).scaling
    ratio = vae.scaling_factor / start.scaling_factor
    if abs(ratio - 1.0) > 0.01 or abs(start.scale(vae.shift_factor)) > 0.01:
        raise ValueError(
            f"data_dir: its latents are scaled by {vae.scaling_factor:.4g} and shifted by "
            f"{vae.shift_factor:.4g}, those of init_from by {start.scaling_factor:.4g} and "
            f"{start.shift_factor:.4g}; prepare them with: "
            f"dg2 prepare --model={config.init_from} ..."
        )


def weights(config: DenoiserRunConfig, name: str = "ema") -> Params | None:
    """The weights of `config.init_from`, None where it is empty.

    Args:
        config: the run.
        name: of the set of weights.

    Raises:
        ValueError: that model has another network, or predicts something else; or, for adapters,
            it has other noise levels.
        FileNotFoundError: there is no such model.
    """
    if not config.init_from:
        return None
    own = sources.is_own(config.init_from)
    start = folder.load(config.init_from) if own else sources.load(config.init_from).model
    model = start.config["model"]
    check(config.model == model, "model", f"{model!r}, as in init_from", config.model)
    theirs = config_lib.to_dict(start.denoiser_config)
    for key, value in config_lib.to_dict(config.denoiser).items():
        if key in OF_THE_TRAINING:
            continue
        check(value == theirs[key], f"denoiser.{key}", f"{theirs[key]!r}, as in init_from", value)
    predicted = config.diffusion.prediction_type
    check(
        predicted == start.prediction_type,
        "diffusion.prediction_type",
        f"{start.prediction_type}, as in init_from",
        predicted,
    )
    levels, own_levels = config.diffusion.noise_schedule().alpha_bar, start.schedule.alpha_bar
    alike = levels.shape == own_levels.shape and np.allclose(levels, own_levels, atol=1e-5)
    if config.lora is not None and not alike:
        raise ValueError(
            "diffusion.schedule, its figures and zero_terminal_snr must be those of init_from, "
            f"which has {start.schedule.name}"
        )
    return start.params[name]


def autoencoder(config: AutoencoderRunConfig, params: Params) -> tuple[AutoencoderConfig, Params]:
    """The autoencoder that a run starts from: new, or of `config.init_from`.

    Its encoder is that model's, and where the encoder is frozen so is the scaling of its latents.
    The decoder may be another: what of it has a name and a shape of that model's takes its weights.

    Args:
        config: the run.
        params: new weights.

    Raises:
        ValueError: that model has another encoder.
        FileNotFoundError: there is no such model.
    """
    if not config.init_from:
        return config.vae, params
    if (Path(config.init_from) / "vae.json").is_file():
        vae = encoding.load_autoencoder(config.init_from)
        donor_config, donor = vae.config, nnx.to_pure_dict(nnx.state(vae))
    else:
        start = folder.load(config.init_from)
        donor_config, donor = start.autoencoder_config, start.autoencoder_params
    theirs = donor_config.to_dict()
    for key, value in config.vae.to_dict().items():
        if key in Scaling._fields or key in _OF_THE_DECODER:
            continue
        check(value == theirs[key], f"vae.{key}", f"{theirs[key]!r}, as in init_from", value)
    network = config.vae
    if "encoder" in config.optim.frozen:
        network = dataclasses.replace(network, **{key: theirs[key] for key in Scaling._fields})
    return network, state.graft(params, donor)
