"""A sampling's steps as a table of small matrices, and the one step that runs any of them.

At a level (α, σ) the network estimates m₀ = x₀(x). A row of a table moves the sample to the next
level by a linear combination, whose coefficients depend on the levels alone:

    [x, anchor] ← M_i · [x, anchor, m₀, m₁, m₂, z]

Here m₁ and m₂ are the estimates of the two rows before, `anchor` is a sample kept from an earlier
level (multi-stage methods need one) and z is fresh Gaussian noise. `dg2_jax.diffusion.solvers`
fills the tables, so one compiled program serves every solver, step count and strength.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dg2_jax.diffusion.denoiser import over_latents
from dg2_jax.typing import Latent

X, ANCHOR, M0, M1, M2, Z = range(6)


class SolverTable(NamedTuple):
    """One row per network evaluation, noisiest first; NumPy on the host, float32 on a device.

    `alpha`, `sigma` and `timestep` are where the network is evaluated, `next_alpha` and
    `next_sigma` the level of the sample that the row produces.
    """

    timestep: Any  # (rows,) int32
    alpha: Any  # (rows,)
    sigma: Any  # (rows,)
    next_alpha: Any  # (rows,)
    next_sigma: Any  # (rows,)
    matrix: Any  # (rows, 2, 6)

    def padded(self, rows: int) -> "SolverTable":
        """The table in float32 with zero rows appended, so that all tables have one shape."""

        def pad(a: np.ndarray) -> np.ndarray:
            dtype = np.int32 if a.dtype.kind == "i" else np.float32
            out = np.zeros((rows, *a.shape[1:]), dtype)
            out[: len(a)] = a
            return out

        return SolverTable(*map(pad, self))


class SolverState(NamedTuple):
    """What a solver carries from row to row."""

    x: Latent
    anchor: Latent
    m1: Latent
    m2: Latent


def init(x: Latent) -> SolverState:
    """The state before the first row."""
    return SolverState(x, x, jnp.zeros_like(x), jnp.zeros_like(x))


def step(
    state: SolverState, matrix: Float[Array, "*b 2 6"], m0: Latent, noise: Latent
) -> SolverState:
    """Apply one row: `m0` is the x₀ estimate at `state.x`, `noise` standard normal.

    The matrix is one for all latents, or one each.
    """
    basis = (state.x, state.anchor, m0, state.m1, state.m2, noise)

    def combined(row: int) -> Latent:
        weights = [over_latents(matrix[..., row, j]) for j in range(len(basis))]
        return sum((w * b for w, b in zip(weights, basis, strict=True)), jnp.zeros_like(m0))

    return SolverState(combined(0), combined(1), m0, state.m1)


def resampled(table: SolverTable, times: int) -> SolverTable:
    """Repeats each step `times` times (RePaint, Lugmayr et al., arXiv 2201.09865, algorithm 1).

    A repeated row is the same step followed by the diffusion back to where it began,
    x_t = (α_t/α_p) x_p + sqrt(1 - (α_t/α_p)²) z, which is linear too. The last step, to the clean
    level, is not repeated.

    Args:
        table: of a first-order solver, whose rows use no earlier estimate.
        times: at least 1.
    """
    rows = []
    for i in range(len(table.timestep)):
        row = SolverTable(*(column[i] for column in table))
        if row.next_sigma > 0:
            ratio = row.alpha / row.next_alpha
            again = ratio * row.matrix[0]
            again[Z] = np.hypot(again[Z], np.sqrt(1.0 - ratio**2))
            keep = row.matrix[1]
            back = row._replace(
                next_alpha=row.alpha, next_sigma=row.sigma, matrix=np.stack([again, keep])
            )
            rows += [back] * (times - 1)
        rows.append(row)
    return SolverTable(*(np.array(column) for column in zip(*rows, strict=True)))


def without_noise(table: SolverTable) -> SolverTable:
    """The same table with every coefficient of fresh noise set to 0."""
    matrix = table.matrix.copy()
    matrix[:, :, Z] = 0.0
    return table._replace(matrix=matrix)
