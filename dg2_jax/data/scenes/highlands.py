"""Subjects of rock, ice and sand: mountain, volcano, glacier, canyon, desert, waterfall."""

import numpy as np

from dg2_jax.data.scenes.canvas import Canvas
from dg2_jax.data.scenes.noise import fbm, mix, profile, smoothstep
from dg2_jax.data.scenes.palette import WHITE, rgb
from dg2_jax.data.scenes.plants import conifer, conifer_line
from dg2_jax.data.scenes.terrain import ROCK, far_ridges, ground, massif, water, winding


def range_of_peaks(c: Canvas, main: tuple[float, float], base: float, slope: float = 1.1):
    """A main peak (x, y) and lesser ones beside it, for `massif`."""
    rng = c.rng
    peaks = [(*main, slope * rng.uniform(0.9, 1.1))]
    for side in (-1, 1):
        x, y = main
        for _ in range(2):
            x = x + side * rng.uniform(0.17, 0.3)
            y = mix(y, base, rng.uniform(0.25, 0.6))
            peaks.append((x, y, slope * rng.uniform(0.75, 1.05)))
    return peaks


def mountain(c: Canvas) -> None:
    """A rocky range with snow on its summits above a wood of conifers."""
    rng, h = c.rng, c.horizon
    far_ridges(c, ROCK, 2, 0.22, 0.55)
    main = (rng.uniform(0.48, 0.72), rng.uniform(0.16, 0.26))
    snow = rng.uniform(0.15, 0.24) + 0.16 * c.plants.snow
    massif(c, range_of_peaks(c, main, h), rgb(0x857B8C), 0.22, snow)
    meadow_top = h + 0.12 + 0.03 * profile(rng, c.x[0] * 2, 3)
    conifer_line(c, meadow_top, 0.075, 0.28, 46)
    ground(c, meadow_top + 0.015, c.plants.grass, depth=0.25)
    conifer_line(c, 0.96 + 0.035 * profile(rng, c.x[0] * 1.6, 2), 0.13, 0.1, 26)
    for x in rng.choice([0.05, 0.14, 0.86, 0.95], 2, replace=False):
        conifer(c, x + rng.normal(0, 0.02), 1.05, rng.uniform(0.3, 0.45), 0.0)


def volcano(c: Canvas) -> None:
    """A cone with a glowing crater, streams of lava and a plume of smoke."""
    rng, h = c.rng, c.horizon
    px, py = rng.uniform(0.45, 0.62), rng.uniform(0.27, 0.34)
    dark = {"day": 0.75, "dawn": 0.85}.get(c.scene.time, 1.0)
    _smoke(c, px, py)
    c.glow(dark * np.exp(-np.hypot(c.x - px, (c.y - py) * 1.1) / 0.13), rgb(0xFF5A1E))
    far_ridges(c, ROCK, 2, 0.12)
    x = c.x[0]
    lip = 0.05
    away = np.maximum(np.abs(x - px) - lip, 0)
    top = py + 1.15 * away - 0.85 * away**2 + 0.01 * profile(rng, x * 9, 3)
    top = top + 0.018 * smoothstep(lip, 0, np.abs(x - px))
    row, mask, below = c.below(top)
    y = c.y[row:]
    warp = fbm(rng, y[:, 0] * 8, x * 6, 3)
    across = (c.x - px + 0.06 * warp * smoothstep(0, 0.3, y - py)) * c.side
    fan = across / (y - py + 0.12)
    gully = profile(rng, np.linspace(0, 8, 257), 2)[np.clip((fan + 1) * 128, 0, 256).astype(int)]
    lit = np.clip(0.85 * smoothstep(-0.02, 0.05, across) + 0.3 * (gully > 0.15), 0, 1)
    basalt = rgb(0x5F4A52)
    shadow, bright = (c.colour(basalt, k, 0.12)[:, None, None] for k in (0.0, 1.0))
    colour = mix(shadow, bright, lit)
    if c.plants.snow:
        cold, warm = (c.colour(WHITE, k, 0.12)[:, None, None] for k in (0.0, 1.0))
        white = smoothstep(-0.15, 0.15, gully + 0.3 * warp + 0.2) * c.plants.snow
        colour = mix(colour, mix(cold, warm, lit), 0.8 * white * smoothstep(0.02, 0.1, below))
    fade = 0.5 * smoothstep(0.2, 0.5, below)
    c.over(mask, mix(colour, c.light.haze[:, None, None], fade), row)
    c.glow(mask * dark * 0.9 * np.exp(-np.hypot(c.x - px, y - py) / 0.06), rgb(0xFF6A20), row)
    for k in range(int(rng.integers(2, 4))):
        start = px + (k - 1) * lip * 0.6
        drift = rng.uniform(-0.3, 0.3) + (k - 1) * 0.35
        t = np.maximum(c.y - py - 0.012, 0)
        path = start + drift * t + 0.07 * np.sqrt(t) * profile(rng, c.y[:, 0] * 5, 2)[:, None]
        reach = rng.uniform(0.2, 0.42)
        life = smoothstep(reach, reach * 0.7, t) * (c.y > py + 0.008)
        d = np.abs(c.x - path)
        c.glow(0.7 * dark * life * np.exp(-d / 0.028), rgb(0xFF4A12))
        c.over(life * c.edge(0.012 + 0.03 * t - d), rgb(0xFF5A14))
        c.over(life * c.edge(0.005 + 0.016 * t - d), rgb(0xFFD768))
    top = h + 0.2 + 0.03 * profile(rng, x * 2, 3)
    conifer_line(c, top, 0.06, 0.18, 44)
    ground(c, top, mix(c.plants.grass, rgb(0x4A4044), 0.55 * (1 - c.plants.snow)), depth=0.2)


