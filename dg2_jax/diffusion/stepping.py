"""Which levels of a schedule a sampling visits, and where it ends.

A model is sampled well at the levels that it was published with: Stable Diffusion counts its
timesteps from 1 and stops short of the clean level, distilled models know a few levels alone.
"""

from dataclasses import dataclass

import numpy as np

from dg2_jax.diffusion import schedules
from dg2_jax.diffusion.schedules import Schedule

_ENDS_NOISY = ("ddim",)  # the solvers whose last step goes to `final_alpha_bar`


@dataclass(frozen=True)
class Stepping:
    """What a model has of its own; the defaults are those of a model that has nothing.

    Attributes:
        spacing: of the visited timesteps, see `schedules.timesteps`; None is the default of the
            schedule.
        steps_offset: added to the timesteps of "leading" spacing, as far as there is room.
        final_alpha_bar: ᾱ of what DDIM's last step leaves, see `solvers.make_table`; the other
            solvers end at the clean level.
        distilled_steps: of latent consistency models (Luo et al., arXiv 2310.04378): the visited
            timesteps are some of this many, those that the model was distilled at; None of others.
    """

    spacing: str | None = None
    steps_offset: int = 0
    final_alpha_bar: float = 1.0
    distilled_steps: int | None = None

    def __post_init__(self) -> None:
        if self.spacing is not None and self.spacing not in schedules.SPACINGS:
            allowed = ", ".join(schedules.SPACINGS)
            raise ValueError(f"spacing must be one of {allowed}; got {self.spacing!r}")
        if type(self.steps_offset) is not int or self.steps_offset < 0:
            raise ValueError(f"steps_offset must be an integer from 0, got {self.steps_offset!r}")
        if not 0.0 < self.final_alpha_bar <= 1.0:
            raise ValueError(f"final_alpha_bar must be above 0, to 1: {self.final_alpha_bar!r}")
        steps = self.distilled_steps
        if steps is not None and (type(steps) is not int or not 1 <= steps <= 1000):
            raise ValueError(f"distilled_steps must be an integer from 1 to 1000, got {steps!r}")

    def most_steps(self, num_train_timesteps: int, below: int | None = None) -> int:
        """As many steps as a sampling may have; `below` as of `timesteps`."""
        levels = num_train_timesteps if below is None else below
        if self.distilled_steps is None:
            return levels
        return max(1, levels // max(1, num_train_timesteps // self.distilled_steps))

    def ends_at(self, solver: str) -> float:
        """ᾱ of what a solver's last step leaves."""
        return self.final_alpha_bar if solver in _ENDS_NOISY else 1.0

    def timesteps(
        self,
        schedule: Schedule,
        num_inference_steps: int,
        spacing: str | None = None,
        below: int | None = None,
    ) -> np.ndarray:
        """The visited training timesteps, noisiest first.

        Args:
            schedule: of the model.
            num_inference_steps: of the sampling, at most `most_steps`.
            spacing: another than the model's; None is the model's.
            below: the timesteps are those from 0 to this many; None is all of the schedule.

        Raises:
            ValueError: more steps than levels, fewer than one, or an unknown spacing.
        """
        levels = schedule.num_train_timesteps if below is None else below
        if self.distilled_steps is not None and spacing is None:
            every = max(1, schedule.num_train_timesteps // self.distilled_steps)
            count = self.most_steps(schedule.num_train_timesteps, below)
            steps = len(schedules.timesteps(num_inference_steps, count))  # which checks the number
            return (count - np.arange(steps) * count // steps) * every - 1
        spacing = spacing or self.spacing or schedules.default_spacing(schedule)
        if spacing in schedules.BY_NOISE:
            return schedules.timesteps_by_noise(num_inference_steps, schedule, spacing, below)
        offset = 0
        if spacing == "leading" and num_inference_steps >= 1:
            offset = min(self.steps_offset, max(levels // num_inference_steps - 1, 0))
        return schedules.timesteps(num_inference_steps, levels, spacing, offset)
