"""Which sizes of pictures a server makes: each is a program to compile, so there are a few."""

import math
import re
from collections.abc import Sequence
from typing import Annotated

from pydantic import AfterValidator

from dg2_jax.checks import ParameterError
from dg2_jax.controls.model_facts import ModelFacts
from dg2_jax.settings import MAX_SIDE

Size = tuple[int, int]  # width and height in pixels

_SIZE = re.compile(r"(\d{1,4})x(\d{1,4})")
_ASPECTS = (4 / 3, 16 / 9)  # of the sizes beside the model's own, and upright ones


def parse(text: str) -> Size | None:
    """The size that a text such as "160x96" tells, None if it tells none."""
    match = _SIZE.fullmatch(text)
    return (int(match[1]), int(match[2])) if match else None


def _checked(text: str) -> str:
    size = parse(text)
    if size is None or not 8 <= min(size) <= max(size) <= MAX_SIDE:
        raise ValueError(f"must be WIDTHxHEIGHT in pixels, at most {MAX_SIDE}")
    return text


SizeText = Annotated[str, AfterValidator(_checked)]


def allowed(facts: ModelFacts, configured: Sequence[str]) -> list[Size]:
    """The sizes of a model, its own first.

    Args:
        facts: of the model.
        configured: what the operator allows, as texts; those that the model's networks cannot make
            are left out. None: the model's own size, and others of about its area.
    """
    multiple = facts.multiple
    if configured:
        sizes = [size for text in configured if (size := parse(text)) is not None]
        sizes = [size for size in sizes if not size[0] % multiple and not size[1] % multiple]
    else:
        wide = [_near(facts.size, aspect, multiple) for aspect in _ASPECTS]
        sizes = [*wide, *((height, width) for width, height in wide)]
    return list(dict.fromkeys([(facts.size, facts.size), *sizes]))


def _near(side: int, aspect: float, multiple: int) -> Size:
    """The size of about this aspect and the area of a square."""

    def rounded(pixels: float) -> int:
        return max(1, round(pixels / multiple)) * multiple

    return rounded(side * math.sqrt(aspect)), rounded(side / math.sqrt(aspect))


def of_second_pass(sizes: Sequence[Size], configured: Sequence[str]) -> list[Size]:
    """The sizes of a second pass: those of a model, and twice them unless the operator chose."""
    twice = [] if configured else [(2 * width, 2 * height) for width, height in sizes]
    return list(dict.fromkeys([*sizes, *twice]))


def check(size: Size, sizes: Sequence[Size], name: str, must: str = "must be one of") -> None:
    """Raises ParameterError of that name unless a size is one of the allowed ones."""
    if size not in sizes:
        listed = ", ".join(f"{width}x{height}" for width, height in sizes)
        raise ParameterError(name, f"{must} {listed} (width x height); got {size[0]}x{size[1]}")


def nearest(size: Size, sizes: Sequence[Size]) -> Size:
    """The allowed size of the nearest aspect; among equal aspects that of the nearest area."""

    def distance(other: Size) -> tuple[float, float]:
        aspect = math.log(other[0] * size[1] / (other[1] * size[0]))
        area = math.log(other[0] * other[1] / (size[0] * size[1]))
        return round(abs(aspect), 6), abs(area)

    return min(sizes, key=distance)
