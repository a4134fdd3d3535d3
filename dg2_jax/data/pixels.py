"""Pictures of any source as pixels, for networks trained on pictures alone.

These are the pictures `scripts.prepare` would keep, in the same splits, captioned or not.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from dg2_jax.data import screening
from dg2_jax.data.loader import Example
from dg2_jax.data.screening import Finding
from dg2_jax.data.sources.interface import PictureSource
from dg2_jax.data.sources.spec import SourceSpec
from dg2_jax.files import replacing
from dg2_jax.pictures import image_input

REPORT = "pictures.json"


class Pixels:
    """Pictures by index: {"image": uint8 (size, size, 3)}, the middle square of each."""

    def __init__(self, source: PictureSource, indices: Sequence[int], size: int):
        self._source, self._indices, self._size = source, indices, size

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Example:
        image = self._source[self._indices[index]].image
        formats = image_input.DATA_FORMATS
        pixels = image_input.load_image(image, self._size, self._size, formats=formats)
        return {"image": pixels}


def open_pixels(
    spec: SourceSpec, size: int, folder: Path, validation_share: float = 0.05
) -> tuple[Pixels, Pixels]:
    """The training and the validation pictures of a source.

    Every picture is decoded once to find the usable ones; the findings are kept in a file and
    reused as long as the source does not change.

    Args:
        spec: the source, as `scripts.prepare` takes it.
        size: side in pixels; a picture whose shorter side has less than half of it is left out.
        folder: gets pictures.json: what is left out, and why.
        validation_share: of the pictures, where the source has no validation split.

    Raises:
        FileNotFoundError: there is nothing at the location.
        ValueError: it is not a source of pictures, or fewer than two can be used.
    """
    source = spec.open()
    findings = screening.without_duplicates(_findings(source, size, folder / REPORT))
    try:
        kept = screening.choose(findings, [(size, size)], validation_share)
    except ValueError as error:
        raise ValueError(f"{error}; see {folder / REPORT}") from error
    train, validation = (
        Pixels(source, [k.index for k in kept if k.split == split], size)
        for split in ("train", "validation")
    )
    return train, validation


def _findings(source: PictureSource, size: int, path: Path) -> list[Finding]:
    key = hashlib.sha256(f"{size} {source.fingerprint()}".encode()).hexdigest()
    try:
        known = json.loads(path.read_text("utf-8"))
        if known["source"] == key:
            return [Finding(**finding) for finding in known["pictures"]]
    except (OSError, ValueError, TypeError, KeyError):
        pass
    indices = tqdm(range(len(source)), desc="screened", unit=" pictures", leave=False)
    findings = [screening.screen(source, i, size // 2, captioned=False) for i in indices]
    path.parent.mkdir(parents=True, exist_ok=True)
    problems = [{"name": f.name, "problem": f.problem} for f in findings if f.problem is not None]
    values = {"source": key, "problems": problems, "pictures": [vars(f) for f in findings]}
    with replacing(path) as partial:
        partial.write_text(json.dumps(values, indent=1) + "\n", "utf-8")
    return findings
