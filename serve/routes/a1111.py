"""The A1111 API: making pictures. What it lists is in `a1111_lists`."""

import json
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from PIL import Image, ImageOps

from dg2_jax.checks import ParameterError
from dg2_jax.controls.arguments import expand_seed
from dg2_jax.serve import a1111_names, infotext, intake, pictures, sizes
from dg2_jax.serve.a1111_enlarging import Enlarging, network_of
from dg2_jax.serve.a1111_schemas import (
    CHECKPOINT,
    CLIP_LAYERS,
    Change,
    Create,
    Generate,
    PngInfoAsked,
)
from dg2_jax.serve.checkpoints import checkpoint_of
from dg2_jax.serve.context import Client, Context, Ctx
from dg2_jax.serve.problems import ProblemError
from dg2_jax.serve.records import Job
from dg2_jax.serve.routes import a1111_extras, a1111_lists, a1111_progress
from dg2_jax.serve.routes.images import read_info
from dg2_jax.serve.routing import Router
from dg2_jax.serve.schemas import JobRequest
from dg2_jax.serve.waiting import Watched, submit
from dg2_jax.settings import MAX_SEED

router = Router(tags=["A1111"])
router.include_router(a1111_lists.router)
router.include_router(a1111_extras.router)
router.include_router(a1111_progress.router)
_OPAQUE = 128  # of 255: opacity above it means "repaint"


@router.post("/txt2img")
async def txt2img(context: Ctx, client: Client, request: Request, asked: Create) -> dict[str, Any]:
    """Pictures from a prompt."""
    fields = {"kind": "txt2img", **_common(context, asked)}
    enlarging = _second_pass(context, asked, fields)
    fields = intake.turned(fields, asked.views)
    done = await _run(context, client, request, fields)
    return await run_in_threadpool(_reply, context, done, asked, enlarging)


@router.post("/img2img")
async def img2img(context: Ctx, client: Client, request: Request, asked: Change) -> dict[str, Any]:
    """Pictures changed or repainted, one job for each that is given."""
    done: list[Watched] = []
    for text in asked.init_images:
        fields = await run_in_threadpool(_change, context, asked, text)
        done += await _run(context, client, request, fields)
        if done[-1].job.status == "cancelled":
            break
    return await run_in_threadpool(_reply, context, done, asked)


async def _run(
    context: Context, client: str, request: Request, fields: dict[str, Any]
) -> list[Watched]:
    """Runs a request to its end: as one job, or as one for each variation of a seed."""
    done: list[Watched] = []
    for each in _variations(fields):
        watched = await submit(context, intake.request_from(each), client, "a1111")
        done.append(watched)
        if (await watched.finish(request)).status == "cancelled":
            break
    return done


def _variations(fields: dict[str, Any]) -> list[dict[str, Any]]:
    """As A1111 does: variations have one seed and count up the other."""
    if not fields.get("variation_strength"):
        return [fields]
    first, seed = fields["variation_seed"], fields["seed"]
    seed = secrets.randbelow(MAX_SEED + 1) if seed is None else seed
    return [
        {
            **fields,
            "num_images": 1,
            "seed": seed,
            "variation_seed": (first + index) % (MAX_SEED + 1),
        }
        for index in range(fields["num_images"])
    ]


