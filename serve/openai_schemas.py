"""Requests of OpenAI clients, from JSON or from a multipart form."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from serve.schemas import MAX_SEED, OneOf, Text

# Ours, which clients send through `extra_body`.
OURS = (
    "seed",
    "negative_prompt",
    "num_inference_steps",
    "guidance_scale",
    "solver",
    "weights",
    "strength",
    "upscale",
    "upscaler",
    "prompt_matching",
    "eta",
    "preview_mode",
)


class ImageRequest(BaseModel):
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

    seed: int | None = Field(None, ge=0, le=MAX_SEED)
    negative_prompt: Text | None = None
    num_inference_steps: int | None = Field(None, ge=1, le=1000)
    guidance_scale: float | None = Field(None, ge=0, le=100, allow_inf_nan=False)
    solver: Annotated[str, OneOf("solver")] | None = None
    weights: Annotated[str, OneOf("weights")] | None = None
    strength: float | None = Field(None, ge=0, le=1, allow_inf_nan=False)
    upscale: Literal[2, 4] | None = None
    upscaler: Annotated[str, OneOf("upscaler")] | None = None
    prompt_matching: Annotated[str, OneOf("prompt_matching")] | None = None
    eta: float | None = Field(None, ge=0, le=1, allow_inf_nan=False)
    preview_mode: Annotated[str, OneOf("preview_mode")] | None = None

    def fields(self) -> dict[str, Any]:
        """As fields of our own requests; a model of another maker's name is the default one."""
        given = {name: getattr(self, name) for name in OURS}
        found = {name: value for name, value in given.items() if value is not None}
        steps = found.get("num_inference_steps", 20)
        return {
            "prompt": self.prompt,
            "num_images": self.n or 1,
            "preview_every": max(1, steps // ((self.partial_images or 0) + 1)),
            **found,
        }

    @property
    def suffix(self) -> Literal["png", "jpeg", "webp"]:
        """Of a picture's file."""
        return self.output_format or "png"


class FormRequest(ImageRequest):
    """The same from a form, where all is text: an empty field is a missing one."""

    upscale: int | None = Field(None, ge=2, le=4, multiple_of=2)  # type: ignore[assignment]

    @classmethod
    def of(cls, form: dict[str, Any]) -> Self:
        """From a form's text fields.

        Raises:
            pydantic.ValidationError: as usual.
        """
        return cls.model_validate({k: v for k, v in form.items() if v != ""})


class VariationRequest(FormRequest):
    """`images/variations`, which has no prompt."""

    prompt: Text = ""
