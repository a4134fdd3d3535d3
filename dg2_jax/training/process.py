"""The diffusion process that a denoiser learns, and the weights of its loss, as a configuration."""

from dataclasses import dataclass

from dg2_jax.checks import check
from dg2_jax.diffusion import prediction, schedules
from dg2_jax.diffusion.schedules import SCHEDULES, Schedule


@dataclass(frozen=True)
class DiffusionConfig:
    """The diffusion process and its loss.

    Attributes:
        schedule: a name of `dg2_jax.diffusion.schedules.SCHEDULES`.
        prediction_type: a name of `dg2_jax.diffusion.prediction`.
        num_train_timesteps: T.
        zero_terminal_snr: rescale the schedule so that its last level is pure noise.
        beta1: β of the first level, for "linear" and "curved".
        beta2: β of the last level, likewise.
        s: offset of the cosine schedules.
        min_snr_gamma: cap of the loss weight (arXiv 2303.09556); None for equal weights.
        caption_dropout: share of captions replaced by the trained null context.
        assign_noise: assign the noises of a batch to its pictures so that the sum of squared
            distances is minimal (immiscible diffusion, arXiv 2406.12303).
    """

    schedule: str = "curved"
    prediction_type: str = "v_prediction"
    num_train_timesteps: int = 1000
    zero_terminal_snr: bool = False
    beta1: float = schedules.BETA1
    beta2: float = schedules.BETA2
    s: float = schedules.S
    min_snr_gamma: float | None = 5.0
    caption_dropout: float = 0.1
    assign_noise: bool = False

    def __post_init__(self) -> None:
        check(
            self.schedule in SCHEDULES,
            "diffusion.schedule",
            f"one of {', '.join(SCHEDULES)}",
            self.schedule,
        )
        prediction.check(self.prediction_type)
        value: float | None = self.num_train_timesteps
        check(self.num_train_timesteps >= 2, "diffusion.num_train_timesteps", "at least 2", value)
        value = self.caption_dropout
        check(0 <= value <= 1, "diffusion.caption_dropout", "in [0, 1]", value)
        value = self.min_snr_gamma
        allowed = "a positive number or None"
        check(value is None or value > 0, "diffusion.min_snr_gamma", allowed, value)
        if self.zero_terminal_snr and self.prediction_type == "epsilon":
            raise ValueError(
                "diffusion.zero_terminal_snr needs prediction_type v_prediction or sample: at its "
                "last level the noise says nothing about the picture"
            )
        try:
            self.noise_schedule()
        except ValueError as error:
            raise ValueError(f"diffusion.{error}") from error

    def noise_schedule(self) -> Schedule:
        """The schedule that the fields describe."""
        return schedules.make(
            self.schedule,
            self.num_train_timesteps,
            self.zero_terminal_snr,
            beta1=self.beta1,
            beta2=self.beta2,
            s=self.s,
        )
