"""How long a client may take to send a request that it has begun.

uvicorn closes connections that rest between requests, and none whose request goes on arriving, be
it byte by byte for ever. A client that does make progress may take as long as its link needs.
"""

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

PIECE_BYTES = 16384  # of a body, for each of which a client has the time anew


class PatientProtocol(H11Protocol):
    """A connection that is closed where the headers, or a piece of the body, take too long.

    Attributes:
        request_seconds: for the headers of a request, and for every `PIECE_BYTES` of its body.
    """

    request_seconds: float

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._timer: asyncio.TimerHandle | None = None
        self._awaited: Any = None  # the state that the timer is for
        self._received = 0  # bytes of the current piece

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See `asyncio.Protocol`."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        super().data_received(data)
        self._received += len(data)
        self._watch()

    def on_response_complete(self) -> None:
        """See `H11Protocol`; the next request may be here in part."""
        super().on_response_complete()
        if self.timeout_keep_alive_task is None:
            self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._stop()
        super().connection_lost(exc)

    def _watch(self) -> None:
        """Lets the time run while the client owes something; anew when it has sent a part of it."""
        state = self.conn.their_state
        if state not in (h11.IDLE, h11.SEND_BODY):
            self._stop()
        elif state is not self._awaited or (
            state is h11.SEND_BODY and self._received >= PIECE_BYTES
        ):
            self._stop()
            self._awaited, self._received = state, 0
            self._timer = self.loop.call_later(self.request_seconds, self._give_up)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._awaited = None

    def _give_up(self) -> None:
        if self.flow.read_paused:  # it is we who do not read
            self._timer = self.loop.call_later(self.request_seconds, self._give_up)
        elif not self.transport.is_closing():
            self.transport.close()


def protocol(request_seconds: float) -> type[PatientProtocol]:
    """The protocol for `uvicorn.Config(http=…)` with this patience."""
    return type("Protocol", (PatientProtocol,), {"request_seconds": request_seconds})
