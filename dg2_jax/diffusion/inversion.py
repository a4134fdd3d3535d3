"""Inversion: the noise from which a given picture would have been sampled, for editing.

`ddim_table` is a table of steps that runs DDIM backwards exactly: each step solves an equation
instead of approximating it. `follow_source` is the edit-friendly inversion of DDPM.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dg2_jax.diffusion import sampling
from dg2_jax.diffusion.sampling import Progress, Step
from dg2_jax.diffusion.schedules import Schedule
from dg2_jax.diffusion.solver_table import ANCHOR, M0, SolverTable, X
from dg2_jax.typing import Keys, Latent


def ddim_table(schedule: Schedule, timesteps: np.ndarray, iterations: int = 5) -> SolverTable:
    """A table that takes a clean latent to the level of timesteps[0], against DDIM's steps.

    A DDIM step from x at level t gives D(x) = α_p x₀(x) + σ_p (x - α_t x₀(x))/σ_t at level p. Given
    x_p, the iteration x ← x + κ (x_p - D(x)) finds the x with D(x) = x_p. It is a contraction for
    κ = 2/(1 + α_p/α_t) as long as the denoiser's slope is between 0 and 1/α_t. Each row is one
    iteration, with x_p in the anchor; the last row of a level also starts the next level from
    α x₀ + σ ε of the last estimate. Sampling DDIM (η = 0) over the same timesteps with the same
    conditioning then returns the original latent. Start with x = the clean latent.

    Args:
        schedule: the noise schedule.
        timesteps: strictly decreasing, as sampling will visit them.
        iterations: evaluations per step, at least 1.
    """
    t = np.asarray(timesteps)[::-1]  # least noise first
    alpha, sigma = schedule.alpha[t], schedule.sigma[t]
    rows = []
    for i in range(len(t)):
        a, s = alpha[i], sigma[i]
        a_p, s_p = (alpha[i - 1], sigma[i - 1]) if i else (1.0, 0.0)
        kappa = 2.0 / (1.0 + a_p / a) if a > 0 else 1.0
        better = np.zeros(6)
        better[X] = 1.0 - kappa * s_p / s
        better[ANCHOR] = kappa
        better[M0] = -kappa * (a_p - s_p / s * a)
        keep = np.zeros(6)
        keep[ANCHOR] = 1.0
        for k in range(iterations):
            last = k == iterations - 1
            matrix = np.stack([better, keep])
            if last and i + 1 < len(t):
                ratio = sigma[i + 1] / s
                onward = ratio * better
                onward[M0] += alpha[i + 1] - ratio * a
                matrix = np.stack([onward, better])
            to = min(i + 1, len(t) - 1) if last else i
            rows.append((t[i], a, s, alpha[to], sigma[to], matrix))
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    return SolverTable(columns[0].astype(np.int32), *columns[1:])


def source_path(
    original: Float[Array, "#b h w c"],
    keys: Keys,
    step: Int[Array, ""],
    alpha: Float[Array, ""],
    sigma: Float[Array, ""],
) -> Latent:
    """The original at a noise level, under noise drawn for that step alone."""
    noise = sampling.noise_for(keys, sampling.SOURCE_NOISE, step, original.shape[1:])
    return alpha * original + sigma * noise


def follow_source(
    step: Step, table: SolverTable, original: Float[Array, "#b h w c"], keys: Keys
) -> Step:
    """The edit-friendly inversion of DDPM (Huberman-Spiegelglas et al., arXiv 2304.06140).

    The latents are the edits, then as many sources. After each step the sources are moved onto
    noised originals that are independent from step to step. That displacement is, up to the
    sampler's standard deviation, the paper's z_t, and the edits are displaced by the same amount.
    So an edit with the source's own conditioning is exactly the original.

    Args:
        step: of `sampling.make_step`, over a table without noise.
        table: that table.
        original: the clean latents of the sources, or a single one for all.
        keys: one per source.
    """
    table = jax.tree.map(jnp.asarray, table)

    def followed(progress: Progress) -> Progress:
        row = sampling.row_of(table, progress.rows_done)
        progress = step(progress)
        edit, source = jnp.split(progress.state.x, 2)
        level = row.next_alpha, row.next_sigma
        target = source_path(original, keys, progress.rows_done, *level)
        x = jnp.concatenate([edit + target - source, target])
        return progress._replace(state=progress.state._replace(x=x))

    return followed
