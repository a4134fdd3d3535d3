"""The A1111 API: making pictures. What it lists is in `a1111_lists`."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from PIL import Image, ImageOps

from dg2_jax.controls.arguments import expand_seed
from serve import a1111_names, infotext, intake, pictures
from serve.a1111_schemas import Change, Create, ExtraBatch, ExtraSingle, Generate, PngInfo
from serve.context import Client, Context, Ctx
from serve.problems import ProblemError
from serve.records import Job
from serve.routes import a1111_lists
from serve.routes.images import read_info
from serve.waiting import Watched, submit

router = APIRouter(tags=["A1111"])
router.include_router(a1111_lists.router)
_HERE = "a1111"
_OPAQUE = 128  # of 255: opacity above it means "repaint"


@router.post("/txt2img")
async def txt2img(context: Ctx, client: Client, request: Request, asked: Create) -> dict[str, Any]:
    """Pictures from a prompt."""
    fields = {"kind": "txt2img", **_common(context, asked)}
    watched = await submit(context, intake.request_from(fields), client, _HERE)
    await watched.finish(request)
    return await run_in_threadpool(_reply, context, [watched], asked)


@router.post("/img2img")
async def img2img(context: Ctx, client: Client, request: Request, asked: Change) -> dict[str, Any]:
    """Pictures changed or repainted, one job for each that is given."""
    done: list[Watched] = []
    for text in asked.init_images:
        fields = await run_in_threadpool(_change, context, asked, text)
        watched = await submit(context, intake.request_from(fields), client, _HERE)
        done.append(watched)
        if (await watched.finish(request)).status == "cancelled":
            break
    return await run_in_threadpool(_reply, context, done, asked)


def _change(context: Context, asked: Change, text: str) -> dict[str, Any]:
    """A request for one of the pictures."""
    data = pictures.from_text(text, "init_images")
    image = pictures.to_rgb(intake.decode(context, data, "init_images"))
    fields = {"kind": "img2img", **_common(context, asked)}
    if asked.mask is not None:
        mask = _mask(context, asked)
        if asked.inpainting_fill == 0:
            image = pictures.surroundings(image, mask)
        stored = intake.store_decoded(context, mask, mask=True)
        fields |= {"kind": "inpaint", "mask": stored}
    stored = intake.store_decoded(context, image)
    if fields.get("controlnet") is not None and fields["control_image"] is None:
        fields["control_image"] = stored
    return fields | {"image": stored}


def _common(context: Context, asked: Generate) -> dict[str, Any]:
    fields = asked.fields()
    most = context.settings.max_images
    if fields["num_images"] > most:
        raise ProblemError(422, f"batch_size times n_iter must be at most {most}", "batch_size")
    fields["solver"] = a1111_names.solver(asked.sampler_name or asked.sampler_index)
    chosen = asked.override_settings.get("sd_model_checkpoint")
    checkpoint = a1111_lists.find_checkpoint(context, chosen if isinstance(chosen, str) else None)
    fields |= {"model": checkpoint.model, "weights": checkpoint.weights}
    if min(asked.width, asked.height) > 0:
        size = intake.nearest_size(context, checkpoint.model, (asked.width, asked.height))
        fields |= dict(zip(("width", "height"), size, strict=True))
    layers = asked.override_settings.get("CLIP_stop_at_last_layers")
    facts = context.models.facts(checkpoint.model)
    if isinstance(layers, int) and facts is not None and facts.most_clip_skip:
        fields["clip_skip"] = layers - 1  # which counts from 1
    for name in set(checkpoint.sampling) - asked.chosen:
        fields.pop(name, None)  # the weights have their own default
    return fields


def _mask(context: Context, asked: Change) -> Image.Image:
    """White is repainted; a mask with real transparency says so by that instead."""
    assert asked.mask is not None
    decoded = intake.decode(context, pictures.from_text(asked.mask, "mask"), "mask")
    transparency = pictures.alpha(decoded)
    if transparency is not None:
        mask = transparency.point([255 * (value > _OPAQUE) for value in range(256)])
    else:
        mask = pictures.to_mask(decoded)
    if asked.inpainting_mask_invert:
        mask = ImageOps.invert(mask)
    return mask


def _reply(context: Context, done: Sequence[Watched], asked: Generate) -> dict[str, Any]:
    jobs = [watched.job for watched in done]
    files = [context.files.read(image.id) for job in jobs for image in job.images]
    images = [pictures.base64_text(data) for data in files if data is not None]
    last = done[-1]
    if not last.job.images and last.preview is not None:  # interrupted: what it looked like
        images += [entry["url"].partition(",")[2] for entry in last.preview["images"]]
    if isinstance(asked, Change) and asked.include_init_images:
        images += [text.partition(",")[2] or text for text in asked.init_images]
    return {
        "images": images if asked.send_images else [],
        "parameters": asked.model_dump(),
        "info": json.dumps(_info(context, jobs)),
    }


def _info(context: Context, jobs: Sequence[Job]) -> dict[str, Any]:
    """What was used, which is not always what was asked for."""
    request = jobs[0].request
    checkpoint = a1111_lists.checkpoint_of(context, request.model, request.weights)
    own_size = context.models.details(request.model)["size"]
    images = [image for job in jobs for image in job.images]
    seeds = [seed for job in jobs for seed in expand_seed(job.request.seed, job.num_images)]
    count = len(seeds)
    return {
        "prompt": request.prompt,
        "all_prompts": [request.prompt] * count,
        "negative_prompt": request.negative_prompt,
        "all_negative_prompts": [request.negative_prompt] * count,
        "seed": seeds[0],
        "all_seeds": seeds,
        "subseed": 0,
        "all_subseeds": [0] * count,
        "subseed_strength": 0,
        "width": images[0].width if images else own_size,
        "height": images[0].height if images else own_size,
        "sampler_name": a1111_names.sampler(request.solver),
        "cfg_scale": request.guidance_scale,
        "steps": request.num_inference_steps,
        "batch_size": count,
        "restore_faces": False,
        "face_restoration_model": None,
        "sd_model_name": checkpoint.name,
        "sd_model_hash": checkpoint.hash,
        "sd_vae_name": None,
        "seed_resize_from_w": -1,
        "seed_resize_from_h": -1,
        "denoising_strength": getattr(request, "strength", None),
        "extra_generation_params": {},
        "comments": "\n".join(note for job in jobs for note in job.notes),
        "index_of_first_image": 0,
        "infotexts": [infotext.write(image.metadata) for image in images],
        "styles": [],
        "job_timestamp": datetime.fromtimestamp(jobs[0].created_at, UTC).strftime("%Y%m%d%H%M%S"),
        "clip_skip": request.clip_skip + 1,
        "is_using_inpainting_conditioning": False,
        "version": "dg2_jax",
    }


@router.get("/progress")
async def progress(
    context: Ctx, client: Client, skip_current_image: bool = False
) -> dict[str, Any]:
    """How far this client's oldest request through this interface is; of no other's."""
    watched = _oldest(context, client)
    view = context.engine.progress(watched.job.id) if watched is not None else None
    current = None
    if watched is not None and watched.preview is not None and not skip_current_image:
        current = watched.preview["images"][0]["url"].partition(",")[2]
    view = view or {}
    return {
        "progress": view.get("fraction", 0.0),
        "eta_relative": view.get("eta_seconds") or 0.0,
        "state": {
            "skipped": False,
            "interrupted": False,
            "stopping_generation": False,
            "job": watched.job.id if watched is not None else "",
            "job_count": watched.job.num_images if watched is not None else 0,
            "job_timestamp": datetime.now(UTC).strftime("%Y%m%d%H%M%S"),
            "job_no": view.get("images_done", 0),
            "sampling_step": view.get("step", 0),
            "sampling_steps": view.get("num_steps", 0),
        },
        "current_image": current,
        "textinfo": None,
    }


def _oldest(context: Context, client: str) -> Watched | None:
    theirs = (w for w in context.watched if (w.interface, w.client) == (_HERE, client))
    return next(theirs, None)


@router.post("/interrupt")
async def interrupt(context: Ctx, client: Client) -> dict[str, Any]:
    """Stops this client's oldest request through this interface, which answers with what it has."""
    watched = _oldest(context, client)
    if watched is not None:
        await run_in_threadpool(context.engine.cancel, watched.job.id)
    return {}


