"""What routes work with: one object an application, handed to them by FastAPI."""

import re
import threading
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Depends, Header, Request

from dg2_jax.models.adapters import Library
from dg2_jax.models.controlnets import ControlNets
from dg2_jax.serve.access import Access
from dg2_jax.serve.disk import Disk
from dg2_jax.serve.engine import Engine
from dg2_jax.serve.files import Files, Ids
from dg2_jax.serve.fleet.announced import AnnouncedModels
from dg2_jax.serve.gallery import Gallery
from dg2_jax.serve.metrics import Metrics
from dg2_jax.serve.models import Models
from dg2_jax.serve.problems import ProblemError
from dg2_jax.serve.server_settings import ServerSettings
from dg2_jax.serve.store import Store
from dg2_jax.serve.styles import Styles
from dg2_jax.text.wildcards import Wildcards

_CLIENT = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass
class Context:
    """The parts of a running server."""

    settings: ServerSettings
    store: Store
    files: Files
    gallery: Gallery
    disk: Disk
    engine: Engine
    models: Models | AnnouncedModels
    metrics: Metrics
    adapters: Library
    controlnets: ControlNets
    wildcards: Wildcards
    styles: Styles
    access: Access
    new_id: Ids = field(default_factory=Ids)
    watched: list[Any] = field(default_factory=list)  # `waiting.Watched`, oldest first
    foreign_model: str | None = None  # what A1111's options chose
    _bank: Any = None
    _bank_lock: Any = field(default_factory=threading.Lock)

    def enter(self, watched: Any) -> None:
        """Registers a request that waits for a job."""
        self.watched.append(watched)

    def leave(self, watched: Any) -> None:
        """Unregisters it."""
        if watched in self.watched:
            self.watched.remove(watched)

    def bank(self) -> Any:
        """The prompt bank, loaded on first use (seconds): call it outside the event loop."""
        with self._bank_lock:
            if self._bank is None:
                from dg2_jax.bank import Bank  # JAX takes seconds to import

                self._bank = Bank.load(user=self.settings.data / "bank")
            return self._bank


def _context(request: Request) -> Context:
    return request.app.state.context


def _client(
    request: Request,
    x_client_id: Annotated[
        str | None, Header(description="who asks; the queue takes turns between clients")
    ] = None,
) -> str:
    if x_client_id is None:
        return request.client.host if request.client else "unknown"
    if not _CLIENT.fullmatch(x_client_id):
        allowed = "1 to 64 letters, digits, dots, underscores or hyphens"
        raise ProblemError(422, f"X-Client-ID must be {allowed}", "X-Client-ID")
    return x_client_id


Ctx = Annotated[Context, Depends(_context)]
Client = Annotated[str, Depends(_client)]
