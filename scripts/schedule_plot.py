"""Noise schedules as a table and as curves, for `scripts.plot`."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from absl import flags

from dg2_jax.diffusion import losses, prediction, schedules
from dg2_jax.training.process import DiffusionConfig

_SCHEDULE = flags.DEFINE_multi_enum(
    "schedule", [], list(schedules.SCHEDULES), "Instead of a run, a schedule; may be repeated."
)
_TIMESTEPS = flags.DEFINE_integer("num_train_timesteps", 1000, "T, of the schedules.")
_BETA1 = flags.DEFINE_float("beta1", schedules.BETA1, "Of linear and curved.")
_BETA2 = flags.DEFINE_float("beta2", schedules.BETA2, "Of linear and curved.")
_S = flags.DEFINE_float("s", schedules.S, "Of the cosine schedules.")
_ZERO = flags.DEFINE_bool("zero_terminal_snr", False, "Rescaled to end in pure noise.")
_GAMMA = flags.DEFINE_float("min_snr_gamma", 5.0, "Cap of the loss weight.")
_PREDICTION = flags.DEFINE_enum(
    "prediction_type", "v_prediction", prediction.PREDICTION_TYPES, "Of the loss weight."
)


def define() -> flags.FlagHolder:
    """The flag --schedule; this module defines the flags that go with it."""
    return _SCHEDULE


@dataclass(frozen=True)
class Curves:
    """The values of a schedule at each of its T levels.

    Attributes:
        beta: β_t.
        alpha_bar: ᾱ_t.
        snr: ᾱ_t / (1 - ᾱ_t).
        weight: the Min-SNR weight of the loss.
    """

    beta: np.ndarray
    alpha_bar: np.ndarray
    snr: np.ndarray
    weight: np.ndarray


def curves(config: DiffusionConfig) -> Curves:
    """The curves of a training run's process."""
    schedule = config.noise_schedule()
    snr = schedule.snr
    weight = losses.min_snr_weight(
        jnp.asarray(snr, jnp.float32), config.min_snr_gamma, config.prediction_type
    )
    return Curves(schedule.beta, schedule.alpha_bar, snr, np.asarray(weight))


def described() -> dict[str, Curves]:
    """The curves of the schedules on the command line, by name.

    Raises:
        ValueError: a figure is out of range, or no schedule takes it. Schedules that do not take a
            given figure keep its usual value.
    """
    figures = {"beta1": _BETA1.value, "beta2": _BETA2.value, "s": _S.value}
    names = list(dict.fromkeys(_SCHEDULE.value))
    taken = {name: schedules.figures_of(name) for name in names}
    usual = {"beta1": schedules.BETA1, "beta2": schedules.BETA2, "s": schedules.S}
    for figure in figures:
        if figures[figure] != usual[figure] and not any(figure in of for of in taken.values()):
            raise ValueError(f"{figure} is of none of the schedules {', '.join(names)}")
    by_name = {}
    for name in names:
        own = usual | {figure: figures[figure] for figure in taken[name]}
        config = DiffusionConfig(
            schedule=name,
            prediction_type=_PREDICTION.value,
            num_train_timesteps=_TIMESTEPS.value,
            zero_terminal_snr=_ZERO.value,
            min_snr_gamma=_GAMMA.value,
            beta1=own["beta1"],
            beta2=own["beta2"],
            s=own["s"],
        )
        by_name[name] = curves(config)
    return by_name


def table(of: Mapping[str, Curves]) -> str:
    """A Markdown table, one row per level of a schedule: the first, the quarters and the last."""
    rows = [["schedule", "t", "β", "ᾱ", "SNR", "weight"], ["---"] + ["---:"] * 5]
    for name, c in of.items():
        last = len(c.beta) - 1
        for t in sorted({0, last // 4, last // 2, 3 * last // 4, last}):
            values = (c.beta[t], c.alpha_bar[t], c.snr[t], c.weight[t])
            rows.append([name, str(t), *(f"{value:.4g}" for value in values)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def draw(of: Mapping[str, Curves], out: Path, title: str = "") -> None:
    """Draws the four curves of every schedule over its levels."""
    from matplotlib.figure import Figure  # imported late: the table does not need it

    figure = Figure(figsize=(10, 7), layout="constrained")
    panels = (("beta", "β"), ("alpha_bar", "ᾱ"), ("snr", "SNR"), ("weight", "Min-SNR weight"))
    for axes, (name, label) in zip(figure.subplots(2, 2).flat, panels, strict=True):
        for i, (schedule, c) in enumerate(of.items()):
            values = getattr(c, name)
            axes.plot(np.where(values > 0, values, np.nan), color=f"C{i % 10}", label=schedule)
        axes.set(xlabel="t", ylabel=label, yscale="log" if name in ("beta", "snr") else "linear")
        axes.grid(visible=True, which="both", alpha=0.3)
    figure.axes[1].legend()
    figure.suptitle(title)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=120)
