"""Subjects of plants and open land: forest, bamboo, savannah, meadow, hills, aurora."""

import numpy as np

from dg2_jax.data.scenes.canvas import Canvas
from dg2_jax.data.scenes.highlands import range_of_peaks
from dg2_jax.data.scenes.noise import mix, profile, smoothstep
from dg2_jax.data.scenes.palette import WHITE, rgb
from dg2_jax.data.scenes.plants import (
    acacia,
    bamboo,
    broadleaf,
    conifer,
    conifer_line,
    flowers,
    leaf_spray,
    stem,
    wood_line,
)
from dg2_jax.data.scenes.sky import paint_aurora
from dg2_jax.data.scenes.terrain import ROCK, bank, far_ridges, ground, massif, water


def forest(c: Canvas) -> None:
    """Ranks of trees fading into the haze, large trunks and crowns in front."""
    rng, h, x = c.rng, c.horizon, c.x[0]
    far_ridges(c, mix(c.plants.conifer, ROCK, 0.3), 1, 0.16)
    leafy = rng.random() < 0.4
    for k in range(3):
        base = h + 0.02 + 0.11 * k + 0.025 * profile(rng, x * 2, 2)
        depth = 0.75 - 0.25 * k
        if leafy:
            wood_line(c, base, 0.09 + 0.035 * k, depth, 30 - 5 * k)
        conifer_line(c, base + 0.02, 0.13 + 0.045 * k, depth - 0.05, 36 - 8 * k)
    ground(c, h + 0.3 + 0.02 * profile(rng, x * 2, 2), c.plants.grass, depth=0.2)
    places = np.array([0.04, 0.17, 0.3, 0.7, 0.83, 0.96]) + rng.normal(0, 0.025, 6)
    for at in rng.permutation(places):
        out = abs(at - 0.5)
        base, height = h + 0.36 + 0.28 * out + rng.uniform(0, 0.05), 0.36 + 0.75 * out
        if leafy and rng.random() < 0.6:
            broadleaf(c, at, base, height * 0.95, 0.03)
        else:
            conifer(c, at, base, height, 0.03)


def bamboo_grove(c: Canvas) -> None:
    """Bamboo stalks over the whole height, paler with distance, under hanging leaves."""
    rng, h = c.rng, c.horizon
    leaf = mix(rgb(0x6FAE45), WHITE, 0.4 * c.plants.snow)
    veil = c.colour(leaf, 0.7, 0.35)
    away = np.abs(c.x - 0.5) * 0.6 + smoothstep(0.25, 0.75, c.y) * 0.25
    c.over(np.clip(0.35 + away, 0, 0.85), veil)
    for depth, count, width in ((0.8, 9, 0.013), (0.4, 6, 0.02), (0.12, 4, 0.028)):
        if depth < 0.5:
            litter = mix(c.plants.grass, rgb(0x55702F), 0.4 * (1 - c.plants.snow))
            ground(c, np.full(c.n, mix(h, 1.02, 0.9 - depth * 1.5)), litter, depth=depth)
        for at in np.linspace(0.02, 0.98, count) + rng.normal(0, 0.35 / count, count):
            bamboo(c, at, width * rng.uniform(0.8, 1.2), depth)
        for _ in range(count):
            size = 0.08 + 0.12 * (1 - depth)
            leaf_spray(c, rng.random(), rng.random() ** 2 * 0.4, size, leaf, depth)
    for at in (rng.uniform(0.03, 0.2), rng.uniform(0.78, 0.97)):
        bamboo(c, at, rng.uniform(0.042, 0.052), 0.0)
    for _ in range(7):
        leaf_spray(c, rng.random(), rng.uniform(-0.05, 0.1), 0.2, leaf, 0.0)


def savannah(c: Canvas) -> None:
    """Golden grass to the horizon and flat-topped acacias."""
    rng, h, x = c.rng, c.horizon, c.x[0]
    hue = {"spring": 0xB9B04E, "summer": 0xD9B457, "autumn": 0xD79A45, "winter": 0xD8C48C}
    grass = mix(rgb(hue[c.scene.season]), WHITE, 0.75 * (c.scene.weather == "snow"))
    far_ridges(c, ROCK, 1, 0.1, 0.4)
    ground(c, h + 0.006 * profile(rng, x * 3, 2), grass, depth=0.45, lit=0.7)
    for at in rng.uniform(0.05, 0.95, 5):
        acacia(c, at, h + 0.03, rng.uniform(0.06, 0.1), 0.4)
    bank(c, h + 0.13 + 0.015 * profile(rng, x * 2, 2), grass * 0.94, 0.16, 0.03)
    acacia(c, rng.uniform(0.1, 0.4), h + 0.17, rng.uniform(0.16, 0.22), 0.18)
    acacia(c, rng.uniform(0.6, 0.8), h + 0.25, rng.uniform(0.42, 0.52), 0.03)
    bank(c, 0.91 + 0.015 * profile(rng, x * 2, 2), grass * 0.85, 0.0, 0.03)
    _blades(c, 0.93, grass * 0.85, 32, 0.11)