def _second_pass(context: Context, asked: Create, fields: dict[str, Any]) -> Enlarging | None:
    """How the result is enlarged, if it is; adds what the model or a network does to `fields`.

    Raises:
        ProblemError: 404 or 422 naming the field.
    """
    if not asked.enable_hr:
        return None
    own = context.models.details(fields["model"])["size"] or 0
    width, height = fields.get("width") or own, fields.get("height") or own
    across, down = asked.hr_resize_x, asked.hr_resize_y
    if not across and not down:
        across, down = round(width * asked.hr_scale), round(height * asked.hr_scale)
    size = across or round(width * down / height), down or round(height * across / width)
    name = asked.hr_upscaler or a1111_names.DEFAULT_UPSCALER
    if name in a1111_names.LATENT_UPSCALERS:
        field = next((n for n in ("hr_resize_x", "hr_resize_y") if getattr(asked, n)), "hr_scale")
        try:
            sizes.check(size, context.models.hires_sizes(fields["model"]), field)
        except ParameterError as error:
            raise ProblemError.of(error) from error
        fields |= {
            "hires_size": size[::-1],
            "hires_method": a1111_names.LATENT_UPSCALERS[name],
            "hires_strength": asked.denoising_strength,
            "hires_steps": asked.hr_second_pass_steps or None,
        }
        return None
    network = network_of(name, "hr_upscaler")
    if asked.hr_second_pass_steps:
        latent = ", ".join(a1111_names.LATENT_UPSCALERS)
        detail = f"must be 0 unless hr_upscaler is one of {latent}"
        raise ProblemError(422, detail, "hr_second_pass_steps")
    enlarging = Enlarging(size, name)
    enlarging.check(context, "hr_scale")
    factor = enlarging.network_factor((width, height))
    if network is not None and factor is not None:
        fields |= {"upscale": factor, "upscaler": network}
    return enlarging


def _change(context: Context, asked: Change, text: str) -> dict[str, Any]:
    """A request for one of the pictures."""
    if asked.views is not None:
        raise ProblemError(422, "an anagram must be asked of txt2img", "alwayson_scripts")
    data = pictures.from_text(text, "init_images")
    image = pictures.to_rgb(intake.decode(context, data, "init_images"))
    fields = {"kind": "img2img", **_common(context, asked)}
    size = (fields["width"] or image.width, fields["height"] or image.height)
    if asked.stretches:
        image = image.resize(size, Image.Resampling.LANCZOS)
    if asked.mask is not None:
        mask = _mask(context, asked)
        if asked.stretches:
            mask = mask.resize(size, Image.Resampling.LANCZOS)
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
    steps = _steps(asked)
    fields |= steps
    if asked.subseed_strength:
        drawn = asked.subseed if asked.subseed >= 0 else secrets.randbelow(MAX_SEED + 1)
        fields["variation_seed"] = drawn
    chosen = asked.override_settings.get(CHECKPOINT)
    checkpoint = a1111_lists.find_checkpoint(context, None if chosen is None else str(chosen))
    fields |= {"model": checkpoint.model, "weights": checkpoint.weights}
    size = intake.nearest_size(context, checkpoint.model, (asked.width, asked.height))
    fields |= dict(zip(("width", "height"), size, strict=True))
    layers = asked.override_settings.get(CLIP_LAYERS)
    if layers is not None:
        if not isinstance(layers, int | float) or layers != int(layers):
            raise ProblemError(422, f"{CLIP_LAYERS} must be an integer", "override_settings")
        fields["clip_skip"] = int(layers) - 1  # which counts from 1
    for name in set(checkpoint.sampling) - asked.chosen - set(steps):
        fields.pop(name, None)  # the weights have their own default
    return fields


def _steps(asked: Generate) -> dict[str, str]:
    """The solver and the spacing, as far as they are named; 404 as A1111 for an unknown name."""
    steps: dict[str, str] = {}
    field = "sampler_name" if asked.sampler_name else "sampler_index"
    name, spacing = a1111_names.split(getattr(asked, field) or "")
    if name:
        solver = a1111_names.known_solver(name)
        if solver is None:
            raise ProblemError(404, f"Sampler not found: {name!r}; see samplers", field)
        steps["solver"] = solver
    if asked.scheduler and asked.scheduler.lower() != "automatic":
        spacing = a1111_names.spacing(asked.scheduler)
        if spacing is None:
            detail = f"Scheduler not found: {asked.scheduler!r}; see schedulers"
            raise ProblemError(404, detail, "scheduler")
    if spacing is not None:
        steps["spacing"] = spacing
    return steps


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


