"""Solvers of the reverse diffusion: each fills a table of step matrices.

A solver is a function from the visited noise levels to the rows of a
`dg2_jax.diffusion.solver_table.SolverTable`, computed on the host in float64.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dg2_jax.diffusion.schedules import Schedule
from dg2_jax.diffusion.solver_table import ANCHOR, M0, M1, M2, SolverTable, X, Z


@dataclass(frozen=True)
class Levels:
    """The visited noise levels, then the one the last step leads to; arrays of length steps + 1."""

    timestep: np.ndarray
    alpha: np.ndarray
    sigma: np.ndarray

    def decay(self, i: int, j: int) -> float:
        """exp(-(λ_j - λ_i)) with λ = ln(α/σ); well defined at α_i = 0 and at σ_j = 0."""
        return float((self.alpha[i] * self.sigma[j]) / (self.sigma[i] * self.alpha[j]))

    def h(self, i: int, j: int) -> float:
        """λ_j - λ_i; infinite towards the clean level and from a level of pure noise."""
        decay = self.decay(i, j)
        return -float(np.log(decay)) if decay > 0 else float("inf")


Row = tuple[int, int, np.ndarray]  # level evaluated, level produced, (2, 6) matrix


def _row(evaluated: int, produced: int, x: dict, anchor: dict | None = None) -> Row:
    matrix = np.zeros((2, 6))
    for i, entries in enumerate((x, anchor or {X: 1.0})):
        for j, value in entries.items():
            matrix[i, j] = value
    return evaluated, produced, matrix


def _is_first_order(i: int, steps: int) -> bool:
    """First order at the first step, at the last and, for few steps, at the one before it."""
    return i == 0 or i == steps - 1 or (steps < 15 and i == steps - 2)


def _exponential_2m(lv: Levels, i: int, steps: int) -> dict:
    """One DPM-Solver++(2M) step from level i to i + 1."""
    gain = lv.alpha[i + 1] * (1.0 - lv.decay(i, i + 1))
    back = 0.0 if _is_first_order(i, steps) else lv.h(i, i + 1) / (2.0 * lv.h(i - 1, i))
    return {X: lv.sigma[i + 1] / lv.sigma[i], M0: gain * (1.0 + back), M1: -gain * back}


def _ddim(lv: Levels, eta: float) -> list[Row]:
    """DDIM (Song et al., arXiv 2010.02502, equation 12); η = 1 has DDPM's variance."""
    rows = []
    for i in range(len(lv.alpha) - 1):
        a, s, a1, s1 = lv.alpha[i], lv.sigma[i], lv.alpha[i + 1], lv.sigma[i + 1]
        noise = eta * s1 / s * np.sqrt(max(1.0 - (a / a1) ** 2, 0.0))
        direction = np.sqrt(max(s1**2 - noise**2, 0.0))
        rows.append(_row(i, i + 1, {X: direction / s, M0: a1 - direction * a / s, Z: noise}))
    return rows


def _ddpm(lv: Levels, variance: str) -> list[Row]:
    """Ancestral sampling (Ho et al., arXiv 2006.11239, equations 6-7), respaced.

    The posterior is that of the visited levels, with ᾱ_t/ᾱ_p instead of the one-step α_t (Nichol
    and Dhariwal, arXiv 2102.09672, section 4).
    """
    rows = []
    for i in range(len(lv.alpha) - 1):
        a, s, a1, s1 = lv.alpha[i], lv.sigma[i], lv.alpha[i + 1], lv.sigma[i + 1]
        b = 1.0 - (a / a1) ** 2
        var = b * (s1 / s) ** 2 if variance == "small" or s1 == 0 else b
        rows.append(_row(i, i + 1, {X: a / a1 * (s1 / s) ** 2, M0: a1 * b / s**2, Z: np.sqrt(var)}))
    return rows


