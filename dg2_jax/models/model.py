"""A latent-diffusion model in memory: its networks, its sets of weights, its diffusion process."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax.numpy as jnp
from jax.sharding import Mesh

from dg2_jax.checks import check_choice
from dg2_jax.diffusion import prediction, schedules
from dg2_jax.diffusion.schedules import Schedule
from dg2_jax.diffusion.stepping import Stepping
from dg2_jax.models.architectures import ARCHITECTURES
from dg2_jax.models.interface import MASK, Architecture
from dg2_jax.nn.autoencoder_config import AutoencoderConfig
from dg2_jax.nn.network import Bound, Design, Network, Params, TiledNetwork

WEIGHTS = ("ema", "raw", "fast")
DTYPES = ("bfloat16", "int8", "float8_e4m3fn")  # of `dg2_jax.models.quantization`


class ModelError(ValueError):
    """A model that cannot be used; the message names the file or the key, and why."""


class WeightSets(Mapping[str, Params]):
    """The denoiser's parameters by the name of their set, each read on first use."""

    def __init__(self, names: tuple[str, ...], read: Callable[[str], Params]):
        """`read` is called once for each of `names` that is used, and may raise a ModelError."""
        self._names, self._anew, self._read = names, read, functools.cache(read)

    def mapped(self, change: Callable[[Params], Params]) -> "WeightSets":
        """These sets, each changed on first use; the unchanged set is not kept."""
        return WeightSets(self._names, lambda name: change(self._anew(name)))

    def __reduce__(self) -> tuple:
        return _held, (self._names, dict(self))  # copies hold what they would have read

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


def _held(names: tuple[str, ...], params: dict[str, Params]) -> WeightSets:
    return WeightSets(names, params.__getitem__)


@dataclasses.dataclass(frozen=True)
class Model:
    """A model, from a folder (`dg2_jax.models.folder.load`) or built in memory (`create`).

    Attributes:
        name: where it came from.
        config: config.json, see `dg2_jax.models.folder`.
        architecture: of the denoiser.
        schedule: the noise schedule.
        stepping: which of its levels are visited.
        prediction_type: what the denoiser predicts.
        denoiser: `denoiser.bind(params["ema"])` is a `DenoiserNetwork`.
        denoiser_config: its configuration.
        params: its parameters by the name of their set, some or all of `WEIGHTS`.
        autoencoder: of the latents.
        autoencoder_params: its parameters.
        autoencoder_config: its configuration, with the scaling of the latents.
        latent_channels: channels of a latent.
        default_size: height and width of a picture in pixels as in training.
        taesd: a small stand-in for the autoencoder, which decodes alone; None without.
        taesd_params: its parameters.
        mesh: of the devices that divide its batches, see `dg2_jax.generation.devices`; None: one.
    """

    name: str
    config: Mapping[str, Any]
    architecture: Architecture
    schedule: Schedule
    stepping: Stepping
    prediction_type: str
    denoiser: Network
    denoiser_config: Any
    params: WeightSets
    autoencoder: Network
    autoencoder_params: Params
    autoencoder_config: AutoencoderConfig
    latent_channels: int
    default_size: int
    taesd: Network | None = None
    taesd_params: Params | None = None
    mesh: Mesh | None = None

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the latent of a picture of the default size."""
        side = self.default_size // self.autoencoder_config.downsampling_factor
        return side, side, self.latent_channels

    @property
    def size_multiple(self) -> int:
        """A picture's height and width must be multiples of this number of pixels."""
        factor = self.autoencoder_config.downsampling_factor
        return factor * self.denoiser_config.latent_multiple

    @property
    def abilities(self) -> frozenset[str]:
        """What its denoiser can be given besides latents and text, see `Architecture.abilities`."""
        return self.architecture.abilities(self.denoiser_config)

    @functools.cached_property
    def tiled(self) -> "Model":
        """The model with an autoencoder (and a TAESD) that takes large pictures in tiles."""
        taesd = None if self.taesd is None else TiledNetwork(self.taesd.structure)
        autoencoder = TiledNetwork(self.autoencoder.structure)
        return dataclasses.replace(self, autoencoder=autoencoder, taesd=taesd)

    @property
    def has_deep_levels(self) -> bool:
        """Whether `Settings.reuse_every` may be above 1."""
        return self.architecture.has_deep_features(self.denoiser_config)


