"""From a validated request to a job: pictures decoded and stored, seed drawn, prompt matched."""

import io
import secrets
import time
from typing import Any

from PIL import Image
from pydantic import ValidationError

from dg2_jax.checks import ParameterError, check_choice
from dg2_jax.controls import arguments
from dg2_jax.generation import text
from dg2_jax.interop import upscaler_files
from dg2_jax.pictures.image_input import LANCZOS
from dg2_jax.serve import pictures, problems, sizes
from dg2_jax.serve.context import Context
from dg2_jax.serve.job_controls import CONTROLS, of_kind
from dg2_jax.serve.problems import ProblemError
from dg2_jax.serve.records import QUEUED, Job
from dg2_jax.serve.schemas import PICTURES, JobRequest, View, job_request
from dg2_jax.settings import MAX_SEED, Settings
from dg2_jax.text import prompt_tags, wildcards


def request_from(fields: dict[str, Any]) -> JobRequest:
    """A request from another interface's fields.

    Raises:
        ProblemError: 422 naming the field.
    """
    try:
        return job_request.validate_python(fields)
    except ValidationError as error:
        name, message = problems.field_errors(error.errors())[0]
        raise ProblemError(422, f"{name}: {message}", name) from error


def turned(fields: dict[str, Any], views: list[View] | None) -> dict[str, Any]:
    """A request of another interface for a picture, or for an anagram where it gives views.

    Raises:
        ProblemError: 422 naming a field that an anagram does not have; the prompt must be empty or
            that of the first view.
    """
    if views is None:
        return fields
    known = {"kind", "anagram", *of_kind("anagram")}
    for name in [name for name in fields if name not in known]:
        default = CONTROLS[name].default if name in CONTROLS else None
        usual: list[Any] = [None, "", [], default]
        if name == "prompt":
            usual.append(views[0].prompt)
        if fields[name] not in usual:
            allowed = " but the first view's" if name == "prompt" else ""
            raise ProblemError(422, f"{name} must be left out of an anagram{allowed}", name)
    kept = {name: value for name, value in fields.items() if name in known}
    return {**kept, "kind": "anagram", "anagram": [view.model_dump() for view in views]}


def store_picture(context: Context, text: str, field: str, mask: bool = False) -> str:
    """Stores a picture given as base64, data: URI or id; returns the input's id.

    Raises:
        ProblemError: 422 naming the field.
    """
    if context.files.is_id(text):
        data = context.files.read(text)
        if data is None:
            raise ProblemError(422, f"there is no stored picture {text}", field)
    else:
        data = pictures.from_text(text, field)
    return store_decoded(context, decode(context, data, field), mask)


def decode(context: Context, data: bytes, field: str) -> Image.Image:
    """`pictures.decode` with this server's limit."""
    return pictures.decode(data, field, context.settings.max_pixels)


def store_decoded(context: Context, picture: Image.Image, mask: bool = False) -> str:
    """Stores a decoded picture as RGB, or as a mask; returns its id.

    Raises:
        OSError: the disk is full.
    """
    context.disk.check()
    plain = pictures.to_mask(picture) if mask else pictures.to_rgb(picture)
    return context.files.write_input(pictures.encode(plain))


def make_job(
    context: Context, request: JobRequest, client: str, idempotency_key: str | None = None
) -> Job:
    """A job to submit.

    Raises:
        ProblemError: 422 naming the field.
    """
    asked = request
    try:
        request = _styled(context, asked)
        patch = _completed(context, request)
    except ParameterError as error:
        raise ProblemError.of(error) from error
    if "seed" in type(request).model_fields and request.seed is None:
        patch["seed"] = secrets.randbelow(MAX_SEED + 1)
    for name in PICTURES:
        if getattr(request, name, None) is not None:
            patch[name] = store_picture(context, getattr(request, name), name, name == "mask")
    if request.kind == "upscale":
        _check_upscale(context, patch["image"])
    matched_from = None
    if getattr(request, "prompt_matching", None) is not None and asked.prompt.strip():
        matched_from, split = asked.prompt, request.prompt_matching
        found = context.bank().match(matched_from, temperature=0.0, bank=split).prompt
        patch["prompt"], _ = context.styles.applied(found, "", asked.styles)
        patch["prompt_matching"] = None  # sent again, the request is about the matched prompt
    complete = request.model_copy(update=patch)
    if request.kind != "upscale":
        _check_texts(context, complete)
    return Job(
        id=context.new_id(),
        kind=request.kind,
        status=QUEUED,
        client=client,
        idempotency_key=idempotency_key,
        request=complete,
        text=complete.text,
        matched_from=matched_from,
        num_images=request.count,
        created_at=time.time(),
    )