def _reply(
    context: Context,
    done: Sequence[Watched],
    asked: Generate,
    enlarging: Enlarging | None = None,
) -> dict[str, Any]:
    jobs = [watched.job for watched in done]
    made = [image for job in jobs for image in job.images]
    files = [(context.files.read(image.id), image.metadata) for image in made]
    found = [(data, metadata) for data, metadata in files if data is not None]
    if enlarging is not None:
        found = [(enlarging.finish(*one), one[1]) for one in found]
    images = [pictures.base64_text(data) for data, _ in found]
    last = done[-1]
    if not last.job.images and last.preview is not None:  # interrupted: what it looked like
        images += last.shown
    if isinstance(asked, Change) and asked.include_init_images:
        images += [text.partition(",")[2] or text for text in asked.init_images]
    return {
        "images": images if asked.send_images else [],
        "parameters": asked.model_dump(),
        "info": json.dumps(
            _info(context, jobs, enlarging)
            | {"batch_size": asked.batch_size, "styles": asked.styles}
        ),
    }


def _padded(made: list[str], asked: str, count: int) -> list[str]:
    """The prompts of `count` pictures: as drawn for those that were made, else as asked."""
    return made + [asked] * (count - len(made))


def _info(
    context: Context, jobs: Sequence[Job], enlarging: Enlarging | None = None
) -> dict[str, Any]:
    """What was used, which is not always what was asked for."""
    request = jobs[0].request
    checkpoint = checkpoint_of(context, request.model, request.weights)
    own_size = context.models.details(request.model)["size"]
    images = [image for job in jobs for image in job.images]
    seeds = [seed for job in jobs for seed in expand_seed(job.request.seed, job.num_images)]
    count = len(seeds)
    subseeds = [
        getattr(job.request, "variation_seed", None) for job in jobs for _ in range(job.num_images)
    ]
    width, height = (images[0].width, images[0].height) if images else (own_size, own_size)
    notes = [note for job in jobs for note in job.notes]
    if enlarging is not None:
        width, height = enlarging.size
    return {
        "prompt": request.text,
        "all_prompts": _padded([image.prompt for image in images], request.text, count),
        "negative_prompt": request.negative_prompt,
        "all_negative_prompts": _padded(
            [image.negative_prompt for image in images], request.negative_prompt, count
        ),
        "seed": seeds[0],
        "all_seeds": seeds,
        "subseed": subseeds[0],
        "all_subseeds": subseeds,
        "subseed_strength": getattr(request, "variation_strength", 0.0),
        "width": width,
        "height": height,
        "sampler_name": a1111_names.sampler(request.solver),
        "cfg_scale": request.guidance_scale,
        "steps": request.num_inference_steps,
        "restore_faces": False,
        "face_restoration_model": None,
        "sd_model_name": checkpoint.name,
        "sd_model_hash": checkpoint.hash,
        "sd_vae_name": None,
        "seed_resize_from_w": -1,
        "seed_resize_from_h": -1,
        "denoising_strength": _strength(request),
        "extra_generation_params": {},
        "comments": "\n".join(notes),
        "index_of_first_image": 0,
        "infotexts": [infotext.write(image.metadata) for image in images],
        "job_timestamp": datetime.fromtimestamp(jobs[0].created_at, UTC).strftime("%Y%m%d%H%M%S"),
        "clip_skip": request.clip_skip + 1,
        "is_using_inpainting_conditioning": False,
        "version": "dg2_jax",
    }


def _strength(request: JobRequest) -> float | None:
    """Of what denoises a picture: an edit, or a second pass."""
    if getattr(request, "hires_size", None) is not None:
        return request.hires_strength
    return getattr(request, "strength", None)


@router.post("/interrogate")
def interrogate() -> None:
    """There is no model that describes pictures.

    Raises:
        ProblemError: 501.
    """
    raise ProblemError(501, "interrogate is not done: there is no model that describes pictures")


@router.post("/png-info")
def png_info(context: Ctx, asked: PngInfoAsked) -> dict[str, Any]:
    """The settings in a PNG."""
    info = read_info(context, pictures.from_text(asked.image, "image"))
    text = info.parameters or ""
    return {
        "info": text,
        "items": {"parameters": text} if text else {},
        "parameters": infotext.parse(text) if text else {},
    }