@router.post("/skip")
async def skip(context: Ctx, client: Client) -> None:
    """The same here: a request is one job."""
    await interrupt(context, client)


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
    context: Context,
    client: str,
    request: Request,
    asked: ExtraSingle | ExtraBatch,
    text: str,
    field: str,
) -> str:
    data = pictures.from_text(text, field)
    decoded = await run_in_threadpool(intake.decode, context, data, field)
    size = _target(asked, decoded.size)
    if size[0] * size[1] > context.settings.max_pixels:
        raise ProblemError(
            422, f"the result must have at most {context.settings.max_pixels} pixels", field
        )
    network = a1111_names.upscaler(asked.upscaler_1)
    source = pictures.to_rgb(decoded)
    factor = max(size[0] / source.width, size[1] / source.height)
    if network is not None and factor > 1:
        stored = await run_in_threadpool(intake.store_decoded, context, source)
        upscale = 2 if factor <= 2 else 4
        fields = {"kind": "upscale", "image": stored, "upscale": upscale, "upscaler": network}
        watched = await submit(context, intake.request_from(fields), client, _HERE)
        job = await watched.finish(request)
        larger = context.files.read(job.images[0].id) if job.images else None
        if larger is not None:
            source = pictures.to_rgb(intake.decode(context, larger, field))
    method = Image.Resampling.NEAREST if asked.upscaler_1 == "Nearest" else Image.Resampling.LANCZOS
    if source.size != size:
        source = await run_in_threadpool(ImageOps.fit, source, size, method)
    return pictures.base64_text(await run_in_threadpool(pictures.encode, source))


def _target(asked: ExtraSingle | ExtraBatch, size: tuple[int, int]) -> tuple[int, int]:
    """The size of the result: by factor, or into or over a given box."""
    width, height = size
    factor = min(8.0, max(1 / 8, asked.upscaling_resize))
    if asked.resize_mode == 1:
        box = (max(1, asked.upscaling_resize_w), max(1, asked.upscaling_resize_h))
        if asked.upscaling_crop:
            return box
        factor = min(box[0] / width, box[1] / height)
    return max(1, round(width * factor)), max(1, round(height * factor))


@router.post("/png-info")
def png_info(context: Ctx, asked: PngInfo) -> dict[str, Any]:
    """The settings in a PNG."""
    info = read_info(context, pictures.from_text(asked.image, "image"))
    text = info.parameters or ""
    return {
        "info": text,
        "items": {"parameters": text} if text else {},
        "parameters": infotext.parse(text) if text else {},
    }
