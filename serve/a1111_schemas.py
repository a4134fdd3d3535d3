"""Requests of A1111 clients: unknown fields ignored, null means left out, odd values bent."""

import math
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from dg2_jax.settings import MAX_SEED
from serve.schemas import MAX_PROMPT, Text


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and math.isfinite(value) else value


Whole = Annotated[int, BeforeValidator(_whole), Field(ge=-(2**63), le=2**63)]
Real = Annotated[float, Field(allow_inf_nan=False)]


class _Lenient(BaseModel):
    model_config = ConfigDict(extra="ignore")

    @model_validator(mode="before")
    @classmethod
    def _null_is_default(cls, value: Any) -> Any:
        if isinstance(value, dict):
            return {name: item for name, item in value.items() if item is not None}
        return value


class Generate(_Lenient):
    """`txt2img`, and what `img2img` shares with it."""

    prompt: Text = ""
    negative_prompt: Text = ""
    seed: Whole = -1
    sampler_name: str = Field("", max_length=100)
    sampler_index: str = Field("", max_length=100)
    scheduler: str = Field("automatic", max_length=100)
    batch_size: Whole = 1
    n_iter: Whole = 1
    steps: Whole = 50
    cfg_scale: Real = 7.0
    width: Whole = 512
    height: Whole = 512
    eta: Real | None = None
    styles: list[str] = []
    override_settings: dict[str, Any] = {}
    send_images: bool = True

    def fields(self) -> dict[str, Any]:
        """As fields of our own requests, within their bounds."""
        steps = min(1000, max(1, self.steps))
        return {
            "prompt": self.prompt,
            "negative_prompt": self.negative_prompt,
            "seed": None if self.seed < 0 else self.seed % (MAX_SEED + 1),
            "num_images": max(1, self.batch_size) * max(1, self.n_iter),
            "num_inference_steps": steps,
            "guidance_scale": min(100.0, max(0.0, self.cfg_scale)),
            "preview_every": max(1, steps // 10),
        }


class Change(Generate):
    """`img2img`."""

    init_images: list[str] = Field(min_length=1, max_length=64)
    mask: str | None = None
    denoising_strength: Real = 0.75
    resize_mode: Whole = 0
    mask_blur: Real = 4.0
    inpainting_mask_invert: bool = False
    include_init_images: bool = False

    def fields(self) -> dict[str, Any]:
        """See `Generate`."""
        found = super().fields()
        found |= {
            "strength": min(1.0, max(0.0, self.denoising_strength)),
            "resize_mode": "pad" if self.resize_mode == 2 else "crop",
        }
        if self.mask is not None:
            found["mask_feather"] = min(64.0, max(0.0, self.mask_blur))
        return found


class _Extras(_Lenient):
    resize_mode: Whole = 0
    upscaling_resize: Real = 2.0
    upscaling_resize_w: Whole = 512
    upscaling_resize_h: Whole = 512
    upscaling_crop: bool = True
    upscaler_1: str = Field("None", max_length=100)


class ExtraSingle(_Extras):
    """`extra-single-image`."""

    image: str


class NamedImage(_Lenient):
    """A member of `imageList`."""

    data: str
    name: str = ""


class ExtraBatch(_Extras):
    """`extra-batch-images`."""

    imageList: list[NamedImage] = Field(min_length=1, max_length=64)  # noqa: N815


class PngInfo(_Lenient):
    """`png-info`."""

    image: str


class Options(_Lenient):
    """`options`, of which only the model is used."""

    sd_model_checkpoint: str | None = Field(None, max_length=MAX_PROMPT)