def _smoke(c: Canvas, px: float, py: float) -> None:
    rng = c.rng
    rise = np.maximum(py + 0.02 - c.y, 0)
    bend = px + rng.uniform(0.3, 0.9) * rise**1.4
    billow = fbm(rng, c.y[:, 0] * 8, c.x[0] * 8, 3)
    density = 0.035 + 0.42 * rise - np.abs(c.x - bend) + 0.06 * billow * np.sqrt(rise + 0.02) * 3
    mask = smoothstep(0.0, 0.035, density) * (c.y < py + 0.02) * 0.92
    lit = np.clip(0.35 + 0.7 * np.roll(billow, -c.n // 40, 0) - 0.4 * billow, 0, 1)
    ash = mix(c.light.cloud_dark, rgb(0x453C44), 0.5)
    colour = mix(ash[:, None, None], mix(c.light.cloud_lit, ash, 0.35)[:, None, None], lit)
    c.over(mask, mix(colour, rgb(0xFF6A2A)[:, None, None], 0.8 * np.exp(-rise / 0.1)))


def glacier(c: Canvas) -> None:
    """A tongue of blue ice between dark ridges, broken by crevasses, ending in a lake."""
    rng, h = c.rng, c.horizon
    far_ridges(c, ROCK, 1, 0.2, 0.55)
    peaks = range_of_peaks(c, (rng.uniform(0.42, 0.6), h - rng.uniform(0.26, 0.32)), h, 0.8)
    massif(c, peaks, rgb(0x6E7488), 0.4, 0.4, mist=0.3)
    shore = rng.uniform(0.84, 0.9)
    middle = 0.5 + rng.uniform(-0.06, 0.06)
    for side in (-1, 1):
        px = middle + side * rng.uniform(0.42, 0.55)
        slope = rng.uniform(0.85, 1.05)
        massif(c, [(px, h - rng.uniform(0.2, 0.3), slope), (px + side * 0.25, h - 0.3, slope)],
               rgb(0x4E5162), 0.1, 0.16 + 0.3 * c.plants.snow, mist=0.1)  # fmt: skip
    start = h - 0.03
    t = np.clip((c.y - start) / (shore - start), 0, 1)
    centre = middle + rng.uniform(0.08, 0.12) * np.sin(rng.uniform(1.5, 4.5) + 4.4 * t) * (1 - t)
    half = 0.05 + 0.3 * t**0.9 + 0.16 * t**3 + 0.016 * profile(rng, c.y[:, 0] * 7, 2)[:, None]
    across = (c.x - centre) / half
    mask = c.edge((1 - np.abs(across)) * half) * (c.y > start) * (c.y < shore)
    ice = mix(rgb(0xA9DDF2), WHITE, 0.35)
    light, deep = (c.colour(ice, 0.8, 0.12), c.colour(rgb(0x3D9BD0), 0.4, 0.05))
    bow = np.log(0.16 + t) * 6.0 - 0.7 * across**2
    warp = 0.5 * fbm(rng, c.y[:, 0] * 5, c.x[0] * 4, 2)
    open_ice = smoothstep(-0.25, 0.35, fbm(rng, c.y[:, 0] * 9, c.x[0] * 5, 1))
    wave = (bow + warp) % 1
    crevasse = smoothstep(0.34, 0.12, wave) * smoothstep(0.0, 0.1, wave) * open_ice
    glowing = smoothstep(0.3, 0.65, wave) * 0.35
    moraine = np.exp(-(((across - 0.3) / 0.05) ** 2)) + np.exp(-(((across + 0.45) / 0.04) ** 2))
    colour = mix(light[:, None, None], deep[:, None, None], np.clip(0.8 * crevasse + 0.1, 0, 1))
    colour = mix(colour, c.colour(WHITE, 1.0, 0.05)[:, None, None], glowing)
    colour = mix(colour, c.colour(rgb(0x6A7486), 0.4, 0.1)[:, None, None], 0.5 * moraine)
    c.over(mask, colour)
    # The front: a broken wall of the deepest blue.
    crest = shore - 0.075 + 0.016 * profile(rng, c.x[0] * 9, 3)
    row, wall, below = c.below(crest)
    blocks = profile(rng, c.x[0] * 15, 2)[None, :]
    face = np.clip(0.55 + 0.8 * blocks + 3 * c.side * np.gradient(crest) * c.n * 0.3, 0.1, 1)
    dark, bright = (c.colour(rgb(0x56B4E0), k, 0.0)[:, None, None] for k in (0.0, 1.0))
    colour = mix(mix(dark, bright, face), light[:, None, None], 0.7 * smoothstep(0.04, 0.0, below))
    c.over(wall * mask[row:], colour, row)
    water(c, shore, 0.8, rgb(0x3F93AE))


def canyon(c: Canvas) -> None:
    """Terraced walls of banded rock, one behind the other, with a river at the bottom."""
    rng, h = c.rng, c.horizon
    bands = np.array([rgb(v) for v in
                      (0xC9693C, 0xE39A5F, 0xB5502F, 0xD98350, 0xF0BC86, 0xA8472E)])  # fmt: skip
    _mesa(c, h - 0.08, 0.2, bands, 0.65, None)
    floor = mix(rgb(0xC98A55), WHITE, 0.5 * c.plants.snow)
    ground(c, np.full(c.n, h + 0.12), floor, depth=0.4, relief=0.3)
    river = winding(c, h + 0.13, 0.16, 0.13)
    for k, depth in enumerate((0.34, 0.14, 0.0)):
        if k == 1:
            water(c, h + 0.13, 0.6, rgb(0x3B8F8C), c.edge(river))
        for side in (-1, 1):
            _mesa(c, h - 0.2 - 0.1 * k, 0.45 + 0.17 * k, bands, depth,
                  0.5 + side * (0.13 + 0.075 * k + rng.uniform(0, 0.05)), side)  # fmt: skip


def _mesa(c: Canvas, top: float, height: float, bands, depth: float, edge, side: int = 1) -> None:
    """One wall of strata; `edge` is where it ends (it fills the picture on its `side` of that)."""
    rng, x = c.rng, c.x[0]
    rough = profile(rng, x * 6, 2)
    if edge is None:
        plateau = smoothstep(-0.25, -0.1, profile(rng, x * 3, 2)) * 0.7
        plateau = plateau + 0.3 * smoothstep(0.2, 0.3, profile(rng, x * 4, 2))
        away = 1 - plateau
    else:
        d = (edge - x) * side + 0.02 * rough  # positive outside of the wall
        away = np.interp(d, [-0.2, -0.12, -0.11, -0.03, -0.02, 0.04, 0.055, 0.13],
                         [0.0, 0.06, 0.2, 0.26, 0.52, 0.6, 0.95, 1.3])  # fmt: skip
    outline = top + height * away + 0.006 * rough
    bend = 0.012 * profile(rng, x * 3, 2)
    offset = rng.uniform(0, 6)
    buttress = profile(rng, x * 7, 1) + 0.5 * np.gradient(outline) * c.n * c.side
    seen = np.flatnonzero(outline * c.n < c.n + 1)  # elsewhere it begins below the picture
    if not seen.size:
        return
    column, last = int(seen[0]), int(seen[-1]) + 1
    outline, bend, buttress = (a[column:last] for a in (outline, bend, buttress))
    row, mask, below = c.below(outline)
    y = c.y[row:]
    level = ((y - top - bend) / height * 4 + offset) % 6
    index = level.astype(np.int32) % 6
    face = np.clip(0.5 + 2.5 * buttress, 0.08, 1)[None, :]
    lit = np.clip(face + 0.25 * smoothstep(0.6, 1.0, level % 1) - 0.1, 0, 1)
    albedo = np.stack([bands[:, k][index] for k in range(3)])
    light = c.light
    surface = np.minimum(
        albedo * (light.ambient[:, None, None] + lit * light.sun[:, None, None]), 1
    )
    if c.plants.snow:
        ledge = smoothstep(0.035, 0.015, below) + 0.6 * smoothstep(0.3, 0.1, level % 1)
        white = c.colour(WHITE, 0.6)[:, None, None]
        surface = mix(surface, white, np.clip(0.85 * c.plants.snow * ledge, 0, 1))
    thick = 1 - np.exp(-light.fog * depth) + 0.18 * smoothstep(0.1, 0.5, below)
    c.over(mask, mix(surface, light.haze[:, None, None], np.minimum(thick, 1)), row, column)


def desert(c: Canvas) -> None:
    """Dunes whose sharp crests part sunlit sand from shadow."""
    rng, h, x = c.rng, c.horizon, c.x[0]
    sand = mix(
        rgb(0xE9B872) * rng.normal(1, 0.03, 3).astype(np.float32), WHITE, 0.6 * c.plants.snow
    )
    far_ridges(c, mix(sand, ROCK, 0.4), 1, 0.08, 0.4)
    layers = 4
    for k in range(layers):
        near = (k + 1) / layers
        px = (0.72, 0.28, 0.8, 0.35)[k] + rng.uniform(-0.14, 0.14)
        py = h - 0.08 + 0.34 * near**1.5 + rng.uniform(-0.03, 0.02)
        size = 0.1 + 0.2 * near
        rise = size * (1 - np.exp(-((x - px) ** 2) / (0.05 + 0.12 * near)))
        top = py + rise - 0.02 * np.exp(-np.abs(x - px) / 0.05) + 0.012 * profile(rng, x * 2.5, 1)
        row, mask, below = c.below(top)
        fall = np.maximum(c.y[row:] - py, 0)
        swing = rng.uniform(0.12, 0.25)
        crest = px + c.side * swing * np.sin(fall / (0.12 + 0.2 * near) * 2.3) - c.side * 0.5 * fall
        across = (c.x - crest) * c.side
        lit = smoothstep(-0.004, 0.004, across)
        soft = 0.45 * smoothstep(
            -0.15, -0.75, across
        )  # the shadowed flank turns to the light again
        lit = np.clip(lit * (1 - 0.4 * smoothstep(0.05, 0.6, across)) + soft, 0, 1)
        ripples = np.sin((below * 190 + 12 * profile(rng, x * 3, 2)) * (0.7 + 0.3 * (1 - near)))
        if k == layers - 1:
            lit = np.clip(lit + 0.05 * ripples, 0, 1)
        depth = 0.55 * (1 - near)
        dark, bright = (c.colour(sand, v, depth)[:, None, None] for v in (0.0, 1.0))
        colour = mix(dark * 0.93, bright, lit)
        c.over(mask, mix(colour, c.light.haze[:, None, None], 0.25 * (1 - near)), row)


def waterfall(c: Canvas) -> None:
    """White water falling over a rock wall into a pool, in spray, between trees."""
    rng, x = c.rng, c.x[0]
    far_ridges(c, ROCK, 2, 0.2)
    centre, half = rng.uniform(0.46, 0.58), rng.uniform(0.07, 0.11)
    lip, pool = rng.uniform(0.27, 0.33), rng.uniform(0.76, 0.82)
    cliff = lip - 0.05 * smoothstep(half, half + 0.1, np.abs(x - centre))
    cliff = cliff - 0.09 * smoothstep(0.1, 0.45, np.abs(x - centre)) + 0.02 * profile(rng, x * 6, 3)
    conifer_line(c, cliff + 0.012, 0.11, 0.22, 34)
    row, mask, below = c.below(cliff)
    y = c.y[row:]
    warp = fbm(rng, y[:, 0] * 7, x * 6, 2)
    blocks = fbm(rng, y[:, 0] * 3.5 + 0.0, x * 8, 2) + 0.35 * warp + 0.9 * (centre - c.x) * c.side
    lit = 0.15 + 0.5 * smoothstep(-0.05, 0.05, blocks) + 0.3 * smoothstep(0.4, 0.45, blocks)
    rock = mix(rgb(0x6F6A72), WHITE, 0.2 * c.plants.snow)
    dark, bright = (c.colour(rock, v, 0.1)[:, None, None] for v in (0.0, 1.0))
    shade = 1 - 0.3 * np.exp(-(((np.abs(c.x - centre) - half) / 0.06) ** 2))
    moss = c.colour(c.plants.grass, 0.7, 0.1)[:, None, None]
    colour = mix(mix(dark, bright, lit) * shade, moss, smoothstep(0.05, 0.02, below + 0.03 * warp))
    c.over(mask, colour, row)
    fall = np.clip((c.y - lip) / (pool - lip), 0, 1)
    wide = half * (0.82 + 0.35 * fall**2) + 0.008 * profile(rng, c.y[:, 0] * 12, 2)[:, None]
    body = c.edge(wide - np.abs(c.x - centre)) * (c.y > lip - 0.004)
    strands = fbm(rng, c.y[:, 0] * 2.2, (x - centre) / half * 3.2, 2)
    white = c.colour(WHITE, 0.95, 0.0)[:, None, None]
    blue = c.colour(rgb(0x8FC4DE), 0.35, 0.0)[:, None, None]
    c.over(body, mix(blue, white, smoothstep(-0.4, 0.35, strands)))
    water(c, pool, 0.9, rgb(0x3C8C93))
    ring = np.hypot((c.x - centre) / (half * 2.4), (c.y - pool) / 0.045)
    foam = smoothstep(1.0, 0.5, ring + 0.25 * fbm(rng, c.y[:, 0] * 20, x * 12, 2))
    c.over(foam * (c.y >= pool - 0.03) * 0.85, white)
    spray = np.exp(-(((c.x - centre) / (half * 2.0)) ** 2) - ((c.y - pool + 0.02) / 0.07) ** 2)
    c.over(0.75 * spray, mix(c.colour(WHITE, 0.9), c.light.haze, 0.3))
    for side in (-1, 1):
        shore = pool + 0.13 - 0.2 * smoothstep(0.2, 0.5, (x - 0.5) * side)
        shore = (
            shore + 0.012 * profile(rng, x * 8, 2) + 0.4 * smoothstep(0.24, 0.1, (x - 0.5) * side)
        )
        ground(c, shore, c.plants.grass, depth=0.1)
        for dx in (0.4, 0.47):
            conifer(c, 0.5 + side * (dx + rng.normal(0, 0.015)), pool + rng.uniform(0.03, 0.14),
                    rng.uniform(0.28, 0.46), 0.05)  # fmt: skip
