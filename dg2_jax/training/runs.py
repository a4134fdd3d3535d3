"""The configurations of the training scripts, whole."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import jax

from dg2_jax import config as config_lib
from dg2_jax import model
from dg2_jax.config import DiffusionConfig, RunConfig, check
from dg2_jax.data.loader import Batch, Buckets, Example, Loader, Source, Transform
from dg2_jax.evaluation.probe import ProbeConfig
from dg2_jax.lora import LoraConfig
from dg2_jax.nn.autoencoder import AutoencoderConfig
from dg2_jax.nn.dg2_unet import DG2UNetConfig
from dg2_jax.nn.dit import DiTConfig
from dg2_jax.nn.unet import UNetConfig
from dg2_jax.training import optimizer, state
from dg2_jax.training.autoencoder import LossWeights
from dg2_jax.training.state import Params


@dataclass(frozen=True)
class AutoencoderRunConfig(RunConfig):
    """A run of scripts/train_vae.py.

    Attributes:
        vae: the network.
        loss: weights of the terms of its loss.
        init_from: an embedded model's name or a model folder, whose autoencoder the run starts
            from; empty for new weights.
        dataset: configuration of `dg2_scenes`: full or tiny.
        dead_leaves: pictures of `data.dead_leaves` among those trained on; 0 for none.
        validation_images: how many pictures of the validation split are rebuilt.
    """

    vae: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    loss: LossWeights = field(default_factory=LossWeights)
    init_from: str = ""
    dataset: str = "full"
    dead_leaves: int = 0
    validation_images: int = 128

    def __post_init__(self) -> None:
        super().__post_init__()
        value = self.validation_images
        check(value >= 8, "validation_images", "at least 8", value)
        check(self.dead_leaves >= 0, "dead_leaves", "at least 0", self.dead_leaves)


@dataclass(frozen=True)
class ProbeRunConfig(RunConfig):
    """A run of scripts/train_probe.py.

    Attributes:
        probe: the network.
        dataset: configuration of `dg2_scenes`: full or tiny.
    """

    probe: ProbeConfig = field(default_factory=ProbeConfig)
    dataset: str = "full"


@dataclass(frozen=True)
class DenoiserRunConfig(RunConfig):
    """A run of scripts/train.py.

    Attributes:
        denoiser: the network, one of `dg2_jax.model.ARCHITECTURES`; its fields tell which.
        diffusion: the process and its loss.
        init_from: an embedded model's name or a model folder, whose EMA weights the run starts
            from; empty for new weights. The latents may be of another size than that model's.
        lora: with it, low-rank adapters of `init_from` are trained and nothing else.
        max_length: tokens that a caption is cut to; those of latent shards are left as they are.
        validation_images: how many of the validation split the loss is taken over. Latent shards
            have no splits: there, so many at the end are held out.
        sample_prompts: what the sample grids show, a column each; empty for captions of pictures
            that are held out, where the data has any.
        sample_prompts_file: more of them: a text file of one per line, or DiffusionGen2's `.pt` of
            prompts and their tokens, which are then sampled alone.
        sample_guidance: guidance scales of the sample grids, a row each.
    """

    denoiser: UNetConfig | DiTConfig | DG2UNetConfig = field(default_factory=UNetConfig)
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    init_from: str = ""
    lora: LoraConfig | None = None
    max_length: int = 64
    validation_images: int = 512
    sample_prompts: tuple[str, ...] = ()
    sample_prompts_file: str = ""
    sample_guidance: tuple[float, ...] = (1.0, 3.0, 5.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("max_length", "validation_images"):
            check(getattr(self, name) >= 1, name, "at least 1", getattr(self, name))
        if self.sample_prompts_file.endswith(".pt") and self.sample_prompts:
            raise ValueError("sample_prompts must be empty where sample_prompts_file is a .pt file")
        if self.init_from:
            return
        if isinstance(self.denoiser, DG2UNetConfig) and self.denoiser.legacy_time_table:
            raise ValueError("denoiser.legacy_time_table must be false: it is for imported weights")
        if self.lora is not None:
            raise ValueError("lora needs init_from, the model that is adapted")


@dataclass(frozen=True)
class DistillationRunConfig(DenoiserRunConfig):
    """A run of scripts/distill.py; the teacher is `init_from`.

    Attributes:
        student: which of the weights of `init_from` the student starts from, "ema" as its teacher
            has, or "fast" to go on with a student.
        student_steps: steps that a picture takes afterwards.
        substeps: guided steps of the teacher that the student does in one.
        guidance_scale: of the teacher, which becomes the student's own; 1 is unguided.
        own_share: of the latents of a batch that are where the student's own steps lead, 0 to 1.
    """

    student: str = "ema"
    student_steps: int = 4
    substeps: int = 4
    guidance_scale: float = 5.0
    own_share: float = 0.75

    def __post_init__(self) -> None:
        super().__post_init__()
        check(0 <= self.own_share <= 1, "own_share", "0 to 1", self.own_share)
        check(self.student in ("ema", "fast"), "student", '"ema" or "fast"', self.student)
        for name in ("student_steps", "substeps", "guidance_scale"):
            check(getattr(self, name) >= 1, name, "at least 1", getattr(self, name))
        check(bool(self.init_from), "init_from", "the teacher's name or folder", self.init_from)


def initial_state(config: RunConfig, params: Params) -> state.TrainState:
    """The state of a run before its first step; the averages start as copies of the weights."""
    transform = optimizer.make(config.optim, config.num_steps)
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


def check_data(
    config: DenoiserRunConfig, latent_shape: tuple[int, int, int], context_dim: int
) -> None:
    """Raises ValueError unless the denoiser fits the latents (h, w, c) and the text's width."""
    width = model.ARCHITECTURES[model.architecture_name(config.denoiser)].context_width
    for name, needed in (("in_channels", latent_shape[-1]), (width, context_dim)):
        value = getattr(config.denoiser, name)
        check(value == needed, f"denoiser.{name}", f"{needed}, as the encoded data has", value)


