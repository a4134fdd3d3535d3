"""From a validated request to a job: pictures decoded and stored, seed drawn, prompt matched."""

import secrets
import time
from typing import Any

from PIL import Image
from pydantic import ValidationError

from dg2_jax.settings import MAX_SEED, check_weights
from serve import pictures, problems
from serve.context import Context
from serve.problems import ProblemError
from serve.schemas import JobRequest, job_request
from serve.store import QUEUED, Job


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
    """Stores a decoded picture as RGB, or as a mask; returns its id."""
    plain = pictures.to_mask(picture) if mask else pictures.to_rgb(picture)
    return context.files.write_input(pictures.encode(plain))


def make_job(
    context: Context, request: JobRequest, client: str, idempotency_key: str | None = None
) -> Job:
    """A job to submit.

    Raises:
        ProblemError: 422 naming the field.
    """
    fields = request.model_dump(mode="json")
    count = fields.get("num_images", 1)
    if count > context.settings.max_images:
        limit = context.settings.max_images
        raise ProblemError(422, f"num_images must be at most {limit}", "num_images")
    if "model" in fields:
        try:
            fields["model"] = context.models.resolve(fields["model"])
        except ValueError as error:
            raise ProblemError(422, str(error), "model") from error
        fields |= _of_weights(context, request, fields)
    if "seed" in fields and fields["seed"] is None:
        fields["seed"] = secrets.randbelow(MAX_SEED + 1)
    for name in ("image", "mask"):
        if fields.get(name) is not None:
            fields[name] = store_picture(context, fields[name], name, mask=name == "mask")
    if request.kind == "upscale":
        _check_upscale(context, fields["image"])
    matched_from = None
    if fields.get("prompt_matching") is not None and fields["prompt"].strip():
        matched_from = fields["prompt"]
        split = fields["prompt_matching"]
        fields["prompt"] = context.bank().match(matched_from, temperature=0.0, bank=split).prompt
        fields["prompt_matching"] = None  # the request, sent again, is about the prompt found
    text = fields["prompt"] if matched_from is not None else request.text
    return Job(
        id=context.new_id(),
        kind=request.kind,
        status=QUEUED,
        client=client,
        idempotency_key=idempotency_key,
        request=fields,
        text=text,
        matched_from=matched_from,
        num_images=count,
        created_at=time.time(),
    )


def _of_weights(context: Context, request: JobRequest, fields: dict[str, Any]) -> dict[str, Any]:
    """What the chosen weights of the model want, as far as the request does not say it."""
    model = context.models.details(fields["model"])
    try:
        check_weights(fields["weights"], model["weights"], model["name"])
    except ValueError as error:
        raise ProblemError(422, str(error), "weights") from error
    wanted = model["sampling"].get(fields["weights"], {})
    return {name: value for name, value in wanted.items() if name not in request.model_fields_set}


def _check_upscale(context: Context, picture_id: str) -> None:
    with Image.open(context.files.path(picture_id)) as picture:
        width, height = picture.size
    limit = context.settings.max_upscale_pixels
    if width * height > limit:
        raise ProblemError(
            422,
            f"image must have at most {limit} pixels to be enlarged, got {width}x{height}",
            "image",
        )
