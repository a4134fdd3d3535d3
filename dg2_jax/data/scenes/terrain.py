"""Land and water: hazy ridges, mountains with lit and shadowed faces, ground, seas and rivers."""

import numpy as np

from dg2_jax.data.scenes.canvas import Canvas
from dg2_jax.data.scenes.noise import fbm, mix, profile, smoothstep
from dg2_jax.data.scenes.palette import WHITE, rgb

ROCK = rgb(0x8A7F86)


def ridge(c: Canvas, top, albedo, depth: float, mist: float = 0.6, lit: float = 0.4) -> None:
    """Paints a far ridge below the profile `top` (n,): one flat tone that sinks into mist."""
    row, mask, below = c.below(top)
    colour = c.colour(albedo, lit, depth)
    foot = mix(colour, c.light.haze, mist)[:, None, None]
    c.over(mask, mix(colour[:, None, None], foot, smoothstep(0, 0.24, below)), row)


def far_ridges(c: Canvas, albedo, count: int = 3, height: float = 0.2, rough: float = 0.5) -> None:
    """Paints `count` ridges one behind the other, the farthest the palest, down to the horizon."""
    for k in range(count):
        near = (k + 1) / count
        u = c.x[0] * c.rng.uniform(2.0, 3.2) * (0.8 + 0.4 * near)
        shape = 0.5 + 0.5 * profile(c.rng, u, 5, rough)
        top = c.horizon - height * (1 - 0.62 * near) * (0.35 + 0.65 * shape)
        ridge(c, top, albedo, 1.15 - 0.75 * near, mist=0.55)


def massif(
    c: Canvas, peaks, albedo, depth: float, snow: float = 0.0, jag: float = 1.0, mist: float = 0.7
) -> np.ndarray:
    """Paints mountains whose crests part lit faces from shadowed ones.

    Every peak is a cone in picture space; a pixel belongs to the cone it lies deepest in. The crest
    runs down from the peak along a wandering line, and spurs fan out from it.

    Args:
      c: the canvas.
      peaks: (x, y, slope) of each, slope in heights for a half width.
      albedo: colour of the rock (3,).
      depth: distance, 0 near to 1 far.
      snow: how far the snow reaches below the highest peak, in picture heights; 0 for none.
      jag: roughness of the outline.
      mist: opacity of the haze at the foot.

    Returns:
      The profile (n,) of the outline.
    """
    x, rng = c.x[0], c.rng
    outline = 0.016 * jag * profile(rng, x * 7, 4, 0.6)
    cones = [
        py + s * (np.sqrt((x - px) ** 2 + 0.0003) - 0.017 - 0.25 * (x - px) ** 2)
        for px, py, s in peaks
    ]
    near_peak = np.min([np.abs(x - px) for px, _, _ in peaks], 0)
    top = np.min(cones, 0) + outline * (0.35 + 0.65 * smoothstep(0, 0.06, near_peak))
    row, mask, below = c.below(top)
    y = c.y[row:]
    warp = fbm(rng, y[:, 0] * 9, x * 7, 3, 0.55)
    best = np.full(mask.shape, np.inf, np.float32)
    lit = np.zeros(mask.shape, np.float32)
    spur = np.zeros(mask.shape, np.float32)
    for px, py, slope in peaks:
        fall = np.maximum(y - py, 0)
        across = (c.x - px + 0.35 * warp * np.minimum(fall, 0.22)) * c.side
        cone = py + slope * np.abs(across)
        fan = across * slope / (fall + 0.03)
        table = profile(rng, np.linspace(0, 9, 257), 2)
        spurs = table[np.clip((fan * 1.1 + 1.5 + 0.2 * warp) / 3 * 256, 0, 256).astype(np.int32)]
        side = smoothstep(-0.008, 0.008, across)
        face = np.clip(0.12 + 0.72 * side + 0.42 * (spurs > 0.12) * (0.25 + side) - 0.12, 0, 1)
        nearer = cone < best
        best = np.where(nearer, cone, best)
        lit = np.where(nearer, face, lit)
        spur = np.where(nearer, spurs, spur)
    shadow, bright = (c.colour(albedo, v, depth)[:, None, None] for v in (0.0, 1.0))
    colour = mix(shadow * 0.9, bright, lit)
    if snow:
        reach = min(p[1] for p in peaks) + snow
        line = reach + 0.045 * spur + 0.05 * warp
        white = smoothstep(0.008, -0.008, y - line)
        cold, warm = (c.colour(WHITE, v, depth)[:, None, None] for v in (0.05, 1.0))
        colour = mix(colour, mix(cold, warm, lit), white * 0.96)
    fade = mist * smoothstep(0.08, 0.36, below)
    c.over(mask, mix(colour, c.light.haze[:, None, None], fade), row)
    return top


