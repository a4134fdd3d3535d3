"""The model folder: what a trained or imported latent-diffusion model is on disk.

    config.json                 what it is: denoiser, diffusion process, autoencoder, text encoder;
                                where it has them, the linear preview of its latents and the
                                sampling settings that sets of weights want
    denoiser.ema.safetensors    averaged weights
    denoiser.raw.safetensors    last weights of the training
    denoiser.fast.safetensors   where there are any: weights distilled to few unguided steps
    vae.safetensors             autoencoder (unless config.json names a published one)
    MODEL_CARD.md               on what, how long and with which commands it was trained

Weights are flat dotted names; config.json holds the SHA-256 of every weights file. A set of the
denoiser's weights is read when it is first used.
"""

import dataclasses
import functools
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from dg2_jax import prediction, schedules, weights_file
from dg2_jax.files import replacing, sha256
from dg2_jax.nn.abstract import abstract
from dg2_jax.nn.autoencoder import AutoencoderConfig, AutoencoderKL
from dg2_jax.nn.dg2_unet import DG2UNet, DG2UNetConfig
from dg2_jax.nn.dit import DiT, DiTConfig
from dg2_jax.nn.unet import UNet, UNetConfig
from dg2_jax.schedules import Schedule

FORMAT = 1
WEIGHTS = ("ema", "raw", "fast")
SAMPLING = ("num_inference_steps", "guidance_scale", "solver", "spacing")  # set by config.json
DTYPES = ("bfloat16", "int8", "float8_e4m3fn")  # of `dg2_jax.quantization`
EMBEDDED = {"demo": Path(__file__).parent / "pretrained" / "demo"}

Params = Any  # a pytree of arrays, as `nnx.to_pure_dict` gives it


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A kind of denoiser, for training and for model folders alike.

    Attributes:
        config: its configuration, with the fields `in_channels` and `context_width`.
        module: makes it: `module(config, rngs=...)`.
        context_width: the field of `config` that is the width of the text tokens.
        masks_padding: whether it leaves padding tokens out. One that does not wants contexts of the
            same length in training and sampling.
    """

    config: type
    module: Callable[..., nnx.Module]
    context_width: str
    masks_padding: bool


ARCHITECTURES = {
    "unet": Architecture(UNetConfig, UNet, "context_dim", masks_padding=True),
    "dit": Architecture(DiTConfig, DiT, "context_dim", masks_padding=True),
    "dg2_unet": Architecture(DG2UNetConfig, DG2UNet, "n_embd", masks_padding=False),
}


def architecture_name(config: Any) -> str:
    """The name in `ARCHITECTURES` of the denoiser that `config` is a configuration of."""
    return next(name for name, a in ARCHITECTURES.items() if isinstance(config, a.config))


class ModelError(ValueError):
    """A model folder that cannot be used; the message names the file and why."""


@dataclasses.dataclass(frozen=True)
class Network:
    """The structure of a network, a static argument of compiled functions: hashed only once.

    Attributes:
        graphdef: its graph definition, whose hash takes milliseconds.
        is_quantized: whether it expands its parameters, see `dg2_jax.quantization`.
    """

    graphdef: nnx.GraphDef
    is_quantized: ClassVar[bool] = False

    def bind(self, params: Params) -> Any:
        """The network with its parameters."""
        return nnx.merge(self.graphdef, params)

    @functools.cached_property
    def _hash(self) -> int:
        return hash(self.graphdef)

    def __hash__(self) -> int:
        return self._hash


class WeightSets(Mapping[str, Params]):
    """The denoiser's parameters by the name of their set, each read when it is first asked for."""

    def __init__(self, names: tuple[str, ...], read: Callable[[str], Params]):
        """`read` is called once for each of `names` that is used, and may raise a ModelError."""
        self._names, self._anew, self._read = names, read, functools.cache(read)

    def mapped(self, change: Callable[[Params], Params]) -> "WeightSets":
        """These sets, each changed when it is first asked for; what it was before is not kept."""
        return WeightSets(self._names, lambda name: change(self._anew(name)))

    def __getitem__(self, name: str) -> Params:
        if name not in self._names:
            raise KeyError(name)
        return self._read(name)

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


