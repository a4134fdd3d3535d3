"""Requests of A1111 clients: unknown fields ignored, null means left out, odd values bent."""

import math
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    create_model,
    field_validator,
    model_validator,
)

from dg2_jax.pictures.edges import PREPROCESSORS
from dg2_jax.settings import MAX_SEED
from serve import a1111_names
from serve.job_controls import CONTROLS
from serve.schemas import MAX_PROMPT, Text, foreign_field_of

# Controls that this interface says in its own words, or does not have, and why.
NOT_HERE = {
    "prompt": "is A1111's own field",
    "negative_prompt": "is A1111's own field",
    "num_images": "is `batch_size` times `n_iter`",
    "seed": "is A1111's own field, -1 for any",
    "preview_every": "a tenth of the steps",
    "num_inference_steps": "is `steps`",
    "guidance_scale": "is `cfg_scale`",
    "solver": "is `sampler_name`",
    "eta": "A1111's field of that name is another solver's, and its clients send 1 unasked",
    "weights": "is part of the checkpoint's name",
    "model": "is part of the checkpoint's name",
    "width": "is A1111's own field, bent to the nearest aspect",
    "height": "is A1111's own field, bent to the nearest aspect",
    "strength": "is `denoising_strength`",
    "resize_mode": "is A1111's own field, a number",
    "mask_feather": "is `mask_blur`",
    "inpaint_area": "is `inpaint_full_res`",
    "inpaint_padding": "is `inpaint_full_res_padding`",
    "upscale": "is `enable_hr` with `hr_scale`",
    "upscaler": "is `hr_upscaler`",
    "anagram": "the interface has no anagrams",
    "anagram_mode": "the interface has no anagrams",
    "controlnet": "is part of its extension's unit",
    "controlnet_conditioning_scale": "is part of its extension's unit",
    "control_guidance_start": "is part of its extension's unit",
    "control_guidance_end": "is part of its extension's unit",
    "control_preprocessor": "is part of its extension's unit",
    "clip_skip": "is `CLIP_stop_at_last_layers` of `override_settings`",
    "outpaint": "A1111 has it as a script, and there are no scripts",
}
OURS = tuple(name for name in CONTROLS if name not in NOT_HERE)  # further fields, by their names


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


_CONTROLNET = "controlnet"  # the extension's name


class ControlUnit(_Lenient):
    """One unit of the extension for ControlNets."""

    model: str = Field(min_length=1, max_length=1000)
    module: str = Field("none", max_length=100)
    weight: Real = 1.0
    guidance_start: Real = 0.0
    guidance_end: Real = 1.0
    image: Any = None
    input_image: Any = None
    control_mode: Any = 0

    @field_validator("module")
    @classmethod
    def _known_module(cls, value: str) -> str:
        name = value.lower()
        if name not in ("none", *PREPROCESSORS):
            raise ValueError(f"there is no preprocessor {value!r:.80}; there is canny")
        return name

    @field_validator("control_mode")
    @classmethod
    def _balanced(cls, value: Any) -> Any:
        if value not in (0, "0", "Balanced"):
            raise ValueError(f"control_mode must be Balanced, got {value!r:.80}")
        return value

    def fields(self) -> dict[str, Any]:
        """As fields of our own requests; without a picture that of img2img is taken."""
        given = self.image or self.input_image
        picture = given.get("image") if isinstance(given, dict) else given
        return {
            "controlnet": self.model.partition(" [")[0],
            "controlnet_conditioning_scale": _within("controlnet_conditioning_scale", self.weight),
            "control_guidance_start": _within("control_guidance_start", self.guidance_start),
            "control_guidance_end": _within("control_guidance_end", self.guidance_end),
            "control_preprocessor": None if self.module == "none" else self.module,
            "control_image": picture,
        }


