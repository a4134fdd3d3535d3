"""The A1111 API: what there is to choose from."""

import os
import resource
from dataclasses import asdict
from typing import Any

from dg2_jax.diffusion.schedules import RHO
from dg2_jax.serve import a1111_names
from dg2_jax.serve.a1111_schemas import Options
from dg2_jax.serve.checkpoints import Checkpoint, checkpoints
from dg2_jax.serve.context import Context, Ctx
from dg2_jax.serve.job_controls import installed_upscalers
from dg2_jax.serve.problems import ProblemError
from dg2_jax.serve.routing import Router

router = Router()


def find_checkpoint(context: Context, title: str | None) -> Checkpoint:
    """One by name, title or hash; the chosen one, or the default, for None.

    Raises:
        ProblemError: 422.
    """
    title = title or context.foreign_model or context.models.default
    for checkpoint in checkpoints(context):
        if title in (checkpoint.name, checkpoint.hash, checkpoint.title):
            return checkpoint
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
    """Spacings of the steps by the names that these clients know; automatic is the model's."""
    return [
        {
            "name": label.lower().replace(" ", "_"),
            "label": label,
            "aliases": None,
            "default_rho": RHO if label == "Karras" else -1,
            "need_inner_model": False,
        }
        for label in ("Automatic", *a1111_names.SCHEDULERS)
    ]


@router.get("/sd-models")
def sd_models(context: Ctx) -> list[dict[str, Any]]:
    """The models, and again with their other weights."""
    return [
        {
            "title": checkpoint.title,
            "model_name": checkpoint.name,
            "hash": checkpoint.hash,
            "sha256": None,
            "filename": checkpoint.name,
            "config": None,
        }
        for checkpoint in checkpoints(context)
    ]


@router.get("/options")
def options(context: Ctx) -> dict[str, Any]:
    """What can be set: the model."""
    checkpoint = find_checkpoint(context, None)
    return {
        "sd_model_checkpoint": checkpoint.title,
        "sd_checkpoint_hash": checkpoint.hash,
        "samples_format": "png",
    }


@router.post("/options")
def set_options(context: Ctx, asked: Options) -> None:
    """Sets the model of the requests to come; other options are ignored."""
    if asked.sd_model_checkpoint:
        context.foreign_model = find_checkpoint(context, asked.sd_model_checkpoint).name


@router.get("/upscalers")
def upscalers() -> list[dict[str, Any]]:
    """Ways to enlarge."""
    names = [*a1111_names.RESIZED, *_networks()]
    return [
        {
            "name": name,
            "model_name": a1111_names.UPSCALERS.get(name),
            "model_path": None,
            "model_url": None,
            "scale": 2 if a1111_names.UPSCALERS.get(name) == "x2plus" else 4,
        }
        for name in names
    ]


@router.get("/latent-upscale-modes")
def latent_upscale_modes() -> list[dict[str, str]]:
    """Ways to enlarge latents for a second pass."""
    return [{"name": name} for name in a1111_names.LATENT_UPSCALERS]


def _networks() -> list[str]:
    there = installed_upscalers()
    return [name for name, ours in a1111_names.UPSCALERS.items() if ours in there]


@router.get("/realesrgan-models")
def realesrgan_models() -> list[dict[str, Any]]:
    """The networks among them."""
    return [one for one in upscalers() if one["name"] in a1111_names.UPSCALERS]


@router.get("/scripts")
def scripts() -> dict[str, list[str]]:
    """There are none; clients ask as they start."""
    return {"txt2img": [], "img2img": []}


@router.get("/embeddings")
def embeddings(context: Ctx) -> dict[str, Any]:
    """Textual-inversion embeddings; what they hold is read when a prompt names them."""
    unread = {"step": None, "sd_checkpoint": None, "sd_checkpoint_name": None}
    names = context.adapters.embeddings()
    return {"loaded": {n: {**unread, "shape": -1, "vectors": -1} for n in names}, "skipped": {}}


@router.get("/loras")
def loras(context: Ctx) -> list[dict[str, Any]]:
    """LoRA files by the names that prompts call them by."""
    return [
        {"name": name, "alias": name, "path": path.name, "metadata": {}}
        for name, path in context.adapters.loras().items()
    ]


@router.get("/prompt-styles")
def prompt_styles(context: Ctx) -> list[dict[str, str]]:
    """Stored styles, by the names that `styles` asks for."""
    return [asdict(style) for style in context.styles.all()]


def nothing() -> list[Any]:
    """There are none of these."""
    return []


def refresh() -> None:
    """Models are found at the start, and loaded and dropped as they are used."""


_NONE = ("hypernetworks", "face-restorers", "sd-vae", "sd-modules", "script-info", "extensions")
_FOUND_ALREADY = (
    "refresh-checkpoints", "refresh-vae", "refresh-loras", "refresh-embeddings",
    "unload-checkpoint", "reload-checkpoint",
)  # fmt: skip
for _path in _NONE:
    router.add_api_route(f"/{_path}", nothing, methods=["GET"], name=_path.replace("-", "_"))
for _path in _FOUND_ALREADY:
    router.add_api_route(f"/{_path}", refresh, methods=["POST"], name=_path.replace("-", "_"))


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
