"""Requests of OpenAI clients, from JSON or from a multipart form."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, create_model

from serve import sizes
from serve.job_controls import CONTROLS
from serve.schemas import Text, foreign_field_of
from serve.sizes import Size

# Controls that this interface says in its own words, or does not have, and why.
NOT_HERE = {
    "prompt": "is OpenAI's own field",
    "model": "is OpenAI's own field",
    "num_images": "is `n`",
    "preview_every": "follows from `partial_images`",
    "width": "is `size`",
    "height": "is `size`",
    "controlnet": "the interface has no second picture",
    "controlnet_conditioning_scale": "the interface has no second picture",
    "control_guidance_start": "the interface has no second picture",
    "control_guidance_end": "the interface has no second picture",
    "control_preprocessor": "the interface has no second picture",
    "anagram": "the interface has no anagrams",
    "anagram_mode": "the interface has no anagrams",
}
OURS = tuple(name for name in CONTROLS if name not in NOT_HERE)  # clients send them by `extra_body`


class _ImageRequest(BaseModel):
    """`images/generations` and `images/edits`; fields that mean nothing here are accepted."""

    model_config = ConfigDict(extra="ignore")

    prompt: Annotated[Text, Field(min_length=1)]
    model: str | None = Field(None, max_length=200)
    n: int | None = Field(None, ge=1, le=10)
    size: str | None = Field(None, max_length=20)
    response_format: Literal["url", "b64_json"] | None = None
    output_format: Literal["png", "jpeg", "webp"] | None = None
    output_compression: int | None = Field(None, ge=0, le=100)
    quality: str | None = Field(None, max_length=20)
    background: str | None = Field(None, max_length=20)
    stream: bool | None = None
    partial_images: int | None = Field(None, ge=0, le=3)

    def fields(self) -> dict[str, Any]:
        """As fields of our own requests, but for the size, which depends on the model."""
        given = {name: getattr(self, name) for name in OURS if name in self.model_fields_set}
        ours = {name: value for name, value in given.items() if value is not None}
        steps = ours.get("num_inference_steps", CONTROLS["num_inference_steps"].default)
        return {
            "prompt": self.prompt,
            "num_images": self.n or 1,
            "preview_every": max(1, steps // ((self.partial_images or 0) + 1)),
            **ours,
        }

    @property
    def pixels(self) -> Size | None:
        """The requested size, None for "auto" and anything that is not a size."""
        return sizes.parse(self.size or "")

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


_FIELDS: dict[str, Any] = {name: foreign_field_of(CONTROLS[name]) for name in OURS}
ImageRequest = create_model(
    "ImageRequest", __base__=_ImageRequest, __doc__=_ImageRequest.__doc__, **_FIELDS
)


class VariationRequest(ImageRequest):
    """`images/variations`, which has no prompt."""

    prompt: Text = ""
