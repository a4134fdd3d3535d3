"""The sky: gradient, sun, moon, stars, clouds and aurora; falling rain and snow."""

import numpy as np

from dg2_jax.data.scenes.canvas import Canvas
from dg2_jax.data.scenes.noise import fbm, mix, profile, smoothstep
from dg2_jax.data.scenes.palette import rgb

_STOPS = np.array([0, 0.3, 0.58, 0.82, 1.0])


def place_sun(c: Canvas) -> None:
    """Chooses where the sun or moon stands: near the horizon at dawn and sunset, high otherwise."""
    x = c.rng.uniform(0.16, 0.42)
    heights = {"dawn": (0.03, 0.12), "sunset": (0.0, 0.09), "dusk": (-0.06, -0.03)}
    if c.scene.time in heights:
        y = c.horizon - c.rng.uniform(*heights[c.scene.time])
    else:
        y = c.rng.uniform(0.1, 0.24)
    c.sun = (x, y)


def paint_sky(c: Canvas) -> None:
    """Paints the whole sky, clouds included, from the top down past the horizon."""
    t = c.y[:, 0] / (c.horizon + 0.02)
    gradient = np.stack([np.interp(t, _STOPS, c.light.sky[:, k]) for k in range(3)])
    c.image[:] = gradient[:, :, None].astype(np.float32)
    distance = np.hypot(c.x - c.sun[0], (c.y - c.sun[1]) * 1.1)
    open_sky = {"clear": 1.0, "cloudy": 0.6, "foggy": 0.5, "rain": 0.15, "snow": 0.3}
    seen = open_sky[c.scene.weather]
    if c.scene.time in ("night", "dusk") and c.scene.weather in ("clear", "cloudy", "snow"):
        _stars(c, seen)
    _sun(c, distance, seen)
    if c.scene.weather != "foggy":
        _clouds(c, distance)


def _sun(c: Canvas, distance: np.ndarray, seen: float) -> None:
    time, rng = c.scene.time, c.rng
    if time == "dusk":
        wide = np.hypot((c.x - c.sun[0]) * 0.55, c.y - c.horizon)
        c.glow(0.75 * np.exp(-((wide / 0.16) ** 2)) * (0.3 + 0.7 * seen), rgb(0xE88A9C))
        return
    low = time in ("dawn", "sunset")
    radius = rng.uniform(0.055, 0.085) if low else rng.uniform(0.04, 0.06)
    warm = {"sunset": rgb(0xFFB23E), "dawn": rgb(0xFFE2B0)}.get(time, c.light.disc)
    reach, strength = {"night": (0.16, 0.35), "day": (0.2, 0.7)}.get(time, (0.3, 0.75))
    c.glow(strength * (0.25 + 0.75 * seen) * np.exp(-distance / (reach * 0.6)), warm)
    if seen < 0.2:
        return
    disc = c.edge(radius - distance)
    if time == "night":
        phase = rng.uniform(0.3, 0.75) * radius * 2
        shadow = np.hypot(c.x - c.sun[0] - phase, c.y - c.sun[1] + phase * 0.3)
        disc = disc * c.edge(shadow - radius)
    c.over(disc * min(1.0, 0.25 + seen), c.light.disc)


def _stars(c: Canvas, seen: float) -> None:
    count = int(c.rng.integers(22, 36) * (1 if c.scene.time == "night" else 0.4) * (seen + 0.1))
    r = 0.03
    for x, y, size, power in zip(
        c.rng.random(count), c.rng.random(count) ** 1.3 * c.horizon * 0.92,
        c.rng.uniform(0.0065, 0.0105, count), c.rng.uniform(0.8, 1, count), strict=True,
    ):  # fmt: skip
        row, column, u, v = c.box(x - r, y - r, x + r, y + r)
        c.glow(power * np.exp(-((u - x) ** 2 + (v - y) ** 2) / size**2), rgb(0xEAF2FF), row, column)


