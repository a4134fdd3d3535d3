"""What a job may ask for: a model a kind, every field bounded, so that nothing odd is compiled."""

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    field_validator,
    model_validator,
)
from pydantic_core import core_schema

from dg2_jax.settings import MAX_IMAGES, MAX_SEED, MAX_STEPS, Settings
from serve.choices import CHOICES

MAX_PROMPT = 4000


def _no_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not contain NUL")
    return text


def _no_bool(value: Any) -> Any:
    """JSON's true and "5" are no numbers here."""
    if isinstance(value, bool | str):
        raise ValueError("must be a number")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("must be a finite number")
    return value


@dataclass(frozen=True)
class OneOf:
    """Annotates a field whose values are `CHOICES[name]`, and nothing that merely equals one."""

    name: str

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """Replaces the annotated type's validation."""
        return core_schema.no_info_plain_validator_function(self._check)

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        """Shows the values."""
        allowed = CHOICES[self.name]
        kind = "integer" if isinstance(allowed[0], int) else "string"
        return {"type": kind, "enum": list(allowed)}

    def _check(self, value: Any) -> Any:
        allowed = CHOICES[self.name]
        if type(value) is not type(allowed[0]) or value not in allowed:
            raise ValueError(f"must be one of {', '.join(map(str, allowed))}")
        return value


Text = Annotated[str, Field(max_length=MAX_PROMPT), AfterValidator(_no_nul)]
Picture = Annotated[str, Field(min_length=1, description="base64, data: URI or a picture's id")]
Integer = Annotated[int, BeforeValidator(_no_bool, json_schema_input_type=int)]
Number = Annotated[float, BeforeValidator(_no_bool, json_schema_input_type=float)]
Unit = Annotated[Number, Field(ge=0, le=1)]
Pixels = Annotated[Integer, Field(ge=0, le=4096)]


class View(BaseModel):
    """One reading of an anagram."""

    model_config = ConfigDict(extra="forbid")

    prompt: Text
    view: Annotated[str, OneOf("view")]


class _Request(BaseModel):
    """What all kinds share."""

    model_config = ConfigDict(extra="forbid")

    upscaler: Annotated[str, OneOf("upscaler")] = "x4plus"
    embed_metadata: bool = Field(True, strict=True)

    @property
    def text(self) -> str:
        """What the job shows, for lists and searches."""
        return getattr(self, "prompt", "")

    def controls(self) -> dict[str, Any]:
        """The keyword arguments of `Settings` that this request gives."""
        names = Settings.__dataclass_fields__
        return {k: v for k, v in self.model_dump().items() if k in names}


class _Sampling(_Request):
    """What all kinds share that sample."""

    negative_prompt: Text = ""
    num_images: Annotated[Integer, Field(ge=1, le=MAX_IMAGES)] = 1
    num_inference_steps: Annotated[Integer, Field(ge=1, le=MAX_STEPS)] = 20
    guidance_scale: Annotated[Number, Field(ge=0, le=100)] = 2.5
    solver: Annotated[str, OneOf("solver")] = "dpmpp_2m"
    seed: Annotated[Integer, Field(ge=0, le=MAX_SEED)] | None = None
    weights: Annotated[str, OneOf("weights")] = "ema"
    model: Annotated[str, Field(max_length=200)] | None = None
    eta: Unit = 0.0
    guidance_rescale: Unit = 0.0
    guidance_interval: tuple[Unit, Unit] | None = None
    apg_eta: Unit = 1.0
    apg_norm_threshold: Annotated[Number, Field(ge=1e-6, le=1e6)] | None = None
    apg_momentum: Annotated[Number, Field(ge=-1, le=1)] = 0.0
    reuse_every: Annotated[Integer, Field(ge=1, le=MAX_STEPS)] = 1
    spacing: Annotated[str, OneOf("spacing")] | None = None
    upscale: Annotated[int, OneOf("upscale")] | None = None
    preview_every: Annotated[Integer, Field(ge=1, le=MAX_STEPS)] = 5
    preview_mode: Annotated[str, OneOf("preview_mode")] = "linear"

    @model_validator(mode="after")
    def _library_agrees(self) -> "_Sampling":
        """What the library would refuse is refused here, before anything is stored."""
        Settings(**self.controls())
        return self