class _Generate(_Lenient):
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
    script_name: str = Field("", max_length=MAX_PROMPT)
    alwayson_scripts: dict[str, Any] = {}
    send_images: bool = True

    @field_validator("script_name")
    @classmethod
    def _no_script(cls, value: str) -> str:
        if value:
            raise ValueError(f"there is no script {value[:80]!r}")
        return value

    @field_validator("alwayson_scripts")
    @classmethod
    def _no_scripts(cls, value: dict[str, Any]) -> dict[str, Any]:
        """A picture without what a script was to do would look like success."""
        for name, content in value.items():
            arguments = content.get("args") if isinstance(content, dict) else None
            if name.lower() == _CONTROLNET:
                cls._unit(value)
            elif any(_active(a) for a in arguments or ()):
                raise ValueError(f"there is no extension {name[:80]!r}")
        return value

    @staticmethod
    def _unit(scripts: dict[str, Any]) -> ControlUnit | None:
        """The one active unit of the extension for ControlNets."""
        content = next((c for n, c in scripts.items() if n.lower() == _CONTROLNET), None)
        units = content.get("args") if isinstance(content, dict) else None
        if not isinstance(units, list | None) or not all(isinstance(u, dict) for u in units or ()):
            raise ValueError(f"the args of {_CONTROLNET} must be a list of units")
        active = [one for one in units or () if _active(one)]
        if len(active) > 1:
            raise ValueError("one ControlNet can act at a time")
        return ControlUnit.model_validate(active[0]) if active else None

    @property
    def chosen(self) -> set[str]:
        """Our own names of what the client set, of the fields with defaults per weights."""
        ours = {"steps": "num_inference_steps", "cfg_scale": "guidance_scale", "spacing": "spacing"}
        chosen = {name for given, name in ours.items() if given in self.model_fields_set}
        return chosen | ({"solver"} if self.sampler_name or self.sampler_index else set())

    def fields(self) -> dict[str, Any]:
        """As fields of our own requests, within their bounds."""
        steps = _within("num_inference_steps", self.steps)
        given = {name: getattr(self, name) for name in OURS if name in self.model_fields_set}
        return {
            **{name: value for name, value in given.items() if value is not None},
            "prompt": self.prompt,
            "negative_prompt": self.negative_prompt,
            "seed": None if self.seed < 0 else self.seed % (MAX_SEED + 1),
            "num_images": max(1, self.batch_size) * max(1, self.n_iter),
            "num_inference_steps": steps,
            "guidance_scale": _within("guidance_scale", self.cfg_scale),
            "preview_every": max(1, steps // 10),
            **self._controlled(),
        }

    def _controlled(self) -> dict[str, Any]:
        unit = self._unit(self.alwayson_scripts)
        return {} if unit is None else unit.fields()


def _within(name: str, value: Any) -> Any:
    """A number bent into the bounds of a control."""
    bounds = CONTROLS[name].values.describe()
    return min(bounds["maximum"], max(bounds["minimum"], value))


def _active(argument: Any) -> bool:
    """Whether an extension's argument asks for anything."""
    return bool(argument.get("enabled", True) if isinstance(argument, dict) else argument)


_FIELDS: dict[str, Any] = {name: foreign_field_of(CONTROLS[name]) for name in OURS}
Generate = create_model("Generate", __base__=_Generate, __doc__=_Generate.__doc__, **_FIELDS)


class Create(Generate):
    """`txt2img`; its second pass at a higher resolution is an upscaling network here."""

    enable_hr: bool = False
    hr_scale: Real = 2.0
    hr_upscaler: str = Field("", max_length=100)

    def fields(self) -> dict[str, Any]:
        """See `Generate`."""
        fields = super().fields()
        if self.enable_hr:
            fields["upscale"] = 2 if self.hr_scale <= 2 else 4
            fields["upscaler"] = a1111_names.upscaler(self.hr_upscaler) or "x4plus"
        return fields


class Change(Generate):
    """`img2img`; several pictures are changed one after the other.

    `inpainting_fill` says what the masked part starts from: 0 the colours around it, 1 what is
    there, 2 and 3 noise. With `inpaint_full_res`, A1111's default, the region around the mask is
    worked on, and the picture keeps its size.
    """

    init_images: list[str] = Field(min_length=1, max_length=64)
    mask: str | None = None
    denoising_strength: Real = 0.75
    resize_mode: Whole = 0
    mask_blur: Real = 4.0
    inpainting_fill: Whole = 0
    inpaint_full_res: bool = True
    inpaint_full_res_padding: Whole = 0
    inpainting_mask_invert: bool = False
    include_init_images: bool = False

    def fields(self) -> dict[str, Any]:
        """See `Generate`."""
        fields = super().fields()
        fields |= {
            "strength": _within("strength", self.denoising_strength),
            "resize_mode": "pad" if self.resize_mode == 2 else "crop",
        }
        if self.mask is not None:
            fields["mask_feather"] = _within("mask_feather", self.mask_blur)
            if self.inpaint_full_res:
                fields["inpaint_area"] = "only_masked"
                fields["inpaint_padding"] = _within(
                    "inpaint_padding", self.inpaint_full_res_padding
                )
            if self.inpainting_fill >= 2:
                fields["strength"] = 1.0
        if len(self.init_images) > 1:  # `batch_size` counts them
            fields["num_images"] = max(1, self.n_iter)
        return fields


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
    """`options`; only the model is used."""

    sd_model_checkpoint: str | None = Field(None, max_length=MAX_PROMPT)