@dataclasses.dataclass(frozen=True)
class Model:
    """A loaded model.

    Attributes:
        name: where it came from.
        config: config.json, as read.
        schedule: its noise schedule.
        prediction_type: what the denoiser predicts.
        denoiser: `denoiser.bind(params["ema"])` is callable.
        params: denoiser parameters by the name of their set, some or all of `WEIGHTS`.
        autoencoder: of its latents.
        autoencoder_params: its parameters.
        autoencoder_config: its configuration, with the scaling of the latents.
        latent_channels: channels of a latent.
        default_size: side of a picture in pixels, the one it was trained at.
    """

    name: str
    config: Mapping[str, Any]
    schedule: Schedule
    prediction_type: str
    denoiser: Network
    params: WeightSets
    autoencoder: Network
    autoencoder_params: Params
    autoencoder_config: AutoencoderConfig
    latent_channels: int
    default_size: int

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the latent of a picture of the default size."""
        side = self.default_size // self.autoencoder_config.downsampling_factor
        return side, side, self.latent_channels

    @property
    def has_deep_levels(self) -> bool:
        """Whether `Settings.reuse_every` may be above 1."""
        config = ARCHITECTURES[self.config["model"]].config(**_tuples(self.config["denoiser"]))
        return isinstance(config, UNetConfig) and len(config.channels) > 1


def _abstract(make: Callable[[nnx.Rngs], nnx.Module]) -> tuple[Network, Params]:
    graphdef, state = nnx.split(abstract(make))
    return Network(graphdef), nnx.to_pure_dict(state)


def folder_of(model: str | Path) -> Path:
    """The folder of an embedded model's name; any other path is a folder already."""
    return EMBEDDED.get(str(model), Path(model))


