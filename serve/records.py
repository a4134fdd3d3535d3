"""A job and a picture as the store keeps them."""

from dataclasses import dataclass, field
from typing import Any

from dg2_jax.serve.schemas import JobRequest

QUEUED, RUNNING, DONE, FAILED, CANCELLED = "queued", "running", "done", "failed", "cancelled"
UNFINISHED = (QUEUED, RUNNING)


@dataclass
class Image:
    """A finished picture's row; the pixels are a file."""

    id: str
    job_id: str
    index: int
    kind: str
    seed: int | None
    prompt: str
    negative_prompt: str
    width: int
    height: int
    sha256: str
    metadata: dict[str, Any]
    created_at: float
    favourite: bool = False


@dataclass
class Job:
    """A job's row and its finished pictures.

    `notes` say what was done otherwise than asked; `place` is its own among its client's, once the
    client has ordered them.
    """

    id: str
    kind: str
    status: str
    client: str
    request: JobRequest
    text: str
    num_images: int
    created_at: float
    idempotency_key: str | None = None
    matched_from: str | None = None
    attempts: int = 0
    error: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)
    started_at: float | None = None
    finished_at: float | None = None
    place: int | None = None
    images: list[Image] = field(default_factory=list)

    @property
    def model(self) -> str:
        """The name of the model it needs, "" for none."""
        return getattr(self.request, "model", None) or ""

    @property
    def missing(self) -> list[int]:
        """The indices of the pictures that are not finished."""
        made = {image.index for image in self.images}
        return [index for index in range(self.num_images) if index not in made]

    @property
    def finished(self) -> bool:
        """Whether nothing more happens to it."""
        return self.status not in UNFINISHED