def _dpmpp_2m(lv: Levels) -> list[Row]:
    """DPM-Solver++(2M) (Lu et al., arXiv 2211.01095, algorithm 2)."""
    steps = len(lv.alpha) - 1
    return [_row(i, i + 1, _exponential_2m(lv, i, steps)) for i in range(steps)]


def _dpmpp_2m_sde(lv: Levels) -> list[Row]:
    """SDE-DPM-Solver++(2M) (Lu et al., arXiv 2211.01095, equation 19)."""
    rows, steps = [], len(lv.alpha) - 1
    for i in range(steps):
        decay = lv.decay(i, i + 1)
        gain = lv.alpha[i + 1] * (1.0 - decay**2)
        back = 0.0 if _is_first_order(i, steps) else lv.h(i, i + 1) / (2.0 * lv.h(i - 1, i))
        noise = lv.sigma[i + 1] * np.sqrt(1.0 - decay**2)
        kept = lv.sigma[i + 1] / lv.sigma[i] * decay
        rows.append(_row(i, i + 1, {X: kept, M0: gain * (1.0 + back), M1: -gain * back, Z: noise}))
    return rows


def _heun(lv: Levels) -> list[Row]:
    """Heun's method on dx/dσ̃, σ̃ = σ/α (Karras et al., arXiv 2206.00364, algorithm 1).

    Two rows per step: an Euler step that keeps its start as the anchor, then a step by the average
    of both slopes. At either end, where σ̃ is infinite or the slope undefined, Euler alone.
    """
    rows = []
    for i in range(len(lv.alpha) - 1):
        a, s, a1, s1 = lv.alpha[i], lv.sigma[i], lv.alpha[i + 1], lv.sigma[i + 1]
        rows.append(_row(i, i + 1, {X: s1 / s, M0: a1 - s1 / s * a}))
        if s1 == 0 or a == 0:
            continue
        start, end = s / a, s1 / a1
        half = (end - start) / 2.0
        x = {
            ANCHOR: a1 / a * (1.0 + half / start),
            M1: -a1 * half / start,
            X: half / end,
            M0: -a1 * half / end,
        }
        rows.append(_row(i + 1, i + 1, x))
    return rows


def _unipc(lv: Levels) -> list[Row]:
    """UniPC, second order, B₂(h) (Zhao et al., arXiv 2302.04867, algorithm 5-8, data prediction).

    The predictor is DPM-Solver++(2M). Before it, the new estimate at level i also corrects the
    sample there at no extra cost, by a step from the anchor (the corrected sample of level i - 1).
    """
    rows, steps = [], len(lv.alpha) - 1
    for i in range(steps):
        corrected = np.zeros(6)
        if i == 0 or lv.alpha[i - 1] == 0:
            corrected[X] = 1.0
        else:
            h = lv.h(i - 1, i)
            e = np.expm1(-h)
            corrected[ANCHOR] = lv.sigma[i] / lv.sigma[i - 1]
            corrected[M1] = -lv.alpha[i] * e
            if i == 1 or lv.alpha[i - 2] == 0:
                rho_now, rho_back, r = 0.5, 0.0, 1.0
            else:
                r = -lv.h(i - 2, i - 1) / h
                phi1 = e / -h - 1.0
                phi2 = phi1 / -h - 0.5
                system = np.array([[1.0, 1.0], [r, 1.0]])
                rho_back, rho_now = np.linalg.solve(system, np.array([phi1, 2.0 * phi2]) / e)
            for j, weight in ((M0, rho_now), (M2, rho_back / r), (M1, -rho_now - rho_back / r)):
                corrected[j] -= lv.alpha[i] * e * weight
        predicted = _exponential_2m(lv, i, steps)
        matrix = np.stack([predicted.pop(X) * corrected, corrected])
        for j, value in predicted.items():
            matrix[0, j] += value
        rows.append((i, i + 1, matrix))
    return rows


