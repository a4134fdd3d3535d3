"""Errors that name the field at fault, in each interface's own form.

`application/problem+json` (RFC 9457) for ours, and what A1111 and OpenAI clients expect for theirs.
"""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from dg2_jax.checks import ParameterError
from dg2_jax.controls.declaration import KINDS
from dg2_jax.serve import disk, words

MEDIA_TYPE = "application/problem+json"
STOPPING = "the server is stopping"
STOPPING_SECONDS = 10  # after which another may have taken its place


class ProblemError(HTTPException):
    """An error to tell the client about.

    Attributes:
        status: of the response.
        detail: one sentence for people; with a field, what is said of it may be enough.
        field: the field of the request at fault, if one is.
        retry_after: seconds after which to try again, if that makes sense.
    """

    def __init__(
        self, status: int, detail: str, field: str | None = None, retry_after: int | None = None
    ):
        super().__init__(status, detail)
        self.status = status
        self.field = field
        self.retry_after = retry_after

    @classmethod
    def of(cls, error: ParameterError, field: str | None = None) -> "ProblemError":
        """422 for a parameter that is not allowed, of a field of that or another name."""
        return cls(422, str(error), field or error.name)


def stopping() -> ProblemError:
    """What is said of all that the server will not do before it ends."""
    return ProblemError(503, STOPPING, retry_after=STOPPING_SECONDS)


def problem(status: int, detail: str, fields: Sequence[tuple[str, str]] = ()) -> dict[str, Any]:
    """A problem object; `fields` are pairs (field, message)."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": "Client Closed Request" if status == 499 else HTTPStatus(status).phrase,
        "status": status,
        "detail": _printable(detail),
    }
    if fields:
        body["errors"] = [
            {"field": _printable(name), "message": _printable(message)} for name, message in fields
        ]
    return body


def respond(
    path: str,
    status: int,
    detail: str,
    fields: Sequence[tuple[str, str]] = (),
    retry_after: int | None = None,
) -> JSONResponse:
    """An error as the interface that `path` belongs to words it."""
    headers = {"Retry-After": str(retry_after)} if retry_after is not None else {}
    body = problem(status, detail, fields)
    if path.startswith("/sdapi/"):
        if status == 401:
            headers["WWW-Authenticate"] = 'Basic realm="dg2_jax"'
        detail = body["detail"]
        errors = {"error": body["title"], "detail": detail, "body": "", "errors": detail}
        return JSONResponse(errors, status, headers)
    if path.startswith("/v1/"):
        return _openai_error(400 if status == 422 else status, body, headers)
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="dg2_jax"'
    return JSONResponse(body, status, headers, media_type=MEDIA_TYPE)


def _openai_error(status: int, body: dict[str, Any], headers: dict[str, str]) -> JSONResponse:
    kinds = {400: "invalid_request_error", 401: "authentication_error", 429: "rate_limit_error"}
    if status not in (429, 503):  # these were not computed, so that asking again makes sense
        headers["x-should-retry"] = "false"
    param = body["errors"][0]["field"] if "errors" in body else None
    codes = {(401, None): "invalid_api_key", (404, "model"): "model_not_found"}
    error = {
        "message": body["detail"],
        "type": kinds.get(status, "invalid_request_error" if status < 500 else "server_error"),
        "param": param,
        "code": codes.get((status, param)),
    }
    return JSONResponse({"error": error}, status, headers)


def field_errors(errors: Sequence[Any]) -> list[tuple[str, str]]:
    """Pydantic's errors as pairs (field, message), without the values that were sent."""
    return [(_field(error), words.message(error, ", ".join(KINDS).format)) for error in errors]


def install(app: FastAPI) -> None:
    """Makes every error of an application a problem."""

    async def of_problem(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, ProblemError)
        fields = [(error.field, error.detail)] if error.field else []
        named = error.field is None or error.field in error.detail
        detail = error.detail if named else f"{error.field}: {error.detail}"
        return respond(request.url.path, error.status, detail, fields, error.retry_after)

    async def of_validation(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        sent = request.headers.get("content-type", "")
        if any(_is_no_json(one) for one in error.errors()) and "json" not in sent:
            told = (
                f"must be application/json, got {sent[:80]!r}"
                if sent
                else "must be application/json"
            )
            field = "Content-Type"
            return respond(request.url.path, 415, f"{field} {told}", [(field, told)])
        fields = field_errors(error.errors())
        detail = "; ".join(f"{name}: {message}" for name, message in fields[:3])
        return respond(request.url.path, 422, detail, fields)

    async def of_http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        path, status = request.url.path, error.status_code
        missing = f"there is no {request.method} {path[:200]} here"
        result = respond(path, status, missing if status in (404, 405) else str(error.detail))
        result.headers.update(error.headers or {})
        return result

    async def of_storage(request: Request, error: Exception) -> JSONResponse:
        if disk.is_full(error):
            return respond(request.url.path, 507, disk.FULL, retry_after=disk.RETRY_SECONDS)
        if disk.is_unreachable(error):
            return respond(request.url.path, 503, disk.UNREACHABLE, retry_after=5)
        raise error

    async def of_leaving(request: Request, error: Exception) -> JSONResponse:
        return respond(request.url.path, 499, "the client left")

    async def of_anything(request: Request, error: Exception) -> JSONResponse:
        return respond(request.url.path, 500, f"internal error: {type(error).__name__}")

    app.add_exception_handler(ProblemError, of_problem)
    app.add_exception_handler(RequestValidationError, of_validation)
    app.add_exception_handler(HTTPException, of_http)
    for kind in disk.ERRORS:
        app.add_exception_handler(kind, of_storage)
    app.add_exception_handler(ClientDisconnect, of_leaving)
    app.add_exception_handler(Exception, of_anything)


def _is_no_json(error: Any) -> bool:
    """Whether a body was taken for bytes, since its Content-Type is not that of JSON."""
    return tuple(error["loc"]) == ("body",) and isinstance(error.get("input"), bytes)


def _field(error: Any) -> str:
    """Where an error is, as the client wrote it: "anagram.0.view"."""
    if error["type"].startswith("union_tag"):
        return "kind"
    if error["type"] == "json_invalid":
        return "body"
    parts = list(error["loc"])
    if len(parts) > 1 and parts[0] in ("body", "query", "path", "header"):
        parts = parts[1:]
    if not parts or parts[:1] == ["body"] or (parts[:1] and parts[0] in KINDS and len(parts) == 1):
        refused = words.of_the_library(error)  # about the whole request
        return "body" if refused is None else refused.name
    if len(parts) > 1 and parts[0] in KINDS and isinstance(parts[1], str):
        parts = parts[1:]  # the tag of the union is not a field
    return ".".join(map(str, parts))


def _printable(text: str) -> str:
    """Lone surrogates cannot be sent as UTF-8."""
    return text.encode("utf-8", "replace").decode()
