"""scheduler_config.json: noise schedule, what the network predicts, and which levels to visit."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from dg2_jax.diffusion import prediction, schedules, solvers
from dg2_jax.diffusion.schedules import Schedule
from dg2_jax.diffusion.solver_table import SolverTable
from dg2_jax.diffusion.stepping import Stepping

# The solver here that stands for a scheduler class; for other classes the last.
_SOLVERS = {
    "DDIMScheduler": "ddim",
    "DDPMScheduler": "ddpm",
    "DPMSolverMultistepScheduler": "dpmpp_2m",
    "EulerDiscreteScheduler": "euler",
    "EulerAncestralDiscreteScheduler": "euler_ancestral",
    "HeunDiscreteScheduler": "heun",
    "LCMScheduler": "lcm",
    "UniPCMultistepScheduler": "unipc",
    "": "dpmpp_2m",
}
# Classes whose defaults, where a key is absent, are not those of the most.
_LEADING = ("DDIMScheduler", "DDPMScheduler", "PNDMScheduler", "LCMScheduler", "TCDScheduler")
_TO_LEAST_NOISE = ("PNDMScheduler",)
# How the names begin of classes for models of another kind.
_OTHER_PROCESSES = ("FlowMatch", "EDM", "ScoreSde", "KarrasVe", "CMStochastic", "VQDiffusion",
                    "Consistency", "UnCLIP", "RePaint", "CosineDPM")  # fmt: skip
_MOST_TIMESTEPS = 100_000  # a damaged configuration must not exhaust the memory
# Settings with one value here: the one that asks for nothing; others stand for another process.
_REQUIRED = {
    "thresholding": (False, None),
    "clip_sample": (False, None),
    "use_flow_sigmas": (False, None),
    "use_beta_sigmas": (False, None),
    "use_lu_lambdas": (False, None),
    "timestep_type": ("discrete", None),
    "final_sigmas_type": ("zero", "sigma_min", None),
    "sigma_min": (None,),
    "sigma_max": (None,),
}
# The classes that clip; configurations handed from one class to another keep the key.
_CLIPPING = ("DDIMScheduler", "DDPMScheduler", "LCMScheduler", "TCDScheduler", "")


@dataclasses.dataclass(frozen=True, eq=False)
class Scheduler:
    """How a model is sampled.

    Attributes:
        schedule: the noise schedule it was trained with.
        prediction_type: what its network predicts.
        solver: a name in `solvers.SOLVERS`, used unless another is asked for.
        stepping: which timesteps are visited, and where a sampling ends.
    """

    schedule: Schedule
    prediction_type: str
    solver: str
    stepping: Stepping

    @property
    def is_few_step(self) -> bool:
        """Whether this is how models distilled to few unguided steps are sampled."""
        distilled = self.solver == "lcm"
        plain = self.prediction_type == "epsilon" and not self.schedule.is_zero_terminal
        turbo = self.solver in ("euler", "euler_ancestral") and self.stepping.spacing == "trailing"
        return distilled or (turbo and plain)

    def timesteps(self, num_inference_steps: int) -> np.ndarray:
        """The visited training timesteps, noisiest first; raises as `Stepping.timesteps`."""
        return self.stepping.timesteps(self.schedule, num_inference_steps)

    def table(
        self, num_inference_steps: int, solver: str | None = None, eta: float = 0.0
    ) -> SolverTable:
        """The steps of a sampling; raises as `timesteps` and `solvers.make_table`."""
        solver = solver or self.solver
        t = self.timesteps(num_inference_steps)
        return solvers.make_table(solver, self.schedule, t, eta, self.stepping.ends_at(solver))


def parse_scheduler(
    values: Mapping[str, Any],
    prediction_type: str | None = None,
    zero_terminal_snr: bool | None = None,
) -> Scheduler:
    """From the content of a scheduler_config.json.

    Args:
        values: the content; keys that are absent have the value of the class's default.
        prediction_type: None: as the configuration says.
        zero_terminal_snr: whether the schedule is rescaled; None: as the configuration says.

    Raises:
        ValueError: for a class or value that stands for a process these are not.
    """
    kind = values.get("_class_name", "")
    if not isinstance(kind, str):
        raise ValueError(f"_class_name must be a text, got {kind!r}")
    if kind.startswith(_OTHER_PROCESSES):
        raise ValueError(f"its scheduler is a {kind}; a Stable Diffusion model has none such")
    for key in ("set_alpha_to_one", "rescale_betas_zero_snr", "use_karras_sigmas"):
        if not isinstance(values.get(key), bool | None):
            raise ValueError(f"{key} must be true or false, got {values[key]!r}")
    for key, allowed in _REQUIRED.items():
        unused = key == "clip_sample" and kind not in _CLIPPING
        if not unused and values.get(key) not in allowed:
            needed = json.dumps(allowed[0])
            raise ValueError(f"the scheduler's {key} must be {needed}, got {values[key]!r}")
    predicts = prediction_type or values.get("prediction_type", "epsilon")
    prediction.check(predicts)
    schedule = _schedule(values)
    rescale = values.get("rescale_betas_zero_snr", False)
    if rescale if zero_terminal_snr is None else zero_terminal_snr:
        if predicts == "epsilon":
            raise ValueError("rescale_betas_zero_snr needs prediction_type v_prediction or sample")
        schedule = schedules.zero_terminal(schedule)
    spacing = values.get("timestep_spacing", "leading" if kind in _LEADING else "linspace")
    if spacing not in schedules.EVEN:
        raise ValueError(f"timestep_spacing must be one of {schedules.EVEN}, got {spacing!r}")
    spacing = next((s for s in schedules.BY_NOISE if values.get(f"use_{s}_sigmas")), spacing)
    to_clean = values.get("set_alpha_to_one", kind not in _TO_LEAST_NOISE)
    to_clean = to_clean and values.get("final_sigmas_type", "zero") == "zero"
    solver = _SOLVERS.get(kind, _SOLVERS[""])
    distilled = values.get("original_inference_steps", 50) if solver == "lcm" else None
    if solver == "dpmpp_2m" and str(values.get("algorithm_type")).startswith("sde-"):
        solver = "dpmpp_2m_sde"
    stepping = Stepping(
        spacing,
        values.get("steps_offset", 0),
        1.0 if to_clean else float(schedule.alpha_bar[0]),
        distilled,
    )
    return Scheduler(schedule, predicts, solver, stepping)


def _schedule(values: Mapping[str, Any]) -> Schedule:
    steps = values.get("num_train_timesteps", 1000)
    start, end = values.get("beta_start", 0.0001), values.get("beta_end", 0.02)
    kind = values.get("beta_schedule", "linear")
    numbers = (start, end)
    if type(steps) is not int or not 2 <= steps <= _MOST_TIMESTEPS:
        allowed = f"an integer from 2 to {_MOST_TIMESTEPS}"
        raise ValueError(f"num_train_timesteps must be {allowed}, got {steps!r}")
    if not all(isinstance(beta, int | float) and 0 < beta < 1 for beta in numbers):
        raise ValueError(f"beta_start and beta_end must lie between 0 and 1, got {numbers}")
    if values.get("trained_betas") is not None:
        table = np.cumprod(1.0 - np.asarray(values["trained_betas"], np.float64))
        return schedules.from_table("trained_betas", table)
    if kind == "scaled_linear":
        return schedules.curved(steps, start, end)
    if kind == "linear":
        return schedules.linear(steps, start, end)
    if kind == "squaredcos_cap_v2":
        return schedules.cosine(steps)
    raise ValueError(
        f"beta_schedule must be scaled_linear, linear or squaredcos_cap_v2, got {kind!r}"
    )
