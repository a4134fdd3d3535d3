"""Requests of OpenAI clients, from JSON or from a multipart form."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, create_model, model_validator

from dg2_jax.checks import ParameterError
from dg2_jax.serve import foreign_fields, openai_fields, sizes
from dg2_jax.serve.job_controls import CONTROLS
from dg2_jax.serve.schemas import Picture, Text, Views, foreign_field_of
from dg2_jax.serve.sizes import Size

# Controls that this interface says in its own words, or does not have, and why.
NOT_HERE = {
    "prompt": "is OpenAI's own field",
    "model": "is OpenAI's own field",
    "num_images": "is `n`",
    "preview_every": "follows from `partial_images`",
    "width": "is `size`",
    "height": "is `size`",
    "anagram": "is a list of views",
}
OURS = tuple(name for name in CONTROLS if name not in NOT_HERE)  # clients send them by `extra_body`


Quality = Literal["auto", "low", "medium", "high", "xhigh", "max", "standard", "hd"]
_MOST = 3840  # pixels of a side


class _ImageRequest(BaseModel):
    """`images/generations` and `images/edits`; `openai_fields` tells of every field."""

    model_config = ConfigDict(extra="ignore")

    prompt: Annotated[Text, Field(min_length=1)]
    model: str | None = Field(None, max_length=200)
    n: int | None = Field(None, ge=1, le=10)
    size: str | None = Field(None, max_length=20)
    response_format: Literal["url", "b64_json"] | None = None
    output_format: Literal["png", "jpeg", "webp"] | None = None
    output_compression: int | None = Field(None, ge=0, le=100)
    quality: Quality | None = None
    style: Literal["vivid", "natural"] | None = None
    moderation: Literal["auto", "low"] | None = None
    stream: bool | None = None
    partial_images: int | None = Field(None, ge=0, le=3)
    anagram: Views | None = None
    control_image: Picture | None = None

    @model_validator(mode="before")
    @classmethod
    def _checked(cls, value: Any) -> Any:
        if isinstance(value, dict):
            foreign_fields.check(openai_fields.TABLE, value)
        return value

    def fields(self) -> dict[str, Any]:
        """As fields of our own requests, but for the size, which depends on the model."""
        given = {name: getattr(self, name) for name in OURS if name in self.model_fields_set}
        ours = {name: value for name, value in given.items() if value is not None}
        steps = ours.get("num_inference_steps", CONTROLS["num_inference_steps"].default)
        return {
            "prompt": self.prompt,
            "num_images": self.n or 1,
            "preview_every": max(1, steps // ((self.partial_images or 0) + 1)),
            **({} if self.control_image is None else {"control_image": self.control_image}),
            **ours,
        }

    def pixels(self, own: Sequence[Size]) -> Size | None:
        """The requested size, None for "auto".

        Args:
            own: sizes that are allowed besides OpenAI's.

        Raises:
            ParameterError: neither.
        """
        if self.size in (None, "auto"):
            return None
        size = sizes.parse(self.size)
        if size is None or not (size in own or _is_theirs(size)):
            raise ParameterError(
                "size",
                "must be auto, WIDTHxHEIGHT (both divisible by 16, at most "
                f"{_MOST} and of an aspect of 1:3 to 3:1) or one of "
                + ", ".join(f"{width}x{height}" for width, height in own),
            )
        return size

    @property
    def suffix(self) -> Literal["png", "jpeg", "webp"]:
        """Of a picture's file."""
        return self.output_format or "png"

    @classmethod
    def of_form(cls, form: dict[str, Any]) -> Self:
        """From a form's text fields, where an empty field is a missing one.

        Raises:
            pydantic.ValidationError: as usual.
        """
        return cls.model_validate({k: v for k, v in form.items() if v != ""})


def _is_theirs(size: Size) -> bool:
    """Whether OpenAI allows a size."""
    short, long = sorted(size)
    return short > 0 and not short % 16 and not long % 16 and long <= min(_MOST, 3 * short)


_FIELDS: dict[str, Any] = {name: foreign_field_of(CONTROLS[name]) for name in OURS}
ImageRequest = create_model(
    "ImageRequest", __base__=_ImageRequest, __doc__=_ImageRequest.__doc__, **_FIELDS
)


class VariationRequest(ImageRequest):
    """`images/variations`, which has no prompt."""

    prompt: Text = ""