def create(
    config: Mapping[str, Any],
    autoencoder: Bound,
    read: Callable[[str, Params], Params],
    weights: tuple[str, ...] = ("ema",),
    *,
    name: str = "in memory",
    denoiser: Network | None = None,
    compute_dtype: Any = jnp.float32,
) -> Model:
    """Builds a model.

    Args:
        config: config.json, see `dg2_jax.models.folder`; its "vae" and "files" are not read.
        autoencoder: of the latents.
        read: maps the name of a set of weights and the shapes of the denoiser's parameters (None
            where `denoiser` is given) to the parameters; called when a set is first used.
        weights: the names of the sets, some of `WEIGHTS`.
        name: of the model.
        denoiser: another structure for the same parameters, such as one that computes in bfloat16.
        compute_dtype: in which the denoiser computes, unless `denoiser` is given.

    Raises:
        ModelError: `config` lacks a key or has a bad value, or the networks do not fit each other.
    """
    try:
        check_choice("model", config["model"], ARCHITECTURES)
        architecture = ARCHITECTURES[config["model"]]
        denoiser_config = architecture.parse(config["denoiser"], "denoiser")
        schedule = _schedule(config["diffusion"])
        stepping = stepping_of(config["diffusion"])
        prediction_type = config["diffusion"]["prediction_type"]
        prediction.check(prediction_type)
    except KeyError as error:
        raise ModelError(f"the configuration of {name} lacks the key {error}") from error
    except (TypeError, ValueError) as error:
        raise ModelError(f"the configuration of {name}: {error}") from error
    latent_channels = autoencoder.config.latent_channels
    # An in-painting model also takes a mask and the latents of what the mask leaves.
    masked = latent_channels + 1 if MASK in architecture.abilities(denoiser_config) else 0
    if denoiser_config.in_channels != latent_channels + masked:
        raise ModelError(
            f"{name}: the denoiser takes {denoiser_config.in_channels} channels, "
            f"the autoencoder has {latent_channels}"
        )
    shapes = None
    if denoiser is None:
        dtype = jnp.dtype(compute_dtype).name
        denoiser = Network(Design(architecture.module, denoiser_config, dtype))
        shapes = denoiser.shapes
    return Model(
        name=name,
        config=config,
        architecture=architecture,
        schedule=schedule,
        stepping=stepping,
        prediction_type=prediction_type,
        denoiser=denoiser,
        denoiser_config=denoiser_config,
        params=WeightSets(weights, lambda name: read(name, shapes)),
        autoencoder=autoencoder.network,
        autoencoder_params=autoencoder.params,
        autoencoder_config=autoencoder.config,
        latent_channels=latent_channels,
        default_size=config.get("default_size", 128),
    )


def stepping_of(diffusion: Mapping[str, Any]) -> Stepping:
    """The stepping that the key "diffusion" of a config.json holds under the names of its fields.

    Raises:
        ValueError: a value is not allowed.
    """
    fields = [field.name for field in dataclasses.fields(Stepping)]
    return Stepping(**{name: diffusion[name] for name in fields if name in diffusion})


def _schedule(diffusion: Mapping[str, Any]) -> Schedule:
    """The named schedule, or the table `alpha_bar` of an imported schedule without a name."""
    if "alpha_bar" in diffusion:
        return schedules.from_table(diffusion["schedule"], diffusion["alpha_bar"])
    return schedules.make(
        diffusion["schedule"],
        diffusion.get("num_train_timesteps", 1000),
        diffusion.get("zero_terminal_snr", False),
        **{figure: diffusion[figure] for figure in ("beta1", "beta2", "s") if figure in diffusion},
    )