def weights_of(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The sets of weights that a model folder with this config.json has."""
    return tuple(name for name in WEIGHTS if _file(name) in config.get("files", {}))


def _file(weights: str) -> str:
    return f"denoiser.{weights}.safetensors"


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not folder.is_dir():
        known = ", ".join(EMBEDDED)
        raise FileNotFoundError(f"model must be one of {known}, or a folder; there is no {folder}")
    if not path.is_file():
        raise FileNotFoundError(f"{folder} is not a model folder: it has no config.json")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{path} is not good JSON: {error}") from error
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise ModelError(f"{path} must be an object with format {FORMAT}")
    for key in ("model", "denoiser", "diffusion", "vae", "text_encoder"):
        if key not in config:
            raise ModelError(f"{path} lacks the key {key!r}")
    if config["model"] not in ARCHITECTURES:
        raise ModelError(f"{path}: model must be one of {', '.join(ARCHITECTURES)}")
    if not weights_of(config):
        raise ModelError(f"{path}: files must list {_file('ema')} or other weights")
    sampling = config.get("sampling", {})
    for settings in sampling.values() if isinstance(sampling, dict) else [sampling]:
        if not isinstance(settings, dict) or not set(settings) <= set(SAMPLING):
            raise ModelError(f"{path}: sampling must hold {', '.join(SAMPLING)} by set of weights")
    return config


def _check_file(folder: Path, name: str) -> None:
    if not (folder / name).is_file():
        raise FileNotFoundError(f"the model folder {folder} has no {name}")


def _read_weights(folder: Path, name: str, config: Mapping[str, Any], like: Params) -> Params:
    _check_file(folder, name)
    path = folder / name
    if sha256(path) != config["files"].get(name):
        raise ModelError(f"{path} is damaged: its SHA-256 is not the one in config.json")
    try:
        return weights_file.load(path, like)
    except weights_file.CheckpointError as error:
        raise ModelError(str(error)) from error


def load(model: str | Path) -> Model:
    """Loads an embedded model by name ("demo") or any model folder by path.

    The denoiser's weights are read when `Model.params` is first asked for them, and a damaged file
    of theirs is found then.

    Raises:
        FileNotFoundError: no such model, or a file of it is missing.
        ModelError: a file that is damaged or does not fit the configuration.
    """
    folder = folder_of(model)
    config = _read_config(folder)
    architecture = ARCHITECTURES[config["model"]]
    try:
        denoiser_config = architecture.config(**_tuples(config["denoiser"]))
        diffusion = config["diffusion"]
        schedule = _schedule(diffusion)
        prediction.check(diffusion["prediction_type"])
    except (TypeError, ValueError, KeyError) as error:
        raise ModelError(f"{folder / 'config.json'}: {error}") from error
    denoiser, shapes = _abstract(lambda rngs: architecture.module(denoiser_config, rngs=rngs))
    weights = weights_of(config)
    for name in weights:
        _check_file(folder, _file(name))
    autoencoder, autoencoder_params, autoencoder_config = _load_autoencoder(folder, config)
    latent_channels = autoencoder_config.latent_channels
    if denoiser_config.in_channels != latent_channels:
        raise ModelError(
            f"{folder}: the denoiser takes {denoiser_config.in_channels} channels, "
            f"the autoencoder has {latent_channels}"
        )
    return Model(
        name=str(model),
        config=config,
        schedule=schedule,
        prediction_type=diffusion["prediction_type"],
        denoiser=denoiser,
        params=WeightSets(weights, lambda name: _read_weights(folder, _file(name), config, shapes)),
        autoencoder=autoencoder,
        autoencoder_params=autoencoder_params,
        autoencoder_config=autoencoder_config,
        latent_channels=latent_channels,
        default_size=config.get("default_size", 128),
    )


def _schedule(diffusion: Mapping[str, Any]) -> Schedule:
    """The schedule of a name, or, for an imported one that has none, its table `alpha_bar`."""
    if "alpha_bar" in diffusion:
        return schedules.from_table(diffusion["schedule"], diffusion["alpha_bar"])
    return schedules.make(
        diffusion["schedule"],
        diffusion.get("num_train_timesteps", 1000),
        diffusion.get("zero_terminal_snr", False),
        **{figure: diffusion[figure] for figure in ("beta1", "beta2", "s") if figure in diffusion},
    )


def _load_autoencoder(
    folder: Path, config: Mapping[str, Any]
) -> tuple[Network, Params, AutoencoderConfig]:
    """The folder's own autoencoder, or the published one that the configuration names."""
    if "pretrained" in config["vae"]:
        from dg2_jax.interop.diffusers_vae import from_pretrained

        vae = from_pretrained(config["vae"]["pretrained"])
        graphdef, state = nnx.split(vae)
        return Network(graphdef), nnx.to_pure_dict(state), vae.config
    try:
        vae_config = AutoencoderConfig.from_dict(config["vae"])
    except ValueError as error:
        raise ModelError(f"{folder / 'config.json'}: {error}") from error
    structure, shapes = _abstract(lambda rngs: AutoencoderKL(vae_config, rngs=rngs))
    return structure, _read_weights(folder, "vae.safetensors", config, shapes), vae_config


def save(
    folder: str | Path,
    config: Mapping[str, Any],
    params: Mapping[str, Params],
    autoencoder_params: Params | None = None,
    dtype: Any = jnp.bfloat16,
) -> None:
    """Writes a model folder; config.json last, so that a half-written folder does not load.

    Args:
        folder: made if missing.
        config: config.json without "format" and "files", which are added.
        params: denoiser parameters by the name of their set, at least one of `WEIGHTS`.
        autoencoder_params: None where `config["vae"]` names a published autoencoder.
        dtype: what the weights are stored as.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    trees = {_file(name): tree for name, tree in params.items()}
    if autoencoder_params is not None:
        trees["vae.safetensors"] = autoencoder_params
    _write(folder, {"format": FORMAT, **config}, trees, dtype)


def add_weights(
    folder: str | Path,
    name: str,
    params: Params,
    sampling: Mapping[str, Any],
    dtype: Any = jnp.bfloat16,
) -> None:
    """Writes one more set of weights into a model folder, in the place of one of that name.

    Args:
        folder: of the model.
        name: of the set, one of `WEIGHTS`.
        params: denoiser parameters.
        sampling: the settings of `SAMPLING` that a call with these weights uses unless told else.
        dtype: what the weights are stored as.

    Raises:
        FileNotFoundError, ModelError: it is not a model folder.
    """
    folder = Path(folder)
    config = _read_config(folder)
    config["sampling"] = {**config.get("sampling", {}), name: dict(sampling)}
    _write(folder, config, {_file(name): params}, dtype)


def _write(
    folder: Path, config: Mapping[str, Any], trees: Mapping[str, Params], dtype: Any
) -> None:
    """Writes weights files, then config.json with their SHA-256."""
    for name, tree in trees.items():
        weights_file.save(folder / name, jax.device_get(tree), dtype)
    files = {**config.get("files", {}), **{name: sha256(folder / name) for name in trees}}
    text = json.dumps({**config, "files": files}, indent=1)
    with replacing(folder / "config.json") as partial:
        partial.write_text(text + "\n", encoding="utf-8")


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
