"""The configuration of a training run in parts: typed, checked data.

`dg2_jax.config.from_mapping` builds them from the open dictionaries in `configs/`.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from dg2_jax import config as config_lib
from dg2_jax.checks import check
from dg2_jax.models.interface import TensorRules

Run = TypeVar("Run", bound="RunConfig")

OPTIMIZERS = ("adamw", "muon")
EMA_PROFILES = ("warmup", "power")
WANDB_MODES = ("offline", "online", "disabled")
COMPUTE_DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True)
class OptimConfig:
    """The optimiser with linear warm-up, cosine decay and clipping of the global norm.

    Attributes:
        name: "adamw", or "muon" (orthogonalised momentum for matrices and kernels, NAdam for the
            rest). Muon's updates have the size of AdamW's, so learning rates are similar.
        learning_rate: the peak, reached after `warmup_steps`.
        final_learning_rate: the end of the cosine, at the last step.
        warmup_steps: steps from 0 to the peak.
        decay_steps: steps at the end of the run in which the rate falls; between the warm-up and
            these it is constant. Until they begin, another num_steps lengthens or shortens the
            run. 0: the rate falls from the warm-up on.
        momentum: of Muon.
        b1, b2, eps: of Adam.
        weight_decay: decoupled; on matrices and kernels only, not on biases and gains.
        clip_norm: the largest global norm of the gradient; larger ones are scaled down.
        frozen: top-level names of parameters that are not trained, such as "encoder".
    """

    name: str = "adamw"
    learning_rate: float = 6e-4
    final_learning_rate: float = 1e-6
    warmup_steps: int = 200
    decay_steps: int = 0
    momentum: float = 0.95
    b1: float = 0.9
    b2: float = 0.99
    eps: float = 1e-8
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    frozen: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check(self.name in OPTIMIZERS, "optim.name", f"one of {', '.join(OPTIMIZERS)}", self.name)
        for name in ("learning_rate", "eps", "clip_norm"):
            value = getattr(self, name)
            check(0 < value < math.inf, f"optim.{name}", "a positive number", value)
        for name in ("final_learning_rate", "weight_decay", "warmup_steps", "decay_steps"):
            value = getattr(self, name)
            check(0 <= value < math.inf, f"optim.{name}", "a number of at least 0", value)
        for name in ("momentum", "b1", "b2"):
            value = getattr(self, name)
            check(0 <= value < 1, f"optim.{name}", "in [0, 1)", value)


@dataclass(frozen=True)
class EmaConfig:
    """The moving average of the weights; see `training.ema`.

    Attributes:
        profile: "warmup" (a constant decay, lower at first) or "power" (EDM2).
        decay: of the warm-up profile, in [0, 1).
        sigma_rel: width of the power profile relative to the length of the run, in (0, 0.28).
        posthoc: widths of further power averages to keep, such as (0.05, 0.10), which are written
            to averages/; from two, `scripts.reconstruct_ema` makes an average of any width.
        snapshot_every: steps between writing these averages.
    """

    profile: str = "warmup"
    decay: float = 0.999
    sigma_rel: float = 0.10
    posthoc: tuple[float, ...] = ()
    snapshot_every: int = 1000

    def __post_init__(self) -> None:
        check(self.profile in EMA_PROFILES, "ema.profile", f"one of {EMA_PROFILES}", self.profile)
        check(0 <= self.decay < 1, "ema.decay", "in [0, 1)", self.decay)
        for name, values in (("sigma_rel", (self.sigma_rel,)), ("posthoc", self.posthoc)):
            for value in values:
                check(0 < value < 0.28, f"ema.{name}", "in (0, 0.28)", value)
        check(self.snapshot_every >= 1, "ema.snapshot_every", "at least 1", self.snapshot_every)


@dataclass(frozen=True)
class LoopConfig:
    """What the loop does besides the steps.

    None of it changes the result, so a resumed run may have another.

    Attributes:
        log_every: steps between lines of metrics.jsonl.
        loss_smoothing: β of the smoothed loss m ← β m + (1 - β) loss, shown as m / (1 - βⁿ) after n
            steps.
        validate_every: steps between validations; 0 for none.
        validate_epochs: if above 0, epochs between them, instead of `validate_every`.
        sample_every: steps between sample grids; 0 for none.
        sample_epochs: likewise for these.
        checkpoint_every: steps between checkpoints; the last step is always saved.
        checkpoint_epochs: likewise for these.
        checkpoint_folder: of the checkpoints, if not the run's checkpoints/; a path, or a gs://
            address, which needs the package gcsfs.
        keep: number of newest checkpoints to keep.
        keep_every: checkpoints of multiples of this number are kept for ever; 0 for none.
        read_threads: threads that read and decode records.
        prefetch: number of batches to read ahead.
        skip_damaged: replace an encoded record that cannot be read with the next one that can,
            instead of ending the run.
        wandb: "offline", "online" or "disabled".
        wandb_project: the project of the run.
        tensorboard: also write event files; needs the extra `tensorboard`.
        peak_tflops: of one device, the reference for MFU; 0 measures it with a matrix product,
            None leaves MFU out.
    """

    log_every: int = 20
    loss_smoothing: float = 0.95
    validate_every: int = 500
    validate_epochs: float = 0.0
    sample_every: int = 0
    sample_epochs: float = 0.0
    checkpoint_every: int = 500
    checkpoint_epochs: float = 0.0
    checkpoint_folder: str = ""
    keep: int = 3
    keep_every: int = 0
    read_threads: int = 2
    prefetch: int = 4
    skip_damaged: bool = False
    wandb: str = "offline"
    wandb_project: str = "dg2_jax"
    tensorboard: bool = False
    peak_tflops: float | None = None

    def __post_init__(self) -> None:
        for name in ("log_every", "keep", "read_threads", "prefetch"):
            value = getattr(self, name)
            check(value >= 1, f"loop.{name}", "at least 1", value)
        value = self.checkpoint_every
        fine = value >= 1 or (value == 0 and self.checkpoint_epochs > 0)
        check(fine, "loop.checkpoint_every", "at least 1", value)
        for name in ("validate_every", "sample_every", "keep_every"):
            value = getattr(self, name)
            check(value >= 0, f"loop.{name}", "at least 0", value)
        for name in ("validate_epochs", "sample_epochs", "checkpoint_epochs"):
            value = getattr(self, name)
            check(0 <= value < math.inf, f"loop.{name}", "a number of at least 0", value)
        check(0 <= self.loss_smoothing < 1, "loop.loss_smoothing", "in [0, 1)", self.loss_smoothing)
        check(self.wandb in WANDB_MODES, "loop.wandb", f"one of {WANDB_MODES}", self.wandb)
        folder = self.checkpoint_folder
        known = "://" not in folder or folder.startswith("gs://")  # Orbax writes to no other
        check(known, "loop.checkpoint_folder", "a path or a gs:// address", folder)
        peak = self.peak_tflops
        check(peak is None or peak >= 0, "loop.peak_tflops", "at least 0 or None", peak)

    def in_steps(self, steps: Callable[[float], int]) -> "LoopConfig":
        """The same with every interval in steps; `steps` converts a number of epochs."""
        values: dict[str, Any] = {}
        for name in ("validate", "sample", "checkpoint"):
            if epochs := getattr(self, f"{name}_epochs"):
                values |= {f"{name}_every": steps(epochs), f"{name}_epochs": 0.0}
        return dataclasses.replace(self, **values)


@dataclass(frozen=True)
class DevicesConfig:
    """How a step is spread over devices and memory; see `dg2_jax.training.sharding`.

    It changes the result only by rounding, so a resumed run may have another.

    Attributes:
        data: devices along which only the batch is divided; -1 for all remaining ones.
        fsdp: devices along which the batch, the weights, the average and the optimiser are divided.
        tensor: devices along which the wide layers are divided.
        accumulation_steps: parts of a batch that go through the network one after another.
    """

    data: int = -1
    fsdp: int = 1
    tensor: int = 1
    accumulation_steps: int = 1

    def __post_init__(self) -> None:
        for name in ("fsdp", "tensor", "accumulation_steps"):
            value = getattr(self, name)
            check(value >= 1, f"devices.{name}", "at least 1", value)
        check(self.data == -1 or self.data >= 1, "devices.data", "at least 1, or -1", self.data)


@dataclass(frozen=True)
class RunConfig:
    """The configuration that every training run has.

    Attributes:
        num_steps: length of the run.
        num_epochs: if above 0, its length in epochs, instead of `num_steps`.
        batch_size: examples per step, over all devices and processes.
        seed: of weights, order and noise.
        compute_dtype: of matrix products and activations, "float32" or "bfloat16"; weights,
            averages, normalisation and softmax are float32 always.
        optim: the optimiser.
        ema: the average of the weights.
        devices: how a step is spread.
        loop: what is done besides the steps.
    """

    num_steps: int = 1000
    num_epochs: float = 0.0
    batch_size: int = 64
    seed: int = 0
    compute_dtype: str = "float32"
    optim: OptimConfig = field(default_factory=OptimConfig)
    ema: EmaConfig = field(default_factory=EmaConfig)
    devices: DevicesConfig = field(default_factory=DevicesConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)

    def __post_init__(self) -> None:
        epochs = self.num_epochs
        check(0 <= epochs < math.inf, "num_epochs", "a number of at least 0", epochs)
        fine = self.num_steps >= 1 or (self.num_steps == 0 and epochs > 0)
        check(fine, "num_steps", "at least 1", self.num_steps)
        check(self.batch_size >= 1, "batch_size", "at least 1", self.batch_size)
        check(0 <= self.seed < 2**31, "seed", "in [0, 2**31)", self.seed)
        value = self.compute_dtype
        check(value in COMPUTE_DTYPES, "compute_dtype", f"one of {COMPUTE_DTYPES}", value)
        parts = self.devices.accumulation_steps
        if self.batch_size % parts:
            raise ValueError(
                "devices.accumulation_steps must divide batch_size "
                f"({self.batch_size}), got {parts}"
            )

    def in_steps(self: Run, examples: int) -> Run:
        """The same run, with its length and all intervals in steps.

        Args:
            examples: per epoch, which is examples / batch_size steps; a batch may span two epochs.
        """

        def steps(epochs: float) -> int:
            return max(1, math.ceil(epochs * examples / self.batch_size - 1e-9))

        values: dict[str, Any] = {"loop": self.loop.in_steps(steps)}
        if self.num_epochs:
            values |= {"num_steps": steps(self.num_epochs), "num_epochs": 0.0}
        return dataclasses.replace(self, **values)

    @property
    def result(self) -> str:
        """The part of its workdir that another run's `init_from` takes; "" for all of it."""
        return "model"

    @property
    def tensor_rules(self) -> TensorRules:
        """The layers of the network that `devices.tensor` divides."""
        return TensorRules()

    @classmethod
    def from_saved(cls: type[Run], values: Mapping[str, Any]) -> Run:
        """The configuration in a checkpoint's config.json, which may be of an earlier version.

        Raises:
            ValueError: it is of another kind of run.
        """
        return config_lib.from_mapping(cls, values, "the saved config")