def check_scaling(config: DenoiserRunConfig, vae: AutoencoderConfig) -> None:
    """Raises ValueError unless the latents are scaled as those that `config.init_from` learnt."""
    if not config.init_from:
        return
    start = model.load(config.init_from).autoencoder_config
    found = vae.scaling_factor / start.scaling_factor
    shifted = (vae.shift_factor - start.shift_factor) * start.scaling_factor
    if abs(found - 1.0) > 0.01 or abs(shifted) > 0.01:
        raise ValueError(
            f"data_dir: its latents are scaled by {vae.scaling_factor:.4g} and shifted by "
            f"{vae.shift_factor:.4g}, those of init_from by {start.scaling_factor:.4g} and "
            f"{start.shift_factor:.4g}; prepare them with: "
            f"python -m scripts.prepare --model={config.init_from} ..."
        )


def starting_weights(config: DenoiserRunConfig, weights: str = "ema") -> Params | None:
    """The weights of `config.init_from`, None where it is empty.

    Args:
        config: the run's.
        weights: which set of them.

    Raises:
        ValueError: that model has another network, or predicts something else.
        FileNotFoundError: there is no such model.
    """
    if not config.init_from:
        return None
    start = model.load(config.init_from)
    network = config_lib.from_mapping(
        type(config.denoiser), start.config["denoiser"], f"the denoiser of init_from {start.name}"
    )
    found = config_lib.to_dict(network)
    for key, value in config_lib.to_dict(config.denoiser).items():
        check(value == found[key], f"denoiser.{key}", f"{found[key]!r}, as in init_from", value)
    predicted = config.diffusion.prediction_type
    check(
        predicted == start.prediction_type,
        "diffusion.prediction_type",
        f"{start.prediction_type}, as in init_from",
        predicted,
    )
    return start.params[weights]


def starting_autoencoder(config: AutoencoderRunConfig) -> Params | None:
    """The autoencoder's weights of `config.init_from`, None where it is empty.

    Raises:
        ValueError: that model has another autoencoder.
        FileNotFoundError: there is no such model.
    """
    if not config.init_from:
        return None
    start = model.load(config.init_from)
    found = start.autoencoder_config.to_dict()
    for key, value in config.vae.to_dict().items():
        if key not in ("scaling_factor", "shift_factor"):  # of the latents, not of the network
            check(value == found[key], f"vae.{key}", f"{found[key]!r}, as in init_from", value)
    return start.autoencoder_params