def _blades(c: Canvas, base: float, albedo, count: int, height: float) -> None:
    """Paints blades of grass along the bottom of the picture."""
    for at in c.rng.random(count):
        y = base + c.rng.uniform(0, 0.1)
        tip = (at + c.rng.normal(0, 0.3) * height, y - height * c.rng.uniform(0.5, 1))
        stem(c, (at, y), tip, 0.007, c.colour(albedo, c.rng.uniform(0, 1), 0.0))


def meadow(c: Canvas) -> None:
    """A flat field full of flowers (of seed heads or snow out of season), a tree at its edge."""
    rng, h, x = c.rng, c.horizon, c.x[0]
    far_ridges(c, mix(c.plants.conifer, ROCK, 0.5), 2, 0.13, 0.4)
    wood_line(c, np.full(c.n, h + 0.025), 0.055, 0.4, 40)
    ground(c, h + 0.02 + 0.008 * profile(rng, x * 2, 2), c.plants.grass, depth=0.35, lit=0.75)
    side = rng.choice([-1, 1])
    broadleaf(c, 0.5 + side * rng.uniform(0.2, 0.32), h + 0.09, rng.uniform(0.3, 0.4), 0.1)
    _blades(c, 0.97, c.plants.grass * 0.8, 36, 0.11)
    hues = {
        "spring": (0xFFFFFF, 0xFFE14D, 0xF58BB8, 0xB58BEA),
        "summer": (0xF0453A, 0xFFD23F, 0x6A7CF0),
        "autumn": (0xB98545, 0xE0B36A), "winter": (0xA8946E, 0xC9B68E),
    }[c.scene.season]  # fmt: skip
    blooming = c.scene.season in ("spring", "summer")
    count = (90 if blooming else 34) if c.scene.weather != "snow" else 20
    chosen = [rgb(int(v)) for v in rng.permutation(hues)[:3]]
    flowers(c, h + 0.06, chosen, count)


def hills(c: Canvas) -> None:
    """Rounded hills one behind the other, patched with fields and dotted with trees."""
    rng, h, x = c.rng, c.horizon, c.x[0]
    far_ridges(c, c.plants.grass, 2, 0.12, 0.35)
    tints = [1.0, 0.9, 1.1, 0.97]
    for k in range(4):
        at = rng.uniform(0, 1) if k else 0.7
        swell = np.cos((x - at) * rng.uniform(3.5, 5.0))
        top = h + 0.015 + 0.115 * k - (0.045 + 0.012 * k) * swell
        crop = mix(c.plants.grass, rgb((0xE5C95A, 0xA9C25B, 0x8FAE4B, 0xD9B65A)[k]),
                   0.4 * (1 - c.plants.snow))  # fmt: skip
        depth = 0.5 - 0.16 * k
        bank(c, top, c.plants.grass * tints[k], depth, 0.09)
        row, mask, below = c.below(top)
        # Furrows that run over the hill towards the viewer, alternate fields of two crops.
        lane = (c.x - at) / (0.25 + 1.6 * np.maximum(below, 0)) * rng.uniform(
            1.6, 2.4
        ) + rng.random()
        field = smoothstep(0.46, 0.5, np.abs(lane % 2 - 1))
        c.over(0.7 * mask * field, c.colour(crop, 0.75, depth), row)
        hedge = smoothstep(0.05, 0.0, np.abs(np.abs(lane % 2 - 1) - 0.48)) * 0.55
        c.over(mask * hedge, c.colour(c.plants.conifer, 0.2, depth), row)
        for _ in range(3):
            tx = rng.uniform(0.05, 0.95)
            base = float(np.interp(tx, x, top)) + 0.02 + 0.02 * k
            broadleaf(c, tx, base, 0.055 + 0.04 * k, depth)


def aurora(c: Canvas) -> None:
    """Curtains of light over snowy mountains, seen again in a lake."""
    rng, h, x = c.rng, c.horizon, c.x[0]
    paint_aurora(c)
    peaks = range_of_peaks(c, (rng.uniform(0.3, 0.7), h - rng.uniform(0.14, 0.2)), h, 0.75)
    massif(c, peaks, rgb(0x6A7085), 0.25, 0.14 + 0.2 * c.plants.snow, mist=0.4)
    conifer_line(c, h + 0.01 + 0.008 * profile(rng, x * 3, 2), 0.05, 0.1, 50)
    water(c, h + 0.02, 0.5, rgb(0x1F4A66))
    shore = 0.95 + 0.06 * profile(rng, x * 1.5, 2)
    ground(c, shore, mix(c.plants.grass, WHITE, 0.5), depth=0.0)
    for at in (0.06, 0.17, 0.9)[: int(rng.integers(2, 4))]:
        conifer(c, at + rng.normal(0, 0.02), 1.0, rng.uniform(0.26, 0.42), 0.0)
