"""DiffusionGen2's own endpoints, for programs written for its server; with DG2_LEGACY_API=1.

Fields and replies are its own, jobs and queue are ours. `docs/coming_from_diffusiongen2.md` tells
what is the same and what is not.
"""

import time
from dataclasses import dataclass, field
from typing import Any

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel

from dg2_jax.interop import upscaler_files
from dg2_jax.serve import intake, pictures
from dg2_jax.serve.context import Client, Context, Ctx
from dg2_jax.serve.problems import ProblemError
from dg2_jax.serve.routing import Router
from dg2_jax.serve.schemas import Text
from dg2_jax.serve.waiting import oldest, submit
from dg2_jax.settings import MAX_SEED

router = Router(tags=["DiffusionGen2"])
_SPLITS = {"train": "train", "val": "validation"}
_NAMES = {  # of fields, where they differ
    "num_images": "batch_size",
    "num_inference_steps": "steps",
    "guidance_scale": "cfg",
    "weights": "use_ema",
    "upscaler": "use_real_esrgan",
    "image": "b64_image",
    "mask": "b64_inpaint_mask",
}
_FULL_SECONDS = 5.0  # its page asks every half second until it hears of 100%


class GenerateRequest(BaseModel):
    """The fields of its page, with that page's defaults."""

    batch_size: int = 1
    prompt: Text
    second_prompt: Text = ""
    negative_prompt: Text = ""
    steps: int = 20
    cfg: float = 12.0
    seed: int | None = None
    use_ema: bool = True
    use_ddpm: bool = False
    use_real_esrgan: bool = False
    real_time_denoising: bool = False
    preview_interval: int = 5
    b64_image: str | None = None
    img2img_strength: float = 0.75
    b64_inpaint_image: str | None = None
    b64_inpaint_mask: str | None = None
    use_prompt_matching: bool = False
    prompt_match_train: bool = False
    prompt_match_val: bool = False

    @property
    def image(self) -> str | None:
        """The picture to start from; without a mask, one for in-painting is changed as a whole."""
        return self.b64_image if self.b64_image is not None else self.b64_inpaint_image

    @property
    def split(self) -> str | None:
        """The split of the prompt bank to match with."""
        if not self.use_prompt_matching:
            return None
        if self.prompt_match_train == self.prompt_match_val:
            raise ProblemError(
                400, "Exactly one of prompt_match_train or prompt_match_val must be true"
            )
        return "train" if self.prompt_match_train else "validation"


class GenerateResponse(BaseModel):
    """The pictures as base64 of PNGs, the prompt that was used, the first picture's seed."""

    images: list[str]
    prompt: str
    seed: int | None


@dataclass
class Ended:
    """When each client's last request ended; only those of the last seconds."""

    at: dict[str, float] = field(default_factory=dict)

    def note(self, client: str) -> None:
        """A request of a client has ended."""
        now = time.monotonic()
        self.at = {name: at for name, at in self.at.items() if now - at < _FULL_SECONDS}
        self.at[client] = now

    def just_now(self, client: str) -> bool:
        """Whether one ended a moment ago."""
        return time.monotonic() - self.at.get(client, float("-inf")) < _FULL_SECONDS


@router.post("/generate")
async def generate(
    context: Ctx, client: Client, request: Request, asked: GenerateRequest
) -> GenerateResponse:
    """Pictures from a prompt, from a picture, or of a part of one."""
    fields = await run_in_threadpool(_fields, context, asked)
    try:
        watched = await submit(context, intake.request_from(fields), client, "legacy")
    except ProblemError as error:
        raise _in_their_words(error, asked) from error
    try:
        job = await watched.finish(request)
    finally:
        request.app.state.legacy.note(client)
    if job.status == "cancelled":
        raise ProblemError(409, "the job was cancelled")
    made = [context.files.read(image.id) for image in job.images]
    prompt = job.request.anagram[0].prompt if job.kind == "anagram" else job.request.prompt
    return GenerateResponse(
        images=[pictures.base64_text(data) for data in made if data is not None],
        prompt=prompt,
        seed=job.request.seed,
    )


