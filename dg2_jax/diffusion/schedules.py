"""Noise schedules and the spacing of sampling steps: pure functions of numpy float64.

A schedule is the cumulative product ᾱ_t, t = 0 … T-1, of a variance-preserving diffusion

    x_t = α_t x_0 + σ_t ε,   α_t = √ᾱ_t,   σ_t = √(1 - ᾱ_t),   ε ~ N(0, I).

Everything is computed on the host in float64; callers cast what they put on a device to float32.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Spacing = Literal["linspace", "leading", "trailing", "karras", "exponential"]
EVEN: tuple[str, ...] = ("linspace", "leading", "trailing")  # spaced in time
BY_NOISE: tuple[str, ...] = ("karras", "exponential")  # spaced in the ratio of noise to signal
SPACINGS: tuple[str, ...] = EVEN + BY_NOISE
RHO = 7.0  # of "karras"
MOST_NOISE = 80.0  # σ/α beyond which noisier levels are as one to "karras" and "exponential"


@dataclass(frozen=True, eq=False)
class Schedule:
    """ᾱ_t of a variance-preserving diffusion.

    Attributes:
        name: what `make` was called with.
        alpha_bar: shape (T,), float64, decreasing, in [0, 1].
    """

    name: str
    alpha_bar: np.ndarray

    @property
    def num_train_timesteps(self) -> int:
        """T, the number of noise levels."""
        return len(self.alpha_bar)

    @property
    def alpha(self) -> np.ndarray:
        """α_t = √ᾱ_t, shape (T,)."""
        return np.sqrt(self.alpha_bar)

    @property
    def sigma(self) -> np.ndarray:
        """σ_t = √(1 - ᾱ_t), shape (T,)."""
        return np.sqrt(1.0 - self.alpha_bar)

    @property
    def beta(self) -> np.ndarray:
        """β_t = 1 - ᾱ_t / ᾱ_{t-1}, shape (T,)."""
        return 1.0 - self.alpha_bar / np.concatenate([[1.0], self.alpha_bar[:-1]])

    @property
    def snr(self) -> np.ndarray:
        """Signal-to-noise ratio ᾱ_t / (1 - ᾱ_t), shape (T,)."""
        return self.alpha_bar / (1.0 - self.alpha_bar)

    @property
    def is_zero_terminal(self) -> bool:
        """Whether the last level is pure noise."""
        return bool(self.alpha_bar[-1] == 0.0)


def _from_betas(name: str, betas: np.ndarray) -> Schedule:
    return Schedule(name, np.cumprod(1.0 - betas))


def linear(
    num_train_timesteps: int = 1000, beta_start: float = 0.00085, beta_end: float = 0.012
) -> Schedule:
    """β_t linear from `beta_start` to `beta_end` (Ho et al., arXiv 2006.11239, section 4)."""
    return _from_betas("linear", np.linspace(beta_start, beta_end, num_train_timesteps))


def curved(
    num_train_timesteps: int = 1000, beta_start: float = 0.00085, beta_end: float = 0.012
) -> Schedule:
    """√β_t linear: the "scaled linear" schedule of latent diffusion (arXiv 2112.10752)."""
    roots = np.linspace(beta_start**0.5, beta_end**0.5, num_train_timesteps)
    return _from_betas("curved", roots**2)


def _cosine_alpha_bar(num_train_timesteps: int, s: float) -> np.ndarray:
    """f(t)/f(0) at t = 0, 1/T, …, 1, with f(t) = cos²(π/2 (t + s)/(1 + s))."""
    t = np.linspace(0.0, 1.0, num_train_timesteps + 1)
    f = np.cos((t + s) / (1.0 + s) * np.pi / 2.0) ** 2
    return f / f[0]


def cosine(num_train_timesteps: int = 1000, s: float = 0.008) -> Schedule:
    """Cosine ᾱ with β clipped at 0.999 (Nichol and Dhariwal, arXiv 2102.09672, equation 17)."""
    alpha_bar = _cosine_alpha_bar(num_train_timesteps, s)
    return _from_betas("cosine", np.minimum(1.0 - alpha_bar[1:] / alpha_bar[:-1], 0.999))


def cosine_legacy(num_train_timesteps: int = 1000, s: float = 0.008) -> Schedule:
    """The cosine schedule as published by DiffusionGen2; only for imported weights.

    It also keeps every β above 0.001, and was computed in float32 throughout, which moves ᾱ by up
    to 2e-6. Both are reproduced, since the weights were trained with them.
    """
    f32 = np.float32
    t = np.linspace(0, num_train_timesteps, num_train_timesteps + 1, dtype=f32)
    phase = (t / f32(num_train_timesteps) + f32(s)) / f32(1.0 + s)
    alpha_bar = np.cos(phase * f32(np.pi) * f32(0.5)) ** 2
    alpha = np.clip(alpha_bar[1:] / alpha_bar[:-1], f32(0.001), f32(0.999))
    return _from_betas("cosine_legacy", 1.0 - alpha.astype(np.float64))


def shifted_cosine(num_train_timesteps: int = 1000, resolution_ratio: float = 2.0) -> Schedule:
    """Cosine with its log-SNR shifted for resolution (Hoogeboom et al., arXiv 2301.11093, eq. 4).

    log SNR(t) = -2 ln tan(πt/2) + 2 ln(1/ratio), t = (i + 1/2)/T: a picture `resolution_ratio`
    times as wide as one that suits the cosine schedule needs that much more noise.
    """
    if resolution_ratio <= 0:
        raise ValueError(f"resolution_ratio must be above 0, got {resolution_ratio}")
    t = (np.arange(num_train_timesteps) + 0.5) / num_train_timesteps
    log_snr = -2.0 * np.log(np.tan(np.pi * t / 2.0)) - 2.0 * np.log(resolution_ratio)
    return Schedule("shifted_cosine", 1.0 / (1.0 + np.exp(-log_snr)))


def zero_terminal(schedule: Schedule) -> Schedule:
    """Rescale √ᾱ so that the last level is pure noise (Lin et al., arXiv 2305.08891, algorithm 1).

    √ᾱ_t ← (√ᾱ_t - √ᾱ_{T-1}) · √ᾱ_0 / (√ᾱ_0 - √ᾱ_{T-1}). Needs v- or x0-prediction, since ε says
    nothing about x_0 where α = 0.
    """
    root = schedule.alpha
    rescaled = (root - root[-1]) * root[0] / (root[0] - root[-1])
    return Schedule(f"{schedule.name}+zero_terminal", rescaled**2)


SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "linear": linear,
    "curved": curved,
    "cosine": cosine,
    "cosine_legacy": cosine_legacy,
    "shifted_cosine": shifted_cosine,
}
BETA1, BETA2, S = 0.00085, 0.012, 0.008  # the usual figures
_FIGURES = {  # the ones each schedule takes, in order; `shifted_cosine` takes none
    "linear": ("beta1", "beta2"),
    "curved": ("beta1", "beta2"),
    "cosine": ("s",),
    "cosine_legacy": ("s",),
}


def figures_of(name: str) -> tuple[str, ...]:
    """Which of beta1, beta2 and s a schedule takes."""
    return _FIGURES.get(name, ())


def make(
    name: str,
    num_train_timesteps: int = 1000,
    zero_terminal_snr: bool = False,
    *,
    beta1: float = BETA1,
    beta2: float = BETA2,
    s: float = S,
) -> Schedule:
    """The schedule of a name.

    Args:
        name: one of `SCHEDULES`.
        num_train_timesteps: T, at least 2.
        zero_terminal_snr: rescale so that the last level is pure noise.
        beta1: β of the first level, of "linear" and "curved"; in (0, beta2].
        beta2: β of the last level, of these; below 1.
        s: offset of the cosine schedules, in [0, 1).

    Raises:
        ValueError: an unknown name, fewer than two timesteps, or a figure that is out of range or
            belongs to another schedule.

    >>> make("curved").num_train_timesteps
    1000
    """
    if name not in SCHEDULES:
        raise ValueError(f"schedule must be one of {', '.join(SCHEDULES)}; got {name!r}")
    if num_train_timesteps < 2:
        raise ValueError(f"num_train_timesteps must be at least 2, got {num_train_timesteps}")
    if not 0.0 < beta1 <= beta2 < 1.0:
        raise ValueError(f"beta1 and beta2 must be 0 < beta1 <= beta2 < 1, got {beta1} and {beta2}")
    if not 0.0 <= s < 1.0:
        raise ValueError(f"s must be in [0, 1), got {s}")
    given, taken = {"beta1": beta1, "beta2": beta2, "s": s}, figures_of(name)
    for figure, usual in (("beta1", BETA1), ("beta2", BETA2), ("s", S)):
        if figure not in taken and given[figure] != usual:
            raise ValueError(
                f"{figure} must be left at {usual} with schedule {name}, which has none; "
                f"got {given[figure]}"
            )
    schedule = SCHEDULES[name](num_train_timesteps, *(given[figure] for figure in taken))
    if not np.all(np.diff(schedule.alpha_bar) < 0.0) or schedule.alpha_bar[-1] <= 0.0:
        raise ValueError(f"beta2 must leave some signal at every level, got {beta2}")
    return zero_terminal(schedule) if zero_terminal_snr else schedule


def from_table(name: str, alpha_bar: Sequence[float] | np.ndarray) -> Schedule:
    """The schedule of a table ᾱ_t, for weights that were trained with a schedule of their own.

    Args:
        name: of the schedule.
        alpha_bar: at least two numbers in [0, 1], each below the one before.

    Raises:
        ValueError: it is not such a table.

    >>> from_table("imported", [0.9, 0.5, 0.1]).num_train_timesteps
    3
    """
    try:
        table = np.asarray(alpha_bar, np.float64)
    except (TypeError, ValueError):
        table = np.zeros(0)
    decreasing = table.ndim == 1 and len(table) >= 2 and bool(np.all(np.diff(table) < 0.0))
    if not decreasing or not 0.0 <= table[-1] < table[0] <= 1.0:
        raise ValueError("alpha_bar must be at least two decreasing numbers in [0, 1]")
    return Schedule(name, table)


def default_spacing(schedule: Schedule) -> Spacing:
    """`trailing` for a zero-terminal schedule (its last level must be visited), else `linspace`."""
    return "trailing" if schedule.is_zero_terminal else "linspace"


def timesteps(
    num_inference_steps: int,
    num_train_timesteps: int = 1000,
    spacing: str = "linspace",
    offset: int = 0,
) -> np.ndarray:
    """The visited training timesteps, noisiest first, shape (num_inference_steps,), int64.

    linspace: round(linspace(T-1, 0, S)); leading: i·⌊T/S⌋ + offset (never visits T-1); trailing:
    round(T - i·T/S) - 1 (Lin et al., arXiv 2305.08891, table 2).

    Raises:
        ValueError: more steps than levels, fewer than one, an unknown spacing, or an offset that
            leads beyond the last level.

    >>> timesteps(4, 1000, "trailing").tolist()
    [999, 749, 499, 249]
    """
    S, T = num_inference_steps, num_train_timesteps
    if isinstance(S, bool) or not isinstance(S, int | np.integer) or not 1 <= S <= T:
        raise ValueError(f"num_inference_steps must be an integer from 1 to {T}, got {S!r}")
    if spacing == "linspace":
        return np.round(np.linspace(T - 1, 0, S)).astype(np.int64)
    if spacing == "leading":
        first = (S - 1) * (T // S) + offset
        if offset < 0 or first >= T:
            raise ValueError(f"{S} steps with an offset of {offset} visit {first}, beyond {T - 1}")
        return np.arange(S - 1, -1, -1, dtype=np.int64) * (T // S) + offset
    if spacing == "trailing":
        return np.round(T - np.arange(S) * (T / S)).astype(np.int64) - 1
    raise ValueError(f"spacing must be one of {', '.join(EVEN)}; got {spacing!r}")


def timesteps_by_noise(
    num_inference_steps: int, schedule: Schedule, spacing: str, below: int | None = None
) -> np.ndarray:
    """The visited timesteps, noisiest first, where the ratios r = σ/α are spaced, not the times.

    karras: r^(1/ρ) evenly spaced, ρ = 7 (Karras et al., arXiv 2206.00364, equation 5);
    exponential: log r evenly spaced. Both lead from the noisiest level, which is visited whatever
    its ratio, to the least noisy one; ratios above `MOST_NOISE` count as that. Each step takes the
    training level whose log r is nearest among those that leave a level of its own to every step.

    Args:
        num_inference_steps: S.
        schedule: of the model.
        spacing: one of `BY_NOISE`.
        below: the timesteps are those from 0 to this many; None is all of the schedule.

    Raises:
        ValueError: more steps than levels, fewer than one, or an unknown spacing.

    >>> timesteps_by_noise(5, make("curved"), "karras").tolist()
    [999, 786, 427, 59, 0]
    """
    T = schedule.num_train_timesteps if below is None else below
    S = len(timesteps(num_inference_steps, T))  # which checks the number
    if spacing not in BY_NOISE:
        raise ValueError(f"spacing must be one of {', '.join(BY_NOISE)}; got {spacing!r}")
    with np.errstate(divide="ignore"):
        ratios = np.minimum(schedule.sigma[:T] / schedule.alpha[:T], MOST_NOISE)
    logs, fractions = np.log(ratios), np.linspace(1.0, 0.0, S)
    if spacing == "karras":
        least, most = np.exp(logs[[0, -1]] / RHO)
        wanted = RHO * np.log(least + fractions * (most - least))
    else:
        wanted = logs[0] + fractions * (logs[-1] - logs[0])
    nearest = np.round(np.interp(wanted, logs, np.arange(T))).astype(np.int64)
    nearest[0] = T - 1
    visited = np.maximum(nearest, np.arange(S - 1, -1, -1))
    for i in range(1, S):
        visited[i] = min(visited[i], visited[i - 1] - 1)
    return visited