class _Prompted(_Sampling):
    prompt: Text = ""
    prompt_matching: Annotated[str, OneOf("prompt_matching")] | None = None


class _Editing(_Prompted):
    image: Picture
    strength: Unit = 0.75
    strength_mode: Annotated[str, OneOf("strength_mode")] = "partial"
    resize_mode: Annotated[str, OneOf("resize_mode")] = "crop"


class Txt2Img(_Prompted):
    """Pictures from a prompt."""

    kind: Literal["txt2img"] = "txt2img"


class Img2Img(_Editing):
    """A picture changed towards a prompt."""

    kind: Literal["img2img"] = "img2img"
    inversion: Annotated[str, OneOf("inversion")] | None = None
    source_prompt: Text = ""


class Inpaint(_Editing):
    """A part of a picture, or what lies around it, painted anew."""

    kind: Literal["inpaint"] = "inpaint"
    strength: Unit = 1.0
    mask: Picture | None = None
    mask_feather: Annotated[Number, Field(ge=0, le=64)] = 4.0
    num_resamples: Annotated[Integer, Field(ge=1, le=20)] = 1
    outpaint: tuple[Pixels, Pixels, Pixels, Pixels] | None = None

    @field_validator("outpaint")
    @classmethod
    def _something_new(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if value is not None and not any(value):
            raise ValueError("must have a side above 0")
        return value

    @model_validator(mode="after")
    def _one_region(self) -> "Inpaint":
        if (self.mask is None) == (self.outpaint is None):
            raise ValueError("mask or outpaint is required, and not both")
        return self


class Anagram(_Sampling):
    """A picture that reads differently when it is turned."""

    kind: Literal["anagram"] = "anagram"
    anagram: list[View] = Field(min_length=2, max_length=4)
    anagram_mode: Annotated[str, OneOf("anagram_mode")] = "latent"

    @property
    def text(self) -> str:
        """See `_Request`."""
        return " | ".join(view.prompt for view in self.anagram)

    def controls(self) -> dict[str, Any]:
        """See `_Request`."""
        pairs = tuple((view.prompt, view.view) for view in self.anagram)
        return super().controls() | {"anagram": pairs}


class Upscale(_Request):
    """A picture enlarged."""

    kind: Literal["upscale"] = "upscale"
    image: Picture
    upscale: Annotated[int, OneOf("upscale")]


JobRequest = Annotated[Txt2Img | Img2Img | Inpaint | Anagram | Upscale, Field(discriminator="kind")]
job_request: TypeAdapter[JobRequest] = TypeAdapter(JobRequest)

EXAMPLES: dict[str, Any] = {
    "txt2img": {
        "value": {"kind": "txt2img", "prompt": "a lake at dawn", "num_images": 2, "seed": 7}
    },
    "img2img": {
        "value": {
            "kind": "img2img",
            "prompt": "the same place in winter",
            "image": "data:image/png;base64,iVBORw0KGgo…",
            "strength": 0.6,
        }
    },
    "inpaint": {
        "value": {
            "kind": "inpaint",
            "prompt": "a small boat",
            "image": "0199c1a2b3c4d5e6f708_000",
            "mask": "data:image/png;base64,iVBORw0KGgo…",
        }
    },
    "anagram": {
        "value": {
            "kind": "anagram",
            "anagram": [
                {"prompt": "a volcano at sunset", "view": "identity"},
                {"prompt": "a lake at dawn", "view": "rot180"},
            ],
        }
    },
    "upscale": {"value": {"kind": "upscale", "image": "0199c1a2b3c4d5e6f708_000", "upscale": 4}},
}
