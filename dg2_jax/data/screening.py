"""Decides which pictures of a source are usable, and gives each a split and a size."""

import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from dg2_jax.data.sources.interface import PictureSource
from dg2_jax.interop import file_kinds
from dg2_jax.pictures import image_input

Size = tuple[int, int]  # height, width
MAX_RATIO = 2.0  # of the longer side of a bucket to the shorter


@dataclass(frozen=True)
class Finding:
    """What screening found out about a picture.

    Attributes:
        index: in the source.
        name: in the source.
        digest: SHA-256 of its file, or of its pixels where the source has no file; "" if unread.
        height: upright, in pixels.
        width: likewise.
        split: as the source says.
        problem: why it cannot be used; None if it can.
        original: of a duplicate, the index of the picture that it is a copy of.
    """

    index: int
    name: str
    digest: str = ""
    height: int = 0
    width: int = 0
    split: str | None = None
    problem: str | None = None
    original: int | None = None


@dataclass(frozen=True)
class Kept:
    """A picture that is used.

    Attributes:
        index: in the source.
        split: "train" or "validation".
        size: of the picture in the data set.
        copies: indices of its duplicates, whose captions it takes over.
    """

    index: int
    split: str
    size: Size
    copies: tuple[int, ...] = ()


def screen(source: PictureSource, index: int, min_side: int, *, captioned: bool = True) -> Finding:
    """Reads and decodes a picture; anything wrong with it is told in `problem`.

    Args:
        source: of the pictures.
        index: of the picture.
        min_side: minimum length of its shorter side in pixels.
        captioned: whether it must have a caption.
    """
    name = source.name(index)
    content = None
    try:
        picture = source[index]
        image = picture.image
        content = image if isinstance(image, bytes) else np.ascontiguousarray(image).tobytes()
        decoded = image_input.read(image, "picture", image_input.DATA_FORMATS)
        with image_input.clear_errors("picture"):
            width, height = image_input.to_rgb(decoded).size
    except (OSError, ValueError) as error:
        return Finding(index, name, problem=f"broken: {error}{_instead(content)}")
    problem = None
    if min(width, height) < min_side:
        problem = f"tiny: {width}x{height}, the shorter side must have {min_side} pixels"
    elif captioned and not picture.captions:
        problem = "it has no caption"
    digest = hashlib.sha256(content).hexdigest()
    return Finding(index, name, digest, height, width, picture.split, problem)


def _instead(content: bytes | None) -> str:
    kind = None if content is None else file_kinds.describe(content[: file_kinds.HEAD])
    return f"; it is {kind}" if kind and "picture" not in kind else ""


def without_duplicates(findings: Iterable[Finding]) -> list[Finding]:
    """The findings with every later copy of a good picture marked as a problem."""
    first: dict[str, Finding] = {}
    marked = []
    for finding in findings:
        if finding.problem is None:
            original = first.setdefault(finding.digest, finding)
            if original is not finding:
                problem = f"duplicate of {original.name}"
                finding = replace(finding, problem=problem, original=original.index)
        marked.append(finding)
    return marked


def buckets(size: int, step: int) -> list[Size]:
    """Sizes of about size² pixels whose sides are multiples of `step`, the square one first.

    >>> buckets(128, 32)
    [(128, 128), (96, 160), (160, 96)]
    """
    sizes = [(size, size)]
    for height in range(step, size, step):
        width = round(size * size / height / step) * step
        if width <= MAX_RATIO * height:
            sizes += [(height, width), (width, height)]
    return sizes


def nearest(height: int, width: int, sizes: Sequence[Size]) -> Size:
    """The size with the nearest aspect ratio, which crops least."""
    return min(sizes, key=lambda s: abs(math.log(s[1] / s[0]) - math.log(width / height)))


def choose(
    findings: Sequence[Finding], sizes: Sequence[Size], validation_share: float
) -> list[Kept]:
    """The pictures to keep: those without a problem, with their splits and sizes.

    If the source names validation pictures, they are the validation split. Otherwise a picture's
    digest decides, independently of its name, its place and the other pictures; if that selects
    none, the one with the lowest digest is taken.

    Args:
        findings: of all pictures.
        sizes: the allowed sizes.
        validation_share: in (0, 1).

    Raises:
        ValueError: fewer than two pictures are left.
    """
    good = [finding for finding in findings if finding.problem is None]
    if len(good) < 2:
        reasons = Counter(re.split(":| of ", f.problem)[0] for f in findings if f.problem)
        told = "; ".join(f"{count} of them: {reason}" for reason, count in reasons.most_common())
        raise ValueError(
            f"source: {len(good)} of its pictures can be used, 2 are needed at least"
            + (f" ({told})" if told else "")
        )
    if any(finding.split == "validation" for finding in good):
        held_out = {f.index for f in good if f.split == "validation"}
    else:
        limit = int(validation_share * 2**32)
        held_out = {f.index for f in good if int(f.digest[:8], 16) < limit}
        held_out = held_out or {min(good, key=lambda f: f.digest).index}
    copies: dict[int, list[int]] = {}
    for finding in findings:
        if finding.original is not None:
            copies.setdefault(finding.original, []).append(finding.index)
    kept = [
        Kept(
            f.index,
            "validation" if f.index in held_out else "train",
            nearest(f.height, f.width, sizes),
            tuple(copies.get(f.index, ())),
        )
        for f in good
    ]
    if not Counter(k.split for k in kept)["train"]:
        raise ValueError("source: all of its pictures belong to the validation split")
    return kept
