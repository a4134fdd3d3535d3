"""The configurations of the training scripts, whole."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from dg2_jax import config as config_lib
from dg2_jax.checks import check, check_choice
from dg2_jax.evaluation.probe import ProbeConfig
from dg2_jax.models import sources
from dg2_jax.models.architectures import ARCHITECTURES
from dg2_jax.models.interface import Architecture, TensorRules
from dg2_jax.models.lora import LoraConfig
from dg2_jax.nn.autoencoder_config import AutoencoderConfig
from dg2_jax.training.adversarial import AdversarialConfig
from dg2_jax.training.autoencoder import LossWeights
from dg2_jax.training.config import RunConfig
from dg2_jax.training.process import DiffusionConfig

Run = TypeVar("Run", bound="DenoiserRunConfig")

OF_THE_TRAINING = ("dropout", "remat", "remat_policy")  # fields of denoisers that change no network

# Saved configurations of version 0.1.0 lack the key `model`; a field of `denoiser` implies it.
_MODEL_OF_FIELD = {"attention_levels": "unet", "patch_size": "dit", "n_heads": "dg2_unet"}


@dataclass(frozen=True)
class AutoencoderRunConfig(RunConfig):
    """A run of scripts/train_vae.py.

    Attributes:
        vae: the network.
        loss: weights of the terms of its loss.
        init_from: an embedded model's name, a model folder, or the folder of another such run; its
            autoencoder is the starting point. Empty for new weights.
        dataset: configuration of `dg2_scenes`: full, tiny, or such as train12000 for 12,000
            pictures.
        source: your own pictures instead, as for scripts.prepare: a folder, .tar or .parquet
            files, or tfds:NAME (in --data_dir). Captions are not needed.
        size: side in pixels of the pictures of `source`, which are cropped to their middle square.
        dead_leaves: number of pictures of `data.dead_leaves` to add; 0 for none.
        crop: side of the random crops to train on; 0 for whole pictures. The networks are
            convolutional, so crops teach the same for less; a last stage should see whole pictures.
        adversarial: the adversarial stage of the decoder; None for none.
        own_latents: for `adversarial.own_share`, an .npy file of latents (n, h, w, c) that the
            denoiser sampled (scripts/make_latents.py).
        validation_images: how many pictures of the validation split are reconstructed.
    """

    vae: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    loss: LossWeights = field(default_factory=LossWeights)
    init_from: str = ""
    dataset: str = "full"
    source: str = ""
    size: int = 128
    dead_leaves: int = 0
    crop: int = 0
    adversarial: AdversarialConfig | None = None
    own_latents: str = ""
    validation_images: int = 128

    def __post_init__(self) -> None:
        super().__post_init__()
        value = self.validation_images
        check(value >= 8, "validation_images", "at least 8", value)
        check(self.dead_leaves >= 0, "dead_leaves", "at least 0", self.dead_leaves)
        factor = self.vae.downsampling_factor
        fine = self.crop >= 0 and self.crop % factor == 0
        check(fine, "crop", f"0 or a multiple of {factor}, the cell of a latent", self.crop)
        if self.source:
            fine = self.size > 0 and self.size % factor == 0
            check(fine, "size", f"a multiple of {factor}, the cell of a latent", self.size)
            check(self.crop <= self.size, "crop", f"at most size ({self.size})", self.crop)
        if self.adversarial is not None and bool(self.adversarial.own_share) != bool(
            self.own_latents
        ):
            raise ValueError("own_latents and adversarial.own_share go together")

    @property
    def result(self) -> str:
        """The workdir itself, which has vae.json."""
        return ""


@dataclass(frozen=True)
class ProbeRunConfig(RunConfig):
    """A run of scripts/train_probe.py.

    Attributes:
        probe: the network.
        dataset: configuration of `dg2_scenes`: full, tiny, or such as train12000 for 12,000
            pictures.
    """

    probe: ProbeConfig = field(default_factory=ProbeConfig)
    dataset: str = "full"


def _denoiser_class(values: Mapping[str, Any]) -> type:
    name = values.get("model", DenoiserRunConfig.model)
    check_choice("model", name, ARCHITECTURES)
    return ARCHITECTURES[name].config


def _completed_denoiser(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The denoiser of `init_from` where of the run's only how it is trained is given."""
    given = values["denoiser"]
    if not values.get("init_from") or not set(given) <= set(OF_THE_TRAINING):
        return given
    described = sources.described(values["init_from"])
    fits = described["model"] == values.get("model", DenoiserRunConfig.model)
    return {**described["denoiser"], **given} if fits else given