def ground(
    c: Canvas, top, near, far=None, depth: float = 0.5, relief: float = 0.5, lit: float = 0.55
) -> None:
    """Paints open ground below `top`, from hazy `far` at its top to `near` at the bottom edge."""
    row, mask, below = c.below(top)
    t = np.sqrt(smoothstep(0, 0.42, below))
    back = c.colour(near if far is None else far, lit, depth)[:, None, None]
    front = c.colour(near, lit, 0.02)[:, None, None]
    colour = mix(back, front, t)
    if relief:
        rows = 3.2 * np.log(0.06 + np.arange(len(mask)) / c.n)
        bumps = fbm(c.rng, rows, c.x[0] * 2.4, 2)
        colour = colour * (1 + 0.2 * relief * smoothstep(-0.5, 0.6, bumps) - 0.1 * relief)
    c.over(mask, np.minimum(colour, 1), row)


def bank(c: Canvas, top, albedo, depth: float, curve: float = 0.06) -> None:
    """Paints a smooth rise below `top`, with its brow in the light and its foot in the shade."""
    row, mask, below = c.below(top)
    slope = np.gradient(np.asarray(top, np.float64)) * c.n * c.side
    lit = np.clip(0.45 + 1.1 * slope, 0.1, 1).astype(np.float32)
    light = np.clip(lit + 0.35 * np.exp(-below / curve) - 0.25 * smoothstep(0, 0.3, below), 0, 1)
    dark, bright = (c.colour(albedo, v, depth)[:, None, None] for v in (0.0, 1.0))
    c.over(mask, mix(dark, bright, light), row)


def reflection(c: Canvas, y0: float, rough: float = 1.0) -> np.ndarray:
    """The picture above y0 seen in water: (3, h, n) from the row of y0 down."""
    row = round(y0 * c.n)
    rows = np.arange(c.n - row)
    t = rows / c.n
    source = row - 1 - rows * 0.92 + 0.012 * c.n * rough * np.sin(70 * np.sqrt(t + 0.02)) * (t > 0)
    mirrored = c.image[:, np.clip(source, 0, row - 1).astype(int)]
    sway = 0.012 * rough * fbm(c.rng, 14 * np.sqrt(t), np.zeros(1), 2)[:, 0] * np.sqrt(t / 0.3)
    columns = np.arange(c.n)[None, :] + (sway * c.n).astype(int)[:, None]
    index = np.clip(columns, 0, c.n - 1)[None]
    return np.take_along_axis(mirrored, np.broadcast_to(index, mirrored.shape), 2)


def water(c: Canvas, y0: float, rough: float = 1.0, tint=None, mask=None) -> None:
    """Paints water below y0: the mirrored picture, ripples, and the sun's glitter path.

    Args:
      c: the canvas; what is above y0 must have been painted.
      y0: the far shore.
      rough: 0 a mirror, 1 a lake, 2 the sea.
      tint: albedo of the deep water.
      mask: (n, n) opacity, for a river or a pond; all below y0 by default.
    """
    row = round(y0 * c.n)
    picture = reflection(c, y0, rough)
    deep = c.colour(rgb(0x2E7FA6) if tint is None else tint, 0.35, 0.0)[:, None, None]
    t = (np.arange(c.n - row, dtype=np.float32) / c.n)[:, None]
    clear = np.clip(0.2 + 0.9 * t, 0, 0.62) * (0.6 + 0.25 * min(rough, 2))
    picture = mix(picture, deep, clear)
    v = 16 * np.log(0.05 + t[:, 0])
    waves = fbm(c.rng, v, c.x[0] * 4.5, 2)
    bright = mix(c.light.sky[3], np.ones(3, np.float32), 0.25)[:, None, None]
    amount = 0.16 * min(rough, 2) + 0.08
    picture = mix(picture, bright, amount * smoothstep(0.25, 0.6, waves))
    picture = picture * (1 - 0.5 * amount * smoothstep(0.3, 0.7, -waves))
    if c.scene.weather not in ("rain", "foggy") and c.scene.time != "dusk":
        width = 0.035 + 0.35 * t
        path = np.exp(-(((c.x - c.sun[0]) / width) ** 2))
        low = {"sunset": 1.0, "dawn": 0.85, "night": 0.6}.get(c.scene.time, 0.4)
        low *= 1 if c.scene.weather == "clear" else 0.55
        glint = low * path * (0.2 + 0.8 * smoothstep(-0.1, 0.35, waves))
        picture = mix(picture, mix(c.light.disc, c.light.sky[4], 0.45)[:, None, None], glint)
    whole = np.ones((c.n - row, c.n), np.float32) if mask is None else mask[row:]
    c.over(whole, picture, row)
    if mask is None and rough < 2:
        line = 0.5 * np.exp(-((t / 0.008) ** 2)) * np.ones_like(c.x)
        c.over(line, mix(c.light.haze, bright[:, 0, 0], 0.5), row)


def winding(c: Canvas, y0: float, width: float, wind: float = 0.2) -> np.ndarray:
    """Signed distance (n, n), positive inside, of a band winding from y0 towards the viewer."""
    t = np.clip((c.y - y0) / (1 - y0), 0, 1)
    phase = c.rng.uniform(2.2, 3.6)
    middle = 0.5 + c.rng.uniform(-0.08, 0.08)
    centre = middle + wind * np.sin(phase + 7.5 * np.sqrt(t)) * (0.1 + 0.9 * t)
    half = width * (0.02 + 0.98 * t**1.35)
    inside = half - np.abs(c.x - centre)
    return np.where(c.y > y0, inside, -1.0).astype(np.float32)