def _styled(context: Context, request: JobRequest) -> JobRequest:
    """A request with its styles around its prompts, about which alone it then is.

    Raises:
        ParameterError: there is no style of a name, or a prompt becomes too long.
    """
    names = getattr(request, "styles", ())
    if not names:
        return request
    texts = context.styles.applied(request.prompt, request.negative_prompt, names)
    fields = dict(zip(("prompt", "negative_prompt"), texts, strict=True))
    return request.model_copy(update={**fields, "styles": ()})


def _completed(context: Context, request: JobRequest) -> dict[str, Any]:
    """What a request leaves to the model, after the check that the model can do what it asks.

    Raises:
        ParameterError: naming the parameter and what is allowed.
    """
    most = context.settings.max_images
    if request.count > most:
        raise ParameterError("num_images", f"must be at most {most}")
    if request.upscale is not None:
        _check_upscaler("upscaler", request.upscaler)
    if getattr(request, "inpaint_area", "whole") == "only_masked":
        _check_upscaler("inpaint_upscaler", request.inpaint_upscaler)
    if request.kind == "upscale":
        return {}
    models, other = context.models, request.autoguidance_model
    name = models.resolve(request.model)
    if other is not None:
        models.resolve(other, "autoguidance_model")
    _check_files(context, request)
    facts = models.facts(name)
    if facts is None:
        return {"model": name}  # the worker tells what is wrong with the model
    defaults = facts.sampling.get(request.weights, {})
    defaults = {k: value for k, value in defaults.items() if k not in request.model_fields_set}
    if request.preview_mode == "taesd" and not facts.has_taesd:
        raise ParameterError("preview_mode", f"must not be taesd with {name}, which has none")
    settings = Settings(**{**request.settings(), **defaults})
    facts.check(settings, models.facts(other) if other is not None else None)
    width, height = size = facts.size_of(settings)
    side = "width" if settings.width else "height"
    sizes.check(size, models.sizes(name), side, "and the other side must make one of")
    if settings.hires_size is not None:
        sizes.check(settings.hires_size[::-1], models.hires_sizes(name), "hires_size")
    own = size == (facts.size, facts.size)
    return {
        "model": name,
        **defaults,
        "width": None if own else width,
        "height": None if own else height,
    }


def _check_files(context: Context, request: JobRequest) -> None:
    """Raises ParameterError where a request names a file that is not there.

    ControlNets are those of the server's folder: no other path is read for a client.
    """
    texts = (
        [view.prompt for view in request.anagram] if request.kind == "anagram" else [request.text]
    )
    if request.kind == "anagram":
        wildcards.refuse(texts, "anagram")
    wildcards.refuse([getattr(request, "source_prompt", "")], "source_prompt")
    context.wildcards.check(texts, "prompt")
    context.wildcards.check([request.negative_prompt], "negative_prompt")
    context.adapters.check(tag for text in texts for tag in prompt_tags.split(text)[1])
    prompt_tags.refuse([request.negative_prompt], "negative_prompt")
    name, image = (getattr(request, field, None) for field in ("controlnet", "control_image"))
    if name is not None:
        known = context.controlnets.names()
        if not known:
            raise ParameterError(
                "controlnet", "is not there: the server has none (DG2_CONTROLNETS)"
            )
        check_choice("controlnet", name, known)
    if (name is None) != (image is None):
        raise ParameterError("control_image", "and controlnet need each other")


def _check_texts(context: Context, request: JobRequest) -> None:
    """Raises ProblemError where the syntax of a text, as drawn for some picture, is wrong."""
    seeds = arguments.expand_seed(request.seed, request.count)
    try:
        prompts, negative_prompts = (
            [context.wildcards.drawn(getattr(request, name, ""), seed, name) for seed in seeds]
            for name in ("prompt", "negative_prompt")
        )
        text.check(Settings(**request.settings()), prompts, negative_prompts)
    except ParameterError as error:
        raise ProblemError.of(error) from error


def _check_upscaler(field: str, name: str) -> None:
    if name == LANCZOS:
        return
    try:
        upscaler_files.find_weights(name)
    except FileNotFoundError as error:
        raise ParameterError(field, f"cannot be {name!r} here: {error}") from error


def nearest_size(context: Context, model: str, size: sizes.Size) -> tuple[int | None, int | None]:
    """The allowed size of a model nearest to one that is asked for, as `width` and `height`."""
    allowed = context.models.sizes(model)
    return sizes.nearest(size, allowed) if allowed else (None, None)


def _check_upscale(context: Context, picture_id: str) -> None:
    data = context.files.read(picture_id)
    assert data is not None  # it has just been stored
    with Image.open(io.BytesIO(data)) as picture:
        width, height = picture.size
    limit = context.settings.max_upscale_pixels
    if width * height > limit:
        raise ProblemError(
            422,
            f"image must have at most {limit} pixels to be enlarged, got {width}x{height}",
            "image",
        )
