"""Pictures: results and inputs, the gallery, and what a PNG says of itself."""

from typing import Annotated, Any, Literal

from fastapi import Depends, File, Query, Request, Response, UploadFile
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field
from starlette.datastructures import FormData

from dg2_jax.serve import archive, file_names, infotext, intake, pictures, restore
from dg2_jax.serve.context import Context, Ctx
from dg2_jax.serve.problems import ProblemError
from dg2_jax.serve.routes.jobs import Before, JobKind, Limit, Search
from dg2_jax.serve.routing import Router
from dg2_jax.serve.rows import Sort
from dg2_jax.serve.schemas import Picture
from dg2_jax.serve.views import ImagePage, image_view

router = Router(tags=["pictures"])
_PATTERN: dict[str, Any] = {"max_length": 200, "description": "of file names: {prompt} {seed}"}
_TYPES = {"png": "image/png", "webp": "image/webp", "jpeg": "image/jpeg"}


@router.get("/images")
def list_images(
    context: Ctx,
    limit: Limit = 50,
    before: Before = None,
    q: Search = None,
    kind: JobKind | None = None,
    favourite: bool | None = None,
    sort: Sort = "newest",
) -> ImagePage:
    """Finished pictures, a page of them."""
    rows = context.store.images(limit + 1, before, q, kind, favourite, sort)
    after = rows[limit - 1].id if len(rows) > limit else None
    return {"images": [image_view(image) for image in rows[:limit]], "next": after}  # type: ignore


class ImageIds(BaseModel):
    """Some pictures."""

    ids: list[str]


class ImageChange(BaseModel):
    """What to change of some pictures."""

    model_config = ConfigDict(extra="forbid")

    ids: list[str] = Field(min_length=1, max_length=1000)
    favourite: bool | None = None
    deleted: bool | None = Field(None, description="false gives deleted ones back, for an hour")


@router.patch("/images")
def change_images(context: Ctx, asked: ImageChange) -> ImageIds:
    """Marks, deletes or gives back pictures; returns the ids of those that it found."""
    if asked.favourite is None and asked.deleted is None:
        raise ProblemError(422, "or deleted is required", "favourite")
    found = asked.ids
    if asked.deleted is not None:
        act = context.gallery.delete if asked.deleted else context.gallery.restore
        found = act(asked.ids)
    if asked.favourite is not None:
        found = context.gallery.mark(asked.ids, asked.favourite)
    return ImageIds(ids=found)


class Archive(BaseModel):
    """Pictures to be sent as one file."""

    model_config = ConfigDict(extra="forbid")

    ids: list[str] = Field(min_length=1, max_length=1000)
    name: str = Field(file_names.DEFAULT, **_PATTERN)


@router.post("/images/zip", response_class=StreamingResponse)
def zip_images(context: Ctx, asked: Archive) -> StreamingResponse:
    """Pictures as one ZIP file; ids that there are not are left out."""
    file_names.check(asked.name)
    images = context.gallery.find(asked.ids)
    if not images:
        raise ProblemError(404, "there is none of these pictures")
    headers = file_names.attachment("pictures.zip")
    made = archive.stream(context.files, images, asked.name)
    return StreamingResponse(made, media_type="application/zip", headers=headers)


@router.get("/images/{image_id}.{suffix}", response_class=Response)
def get_image(
    context: Ctx,
    image_id: str,
    suffix: Literal["png", "webp", "jpeg"],
    download: bool = False,
    name: Annotated[str, Query(**_PATTERN)] = file_names.DEFAULT,
) -> Response:
    """A picture, which carries its settings; `download` makes it a file, named by `name`."""
    data = context.files.read(image_id)
    if data is None:
        raise ProblemError(404, f"there is no picture {image_id[:80]}")
    if suffix != "png":
        data = pictures.converted(intake.decode(context, data, "image"), suffix.upper())
    headers = {"Cache-Control": "private, max-age=31536000, immutable"}
    if download:
        file_names.check(name)
        found = context.gallery.find([image_id])
        plain = file_names.name_of(found[0], name) if found else image_id  # an input has no row
        headers |= file_names.attachment(f"{plain}.{suffix}")
    return Response(data, media_type=_TYPES[suffix], headers=headers)


@router.delete("/images/{image_id}", status_code=204)
def delete_image(context: Ctx, image_id: str) -> None:
    """Deletes a finished picture of a finished job."""
    if not context.gallery.delete([image_id]):
        raise ProblemError(404, f"there is no picture {image_id[:80]}")


class PngInfoRequest(BaseModel):
    """A picture to be read."""

    image: Picture


class PngInfo(BaseModel):
    """What a picture says of itself."""

    metadata: dict[str, Any] | None = Field(description="this project's settings")
    parameters: str | None = Field(description="the readable text")
    request: dict[str, Any] | None = Field(description="what to post to make it again")
    width: int
    height: int


class Input(PngInfo):
    """A stored input picture, and what the file said of itself."""

    id: str
    url: str


async def _one_file(request: Request) -> None:
    """Refuses a form with several files, of which FastAPI would take one."""
    _only(await request.form())


def _only(form: FormData) -> Any:
    """The one entry `file` of a form."""
    files = form.getlist("file")
    if len(files) != 1:
        raise ProblemError(422, f"must be one file, got {len(files)}", "file")
    return files[0]


@router.post("/inputs", status_code=201, dependencies=[Depends(_one_file)])
def upload_input(context: Ctx, file: Annotated[UploadFile, File()]) -> Input:
    """Stores a picture to be named by its id in jobs."""
    decoded = intake.decode(context, file.file.read(), "file")
    picture_id = intake.store_decoded(context, decoded)
    url = f"/api/v1/images/{picture_id}.png"
    return Input(id=picture_id, url=url, **dict(_info_of(context, decoded)))


_READ: dict[str, Any] = {  # which the function takes apart itself, as it takes a form too
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": PngInfoRequest.model_json_schema()}},
    }
}


@router.post("/png-info", openapi_extra=_READ)
async def read_png_info(context: Ctx, request: Request) -> PngInfo:
    """Reads the settings out of a picture: JSON `{"image": …}` or multipart `file`."""
    if request.headers.get("content-type", "").startswith("multipart/"):
        async with request.form(max_files=2, max_fields=4) as form:
            file = _only(form)
            if not hasattr(file, "read"):
                raise ProblemError(422, "must be a file", "file")
            data = await file.read()
    else:
        try:
            asked = PngInfoRequest.model_validate(await request.json())
        except ValueError as error:
            raise ProblemError(
                422, "image must be base64, a data: URI or an id", "image"
            ) from error
        data = await run_in_threadpool(_stored_or_sent, context, asked.image)
    return await run_in_threadpool(read_info, context, data)


def _stored_or_sent(context: Context, text: str) -> bytes:
    data = context.files.read(text) if context.files.is_id(text) else None
    return data if data is not None else pictures.from_text(text, "image")


def read_info(context: Context, data: bytes) -> PngInfo:
    """What a picture's bytes say."""
    return _info_of(context, intake.decode(context, data, "image"))


def _info_of(context: Context, decoded: Image.Image) -> PngInfo:
    metadata, text = pictures.read_metadata(decoded)
    fields = dict(metadata) if metadata else infotext.to_fields(text) if text else {}
    if fields.get("model") not in context.models.names:
        fields.pop("model", None)
    size = decoded.size if metadata else None
    return PngInfo(
        metadata=restore.finite(metadata),
        parameters=text,
        request=restore.request_of(fields, size, context.files.has) if fields else None,
        width=decoded.width,
        height=decoded.height,
    )
