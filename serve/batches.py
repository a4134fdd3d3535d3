"""From queued jobs to one call of the pipeline, and from its result to stored pictures."""

import hashlib
import io
import json
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PilImage

from dg2_jax.checks import ParameterError
from dg2_jax.serve import pictures
from dg2_jax.serve.files import Files
from dg2_jax.serve.records import Image, Job
from dg2_jax.serve.schemas import PICTURES, JobRequest
from dg2_jax.settings import MAX_SEED, PROMPTED, UNSHARED
from dg2_jax.text import prompt_tags

# These may differ between pictures of one call, or do not change the picture.
_OWN = (
    "prompt", "prompt_matching", "styles", "negative_prompt", "seed", "num_images",
    "embed_metadata", "preview_every",
)  # fmt: skip
# What only the server knows of a picture, or by a name of its own.
_STORED_NAMES = (
    "model", *PICTURES, "controlnet", "autoguidance_model", "preview_every", "preview_mode",
)  # fmt: skip


class StoppedError(Exception):
    """The computation was stopped by its watcher."""


def key(job: Job) -> Hashable:
    """Jobs of equal keys may be computed in one call without changing any picture."""
    if job.kind == "upscale":
        return job.id
    own = set(_OWN)
    if job.kind == "anagram":
        own.remove("negative_prompt")  # the pipeline takes one for all readings
    if job.request.preview_mode in ("none", "linear"):
        own.add("preview_mode")  # linear previews cost nothing, so they may be drawn for nobody
    fields = job.request.fields()
    return json.dumps({k: v for k, v in fields.items() if k not in own}, sort_keys=True)


def shares(request: JobRequest) -> bool:
    """Whether pictures may share batches with those of any job: `dg2_jax.generation.slots`."""
    alone = any(getattr(request, name, value) != value for name, (value, _) in UNSHARED.items())
    return request.kind in PROMPTED and not alone and not prompt_tags.holds_any(request.prompt)


def arguments(job: Job, files: Files) -> dict[str, Any]:
    """What the pipeline is given for all pictures of a job that `shares`."""
    request = job.request
    return {
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        "num_images": job.num_images,
        "seed": request.seed,
        **_inputs(request, files),
        **request.settings(),
    }


@dataclass(frozen=True, eq=False)
class Item:
    """One picture of a batch."""

    job: Job
    index: int

    @property
    def seed(self) -> int:
        """Picture i of a job has the job's seed + i."""
        return (self.job.request.seed + self.index) % (MAX_SEED + 1)


class JobBatch:
    """Pictures that are computed together."""

    def __init__(
        self, items: Sequence[Item], started_at: float | None = None, shares: bool = False
    ):
        self.items = list(items)
        self.jobs = list({item.job.id: item.job for item in items}.values())
        self.request: JobRequest = self.jobs[0].request
        self.shares = shares
        self.started_at = time.monotonic() if started_at is None else started_at

    @property
    def ids(self) -> list[str]:
        """Of its jobs."""
        return [job.id for job in self.jobs]

    @property
    def model(self) -> str | None:
        """The model it needs, None for no model."""
        return getattr(self.request, "model", None)

    @property
    def weights(self) -> str | None:
        """The set of the model's weights, None for no model."""
        return getattr(self.request, "weights", None)

    def compute(
        self,
        pipe: Any,
        upscale: Callable[..., np.ndarray],
        files: Files,
        place: Callable[[str], str | Path],
        watch: Callable[[int, int, Callable[[], Sequence[np.ndarray]]], bool],
    ) -> list[tuple[np.ndarray, dict[str, Any]]]:
        """Runs it; returns (pixels, metadata) one an item.

        Args:
            pipe: the pipeline of `model`.
            upscale: `dg2_jax.upscale`.
            files: where input pictures lie.
            place: where the library finds a model of the server's, by name.
            watch: called with (step, num_steps, drawer of previews) after every step; returns
                whether to stop.

        Raises:
            StoppedError: `watch` said so.
            Exception: what the pipeline raises.
        """
        if self.request.kind == "upscale":
            return [self._enlarge(upscale, files, watch)]
        settings = self.request.settings()
        if settings.get("autoguidance_model") is not None:
            settings["autoguidance_model"] = str(place(settings["autoguidance_model"]))
        result = pipe(
            **self._texts(),
            **_inputs(self.request, files),
            **settings,
            seed=[item.seed for item in self.items],
            on_preview=lambda p: watch(p.step, p.num_steps, lambda: p.images),
            preview_every=1,
            preview_mode="linear"
            if self.request.preview_mode == "none"
            else self.request.preview_mode,
        )
        if result.stopped:
            raise StoppedError
        return [(pixels, result.metadata(i)) for i, pixels in enumerate(result.images)]

    def _texts(self) -> dict[str, Any]:
        if self.request.kind == "anagram":
            negative = self.request.negative_prompt
            return {"negative_prompt": negative, "num_images": len(self.items)}
        requests = [item.job.request for item in self.items]
        names = ("prompt", "negative_prompt")
        return {name: [getattr(request, name) for request in requests] for name in names}

    def _enlarge(
        self, upscale: Callable[..., np.ndarray], files: Files, watch: Callable
    ) -> tuple[np.ndarray, dict[str, Any]]:
        def progress(done: int, total: int) -> None:
            if watch(done, total, tuple):
                raise StoppedError

        request = self.request
        pixels = _read(files, request.image, "image")
        larger = upscale(pixels, request.upscaler, request.upscale, progress=progress)
        metadata = {
            "upscale": request.upscale,
            "upscaler": request.upscaler,
            "width": larger.shape[1],
            "height": larger.shape[0],
            "image": request.image,
        }
        return larger, metadata


def stored(
    item: Item, pixels: np.ndarray, metadata: dict[str, Any], model_hash: str | None
) -> tuple[Image, bytes]:
    """A finished picture's row and its PNG."""
    request = item.job.request
    named = {name: getattr(request, name, None) for name in _STORED_NAMES}
    metadata = {
        **metadata,
        "kind": item.job.kind,
        **{name: value for name, value in named.items() if value is not None},
        **({"model_hash": model_hash} if model_hash is not None else {}),
    }
    if item.job.matched_from is not None:
        metadata["matched_from"] = item.job.matched_from
    png = pictures.encode(pixels, metadata if request.embed_metadata else None)
    return (
        Image(
            id=f"{item.job.id}_{item.index:03d}",
            job_id=item.job.id,
            index=item.index,
            kind=item.job.kind,
            seed=metadata.get("seed"),
            prompt=metadata.get("prompt", ""),
            negative_prompt=metadata.get("negative_prompt", ""),
            width=pixels.shape[1],
            height=pixels.shape[0],
            sha256=hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest(),
            metadata=metadata,
            created_at=time.time(),
        ),
        png,
    )


def _inputs(request: JobRequest, files: Files) -> dict[str, np.ndarray]:
    ids = {name: getattr(request, name, None) for name in PICTURES}
    return {name: _read(files, id_, name) for name, id_ in ids.items() if id_ is not None}


def _read(files: Files, picture_id: str, name: str) -> np.ndarray:
    """A stored picture's pixels: uint8 (h, w, 3), or (h, w) for a mask."""
    data = files.read(picture_id)
    if data is None:
        raise ParameterError(name, f"{picture_id} has been deleted")
    with PilImage.open(io.BytesIO(data)) as picture:
        return np.asarray(picture)
