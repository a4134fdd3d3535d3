"""Subjects of water: river, lake, island, sea cliff."""

import numpy as np

from dg2_jax.data.scenes.canvas import Canvas
from dg2_jax.data.scenes.highlands import range_of_peaks
from dg2_jax.data.scenes.noise import fbm, mix, profile, smoothstep
from dg2_jax.data.scenes.palette import WHITE, rgb
from dg2_jax.data.scenes.plants import broadleaf, conifer, conifer_line, palm, wood_line
from dg2_jax.data.scenes.terrain import ROCK, bank, far_ridges, ground, massif, water, winding


def river(c: Canvas) -> None:
    """A river winding through a green valley towards the viewer."""
    rng, h, x = c.rng, c.horizon, c.x[0]
    far_ridges(c, mix(ROCK, c.plants.conifer, 0.3), 3, 0.2)
    wood_line(c, np.full(c.n, h + 0.02), 0.05, 0.45, 34)
    ground(c, h + 0.015 + 0.006 * profile(rng, x * 2, 2), c.plants.grass, depth=0.4, lit=0.7)
    band = winding(c, h + 0.025, rng.uniform(0.24, 0.32), rng.uniform(0.2, 0.26))
    t = smoothstep(h, 1.0, c.y)
    c.over(
        c.edge(band + 0.004 + 0.022 * t),
        c.colour(mix(rgb(0xC9AE82), WHITE, c.plants.snow), 0.5, 0.1),
    )
    water(c, h + 0.02, 0.6, rgb(0x3D8FB8), c.edge(band))
    inside = band > -0.03
    for at in np.sort(rng.random(16)):
        base = h + 0.04 + 0.5 * at**1.6
        tx = rng.random()
        cell = inside[min(int(base * c.n), c.n - 1), min(int(tx * c.n), c.n - 1)]
        if cell or base > 0.97:
            continue
        size = 0.07 + 0.34 * at**1.6
        (conifer if rng.random() < 0.5 else broadleaf)(c, tx, base, size, 0.35 * (1 - at))


def lake(c: Canvas) -> None:
    """A still lake that mirrors mountains and woods."""
    rng, h, x = c.rng, c.horizon, c.x[0]
    far_ridges(c, ROCK, 2, 0.2)
    peaks = range_of_peaks(c, (rng.uniform(0.5, 0.75), h - rng.uniform(0.2, 0.28)), h, 0.7)
    massif(c, peaks, rgb(0x7A7F90), 0.35, 0.1 + 0.14 * c.plants.snow)
    shore = h + 0.012
    conifer_line(c, shore - 0.004 + 0.006 * profile(rng, x * 3, 2), 0.06, 0.25, 52)
    bank(c, np.full(c.n, shore - 0.008), c.plants.grass, 0.2, 0.01)
    water(c, shore + 0.006, 0.5)
    spit = 0.93 + 0.16 * smoothstep(0.15, 0.6, x) + 0.015 * profile(rng, x * 4, 2)
    ground(c, spit, c.plants.grass, depth=0.0)
    for at in (0.05, 0.15, 0.24)[: int(rng.integers(2, 4))]:
        conifer(c, at + rng.normal(0, 0.015), 0.985, rng.uniform(0.25, 0.42), 0.0)


def island(c: Canvas) -> None:
    """An island with palms and a beach in the open sea."""
    rng, h, x = c.rng, c.horizon, c.x[0]
    water(c, h, 2.0, rgb(0x1C86A8))
    px, half = rng.uniform(0.48, 0.66), rng.uniform(0.24, 0.31)
    shore = h + rng.uniform(0.06, 0.1)
    d = (x - px) / half
    hill = np.maximum(1 - d**2, 0)
    beach = np.where(np.abs(d) < 1.15, shore - 0.03 * np.maximum(1 - (d / 1.15) ** 2, -1), 2.0)
    sand = c.colour(mix(rgb(0xF2D8A0), WHITE, 0.7 * c.plants.snow), 0.7, 0.05)
    for s, k in ((-0.55, 0.85), (-0.2, 1.0), (0.3, 0.8)):
        palm(c, px + s * half, shore - 0.045 * (1 - s * s), rng.uniform(0.24, 0.3) * k,
             rng.uniform(0.1, 0.35) * np.sign(s + 0.05), 0.03)  # fmt: skip
    rock = shore - 0.16 * hill**0.8 * (0.55 + 0.5 * np.exp(-(((d - 0.25) / 0.4) ** 2)))
    top = np.where(hill > 0.02, rock + 0.012 * profile(rng, x * 9, 3), 2.0)
    row, mask, _ = c.below(top)
    green = mix(rgb(0x3D8B4A), WHITE, 0.75 * c.plants.snow)
    bumps = fbm(rng, c.y[row:, 0] * 12, x * 10, 2) + 2.0 * (c.x - px) * c.side
    dark, bright = (c.colour(green, v, 0.08)[:, None, None] for v in (0.0, 1.0))
    c.over(mask * (c.y[row:] < shore), mix(dark, bright, smoothstep(-0.3, 0.5, bumps)), row)
    row, mask, _ = c.below(beach)
    c.over(mask * c.edge(shore + 0.004 - c.y[row:]), sand, row)
    # Reflection of what stands above the waterline, then foam along the beach.
    lagoon = np.exp(-(((c.x - px) / (half * 1.5)) ** 2) - ((c.y - shore) / 0.07) ** 2)
    c.over(0.5 * lagoon * (c.y > shore), c.colour(rgb(0x5FD6D0), 0.6))
    mirror = c.edge(1.1 * half - np.abs(c.x - px)) * (c.y > shore)
    water(c, shore + 0.004, 1.2, rgb(0x2AA0B4), 0.55 * mirror * np.exp(-(c.y - shore) / 0.1))
    foam = np.exp(-(((c.y - shore - 0.006) / 0.005) ** 2)) * (np.abs(c.x - px) < 1.12 * half)
    c.over(0.75 * foam, c.colour(WHITE, 0.9))