def _clouds(c: Canvas, distance: np.ndarray) -> None:
    weather, rng = c.scene.weather, c.rng
    bias = {
        "clear": rng.uniform(-0.95, -0.6), "cloudy": rng.uniform(0.1, 0.25), "rain": 0.55,
        "snow": 0.35,
    }[weather]  # fmt: skip
    rows = int(min(c.n, (c.horizon + 0.08) * c.n))
    y = c.y[:rows, 0]
    # Cloud bases lie on a plane overhead: they get flatter and closer towards the horizon.
    v = rng.uniform(2.2, 3.0) / (1.25 - np.minimum(y / (c.horizon + 0.1), 1))
    u = c.x[0] * rng.uniform(1.8, 2.6)
    warp = fbm(rng, v * 1.5, u * 3, 1)
    density = fbm(rng, v, u, 4, 0.5)
    shift = np.clip((np.arange(rows)[:, None] + warp * 0.02 * c.n).astype(int), 0, rows - 1)
    density = np.take_along_axis(density, shift, 0) + bias
    density *= smoothstep(c.horizon + 0.06, c.horizon - 0.12, y)[:, None] * 0.6 + 0.4
    step = max(1, c.n // 40)
    above = np.maximum(np.arange(rows) - step, 0)
    beside = np.clip(np.arange(c.n) + c.side * step // 2, 0, c.n - 1)
    towards_sun = density[above][:, beside]
    lit = smoothstep(-0.12, 0.3, density - towards_sun + 0.08)
    lit = np.clip(lit + 0.6 * np.exp(-distance[:rows] / 0.2), 0, 1)
    if weather == "rain":
        lit *= 0.6
    opacity = smoothstep(0.0, 0.34, density) * (0.95 if weather != "clear" else 0.8)
    opacity *= smoothstep(c.horizon + 0.08, c.horizon - 0.1, y)[:, None]
    dark, bright = (k[:, None, None] for k in (c.light.cloud_dark, c.light.cloud_lit))
    c.over(opacity, mix(dark, bright, lit))


def paint_aurora(c: Canvas) -> None:
    """Paints two or three curtains of light: sharp below, fading and turning violet upwards."""
    rng, x = c.rng, c.x[0]
    base = rng.uniform(0.42, 0.5)
    hues = [(rgb(0x3DF59A), rgb(0x8A4DFF)), (rgb(0x4AF0C0), rgb(0xD04DD8))]
    for k in range(int(rng.integers(2, 4))):
        foot = base - 0.09 * k + 0.1 * profile(rng, x * rng.uniform(1.5, 2.6), 2)
        rays = 0.66 + 0.34 * profile(rng, x * rng.uniform(10, 14), 2)
        fold = smoothstep(-1.1, 0.3, profile(rng, x * 2.5, 1))
        height = (foot - c.y) / (0.22 + 0.1 * rays)
        curtain = np.exp(-np.maximum(height, 0)) * smoothstep(-0.14, 0.06, height)
        curtain *= rays * fold * (1 - 0.2 * k)
        low, high = hues[int(rng.integers(2))]
        upper = smoothstep(0.3, 1.7, height)
        c.glow(curtain * (1 - upper) * 1.1, low)
        c.glow(curtain * upper * 1.6, high)


def paint_weather(c: Canvas) -> None:
    """Paints what falls or drifts in front of everything: fog, rain, snow."""
    rng, n = c.rng, c.n
    if c.scene.weather == "foggy":
        drift = fbm(rng, c.y[:, 0] * 5, c.x[0] * 1.6, 2)
        veil = 0.3 + 0.22 * drift + 0.25 * np.exp(-(((c.y - c.horizon) / 0.16) ** 2))
        c.over(np.clip(veil, 0.08, 0.8).astype(np.float32), c.light.haze)
    elif c.scene.weather == "rain":
        c.over(np.full((n, n), 0.1, np.float32), c.light.haze)
        slope = rng.uniform(0.12, 0.3)
        pale = mix(c.light.haze, rgb(0xEEF6FF), 0.75)
        for x, y, h, a in zip(
            rng.uniform(-0.1, 1.1, 44), rng.uniform(-0.1, 1, 44), rng.uniform(0.09, 0.16, 44),
            rng.uniform(0.55, 0.85, 44), strict=True,
        ):  # fmt: skip
            row, column, u, v = c.box(x - slope * h - 0.02, y, x + 0.02, y + h)
            fallen = np.clip((v - y) / h, 0, 1)
            line = c.edge(0.0042 * np.sqrt(fallen) - np.abs(u - x + slope * (v - y)))
            c.over(line * (a * smoothstep(1.0, 0.9, fallen)), pale, row, column)
    elif c.scene.weather == "snow":
        c.over(np.full((n, n), 0.08, np.float32), c.light.haze)
        flake = mix(c.light.haze, rgb(0xFFFFFF), 0.9)
        for x, y, r, a in zip(
            rng.random(42), rng.random(42), rng.uniform(0.012, 0.023, 42),
            rng.uniform(0.8, 1, 42), strict=True,
        ):  # fmt: skip
            row, column, u, v = c.box(x - r, y - r, x + r, y + r)
            d = np.hypot(u - x, v - y)
            c.over(a * smoothstep(r, r * 0.55, d), flake, row, column)
