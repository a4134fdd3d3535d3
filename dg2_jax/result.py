"""What a call of the pipeline gives: pictures with their settings, and previews on the way."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from dg2_jax.pictures import images
from dg2_jax.settings import Settings


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


@dataclasses.dataclass(frozen=True)
class Result:
    """What a call made; image i is reproduced alone by its own prompt and `seeds[i]`.

    Attributes:
        images: uint8 (n, h, w, 3).
        seeds: one per image.
        prompts: one per image.
        negative_prompts: one per image.
        latents: float32 (n, h/f, w/f, c), scaled; of the first view with anagram_mode "pixel".
        settings: how they were made, with the height and width before upscaling.
        model: the model's name.
        image: SHA-256 of the pixels that were edited, if any.
        stopped: whether a watcher stopped the call; what was finished before is here.
    """

    images: np.ndarray
    seeds: tuple[int, ...]
    prompts: tuple[str, ...]
    negative_prompts: tuple[str, ...]
    latents: np.ndarray
    settings: Settings
    model: str
    image: str | None = None
    stopped: bool = False

    def metadata(self, index: int) -> dict[str, Any]:
        """Everything needed to make image `index` again, as plain data.

        Height and width are those before upscaling.
        """
        height, width = (side // (self.settings.upscale or 1) for side in self.images.shape[1:3])
        return {
            "prompt": self.prompts[index],
            "negative_prompt": self.negative_prompts[index],
            "seed": self.seeds[index],
            "model": self.model,
            "image": self.image,
            **dataclasses.asdict(self.settings),
            "width": width,
            "height": height,
        }

    def save(self, folder: str | Path) -> list[Path]:
        """Writes one PNG per image with its settings; overwrites no file. Returns the paths."""
        return [
            images.save_numbered(folder, picture, self.metadata(i))
            for i, picture in enumerate(self.images)
        ]