@dataclass(frozen=True)
class DenoiserRunConfig(RunConfig):
    """A run of scripts/train.py.

    Attributes:
        model: the architecture, a name in `dg2_jax.models.architectures.ARCHITECTURES`.
        denoiser: the network, of the architecture's configuration class; None for that of
            `init_from`, or its defaults. Of `OF_THE_TRAINING` alone, the rest is of `init_from`.
        diffusion: the process and its loss.
        init_from: an embedded model's name, a model folder or Stable Diffusion (see
            `dg2_jax.models.sources`), whose EMA weights are the starting point; empty for new
            weights. Its latents may be of another size.
        lora: trains only low-rank adapters of `init_from`; None trains all weights.
        train_text_encoder: with `lora`, adapters of Stable Diffusion's text encoders too.
        max_length: tokens that a caption is cut to; those of latent shards are not cut.
        validation_images: number of validation pictures that the loss is taken over. Latent shards
            have no splits; their last examples are held out instead.
        sample_prompts: prompts of the sample grids, one per column; empty for captions of held-out
            pictures, if the data has any.
        sample_prompts_file: more prompts: a text file with one per line, or DiffusionGen2's `.pt`
            of prompts and their tokens, which then replace all others.
        sample_guidance: guidance scales of the sample grids, one per row.
    """

    model: str = "unet"
    denoiser: Any = field(
        default=None, metadata=config_lib.class_by(_denoiser_class, _completed_denoiser)
    )
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    init_from: str = ""
    lora: LoraConfig | None = None
    train_text_encoder: bool = False
    max_length: int = 64
    validation_images: int = 512
    sample_prompts: tuple[str, ...] = ()
    sample_prompts_file: str = ""
    sample_guidance: tuple[float, ...] = (1.0, 3.0, 5.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("model", self.model, ARCHITECTURES)
        config_class = self.architecture.config
        if self.denoiser is None:
            object.__setattr__(self, "denoiser", self._usual_denoiser())
        fits = isinstance(self.denoiser, config_class)
        check(
            fits,
            "denoiser",
            f"a {config_class.__name__}, as model is {self.model!r}",
            self.denoiser,
        )
        for name in ("max_length", "validation_images"):
            check(getattr(self, name) >= 1, name, "at least 1", getattr(self, name))
        if self.sample_prompts_file.endswith(".pt") and self.sample_prompts:
            raise ValueError("sample_prompts must be empty where sample_prompts_file is a .pt file")
        if self.train_text_encoder and (self.lora is None or self.model != "sd_unet"):
            raise ValueError("train_text_encoder must be false without lora of Stable Diffusion")
        if self.init_from:
            return
        if self.model == "dg2_unet" and self.denoiser.legacy_time_table:
            raise ValueError("denoiser.legacy_time_table must be false: it is for imported weights")
        if self.lora is not None:
            raise ValueError("lora needs init_from, the model that is adapted")

    def _usual_denoiser(self) -> Any:
        if not self.init_from:
            return self.architecture.config()
        described = sources.described(self.init_from)
        check(self.model == described["model"], "model", f"{described['model']!r}, as in init_from",
              self.model)  # fmt: skip
        return self.architecture.parse(described["denoiser"], "denoiser")

    @property
    def architecture(self) -> Architecture:
        """The entry of the denoiser's architecture."""
        return ARCHITECTURES[self.model]

    @property
    def tensor_rules(self) -> TensorRules:
        """The layers of the denoiser that `devices.tensor` divides."""
        return self.architecture.tensor_rules

    @classmethod
    def from_saved(cls: type[Run], values: Mapping[str, Any]) -> Run:
        """See `RunConfig.from_saved`."""
        if "model" not in values:
            names = {_MODEL_OF_FIELD[key] for key in values["denoiser"] if key in _MODEL_OF_FIELD}
            values = {"model": min(names, default="unet"), **values}
        return super().from_saved(values)


@dataclass(frozen=True)
class DistillationRunConfig(DenoiserRunConfig):
    """A run of scripts/distill.py; the teacher is `init_from`.

    Attributes:
        student: the weights of `init_from` that the student starts from: "ema", the teacher's, or
            "fast", to continue a student.
        student_steps: sampling steps of the student.
        substeps: guided steps of the teacher per step of the student.
        guidance_scale: of the teacher, built into the student; 1 is unguided.
        own_share: share of a batch's latents that come from the student's own steps, 0 to 1.
    """

    student: str = "ema"
    student_steps: int = 4
    substeps: int = 4
    guidance_scale: float = 5.0
    own_share: float = 0.75

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.architecture.has_null_context:
            raise ValueError(f"model must have a learnt null context, got {self.model!r}")
        check(0 <= self.own_share <= 1, "own_share", "0 to 1", self.own_share)
        check(self.student in ("ema", "fast"), "student", '"ema" or "fast"', self.student)
        for name in ("student_steps", "substeps", "guidance_scale"):
            check(getattr(self, name) >= 1, name, "at least 1", getattr(self, name))
        check(bool(self.init_from), "init_from", "the teacher's name or folder", self.init_from)
