"""Pictures as arrays and as files: PNGs that carry their settings, and contact sheets."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from dg2_jax import files

METADATA_KEY = "dg2_jax"  # JSON, read back by `read_metadata`
PARAMETERS_KEY = "parameters"  # one readable text, in the form that other tools show
NEGATIVE = "Negative prompt: "
LABELS = {
    "Steps": "num_inference_steps",
    "Sampler": "solver",
    "CFG scale": "guidance_scale",
    "Seed": "seed",
    "Size": "size",
    "Model hash": "model_hash",
    "Model": "model",
    "Weights": "weights",
    "Denoising strength": "strength",
    "Mask blur": "mask_feather",
}


def to_uint8(pixels: Float[Array, "*shape"]) -> UInt8[Array, "*shape"]:
    """Pixels in [-1, 1], clipped to it, to 0-255; pure JAX."""
    return jnp.round(jnp.clip((pixels + 1.0) * 127.5, 0.0, 255.0)).astype(jnp.uint8)


def from_uint8(images: UInt8[Array | np.ndarray, "*shape"]) -> Float[Array, "*shape"]:
    """0-255 to pixels in [-1, 1]; pure JAX."""
    return jnp.asarray(images, jnp.float32) / 127.5 - 1.0


def cell_means(
    images: UInt8[np.ndarray, "n H W c"], height: int, width: int
) -> Float[np.ndarray, "n h w c"]:
    """Means over `height` x `width` equal cells; H and W are multiples of these."""
    n, full_height, full_width, channels = images.shape
    shape = n, height, full_height // height, width, full_width // width, channels
    return images.reshape(shape).mean((2, 4), dtype=np.float64)


def parameters_text(metadata: Mapping[str, Any], more: Mapping[str, Any] | None = None) -> str:
    """A picture's settings as text, in the form that other tools write and read.

    The prompt, a line "Negative prompt: …" where there is one, and a line of pairs "Label: value"
    (LABELS); texts that hold a comma, a colon, a quote or a line break are quoted as JSON.

    Args:
        metadata: from `Result.metadata`; fields of edits are included if "kind" is one.
        more: further pairs, values by label.
    """
    values = dict(metadata) | {"size": f"{metadata.get('width')}x{metadata.get('height')}"}
    edited = metadata.get("kind") in ("img2img", "inpaint")
    pairs = [
        f"{label}: {_quoted(values[name])}"
        for label, name in LABELS.items()
        if values.get(name) is not None and (edited or name not in ("strength", "mask_feather"))
    ]
    pairs += [f"{label}: {_quoted(value)}" for label, value in (more or {}).items()]
    lines = [str(metadata.get("prompt", ""))]
    if metadata.get("negative_prompt"):
        lines.append(NEGATIVE + str(metadata["negative_prompt"]))
    return "\n".join([*lines, ", ".join(pairs)])


def _quoted(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    plain = text == text.strip() and not re.search(r'[,:\n"]', text)
    return text if plain else json.dumps(text, ensure_ascii=False)


def png_info(metadata: Mapping[str, Any], text: str | None = None) -> PngInfo:
    """The text blocks of a PNG that carries its settings.

    Args:
        metadata: stored as JSON.
        text: the readable form; `parameters_text` if None.
    """
    info = PngInfo()
    info.add_itxt(METADATA_KEY, json.dumps(dict(metadata), ensure_ascii=False))
    info.add_itxt(PARAMETERS_KEY, parameters_text(metadata) if text is None else text)
    return info


def save_png(
    path: str | Path, image: np.ndarray, metadata: Mapping[str, Any], *, replace: bool = False
) -> Path:
    """Writes a PNG with its settings inside.

    Args:
        path: the file; its folder is made if missing.
        image: uint8 (h, w, 3).
        metadata: plain data.
        replace: whether a file of that name is replaced, once the new one is whole.

    Raises:
        FileExistsError: there is such a file already, and `replace` is False.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if replace:
        with files.replacing(path) as partial:
            Image.fromarray(image).save(partial, "PNG", pnginfo=png_info(metadata))
        return path
    with path.open("xb") as file:
        try:
            Image.fromarray(image).save(file, "PNG", pnginfo=png_info(metadata))
            file.flush()
        except BaseException:
            path.unlink(missing_ok=True)
            raise
    return path


def save_numbered(folder: str | Path, image: np.ndarray, metadata: Mapping[str, Any]) -> Path:
    """`save_png` as `<number>-<prompt>-<seed>.png`, with the first free number."""
    folder = Path(folder)
    words = re.sub(r"[^a-z0-9]+", "-", str(metadata.get("prompt", "")).lower()).strip("-")
    taken = [int(m[1]) for p in folder.glob("*.png") if (m := re.match(r"(\d+)-", p.name))]
    number = max(taken, default=-1) + 1
    while True:
        name = f"{number:05d}-{words[:60] or 'image'}-{metadata.get('seed', 0)}.png"
        try:
            return save_png(folder / name, image, metadata)
        except FileExistsError:
            number += 1


def read_metadata(path: str | Path) -> dict[str, Any]:
    """The settings of a PNG that `save_png` wrote.

    Raises:
        ValueError: it carries none.
    """
    with Image.open(path) as image:
        image.load()
        text = getattr(image, "text", {}).get(METADATA_KEY)
    if text is None:
        raise ValueError(f"{path} carries no dg2_jax settings")
    return json.loads(text)


def contact_sheet(
    images: Sequence[np.ndarray] | np.ndarray,
    columns: int,
    labels: Sequence[str] | None = None,
    gap: int = 6,
) -> np.ndarray:
    """Pictures of one size in rows, separated by white, each with its label below.

    Args:
        images: uint8 (h, w, 3) each.
        columns: pictures per row, at least 1.
        labels: one per picture, wrapped to its width; None for none.
        gap: pixels between pictures.
    """
    if columns < 1 or len(images) == 0:
        raise ValueError("contact_sheet needs at least one picture and one column")
    h, w = images[0].shape[:2]
    font = ImageFont.load_default(size=11)
    wrapped = [_wrap(label, font, w) for label in labels] if labels is not None else []
    caption = 14 * max((len(lines) for lines in wrapped), default=0)
    rows = math.ceil(len(images) / columns)
    cell_h, cell_w = h + caption + gap, w + gap
    sheet = Image.new("RGB", (columns * cell_w + gap, rows * cell_h + gap), "white")
    draw = ImageDraw.Draw(sheet)
    for i, image in enumerate(images):
        x, y = gap + (i % columns) * cell_w, gap + (i // columns) * cell_h
        sheet.paste(Image.fromarray(image), (x, y))
        if wrapped:
            draw.multiline_text((x, y + h + 1), "\n".join(wrapped[i]), fill="black", font=font)
    return np.asarray(sheet)


def _wrap(text: str, font: Any, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
