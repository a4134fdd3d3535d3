"""The server itself: whether it lives, is ready, what it offers, who may use it."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, Field

from serve.choices import CHOICES
from serve.context import Ctx
from serve.problems import ProblemError
from serve.schemas import MAX_PROMPT, Anagram, Img2Img, Inpaint, Txt2Img
from serve.security import COOKIE, COOKIE_SECONDS, authenticated, same, session_token

router = APIRouter(tags=["server"])


@router.get("/health")
async def health() -> dict[str, str]:
    """Whether the process answers."""
    return {"status": "ok"}


@router.get("/ready", responses={503: {"description": "not yet, or no longer"}})
async def ready(context: Ctx, response: Response) -> dict[str, Any]:
    """Whether a job would be computed without delay, and what the server is about."""
    worker, queue = context.worker, context.engine.status()
    is_ready = worker.ready and not queue["draining"]
    response.status_code = 200 if is_ready else 503
    warming = worker.state == "warming"
    return {
        "ready": is_ready,
        "state": "draining" if queue["draining"] else worker.state,
        "detail": worker.detail,
        "warmup": {
            "done": worker.warm,
            "total": len(worker.sizes),
            "current": worker.detail if warming else None,
        },
        "queue": {name: queue[name] for name in ("length", "running", "limit")},
    }


@router.get("/metrics", response_class=Response)
async def metrics(context: Ctx) -> Response:
    """Numbers for Prometheus."""
    return Response(context.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/options")
def options(context: Ctx) -> dict[str, Any]:
    """Everything that a form needs."""
    settings = context.settings
    defaults = {
        model.model_fields["kind"].default: {
            name: field.default
            for name, field in model.model_fields.items()
            if not field.is_required()
        }
        for model in (Txt2Img, Img2Img, Inpaint, Anagram)
    }
    return {
        "choices": {name: list(values) for name, values in CHOICES.items()},
        "models": context.models.describe(),
        "upscalers": _upscalers(),
        "limits": {
            "max_images": settings.max_images,
            "max_prompt": MAX_PROMPT,
            "max_steps": 1000,
            "max_pixels": settings.max_pixels,
            "max_upscale_pixels": settings.max_upscale_pixels,
            "max_body_bytes": int(settings.max_body_mb * 2**20),
        },
        "defaults": defaults,
    }


@router.get("/models")
def models(context: Ctx) -> dict[str, Any]:
    """The models, the default one first."""
    return {"models": context.models.describe()}


@router.get("/weights")
def weights(
    context: Ctx, model: Annotated[str | None, Query(max_length=200)] = None
) -> dict[str, Any]:
    """The weights of a model, and the settings that some of them want."""
    try:
        name = context.models.resolve(model)
    except ValueError as error:
        raise ProblemError(404, str(error), "model") from error
    found = context.models.details(name)
    return {
        "weights": found["weights"],
        "default": found["weights"][0],
        "sampling": found["sampling"],
    }


@router.get("/upscalers")
def upscalers() -> dict[str, Any]:
    """The networks that enlarge pictures."""
    return {"upscalers": _upscalers()}


def _upscalers() -> list[dict[str, Any]]:
    factors = list(CHOICES["upscale"])
    return [{"name": name, "factors": factors} for name in CHOICES["upscaler"]]


class Login(BaseModel):
    """The API key, typed into the page."""

    key: str = Field(max_length=1000)


@router.get("/login")
async def login_state(context: Ctx, request: Request) -> dict[str, bool]:
    """Whether a key is needed, and whether this browser has shown it."""
    key = context.settings.key
    return {"required": key is not None, "authenticated": authenticated(request.headers, key)}


@router.post("/login")
async def login(
    context: Ctx, request: Request, response: Response, given: Login
) -> dict[str, bool]:
    """Takes the key, gives a cookie."""
    key = context.settings.key
    if key is not None:
        if not same(given.key, key):
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
async def logout(response: Response) -> None:
    """Takes the cookie back."""
    response.delete_cookie(COOKIE, httponly=True, samesite="strict")