def sea_cliff(c: Canvas) -> None:
    """A headland that drops into the sea, with foam at its foot and a stack before it."""
    rng, h, x = c.rng, c.horizon, c.x[0]
    water(c, h, 2.0, rgb(0x1F7396))
    foot = rng.uniform(0.8, 0.86)
    edge = rng.uniform(0.5, 0.6)
    stone = mix(rgb(int(rng.choice([0xC9AE8C, 0xE6D9C2, 0xB09A8C]))), WHITE, 0.2 * c.plants.snow)
    _headland(c, edge - 0.13, h - 0.06, h + 0.06, stone, 0.42)
    sx = edge - rng.uniform(0.17, 0.25)
    for cx, half, top, base in (
        (sx, 0.045, h - 0.1, foot - 0.08),
        (sx - 0.1, 0.03, h + 0.05, foot - 0.06),
    ):
        stack = top + 9 * np.maximum(np.abs(x - cx) - half, 0) + 0.012 * profile(rng, x * 12, 2)
        _wall(c, stack, base, stone, 0.15, 0.012)
    _headland(c, edge, rng.uniform(0.24, 0.34), foot, stone, 0.0)


def _headland(c: Canvas, edge: float, top: float, foot: float, stone, depth: float) -> None:
    x = c.x[0]
    d = x - edge + 0.014 * profile(c.rng, x * 10, 2)
    height = foot - top
    steps = np.interp(d, [-0.16, -0.1, -0.08, -0.03, -0.01, 0.04, 0.06, 0.5],
                      [1.1, 0.95, 0.7, 0.5, 0.2, 0.12, 0.03, -0.12])  # fmt: skip
    _wall(c, top + height * steps, foot + 0.1 * np.maximum(d, -0.1), stone, depth, 0.035)


def _wall(c: Canvas, top, foot, stone, depth: float, turf: float) -> None:
    """A rock face between profiles, buttressed, grassy above and in foam below."""
    rng, x = c.rng, c.x[0]
    row, mask, below = c.below(top)
    y = c.y[row:]
    foot = np.broadcast_to(np.asarray(foot, np.float32), x.shape)
    mask = mask * c.edge(foot - y)
    warp = fbm(rng, y[:, 0] * 6, x * 6, 2)
    columns = profile(rng, np.linspace(0, 6, 512), 1)
    slant = c.x + 0.1 * warp + 0.12 * (y - 0.5) * c.side
    facet = columns[np.clip(slant * 440 + 36, 0, 511).astype(int)]
    slope = np.gradient(np.asarray(top, np.float64)) * c.n * c.side
    lit = 0.5 + 0.42 * np.clip(facet * 8, -1, 1) + 0.06 * warp + 0.3 * np.clip(slope, -1, 1)
    beds = smoothstep(0.4, 0.5, ((y + 0.02 * warp) * 8) % 1) * 0.1
    dark, bright = (c.colour(stone, v, depth)[:, None, None] for v in (0.0, 1.0))
    colour = mix(dark * 0.8, bright, np.clip(lit + beds, 0, 1))
    grass = c.colour(c.plants.grass, 0.8, depth)[:, None, None]
    colour = mix(colour, grass, smoothstep(0.006, -0.006, below - turf * (1 + 0.6 * warp)))
    colour = colour * (1 - 0.4 * smoothstep(0.05, 0.0, foot - y))
    c.over(mask, colour, row)
    swash = fbm(rng, c.y[:, 0] * 24, x * 11, 2)
    surf = smoothstep(0.036, 0.012, np.abs(c.y - foot - 0.008) + 0.018 * swash)
    present = smoothstep(0.0, 0.02, foot + 0.012 - np.asarray(top))
    c.over(0.92 * surf * present, c.colour(WHITE, 0.9, depth))
