"""One log line and one measurement a request; an answer to who is cut off."""

import asyncio
import logging
import sys
import time
import uuid

import structlog
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dg2_jax.serve import problems
from dg2_jax.serve.metrics import Metrics

log = structlog.get_logger()
QUIET = ("/api/v1/health", "/api/v1/ready", "/api/v1/metrics", "/api/v1/queue")  # asked often


def configure_logging(level: int = logging.INFO) -> None:
    """JSON lines on standard error; a prompt cannot forge a line, since JSON escapes it."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(ensure_ascii=True),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


class Observe:
    """The layer that measures."""

    def __init__(self, app: ASGIApp, metrics: Metrics):
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hands on; notes the time until the response begins."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()
        began = False
        request_id = f"req_{uuid.uuid4().hex}"  # OpenAI's clients show it with their errors

        async def noting(message: Message) -> None:
            nonlocal began
            if message["type"] == "http.response.start":
                began = True
                if scope["path"].startswith("/v1/"):
                    headers = MutableHeaders(scope=message)
                    headers["x-request-id"] = request_id
                seconds = time.perf_counter() - start
                status = message["status"]
                method = scope["method"] if scope["method"] in _METHODS else "other"
                self._metrics.requests.labels(method, status).observe(seconds)
                if method != "GET" or scope["path"] not in QUIET:
                    log.info(
                        "request",
                        method=method,
                        path=scope["path"][:200],
                        id=request_id,
                        status=status,
                        ms=round(seconds * 1000, 1),
                    )
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except asyncio.CancelledError:  # the server stops and has waited long enough
            if not began:
                refusal = problems.stopping()
                answer = problems.respond(
                    scope["path"], refusal.status, refusal.detail, (), refusal.retry_after
                )
                await answer(scope, receive, noting)


_METHODS = ("GET", "POST", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS")
