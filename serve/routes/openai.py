"""The OpenAI images API: generations, edits, models."""

import json
import re
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from PIL import Image, ImageOps
from pydantic import ValidationError
from starlette.datastructures import UploadFile

from dg2_jax.checks import ParameterError
from dg2_jax.serve import intake, pictures
from dg2_jax.serve.access import picture_token
from dg2_jax.serve.checkpoints import Checkpoint, checkpoint_of, checkpoints
from dg2_jax.serve.context import Client, Context, Ctx
from dg2_jax.serve.events import EventStream
from dg2_jax.serve.openai_schemas import ImageRequest, VariationRequest
from dg2_jax.serve.problems import ProblemError
from dg2_jax.serve.records import Job
from dg2_jax.serve.routing import Router
from dg2_jax.serve.sizes import Size
from dg2_jax.serve.waiting import Watched, submit

_THEIRS = re.compile(r"(chatgpt-image|gpt-image|dall-e)-[\w.-]+")  # what only OpenAI has
router = Router(tags=["OpenAI"])


@router.get("/models")
def models(context: Ctx) -> dict[str, Any]:
    """The models, and again with their other weights."""
    return {
        "object": "list",
        "data": [_model(checkpoint.name) for checkpoint in checkpoints(context)],
    }


@router.get("/models/{name}")
def model(context: Ctx, name: str) -> dict[str, Any]:
    """One model."""
    return _model(_find(context, name).name)


def _find(context: Context, name: str | None) -> Checkpoint:
    """A model by name, perhaps with a set of its weights; the default one for OpenAI's names.

    Raises:
        ProblemError: 404 naming the field.
    """
    if name is None or _THEIRS.fullmatch(name):
        name = context.models.default
    found = next((one for one in checkpoints(context) if one.name == name), None)
    if found is None:
        raise ProblemError(404, f"the model {name!r} does not exist; see /v1/models", "model")
    return found


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "dg2_jax"}


@router.post("/images/generations")
async def generations(context: Ctx, client: Client, request: Request, asked: ImageRequest) -> Any:
    """Pictures from a prompt."""
    fields = intake.turned({"kind": "txt2img", **_common(context, asked)}, asked.anagram)
    return await _answer(context, client, request, asked, fields, "image_generation")


@router.post("/images/edits")
async def edits(context: Ctx, client: Client, request: Request) -> Any:
    """A picture changed; where a mask is given, only where it is transparent."""
    asked, image, mask = await _form(request, ImageRequest)
    fields = await run_in_threadpool(_edit_fields, context, asked, image, mask)
    return await _answer(context, client, request, asked, fields, "image_edit")


@router.post("/images/variations")
async def variations(context: Ctx, client: Client, request: Request) -> Any:
    """Pictures like the given one."""
    asked, image, _ = await _form(request, VariationRequest)
    fields = await run_in_threadpool(_edit_fields, context, asked, image, None)
    return await _answer(context, client, request, asked, fields, "image_edit")


async def _form(
    request: Request, kind: type[ImageRequest]
) -> tuple[ImageRequest, bytes, bytes | None]:
    """A multipart form: its texts, its picture and its mask, if there is one."""
    async with request.form(max_files=18, max_fields=64) as form:
        pictures_of = ("image", "image[]", "mask")
        sent = {name: value for name, value in form.items() if name not in pictures_of}
        for name in sent:
            if len(form.getlist(name)) > 1:
                raise ProblemError(422, "must be there once", name[:80])
        try:
            asked = kind.of_form(sent)
        except ValidationError as error:
            raise RequestValidationError(error.errors()) from error
        images = [*form.getlist("image"), *form.getlist("image[]")]
        uploads = [part for part in images if isinstance(part, UploadFile)]
        if len(uploads) != 1:
            raise ProblemError(422, "image must be exactly one picture", "image")
        mask = form.get("mask")
        mask_data = await mask.read() if isinstance(mask, UploadFile) else None
        return asked, await uploads[0].read(), mask_data


def _edit_fields(
    context: Context, asked: ImageRequest, image: bytes, mask: bytes | None
) -> dict[str, Any]:
    """A transparent region, of the mask or of the picture itself, is repainted."""
    if asked.anagram is not None:
        raise ProblemError(422, "anagram must be left out of edits", "anagram")
    decoded = intake.decode(context, image, "image")
    field = "image" if mask is None else "mask"
    masking = decoded if mask is None else intake.decode(context, mask, "mask")
    transparency = pictures.alpha(masking)
    if mask is not None and transparency is None:
        raise ProblemError(422, "mask must have transparency where the picture is to change", field)
    fields = {"kind": "img2img", **_common(context, asked)}
    fields["image"] = intake.store_decoded(context, _opaque(decoded))
    if transparency is not None:
        repaint = ImageOps.invert(transparency)
        fields |= {"kind": "inpaint", "mask": intake.store_decoded(context, repaint, mask=True)}
    elif "outpaint" in fields:
        fields["kind"] = "inpaint"
    return fields


def _opaque(picture: Image.Image) -> Image.Image:
    """The colours, also where they are transparent: what lies there may still guide."""
    return picture.convert("RGBA").convert("RGB") if pictures.alpha(picture) else picture


