"""Trees and flowers: conifers, broad-leaved trees, acacias, palms, bamboo, meadow flowers."""

import itertools

import numpy as np

from dg2_jax.data.scenes.canvas import Canvas
from dg2_jax.data.scenes.noise import mix, smoothstep
from dg2_jax.data.scenes.palette import WHITE, rgb

BARK = rgb(0x5B4237)


def conifer(c: Canvas, x: float, base: float, height: float, depth: float) -> None:
    """Paints a conifer with tiers of drooping branches, lit from the side of the sun."""
    tiers = int(c.rng.integers(5, 8))
    width = height * c.rng.uniform(0.2, 0.26)
    row, column, u, v = c.box(x - width, base - height, x + width, base)
    if not u.size or not v.size:
        return
    t = (v - base + height) / height
    tier = np.maximum(t, 0) ** 0.85 * tiers
    droop = np.abs(u - x) / width * 0.55
    saw = (tier - droop) % 1
    half = width * np.clip(t * 0.95, 0, 1) * (0.52 + 0.48 * saw) * (t < 0.95)
    trunk = c.edge(0.035 * height - np.abs(u - x)) * (t > 0.3) * (t <= 1)
    c.over(trunk, c.colour(BARK, 0.2, depth), row, column)
    mask = c.edge(half - np.abs(u - x)) * (t >= 0)
    side = smoothstep(-0.25, 0.35, (u - x) * c.side / width + 0.25 * (saw - 0.5))
    dark, bright = (c.colour(c.plants.conifer, k, depth)[:, None, None] for k in (0.0, 0.95))
    colour = mix(dark * 0.85, bright, side)
    if c.plants.snow:
        capped = smoothstep(0.62, 0.4, saw) * c.plants.snow
        colour = mix(colour, c.colour(WHITE, 0.55, depth)[:, None, None], 0.75 * capped)
    c.over(mask, colour, row, column)


def conifer_line(c: Canvas, base, height: float, depth: float, count: int = 40) -> None:
    """Paints a far wood of conifers standing along the profile `base` (n,)."""
    x = c.x[0]
    at = np.linspace(-0.02, 1.02, count) + c.rng.uniform(-0.5, 0.5, count) / count
    tall = height * c.rng.uniform(0.5, 1, count)[:, None]
    away = np.abs(x - at[:, None])
    steps = 1 - away / (tall * 0.24)
    crowns = tall * np.maximum(steps + 0.07 * np.sin(steps * 26), 0)
    top = np.asarray(base) - np.maximum(crowns.max(0), 0.25 * height)
    row, mask, below = c.below(top)
    colour = c.colour(c.plants.conifer, 0.3, depth)
    fade = 0.55 * smoothstep(height * 0.5, height * 2.6, below)
    c.over(mask, mix(colour[:, None, None], c.light.haze[:, None, None], fade), row)


