"""The controls of a job: the library's, the server's own, and what an operator allows of them."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dg2_jax.controls import declaration
from dg2_jax.controls.arguments import declared
from dg2_jax.controls.declaration import KINDS, Control, control
from dg2_jax.controls.values import Boolean, Choice, Integer, Text, Texts, Values
from dg2_jax.interop import upscaler_files
from dg2_jax.pictures.image_input import LANCZOS
from dg2_jax.settings import PROMPTED

SPLITS = ("train", "validation")
MAX_STYLE_NAME = 100  # characters


@dataclass(frozen=True)
class OfServer:
    """Controls that only a server has."""

    model: str | None = control(
        None,
        Text(200),
        "Which of the server's models; None is the default one.",
        "sampling",
        optional=True,
    )
    prompt_matching: str | None = control(
        None,
        Choice(SPLITS),
        "Replace the prompt by the nearest one of this split of the prompt bank.",
        "prompt",
        kinds=PROMPTED,
        optional=True,
    )
    styles: tuple[str, ...] = control(
        (),
        Texts(20, MAX_STYLE_NAME),
        "Names of stored styles, whose texts are put around the prompt and the negative prompt.",
        "prompt",
        kinds=PROMPTED,
    )
    embed_metadata: bool = control(
        True,
        Boolean(),
        "Store the settings in the PNG.",
        "output",
        kinds=KINDS,
        advanced=True,
    )


def _all() -> dict[str, Control]:
    library = declared()
    drawn = library["preview_mode"]
    modes = Choice(("none", *drawn.values.describe()["choices"]))
    library["preview_mode"] = dataclasses.replace(drawn, values=modes)
    return {**library, **declaration.of(OfServer)}


CONTROLS = _all()
CHOICES: dict[str, tuple] = {
    "kind": KINDS,
    "view": tuple(CONTROLS["anagram"].values.describe()["choices"]),
} | {name: c.values.choices for name, c in CONTROLS.items() if isinstance(c.values, Choice)}


def of_kind(kind: str) -> dict[str, Control]:
    """The controls of a kind of job, with its own defaults."""
    return {
        name: dataclasses.replace(entry, default=entry.kind_defaults.get(kind, entry.default))
        for name, entry in CONTROLS.items()
        if kind in entry.kinds
    }


def installed_upscalers() -> tuple[str, ...]:
    """The networks that enlarge pictures whose weights are there."""
    return tuple(filter(upscaler_files.is_installed, CHOICES["upscaler"]))


def offered(
    max_images: int, models: Sequence[str], controlnets: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """All controls as `GET /options` lists them.

    Args:
        max_images: of a job, as the operator allows.
        models: the names of the server's models.
        controlnets: those of its ControlNets.
    """
    narrower: dict[str, Values] = {
        "num_images": Integer(1, max_images),
        "model": Choice(tuple(models)),
        "autoguidance_model": Choice(tuple(models)),
        "controlnet": Choice(tuple(controlnets)),
        "upscaler": Choice(installed_upscalers() or CHOICES["upscaler"]),
        "inpaint_upscaler": Choice((LANCZOS, *installed_upscalers())),
    }
    return [
        dataclasses.replace(entry, values=narrower.get(name, entry.values)).describe()
        for name, entry in CONTROLS.items()
    ]