def _common(context: Context, asked: ImageRequest) -> dict[str, Any]:
    fields = asked.fields()
    chosen = _find(context, asked.model)
    fields["model"] = chosen.model
    if chosen.name != chosen.model:
        if fields.get("weights", chosen.weights) != chosen.weights:
            raise ProblemError(422, f"weights must be left out with {chosen.name}", "weights")
        fields["weights"] = chosen.weights
    try:
        size = asked.pixels(context.models.sizes(chosen.model))
    except ParameterError as error:
        raise ProblemError.of(error) from error
    if size is not None:
        width, height = intake.nearest_size(context, chosen.model, size)
        fields |= {"width": width, "height": height}
    return fields


async def _answer(
    context: Context,
    client: str,
    request: Request,
    asked: ImageRequest,
    fields: dict[str, Any],
    event: str,
) -> Any:
    watched = await submit(context, intake.request_from(fields), client, "openai")
    if asked.stream:
        return EventStream(_stream(context, watched, asked, event))
    job = await watched.finish(request)
    if job.status == "cancelled":
        raise ProblemError(409, "the job was cancelled")
    return await run_in_threadpool(_reply, context, request, job, asked)


def _described(context: Context, job: Job, asked: ImageRequest) -> dict[str, Any]:
    image, request = job.images[0], job.request
    return {
        "model": checkpoint_of(context, request.model, request.weights).name,
        "size": f"{image.width}x{image.height}",
        "quality": "high",
        "background": "opaque",
        "output_format": asked.suffix,
    }


def _usage(job: Job) -> dict[str, Any]:
    """Nothing is charged, but clients expect numbers: words, and cells of latents."""
    words = len(job.request.text.split())
    cells = sum(image.width * image.height // 64 for image in job.images)
    return {
        "input_tokens": words,
        "input_tokens_details": {"image_tokens": 0, "text_tokens": words},
        "output_tokens": cells,
        "total_tokens": words + cells,
    }


def _encoded(context: Context, image_id: str, asked: ImageRequest) -> str:
    data = context.files.read(image_id)
    if data is None:
        raise ProblemError(500, "a picture of this job was deleted")
    if asked.suffix == "png":
        return pictures.base64_text(data)
    return _compressed(intake.decode(context, data, "image"), asked)


def _compressed(picture: Image.Image, asked: ImageRequest) -> str:
    quality = 92 if asked.output_compression is None else asked.output_compression
    fmt = asked.suffix.upper()
    return pictures.base64_text(pictures.converted(picture, fmt, quality))


def _reply(context: Context, request: Request, job: Job, asked: ImageRequest) -> dict[str, Any]:
    entries = []
    for image in job.images:
        entry: dict[str, Any] = {}
        if asked.response_format == "url":
            token = picture_token(context.settings.key, image.id)
            entry["url"] = f"{request.base_url}api/v1/images/{image.id}.{asked.suffix}{token}"
        else:
            entry["b64_json"] = _encoded(context, image.id, asked)
        if image.prompt != asked.prompt:  # matched, or with wildcards drawn
            entry["revised_prompt"] = image.prompt
        entries.append(entry)
    return {
        "created": int(job.created_at),
        "data": entries,
        "usage": _usage(job),
        **_described(context, job, asked),
    }


async def _stream(
    context: Context, watched: Watched, asked: ImageRequest, kind: str
) -> AsyncGenerator[bytes, None]:
    """Partial pictures as they come, then each finished one."""
    partial = 0
    try:
        async with aclosing(watched.events(None)) as events:
            async for event in events:
                if event.name == "preview" and partial < (asked.partial_images or 0):
                    size = _size(context, watched.job)
                    shown = await run_in_threadpool(_partial, context, event.data, asked, size)
                    data = {
                        "b64_json": shown,
                        "partial_image_index": partial,
                        "size": f"{size[0]}x{size[1]}",
                        "quality": "high",
                        "background": "opaque",
                        "output_format": asked.suffix,
                    }
                    partial += 1
                    yield _event(f"{kind}.partial_image", data)
    except ProblemError as error:
        yield _failure(error.detail)
        return
    job = watched.job
    if job.status != "done":
        yield _failure((job.error or {}).get("detail", "the job was cancelled"))
        return
    for image in job.images:
        text = await run_in_threadpool(_encoded, context, image.id, asked)
        data = {"b64_json": text, "usage": _usage(job), **_described(context, job, asked)}
        yield _event(f"{kind}.completed", data)


def _failure(detail: str) -> bytes:
    return f"data: {json.dumps({'error': {'message': detail}})}\n\n".encode()


def _event(name: str, data: dict[str, Any]) -> bytes:
    data = {"type": name, "created_at": int(time.time()), **data}
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()


def _size(context: Context, job: Job) -> Size:
    """Width and height of a job's pictures."""
    request = job.request
    own = context.models.details(request.model)["size"] or 128
    width, height = request.width or own, request.height or own
    factor = request.upscale or 1
    return width * factor, height * factor


def _partial(context: Context, preview: dict[str, Any], asked: ImageRequest, size: Size) -> str:
    """A preview at the size of the result."""
    data = pictures.from_text(preview["images"][0]["url"], "preview")
    small = intake.decode(context, data, "preview")
    return _compressed(small.resize(size, Image.Resampling.BICUBIC), asked)