def wood_line(c: Canvas, base, height: float, depth: float, count: int = 26) -> None:
    """Paints a far wood of rounded crowns along the profile `base` (n,), in season."""
    x = c.x[0]
    for albedo in c.plants.leaves:
        at = c.rng.uniform(-0.02, 1.02, count // 2)[:, None]
        r = height * c.rng.uniform(0.45, 0.8, count // 2)[:, None]
        crowns = np.sqrt(np.maximum(r**2 - (x - at) ** 2, 0)).max(0)
        top = np.asarray(base) - crowns - 0.12 * height
        row, mask, below = c.below(top)
        dark, bright = (c.colour(albedo, k, depth)[:, None, None] for k in (0.0, 0.9))
        c.over(mask, mix(bright, dark, smoothstep(0.1 * height, 0.8 * height, below)), row)


def broadleaf(c: Canvas, x: float, base: float, height: float, depth: float, leaf=None) -> None:
    """Paints a broad-leaved tree: a crown of round tufts, or bare branches in winter."""
    rng, side = c.rng, c.side
    bark = c.colour(BARK, 0.3, depth)
    stem(c, (x, base), (x, base - 0.55 * height), 0.035 * height, bark)
    forks = [(x + s * height, base - k * height) for s, k in
             ((-0.24, 0.72), (-0.12, 0.92), (0.05, 0.98), (0.16, 0.84), (0.27, 0.68))]  # fmt: skip
    for i, fork in enumerate(forks):
        stem(c, (x, base - (0.3 + 0.05 * i) * height), fork, 0.018 * height, bark)
    if c.plants.bare:
        for fx, fy in forks:
            for s in (-0.1, 0.09):
                middle = (mix(x, fx, 0.6), mix(base - 0.45 * height, fy, 0.6))
                stem(c, middle, (fx + s * height, fy - 0.05 * height), 0.011 * height, bark)
        return
    albedo = c.plants.leaves[int(rng.integers(3))] if leaf is None else leaf
    tufts = [
        (x + dx * height + rng.normal(0, 0.02) * height, base - dy * height, r * height)
        for dx, dy, r in ((-0.2, 0.56, 0.17), (0.2, 0.56, 0.17), (0, 0.6, 0.22),
                          (-0.14, 0.74, 0.18), (0.15, 0.75, 0.17), (0.01, 0.86, 0.16))
    ]  # fmt: skip
    for lit, shrink, shift in ((0.0, 1.0, 0.0), (0.55, 0.82, 0.25), (1.0, 0.5, 0.5)):
        colour = c.colour(albedo, lit, depth)
        for tx, ty, r in tufts:
            ball(c, tx + side * shift * r, ty - 0.8 * shift * r, r * shrink, r * shrink * 0.92,
                 colour)  # fmt: skip


def ball(c: Canvas, x, y, rx, ry, colour, alpha: float = 1.0) -> None:
    """Paints an ellipse."""
    row, column, u, v = c.box(x - rx, y - ry, x + rx, y + ry)
    d = np.hypot((u - x) / rx, (v - y) / ry)
    c.over(c.edge((1 - d) * min(rx, ry)) * alpha, colour, row, column)


def stem(c: Canvas, a, b, width: float, colour) -> None:
    """Paints a stroke from a to b, (x, y) each, of the given half width at a; it tapers to half."""
    (ax, ay), (bx, by) = a, b
    row, column, u, v = c.box(
        min(ax, bx) - width, min(ay, by) - width, max(ax, bx) + width, max(ay, by) + width
    )
    if not u.size or not v.size:
        return
    dx, dy = bx - ax, by - ay
    t = np.clip(((u - ax) * dx + (v - ay) * dy) / (dx * dx + dy * dy + 1e-9), 0, 1)
    d = np.hypot(u - ax - t * dx, v - ay - t * dy)
    c.over(c.edge(width * (1 - 0.5 * t) - d), colour, row, column)


def acacia(c: Canvas, x: float, base: float, height: float, depth: float) -> None:
    """Paints an acacia: a forked trunk under a flat umbrella in two or three tiers."""
    bark = c.colour(BARK, 0.1, depth)
    lean = c.rng.uniform(-0.06, 0.06) * height
    fork = (x + lean, base - 0.42 * height)
    stem(c, (x, base), fork, 0.032 * height, bark)
    for s, k in ((-0.38, 0.76), (-0.14, 0.88), (0.14, 0.9), (0.4, 0.74)):
        stem(c, fork, (x + s * height, base - k * height), 0.02 * height, bark)
    green = mix(rgb(0x5C6B2C), c.plants.leaves[0], 0.35)
    plates = ((-0.34, 0.78, 0.3), (0.36, 0.77, 0.3), (0.0, 0.92, 0.46), (-0.12, 0.86, 0.4))
    for lit, shift in ((0.0, 0.0), (0.85, 0.35)):
        colour = c.colour(green, lit, depth)
        for dx, dy, r in plates:
            thick = 0.085 * height * (1 - 0.45 * shift)
            ball(c, x + (dx + 0.1 * shift * c.side) * height,
                 base - dy * height - shift * 0.1 * height,
                 r * height * (1 - 0.3 * shift), thick, colour)  # fmt: skip


def palm(c: Canvas, x: float, base: float, height: float, lean: float, depth: float) -> None:
    """Paints a palm: a curved trunk and arching fronds."""
    bark = c.colour(rgb(0x7A5A43), 0.4, depth)
    knots = [(x + lean * height * s**2, base - height * s) for s in np.linspace(0, 1, 6)]
    for a, b in itertools.pairwise(knots):
        stem(c, a, b, 0.035 * height, bark)
    tx, ty = knots[-1]
    for k, angle in enumerate(np.linspace(-0.35, np.pi + 0.35, 8)):
        leaf = c.colour(
            mix(rgb(0x3E8C46), WHITE, 0.4 * c.plants.snow), 0.15 + 0.75 * (k % 2), depth
        )
        reach = height * c.rng.uniform(0.42, 0.52)
        ends = [
            (tx + np.cos(angle) * reach * s,
             ty - np.sin(angle) * reach * s * 0.7 + 0.55 * reach * s**2)
            for s in (0, 0.4, 0.75, 1.0)
        ]  # fmt: skip
        for i, (a, b) in enumerate(itertools.pairwise(ends)):
            stem(c, a, b, height * (0.045 - 0.011 * i), leaf)


def bamboo(c: Canvas, x: float, width: float, depth: float) -> None:
    """Paints a bamboo stalk over the height of the picture, rounded by shading, with nodes."""
    rng = c.rng
    lean = rng.uniform(-0.05, 0.05)
    green = mix(rgb(int(rng.choice([0x7DB548, 0x5E9C3F, 0x93BD4E]))), WHITE, 0.25 * c.plants.snow)
    reach = 1.2 * width + abs(lean) / 2 + 1 / c.n  # with the bulge of a node, and the lean
    row, column, u, v = c.box(x - reach, 0, x + reach, 1)
    d = (u - x - lean * (v - 0.5)) / width
    segment = ((v + rng.random()) / (5 * width + 0.12)) % 1
    bulge = 1 + 0.2 * np.exp(-((np.minimum(segment, 1 - segment) / 0.05) ** 2))
    mask = c.edge((bulge - np.abs(d)) * width)
    light = np.exp(-(((d - 0.35 * c.side) / 0.55) ** 2))
    dark, bright = (c.colour(green, k, depth)[:, None, None] for k in (0.0, 1.0))
    ring = smoothstep(0.13, 0.05, segment) * 0.6 - smoothstep(0.9, 0.96, segment) * 0.35
    c.over(mask, np.clip(mix(dark * 0.8, bright, light) * (1 - ring), 0, 1), row, column)


def leaf_spray(c: Canvas, x: float, y: float, size: float, albedo, depth: float) -> None:
    """Paints a spray of pointed bamboo leaves hanging from (x, y)."""
    for angle in c.rng.uniform(0.1, np.pi - 0.1, 4):
        length = size * c.rng.uniform(0.7, 1.1)
        row, column, u, v = c.box(x - length, y - 0.02, x + length, y + length)
        if not u.size or not v.size:
            continue
        along = ((u - x) * np.cos(angle) + (v - y) * np.sin(angle)) / length
        across = (-(u - x) * np.sin(angle) + (v - y) * np.cos(angle)) / length
        lens = 0.16 * np.sin(np.pi * np.clip(along, 0, 1) ** 0.8) - np.abs(across)
        colour = c.colour(albedo, c.rng.uniform(0.1, 1), depth)
        c.over(c.edge(lens * length) * (along > 0), colour, row, column)


def flowers(c: Canvas, top: float, colours, count: int) -> None:
    """Scatters round flowers from y = top to the bottom edge, larger towards the viewer."""
    for t in np.sort(c.rng.random(count) ** 0.8):
        x, y = c.rng.random(), top + (1.03 - top) * t
        r = 0.006 + 0.02 * t**1.5
        albedo = colours[int(c.rng.integers(len(colours)))]
        ball(c, x, y, r, r * 0.8, c.colour(albedo, 0.25, 0.2 * (1 - t)))
        ball(c, x + 0.2 * r * c.side, y - 0.2 * r, r * 0.65, r * 0.5, c.colour(albedo, 1.0))
