"""The server itself: whether it lives, is ready, what it offers, who may use it."""

from typing import Annotated, Any

from fastapi import Query, Request, Response
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, ConfigDict, Field

from dg2_jax.checks import ParameterError
from dg2_jax.serve import file_names
from dg2_jax.serve.access import COOKIE, COOKIE_SECONDS, address_of, session_token
from dg2_jax.serve.context import Ctx
from dg2_jax.serve.job_controls import CHOICES, installed_upscalers, offered
from dg2_jax.serve.problems import ProblemError
from dg2_jax.serve.routing import Router
from dg2_jax.serve.schemas import MAX_PROMPT, Text
from dg2_jax.settings import MAX_STEPS
from dg2_jax.text import lengths

router = Router(tags=["server"])


@router.get("/health")
async def get_health(context: Ctx) -> dict[str, Any]:
    """That the process answers; what it is about, as `ready` tells it, and what it computes on."""
    return {"status": "ok", **context.engine.ready(), **context.engine.health()}


@router.get(
    "/ready",
    responses={503: {"description": "the same: not yet, or no longer", "model": dict[str, Any]}},
)
async def get_ready(context: Ctx, response: Response) -> dict[str, Any]:
    """Whether a job would be computed without delay, and what the server is about."""
    readiness = context.engine.ready()
    response.status_code = 200 if readiness["ready"] else 503
    return readiness


@router.get("/metrics", response_class=PlainTextResponse)
def get_metrics(context: Ctx) -> PlainTextResponse:
    """Numbers for Prometheus."""
    media_type = "text/plain; version=0.0.4; charset=utf-8"
    return PlainTextResponse(context.metrics.text(), media_type=media_type)


@router.get("/options")
def get_options(context: Ctx) -> dict[str, Any]:
    """Everything that a form needs."""
    settings = context.settings
    return {
        "controls": offered(
            settings.max_images, context.models.names, list(context.controlnets.names())
        ),
        "choices": {name: list(values) for name, values in CHOICES.items()},
        "models": context.models.describe(),
        "upscalers": _upscalers(),
        "loras": list(context.adapters.loras()),
        "embeddings": list(context.adapters.embeddings()),
        "wildcards": list(context.wildcards.lists()),
        "file_names": {"default": file_names.DEFAULT, "fields": list(file_names.FIELDS)},
        "limits": {
            "max_images": settings.max_images,
            "max_prompt": MAX_PROMPT,
            "max_steps": MAX_STEPS,
            "max_pixels": settings.max_pixels,
            "max_upscale_pixels": settings.max_upscale_pixels,
            "max_body_bytes": int(settings.max_body_mb * 2**20),
        },
    }


@router.get("/models")
def list_models(context: Ctx) -> dict[str, Any]:
    """The models, the default one first."""
    return {"models": context.models.describe()}


@router.get("/weights")
def list_weights(
    context: Ctx, model: Annotated[str | None, Query(max_length=200)] = None
) -> dict[str, Any]:
    """The sets of weights of a model, and the defaults for some of them."""
    try:
        name = context.models.resolve(model)
    except ParameterError as error:
        raise ProblemError(404, str(error), error.name) from error
    details = context.models.details(name)
    return {
        "weights": details["weights"],
        "default": details["weights"][0],
        "sampling": details["sampling"],
    }


class TokensRequest(BaseModel):
    """A prompt to be counted."""

    model_config = ConfigDict(extra="forbid")

    prompt: Text
    model: str | None = Field(None, max_length=200)
    name: str = Field("prompt", max_length=100, description="of its field, for the message")


class TokensAnswer(BaseModel):
    """How long a prompt is; null where this is not known, or where there is no limit."""

    tokens: int | None = Field(description="of the longest of the texts that AND joins")
    limit: int | None = Field(description="that are read")
    cut: str = Field(description="what is beyond the limit, and ignored")
    problem: str | None = Field(None, description="what is wrong with the prompt's syntax")


@router.post("/tokens")
def count_tokens(context: Ctx, asked: TokensRequest) -> TokensAnswer:
    """Counts a prompt's tokens by the text encoder of a model that is in memory."""
    try:
        name = context.models.resolve(asked.model)
    except ParameterError as error:
        raise ProblemError.of(error) from error
    encoder = getattr(context.models.loaded(name), "text_encoder", None)
    try:
        context.wildcards.check([asked.prompt], asked.name)
        length = lengths.measure(encoder, asked.prompt, asked.name)
    except ValueError as error:  # of the syntax, which is half-written as one types
        return TokensAnswer(tokens=None, limit=None, cut="", problem=str(error))
    if length is None:
        return TokensAnswer(tokens=None, limit=None, cut="")
    return TokensAnswer(**length._asdict())


@router.get("/upscalers")
def list_upscalers() -> dict[str, Any]:
    """The networks that enlarge pictures."""
    return {"upscalers": _upscalers()}


def _upscalers() -> list[dict[str, Any]]:
    factors = [factor for factor in CHOICES["upscale"] if factor > 1]
    return [{"name": name, "factors": factors} for name in installed_upscalers()]


class Login(BaseModel):
    """The API key, typed into the page."""

    key: str = Field(max_length=1000)


@router.get("/login")
async def get_login(context: Ctx, request: Request) -> dict[str, bool]:
    """Whether a key is needed, and whether this browser has shown it."""
    admitted = context.access.admits(request.headers, address_of(request.scope))
    return {"required": context.access.key is not None, "authenticated": admitted}


@router.post("/login")
async def log_in(
    context: Ctx, request: Request, response: Response, given: Login
) -> dict[str, bool]:
    """Takes the key, gives a cookie."""
    key = context.access.key
    if key is not None:
        if not context.access.takes([given.key], address_of(request.scope)):
            raise ProblemError(401, "this is not the key", "key")
        response.set_cookie(
            COOKIE,
            session_token(key),
            max_age=COOKIE_SECONDS,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
    return {"required": key is not None, "authenticated": True}


@router.delete("/login", status_code=204)
async def log_out(response: Response) -> None:
    """Takes the cookie back."""
    response.delete_cookie(COOKIE, httponly=True, samesite="strict")
