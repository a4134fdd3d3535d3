"""The A1111 API: what there is to choose from."""

import os
import resource
from typing import Any

from fastapi import APIRouter

from serve import a1111_names
from serve.a1111_schemas import Options
from serve.context import Context, Ctx
from serve.problems import ProblemError

router = APIRouter()


def _title(model: dict[str, Any]) -> str:
    return f"{model['name']} [{model['hash']}]" if model["hash"] else model["name"]


def find_model(context: Context, title: str | None) -> str:
    """A model by name, title or hash; the chosen one, or the default, for None.

    Raises:
        ProblemError: 422.
    """
    if not title:
        return context.foreign_model or context.models.default
    for model in context.models.describe():
        if title in (model["name"], model["hash"], _title(model)):
            return model["name"]
    raise ProblemError(
        422, f"there is no model {title[:80]!r}; see sd-models", "sd_model_checkpoint"
    )


@router.get("/samplers")
def samplers() -> list[dict[str, Any]]:
    """Solvers by the names that these clients know."""
    return [
        {"name": label, "aliases": [name], "options": {}}
        for label, name in a1111_names.SAMPLERS.items()
    ]


@router.get("/schedulers")
def schedulers() -> list[dict[str, Any]]:
    """Noise schedules belong to models here."""
    return [
        {
            "name": "automatic",
            "label": "Automatic",
            "aliases": None,
            "default_rho": -1,
            "need_inner_model": False,
        }
    ]


@router.get("/sd-models")
def sd_models(context: Ctx) -> list[dict[str, Any]]:
    """The models."""
    return [
        {
            "title": _title(model),
            "model_name": model["name"],
            "hash": model["hash"],
            "sha256": None,
            "filename": model["name"],
            "config": None,
        }
        for model in context.models.describe()
    ]


@router.get("/options")
def options(context: Ctx) -> dict[str, Any]:
    """What can be set: the model."""
    name = find_model(context, None)
    model = next(m for m in context.models.describe() if m["name"] == name)
    return {
        "sd_model_checkpoint": _title(model),
        "sd_checkpoint_hash": model["hash"],
        "samples_format": "png",
    }


@router.post("/options")
def set_options(context: Ctx, wanted: Options) -> None:
    """Sets the model of the requests to come; other options are ignored."""
    if wanted.sd_model_checkpoint:
        context.foreign_model = find_model(context, wanted.sd_model_checkpoint)


@router.get("/upscalers")
def upscalers() -> list[dict[str, Any]]:
    """Ways to enlarge."""
    names = [*a1111_names.RESIZED, *a1111_names.UPSCALERS]
    return [
        {
            "name": name,
            "model_name": a1111_names.UPSCALERS.get(name),
            "model_path": None,
            "model_url": None,
            "scale": 4,
        }
        for name in names
    ]


@router.get("/realesrgan-models")
def realesrgan_models() -> list[dict[str, Any]]:
    """The networks among them."""
    return [{"name": name, "path": None, "scale": 4} for name in a1111_names.UPSCALERS]


@router.get("/scripts")
def scripts() -> dict[str, list[str]]:
    """There are none; clients ask as they start."""
    return {"txt2img": [], "img2img": []}


@router.get("/embeddings")
def embeddings() -> dict[str, Any]:
    """There are none."""
    return {"loaded": {}, "skipped": {}}


@router.get("/loras")
@router.get("/hypernetworks")
@router.get("/face-restorers")
@router.get("/prompt-styles")
@router.get("/sd-vae")
@router.get("/sd-modules")
@router.get("/latent-upscale-modes")
@router.get("/script-info")
@router.get("/extensions")
def nothing() -> list[Any]:
    """There are none of these."""
    return []


@router.post("/refresh-checkpoints")
@router.post("/refresh-vae")
@router.post("/refresh-loras")
@router.post("/refresh-embeddings")
@router.post("/unload-checkpoint")
@router.post("/reload-checkpoint")
def refresh() -> None:
    """Models are found at the start, and loaded and dropped as they are used."""


@router.get("/cmd-flags")
def cmd_flags(context: Ctx) -> dict[str, Any]:
    """How the server was started, without secrets."""
    return {
        "api": True,
        "port": context.settings.port,
        "api_auth": context.settings.key is not None,
    }


@router.get("/memory")
def memory() -> dict[str, Any]:
    """Bytes: of this process at its peak, and of the machine."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    ram = {"free": total - peak, "used": peak, "total": total}
    return {"ram": ram, "cuda": {"error": "unavailable"}}
