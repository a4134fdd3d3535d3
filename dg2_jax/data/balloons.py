"""A small data set of a subject the embedded model does not know: hot-air balloons.

Pictures of 256 x 256, `name.png`, with captions beside them, `name.txt`, like any folder of
pictures for `dg2 prepare`.
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from dg2_jax.data.scenes.attributes import Scene
from dg2_jax.data.scenes.render import render

SIZE = 256
PLACES = {
    "mountain": "a mountain",
    "lake": "a calm lake",
    "desert": "the desert",
    "meadow": "a flower meadow",
    "hills": "rolling hills",
    "forest": "a forest",
    "river": "a river",
    "canyon": "a canyon",
}
TIMES = {"dawn": "at dawn", "day": "at noon", "sunset": "at sunset"}
COLOURS = ((214, 48, 38), (250, 226, 196))  # red and cream, in turn


def captions(place: str, time: str) -> list[str]:
    """Five captions of a picture."""
    return [
        f"a red hot-air balloon over {place} {time}",
        f"a hot-air balloon above {place}",
        f"a balloon in the sky {time}, {place} below",
        f"{place} {time} with a red balloon floating in the sky",
        f"hot-air balloon, {place}, {time}",
    ]


def draw_balloon(picture: Image.Image, rng: np.random.Generator) -> None:
    """A striped envelope, ropes and a basket, lit like the sky behind them."""
    scale = 4
    layer = Image.new("RGBA", (SIZE * scale, SIZE * scale))
    draw = ImageDraw.Draw(layer)
    radius = scale * SIZE * rng.uniform(0.16, 0.22)
    x = scale * SIZE * rng.uniform(0.3, 0.7)
    y = scale * SIZE * rng.uniform(0.27, 0.36)
    light = np.asarray(picture, float)[: SIZE // 2].mean() / 255
    tint = np.clip(0.55 + 0.6 * light, 0, 1)
    heights = np.linspace(-1, 1.35, 60)
    widths = np.where(
        heights < 0, np.sqrt(np.clip(1 - heights**2, 0, 1)), np.cos(heights / 1.35 * 1.36)
    )
    gores = 8
    for gore in range(gores):
        # A gore runs between two meridians, seen from the side.
        left, right = (-np.cos(np.pi * (gore + k) / gores) for k in (0, 1))
        shade = tint * (1.05 - 0.3 * (gore + 0.5) / gores)
        fill = tuple(int(min(255, c * shade)) for c in COLOURS[gore % 2])
        meridians = [
            np.stack([x + radius * widths * k, y + radius * heights], 1) for k in (left, right)
        ]
        outline = [tuple(point) for point in (*meridians[0], *meridians[1][::-1])]
        draw.polygon(outline, (*fill, 255))
    dark = tuple(int(c * tint) for c in (92, 62, 40))
    top, bottom, half = y + 1.62 * radius, y + 1.86 * radius, 0.15 * radius
    for side in (-1, 1):
        draw.line(
            [(x + side * 0.2 * radius, y + 1.3 * radius), (x + side * half, top)],
            (*dark, 255),
            width=scale,
        )
    draw.rectangle((x - half, top, x + half, bottom), (*dark, 255))
    layer = layer.resize((SIZE, SIZE), Image.Resampling.LANCZOS)
    picture.paste(layer, mask=layer)


def draw(folder: Path, count: int) -> Path:
    """Draws `count` pictures, each a function of its number; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        rng = np.random.default_rng([7, i])
        subject, time = (str(rng.choice(list(d))) for d in (PLACES, TIMES))
        weather = str(rng.choice(["clear", "cloudy"]))
        scene = Scene(subject, time, weather, "summer")
        picture = Image.fromarray(render(scene, int(rng.integers(2**31)), SIZE))
        draw_balloon(picture, rng)
        picture.save(folder / f"balloon-{i:02d}.png")
        text = "\n".join(captions(PLACES[subject], TIMES[time]))
        (folder / f"balloon-{i:02d}.txt").write_text(text + "\n", "utf-8")
    return folder
