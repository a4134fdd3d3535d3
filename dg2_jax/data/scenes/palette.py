"""Colours: what the time of day, the weather and the season do to sky, light, haze and leaves.

Colours are float32 arrays (3,), sRGB in [0, 1]. Time and weather make one `Light`; every surface is
then `albedo * (ambient + lit * sun)`, seen through haze, so that a picture looks consistent.
"""

from typing import NamedTuple

import numpy as np

from dg2_jax.data.scenes.attributes import Scene
from dg2_jax.data.scenes.noise import mix


def rgb(code: int | np.integer) -> np.ndarray:
    """The colour of a hexadecimal code such as 0xFF8040."""
    return np.array([code >> 16, code >> 8 & 255, code & 255], np.float32) / 255


class Light(NamedTuple):
    """The light of a picture."""

    sky: np.ndarray  # (5, 3), from the zenith to the horizon
    sun: np.ndarray  # direct light
    ambient: np.ndarray  # light in the shadows
    haze: np.ndarray  # the colour that distance tends to
    disc: np.ndarray  # sun or moon
    cloud_lit: np.ndarray
    cloud_dark: np.ndarray
    fog: float  # extinction for each unit of depth


class Plants(NamedTuple):
    """The colours of what grows."""

    grass: np.ndarray
    conifer: np.ndarray
    leaves: tuple[np.ndarray, ...]
    bare: bool  # broad-leaved trees have no leaves
    snow: float  # how much of the ground is white, in [0, 1]


WHITE = rgb(0xF4F8FF)
_TIMES = {  # sky stops; sun, ambient (may exceed 1 together); haze, disc, cloud lit, cloud dark
    "dawn": (
        (0x7FA9DC, 0xB4B9E4, 0xEFC0D6, 0xFFD2BE, 0xFFE9C4),
        (0.66, 0.47, 0.36), (0.52, 0.49, 0.60), 0xF8D5CE, 0xFFF6DC, 0xFFE7DA, 0xC3A9CB,
    ),
    "day": (
        (0x2878D0, 0x4A9AE4, 0x7FBEF0, 0xB2DCF6, 0xDDF1F8),
        (0.66, 0.62, 0.52), (0.48, 0.54, 0.64), 0xCDE5F3, 0xFFFDF0, 0xFFFFFF, 0xA9C4DE,
    ),
    "sunset": (
        (0x43246F, 0x97307F, 0xE4486A, 0xFF7B3A, 0xFFC94E),
        (0.84, 0.48, 0.26), (0.43, 0.29, 0.42), 0xF9894F, 0xFFF0B0, 0xFFA24E, 0x8F2F72,
    ),
    "dusk": (
        (0x1E2358, 0x343680, 0x5750A0, 0x8A6DB4, 0xC490B6),
        (0.36, 0.26, 0.38), (0.30, 0.29, 0.50), 0x8A74B4, 0xF2E6F0, 0xA27DB6, 0x3A3778,
    ),
    "night": (
        (0x060C26, 0x0B1840, 0x11275A, 0x1C3C76, 0x2E568F),
        (0.36, 0.45, 0.58), (0.16, 0.22, 0.38), 0x2A548C, 0xFDFBE4, 0x3F5C90, 0x0F1E46,
    ),
}  # fmt: skip
# Greyness and brightness of the sky, share of direct light left, fog.
_WEATHERS = {
    "clear": (0.0, 1.0, 1.0, 0.75),
    "cloudy": (0.42, 0.92, 0.5, 1.0),
    "foggy": (0.45, 1.0, 0.35, 3.6),
    "rain": (0.56, 0.72, 0.42, 1.2),
    "snow": (0.46, 0.97, 0.5, 1.1),
}
_SEASONS = {  # grass; leaves
    "spring": (0x86BE4A, (0x8CC152, 0xF6B4CB, 0xA6D062)),
    "summer": (0x559B3C, (0x2F7F3B, 0x3F9145, 0x226B3A)),
    "autumn": (0xC79A45, (0xE2701F, 0xC93F22, 0xEBA52E)),
    "winter": (0xE6EEF7, (0x6B5A5C, 0x7A686A, 0x5E4F55)),
}
_GREY = np.array([0.94, 1.0, 1.08], np.float32)
_LUMA = np.array([0.3, 0.59, 0.11], np.float32)


def _grey(colour: np.ndarray, amount: float) -> np.ndarray:
    return mix(colour, (colour @ _LUMA)[..., None] * _GREY, amount)


def light_of(scene: Scene, rng: np.random.Generator) -> Light:
    """The light of a scene, its colours varied a little by the generator."""
    stops, sun, ambient, haze, disc, cloud_lit, cloud_dark = _TIMES[scene.time]
    greyness, brightness, direct, fog = _WEATHERS[scene.weather]
    if scene.time in ("dusk", "night"):
        brightness = brightness**0.25  # dark scenes must stay readable
    if scene.time in ("sunset", "dusk", "night"):
        greyness *= 0.7  # clouds take on the colours of a low sun, or of the moon
    tint = rng.normal(1, 0.035, 3).astype(np.float32)
    warmth = rng.normal(0, 0.03, (5, 1)) * np.array([1, 0, -1])

    def air(colour):
        return np.clip(_grey(colour * tint, greyness) * brightness, 0, 1).astype(np.float32)

    sky = air(np.stack([rgb(s) for s in stops]) + warmth)
    haze_colour = air(rgb(haze))
    if scene.weather == "foggy":
        sky = mix(sky, haze_colour, np.linspace(0.45, 0.9, 5, dtype=np.float32)[:, None])
    if scene.weather == "snow":
        sky = mix(sky, haze_colour, 0.3)
    lost = np.float32((1 - direct) * 0.35)  # an overcast sky gives part of the sun's light back
    sun_light = np.array(sun, np.float32)
    shade = np.array(ambient, np.float32) + lost * _grey(sun_light, greyness)
    return Light(
        sky,
        _grey(sun_light * direct, greyness),
        _grey(shade, greyness * 0.5) * (0.5 + 0.5 * brightness),
        haze_colour,
        rgb(disc),
        air(rgb(cloud_lit)),
        air(rgb(cloud_dark)),
        fog * rng.uniform(0.85, 1.15),
    )


def plants_of(scene: Scene, rng: np.random.Generator) -> Plants:
    """The colours of the vegetation in a season, under snow where there is any."""
    grass, leaves = _SEASONS[scene.season]
    snow = 0.92 if scene.weather == "snow" else 0.75 * (scene.season == "winter")
    jitter = rng.normal(1, 0.05, 3).astype(np.float32)
    white = 0.45 * snow
    return Plants(
        mix(rgb(grass) * jitter, WHITE, snow),
        mix(rgb(0x24564A if scene.season != "spring" else 0x2F6B4C) * jitter, WHITE, white),
        tuple(mix(rgb(leaf) * jitter, WHITE, white) for leaf in leaves),
        scene.season == "winter",
        snow,
    )