def _lcm(lv: Levels) -> list[Row]:
    """Multistep consistency sampling (Song et al., arXiv 2303.01469, algorithm 1).

    Each step's estimate is noised again to the next level. For networks that are distilled to
    estimate x₀ in one step (latent consistency models, arXiv 2310.04378).
    """
    steps = range(len(lv.alpha) - 1)
    return [_row(i, i + 1, {M0: lv.alpha[i + 1], Z: lv.sigma[i + 1]}) for i in steps]


SOLVERS: dict[str, Callable[[Levels, float], list[Row]]] = {
    "ddim": lambda lv, eta: _ddim(lv, eta),
    "ddpm": lambda lv, eta: _ddpm(lv, "small"),
    "ddpm_large": lambda lv, eta: _ddpm(lv, "large"),
    "dpmpp_2m": lambda lv, eta: _dpmpp_2m(lv),
    "dpmpp_2m_sde": lambda lv, eta: _dpmpp_2m_sde(lv),
    "unipc": lambda lv, eta: _unipc(lv),
    "heun": lambda lv, eta: _heun(lv),
    # In x/α and σ/α the Euler step is DDIM's, and the ancestral one DDIM's with η = 1.
    "euler": lambda lv, eta: _ddim(lv, 0.0),
    "euler_ancestral": lambda lv, eta: _ddim(lv, 1.0),
    "lcm": lambda lv, eta: _lcm(lv),
}
# Those whose rows use no earlier estimate, so that steps can be repeated (`resampled`).
FIRST_ORDER = ("ddim", "ddpm", "ddpm_large", "euler", "euler_ancestral", "lcm")


def make_table(
    solver: str,
    schedule: Schedule,
    timesteps: np.ndarray,
    eta: float = 0.0,
    final_alpha_bar: float = 1.0,
) -> SolverTable:
    """The table of a solver over visited timesteps.

    Args:
        solver: one of `SOLVERS`.
        schedule: the noise schedule.
        timesteps: strictly decreasing integers in [0, T), as from `schedules.timesteps`.
        eta: DDIM's noise, from 0 (deterministic) to 1; other solvers do not use it.
        final_alpha_bar: ᾱ of the level that the last row leads to: 1 is clean; ᾱ_0 leaves the least
            noise that the network was trained with, as Stable Diffusion 1.x was published.

    Returns:
        One row per evaluation: as many as timesteps, nearly twice that for `heun`.

    Raises:
        ValueError: an unknown solver, timesteps out of order or range, η outside [0, 1], or a final
            level that is noisier than the last one visited.
    """
    if solver not in SOLVERS:
        raise ValueError(f"solver must be one of {', '.join(SOLVERS)}; got {solver!r}")
    if not 0.0 <= eta <= 1.0:
        raise ValueError(f"eta must be from 0 to 1, got {eta}")
    t = np.asarray(timesteps, np.int64)
    if t.ndim != 1 or len(t) == 0 or np.any(np.diff(t) >= 0):
        raise ValueError("timesteps must be a non-empty, strictly decreasing list")
    if t[0] >= schedule.num_train_timesteps or t[-1] < 0:
        raise ValueError(f"timesteps must be from 0 to {schedule.num_train_timesteps - 1}")
    if not schedule.alpha_bar[t[-1]] <= final_alpha_bar <= 1.0:
        raise ValueError(f"final_alpha_bar must be from the last level's to 1: {final_alpha_bar}")
    levels = Levels(
        timestep=np.append(t, 0),
        alpha=np.append(schedule.alpha[t], final_alpha_bar**0.5),
        sigma=np.append(schedule.sigma[t], (1.0 - final_alpha_bar) ** 0.5),
    )
    rows = SOLVERS[solver](levels, eta)
    at = np.array([evaluated for evaluated, _, _ in rows])
    to = np.array([produced for _, produced, _ in rows])
    return SolverTable(
        timestep=levels.timestep[at].astype(np.int32),
        alpha=levels.alpha[at],
        sigma=levels.sigma[at],
        next_alpha=levels.alpha[to],
        next_sigma=levels.sigma[to],
        matrix=np.stack([matrix for _, _, matrix in rows]),
    )
