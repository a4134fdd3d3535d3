"""What a model can do, read from its config.json alone, before any weights are loaded."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dg2_jax.checks import ParameterError, check, check_int
from dg2_jax.diffusion.views import ANY_SHAPE
from dg2_jax.models.architectures import ARCHITECTURES
from dg2_jax.models.folder import weights_of
from dg2_jax.models.interface import CONTROL, MASK, SIZES
from dg2_jax.models.model import Model, stepping_of
from dg2_jax.nn.autoencoder_config import AutoencoderConfig

if TYPE_CHECKING:
    from dg2_jax.settings import Settings

# The controls that not every model has, by what a denoiser needs for them.
_NEEDED = {
    SIZES: ("original_size", "crops_coords_top_left", "target_size"),
    CONTROL: (
        "controlnet",
        "controlnet_conditioning_scale",
        "control_guidance_start",
        "control_guidance_end",
        "control_preprocessor",
    ),
}
_PUBLISHED_FACTOR = 8  # of the autoencoders that a config.json names instead of describing


@dataclass(frozen=True)
class ModelFacts:
    """The properties of a model that decide which settings it supports.

    Attributes:
        name: the model's.
        weights: its sets of weights.
        sampling: the defaults for single sets of weights.
        size: side of its own images in pixels.
        multiple: an image's height and width must be multiples of it, in pixels.
        num_train_timesteps: levels that a sampling may visit: those of its noise schedule, or of
            its distillation.
        has_deep_levels: whether `reuse_every` may be above 1.
        latents: channels of its latents and what its denoiser predicts; a model for autoguidance
            must have the same.
        abilities: of its denoiser, see `Architecture.abilities`.
        most_clip_skip: the most that `clip_skip` may be.
        has_taesd: whether a TAESD can decode.
    """

    name: str
    weights: tuple[str, ...]
    sampling: Mapping[str, Mapping[str, Any]]
    size: int
    multiple: int
    num_train_timesteps: int
    has_deep_levels: bool
    latents: tuple[int, str]
    abilities: frozenset[str] = frozenset()
    most_clip_skip: int = 0
    has_taesd: bool = False

    @property
    def lacks(self) -> tuple[str, ...]:
        """The names of the controls that other models have and this one does not."""
        lacking = [
            n for need, names in _NEEDED.items() if need not in self.abilities for n in names
        ]
        lacking += [] if self.most_clip_skip else ["clip_skip"]
        return (*lacking, *(() if self.has_taesd else ("decoder",)))

    def size_of(self, settings: "Settings") -> tuple[int, int]:
        """Width and height of the images that settings ask for, before any enlarging."""
        return settings.width or self.size, settings.height or self.size

    def check(self, settings: "Settings", autoguidance: "ModelFacts | None" = None) -> None:
        """Refuses what this model cannot do.

        Args:
            settings: of a call.
            autoguidance: the facts of `settings.autoguidance_model`, if known.

        Raises:
            ParameterError: naming the parameter and what this model allows.
        """
        self.check_weights(settings.weights)
        most = self.num_train_timesteps
        for name in ("num_inference_steps", "hires_steps"):
            steps = getattr(settings, name) or 1
            check(steps <= most, name, f"at most {most} with {self.name}", steps)
        self._check_lacking(settings)
        self._check_reuse(settings)
        self._check_size(settings)
        if autoguidance is not None:
            self._check_autoguidance(settings, autoguidance)

    def check_weights(self, weights: str) -> None:
        """Raises ParameterError unless the model has this set of weights."""
        if weights not in self.weights:
            allowed = f"must be one of {', '.join(self.weights)} with the model {self.name}"
            raise ParameterError("weights", f"{allowed}; got {weights!r}")

    def _check_lacking(self, settings: "Settings") -> None:
        for name in self.lacks:
            if getattr(settings, name) != type(settings).__dataclass_fields__[name].default:
                raise ParameterError(name, f"is no control of the model {self.name}: leave it out")
        check_int("clip_skip", settings.clip_skip, 0, self.most_clip_skip)

    def _check_reuse(self, settings: "Settings") -> None:
        if settings.reuse_every > 1 and not self.has_deep_levels:
            raise ParameterError(
                "reuse_every",
                f"must be 1 with the model {self.name}, whose denoiser is no UNet of several "
                f"levels; got {settings.reuse_every}",
            )

    def _check_size(self, settings: "Settings") -> None:
        sides = [("height", settings.height), ("width", settings.width)]
        sides += [("hires_size", side) for side in settings.hires_size or ()]
        for name, pixels in sides:
            if pixels is not None and pixels % self.multiple:
                nearest = max(1, round(pixels / self.multiple)) * self.multiple
                raise ParameterError(
                    name,
                    f"must be a multiple of {self.multiple} with the model {self.name}; "
                    f"got {pixels}, the nearest is {nearest}",
                )
        width, height = self.size_of(settings)
        for _, view in settings.anagram or ():
            if width != height and view not in ANY_SHAPE:
                allowed = (
                    f"must use views among {', '.join(ANY_SHAPE)} where a picture is no square"
                )
                raise ParameterError("anagram", f"{allowed}; got {view!r} with {width}x{height}")
        if settings.outpaint is None:
            return
        left, top, right, bottom = settings.outpaint
        for side, new in ((width, left + right), (height, top + bottom)):
            least = max(1, side // 8)
            if side - new < least or not any(settings.outpaint):
                raise ParameterError(
                    "outpaint",
                    f"must add pixels and leave at least {least} of {side} in each direction, "
                    f"got {settings.outpaint}",
                )

    def _check_autoguidance(self, settings: "Settings", other: "ModelFacts") -> None:
        if other.latents != self.latents:
            channels, prediction = self.latents
            raise ParameterError(
                "autoguidance_model",
                f"must have {channels} latent channels and predict {prediction}, "
                f"as {self.name} does",
            )
        if (MASK in other.abilities) != (MASK in self.abilities):
            kind = "an" if MASK in self.abilities else "no"
            raise ParameterError("autoguidance_model", f"must be {kind} in-painting model")
        other.check_weights(settings.weights)
        other._check_reuse(settings)


def from_config(name: str, config: Mapping[str, Any]) -> ModelFacts:
    """The facts of a model folder from its config.json.

    Raises:
        KeyError, TypeError, ValueError: the configuration is not one of a model folder.
    """
    architecture = ARCHITECTURES[config["model"]]
    denoiser = architecture.parse(config["denoiser"], "denoiser")
    diffusion, vae = config["diffusion"], config["vae"]
    factor, channels = _PUBLISHED_FACTOR, denoiser.in_channels
    if "pretrained" not in vae:
        known = AutoencoderConfig.from_dict(vae)
        factor, channels = known.downsampling_factor, known.latent_channels
    levels = len(diffusion.get("alpha_bar", ())) or diffusion.get("num_train_timesteps", 1000)
    abilities = architecture.abilities(denoiser)
    return ModelFacts(
        name=name,
        weights=weights_of(config),
        sampling=config.get("sampling", {}),
        size=config.get("default_size", 128),
        multiple=factor * denoiser.latent_multiple,
        num_train_timesteps=stepping_of(diffusion).most_steps(levels),
        has_deep_levels=architecture.has_deep_features(denoiser),
        latents=(channels, diffusion["prediction_type"]),
        abilities=abilities,
        most_clip_skip=_most_clip_skip(config, abilities),
        has_taesd="taesd" in config,
    )


def _most_clip_skip(config: Mapping[str, Any], abilities: frozenset[str]) -> int:
    """One layer is left; XL leaves out its last one anyway."""
    layers = config["text_encoder"].get("layers", [1])
    return max(0, min(layers) - 1 - (SIZES in abilities))


def facts_of(model: Model) -> ModelFacts:
    """The facts of a model in memory."""
    return ModelFacts(
        name=model.name,
        weights=tuple(model.params),
        sampling=model.config.get("sampling", {}),
        size=model.default_size,
        multiple=model.size_multiple,
        num_train_timesteps=model.stepping.most_steps(model.schedule.num_train_timesteps),
        has_deep_levels=model.has_deep_levels,
        latents=(model.latent_channels, model.prediction_type),
        abilities=model.abilities,
        most_clip_skip=_most_clip_skip(model.config, model.abilities),
        has_taesd=model.taesd is not None,
    )