def _fields(context: Context, asked: GenerateRequest) -> dict[str, Any]:
    """As fields of our own requests."""
    anagram = asked.second_prompt.strip() != ""
    if anagram and (asked.image is not None or asked.b64_inpaint_mask is not None):
        raise ProblemError(400, "second_prompt cannot go with a picture", "second_prompt")
    if asked.b64_inpaint_mask is not None and asked.image is None:
        raise ProblemError(400, "b64_inpaint_mask needs b64_inpaint_image", "b64_inpaint_mask")
    facts = context.models.facts(context.models.default)
    most = facts.num_train_timesteps if facts is not None else asked.steps
    fields = {
        "negative_prompt": asked.negative_prompt,
        "num_images": asked.batch_size,
        "num_inference_steps": min(asked.steps, most),
        # Its server takes the mean with the empty prompt's prediction, which halves the scale.
        "guidance_scale": asked.cfg if anagram else asked.cfg / 2,
        "seed": None if asked.seed is None else asked.seed % (MAX_SEED + 1),
        "weights": "ema" if asked.use_ema else "raw",
        "solver": "ddpm" if asked.use_ddpm else "ddim",
        "preview_mode": "vae" if asked.real_time_denoising else "none",
        "preview_every": min(1000, max(1, asked.preview_interval)),
    }
    if asked.use_real_esrgan:  # it enlarges and makes small again
        name = "x2plus" if upscaler_files.is_installed("x2plus") else "x4plus"
        fields |= {"upscale": 1, "upscaler": name}
    if anagram:
        return fields | {"kind": "anagram", "anagram": _readings(context, asked)}
    fields |= {"prompt": asked.prompt, "prompt_matching": asked.split, "kind": "txt2img"}
    if asked.image is None:
        return fields
    strength = min(1.0, max(0.0, asked.img2img_strength))
    fields |= {"image": asked.image, "strength": strength, "strength_mode": "full"}
    if asked.b64_inpaint_mask is None:
        return fields | {"kind": "img2img"}
    return fields | {"kind": "inpaint", "mask": asked.b64_inpaint_mask}


def _in_their_words(error: ProblemError, asked: GenerateRequest) -> ProblemError:
    """An error about a field of ours as one about the field of theirs."""
    ours = error.field or ""
    theirs = _NAMES.get(ours, ours)
    if ours == "image" and asked.b64_image is None:
        theirs = "b64_inpaint_image"
    detail = error.detail.replace(ours, theirs) if ours else error.detail
    return ProblemError(error.status, detail, theirs or None, error.retry_after)


def _readings(context: Context, asked: GenerateRequest) -> list[dict[str, str]]:
    """Upright and turned by 180 degrees."""
    prompt, split = asked.prompt, asked.split
    if split is not None and prompt.strip():
        prompt = context.bank().match(prompt, temperature=0.0, bank=split).prompt
    return [
        {"prompt": prompt, "view": "identity"},
        {"prompt": asked.second_prompt, "view": "rot180"},
    ]


@router.get("/progress")
async def progress(context: Ctx, client: Client, request: Request) -> dict[str, int]:
    """Percent of this client's oldest request; 100 for a moment after one has ended."""
    watched = oldest(context, client, "legacy")
    if watched is None:
        return {"progress": 100 if request.app.state.legacy.just_now(client) else 0}
    view = context.engine.progress(watched.job.id) or {}
    return {"progress": min(99, int(100 * view.get("fraction", 0.0)))}


@router.get("/preview")
async def preview(context: Ctx, client: Client) -> dict[str, Any]:
    """What this client's oldest request looks like so far."""
    watched = oldest(context, client, "legacy")
    if watched is None:
        return {"image": None, "step": None, "total_steps": None}
    total = watched.job.request.num_inference_steps
    if watched.preview is None:
        return {"image": None, "step": 0, "total_steps": total}
    return {"image": watched.shown[0], "step": watched.preview["step"], "total_steps": total}


@router.get("/random_prompt")
def random_prompt(context: Ctx, split: str, category: str = "any") -> dict[str, str]:
    """Any prompt of a category."""
    if split not in _SPLITS:
        raise ProblemError(400, "Invalid split", "split")
    chosen = None if category == "any" else category
    try:
        found = context.bank().random_prompt(category=chosen, split=_SPLITS[split])
    except ValueError as error:
        raise ProblemError(400, "Invalid category", "category") from error
    return {"prompt": found}


@router.get("/health")
async def health(context: Ctx) -> dict[str, Any]:
    """Whether all that makes pictures is in memory, and on which device."""
    told = context.engine.health()
    loaded = context.models.default in told["loaded"]
    return {
        "status": "ok" if loaded else "error",
        "device": told["device"]["platform"] if told["device"] else None,
        "model_loaded": loaded,
        "vae_loaded": loaded,
        "clip_loaded": loaded,
    }
