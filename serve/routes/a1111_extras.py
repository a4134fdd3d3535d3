"""The A1111 API: enlarging pictures."""

from typing import Any

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from PIL import Image
from pydantic import Field

from dg2_jax.serve import a1111_fields, intake, pictures
from dg2_jax.serve.a1111_enlarging import Enlarging, network_of
from dg2_jax.serve.a1111_schemas import MAX_ENLARGED, Lenient, Real, Whole
from dg2_jax.serve.context import Client, Context, Ctx
from dg2_jax.serve.routing import Router
from dg2_jax.serve.sizes import Size
from dg2_jax.serve.waiting import submit

router = Router()


class Extras(Lenient):
    """What the two calls that enlarge pictures share."""

    table = a1111_fields.EXTRAS

    resize_mode: Whole = Field(0, ge=0, le=1)
    upscaling_resize: Real = Field(2.0, ge=1.0, le=8.0)
    upscaling_resize_w: Whole = Field(512, ge=1, le=MAX_ENLARGED)
    upscaling_resize_h: Whole = Field(512, ge=1, le=MAX_ENLARGED)
    upscaling_crop: bool = True
    upscaler_1: str = Field("None", max_length=100)


class ExtraSingle(Extras):
    """`extra-single-image`."""

    image: str


class NamedImage(Lenient):
    """A member of `imageList`."""

    data: str
    name: str = ""


class ExtraBatch(Extras):
    """`extra-batch-images`."""

    imageList: list[NamedImage] = Field(min_length=1, max_length=64)  # noqa: N815


@router.post("/extra-single-image")
async def extra_single_image(
    context: Ctx, client: Client, request: Request, asked: ExtraSingle
) -> dict[str, Any]:
    """Enlarges a picture."""
    image = await _enlarge(context, client, request, asked, asked.image, "image")
    return {"image": image, "html_info": ""}


@router.post("/extra-batch-images")
async def extra_batch_images(
    context: Ctx, client: Client, request: Request, asked: ExtraBatch
) -> dict[str, Any]:
    """Enlarges several."""
    images = [
        await _enlarge(context, client, request, asked, entry.data, "imageList")
        for entry in asked.imageList
    ]
    return {"images": images, "html_info": ""}


async def _enlarge(
    context: Context, client: str, request: Request, asked: Extras, text: str, field: str
) -> str:
    """A picture enlarged, its transparency as well."""
    network = network_of(asked.upscaler_1, "upscaler_1")
    data = pictures.from_text(text, field)
    decoded = await run_in_threadpool(intake.decode, context, data, field)
    if asked.upscaler_1 == "None":
        return pictures.base64_text(await run_in_threadpool(pictures.encode, _plain(decoded)))
    enlarging = Enlarging(_target(asked, decoded.size), asked.upscaler_1)
    enlarging.check(context, field)
    transparency = pictures.alpha(decoded)
    source = pictures.to_rgb(decoded)
    if transparency is not None:
        source = decoded.convert("RGBA").convert("RGB")  # the colours, not over white
    factor = enlarging.network_factor(source.size)
    if network is not None and factor is not None:
        stored = await run_in_threadpool(intake.store_decoded, context, source)
        fields = {"kind": "upscale", "image": stored, "upscale": factor, "upscaler": network}
        watched = await submit(context, intake.request_from(fields), client, "a1111")
        job = await watched.finish(request)
        larger = context.files.read(job.images[0].id) if job.images else None
        if larger is not None:
            source = pictures.to_rgb(intake.decode(context, larger, field))

    def finished() -> bytes:
        result = enlarging.fit(source)
        if transparency is not None:
            result.putalpha(enlarging.fit(transparency))
        return pictures.encode(result)

    return pictures.base64_text(await run_in_threadpool(finished))


def _plain(picture: Image.Image) -> Image.Image:
    """As it is, in a mode that PNG has."""
    return picture.convert("RGBA") if pictures.alpha(picture) else pictures.to_rgb(picture)


def _target(asked: Extras, size: Size) -> Size:
    """The size of the result: by factor, or to or over a given one."""
    width, height = size
    factor = asked.upscaling_resize
    if asked.resize_mode == 1:
        box = asked.upscaling_resize_w, asked.upscaling_resize_h
        if asked.upscaling_crop:
            return box
        factor = max(box[0] / width, box[1] / height)
    return max(1, round(width * factor)), max(1, round(height * factor))
