"""What a call of the pipeline gives: pictures with their settings, and previews on the way."""

import base64
import dataclasses
import functools
import html
import io
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dg2_jax.checks import ParameterError
from dg2_jax.pictures import images
from dg2_jax.settings import Settings

_SHOWN = 16  # pictures that a notebook shows
_SHOWN_SIDE = 512  # pixels of each


@dataclasses.dataclass(frozen=True)
class Preview:
    """What the pictures of a batch look like so far.

    Attributes:
        step: steps done, 1 to num_steps.
        num_steps: of the run.
        first_image: index of the batch's first picture among all of the call.
        draw: makes the pictures; called at the first use of `images`.
    """

    step: int
    num_steps: int
    first_image: int
    draw: Callable[[], np.ndarray] = dataclasses.field(repr=False)

    @functools.cached_property
    def images(self) -> np.ndarray:
        """uint8 (n, h, w, 3), x₀ estimates; a latent's height and width in "linear" mode."""
        return self.draw()


@dataclasses.dataclass(frozen=True, repr=False)
class Result:
    """What a call made; image i is reproduced alone by its own prompt and `seeds[i]`.

    It has a length and is a sequence of PIL images: `result[0].show()`, `for picture in result`.
    A notebook shows the pictures.

    Attributes:
        images: uint8 (n, h, w, 3).
        seeds: one per image.
        prompts: one per image.
        negative_prompts: one per image.
        latents: float32 (n, h/f, w/f, c), scaled; of the first view with anagram_mode "pixel", of
            the region with inpaint_area "only_masked".
        settings: how they were made, with the height and width that the model made.
        model: the model's name.
        model_hash: the start of the SHA-256 of its weights' file, if it is from one.
        image_digest: SHA-256 of the pixels that were edited, if any.
        stopped: whether a watcher stopped the call; what was finished before is here.
    """

    images: np.ndarray
    seeds: tuple[int, ...]
    prompts: tuple[str, ...]
    negative_prompts: tuple[str, ...]
    latents: np.ndarray
    settings: Settings
    model: str
    model_hash: str | None = None
    image_digest: str | None = None
    stopped: bool = False

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Image.Image:
        return Image.fromarray(self.images[index])

    def __iter__(self) -> Iterator[Image.Image]:
        return map(Image.fromarray, self.images)

    @property
    def pil(self) -> list[Image.Image]:
        """The pictures as PIL images."""
        return list(self)

    def __repr__(self) -> str:
        height, width = self.images.shape[1:3]
        count = f"{len(self)} image{'' if len(self) == 1 else 's'} of {width}x{height}"
        stopped = ", stopped" if self.stopped else ""
        made = f"{self.settings.solver}, {self.settings.num_inference_steps} steps"
        return f"<Result: {count}, {_listed(self.seeds)}{made}, model {self.model}{stopped}>"

    def _repr_png_(self) -> bytes | None:
        """The pictures on one sheet, for notebooks; at most 16 of them."""
        shown = [np.asarray(_thumbnail(picture)) for picture in self.pil[:_SHOWN]]
        if not shown:
            return None
        sheet = shown[0]
        if len(shown) > 1:
            sheet = images.contact_sheet(shown, math.ceil(math.sqrt(len(shown))))
        return _png(Image.fromarray(sheet))

    def _repr_html_(self) -> str:
        """Each picture above its prompt and seed, for notebooks; at most 16 of them."""
        figures = []
        for i, picture in enumerate(self.pil[:_SHOWN]):
            source = base64.b64encode(_png(_thumbnail(picture))).decode()
            caption = f"{html.escape(self.prompts[i])}<br>seed {self.seeds[i]}"
            figures.append(
                '<figure style="display:inline-block;margin:4px;vertical-align:top">'
                f'<img src="data:image/png;base64,{source}" alt="{html.escape(self.prompts[i])}">'
                f'<figcaption style="max-width:{picture.width}px">{caption}</figcaption></figure>'
            )
        return f"<div>{''.join(figures)}</div><div>{html.escape(repr(self))}</div>"

    def metadata(self, index: int) -> dict[str, Any]:
        """Everything needed to make image `index` again, as plain data.

        Height and width are those that the model made: before upscaling, and of the region with
        inpaint_area "only_masked".
        """
        own = self.settings
        shape = [side // (own.upscale or 1) for side in self.images.shape[1:3]]
        return {
            "prompt": self.prompts[index],
            "negative_prompt": self.negative_prompts[index],
            "seed": self.seeds[index],
            "model": self.model,
            "image_digest": self.image_digest,
            **dataclasses.asdict(own),
            "height": own.height or shape[0],
            "width": own.width or shape[1],
            **({"model_hash": self.model_hash} if self.model_hash is not None else {}),
        }

    def save(self, path: str | Path) -> list[Path]:
        """Writes PNGs that carry their settings.

        Args:
            path: a name that ends in ".png" is a file, which is replaced if there is one; of
                several pictures each has its number before the ending: "x-0.png", "x-1.png".
                Any other path is a folder, made if missing, in which no file is replaced.

        Returns:
            The paths of the files, one per picture.

        Raises:
            ParameterError: the name ends like a picture of another format.
        """
        path = Path(path)
        if path.is_dir() or path.suffix.lower() not in Image.registered_extensions():
            return [
                images.save_numbered(path, picture, self.metadata(i))
                for i, picture in enumerate(self.images)
            ]
        if path.suffix.lower() != ".png":
            raise ParameterError(
                "path",
                f"must end in .png or be a folder: PNGs carry their settings; got {path} "
                "(result[0].save writes other formats)",
            )
        names = [path]
        if len(self) != 1:
            digits = len(str(len(self) - 1))
            names = [
                path.with_stem(f"{path.stem}-{number:0{digits}}") for number in range(len(self))
            ]
        return [
            images.save_png(name, picture, self.metadata(i), replace=True)
            for i, (name, picture) in enumerate(zip(names, self.images, strict=True))
        ]


def _listed(seeds: tuple[int, ...]) -> str:
    if not seeds:
        return ""
    few = ", ".join(map(str, seeds[:3])) + (", …" if len(seeds) > 3 else "")
    return f"seed{'' if len(seeds) == 1 else 's'} {few}, "


def _thumbnail(picture: Image.Image) -> Image.Image:
    picture = picture.copy()
    picture.thumbnail((_SHOWN_SIDE, _SHOWN_SIDE))
    return picture


def _png(picture: Image.Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()
