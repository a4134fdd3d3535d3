"""Requests of A1111 clients: null means left out; `a1111_fields` says what is done and refused."""

import math
from typing import Annotated, Any, ClassVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    create_model,
    field_validator,
    model_validator,
)

from dg2_jax.pictures.edges import PREPROCESSORS
from dg2_jax.serve import a1111_fields, foreign_fields
from dg2_jax.serve.foreign_fields import Row
from dg2_jax.serve.job_controls import CONTROLS
from dg2_jax.serve.schemas import MAX_PROMPT, Text, View, Views, foreign_field_of
from dg2_jax.settings import MAX_IMAGES, MAX_SEED, MAX_SIDE, MAX_STEPS

# Controls that this interface says in its own words, or does not have, and why.
NOT_HERE = {
    "prompt": "is A1111's own field",
    "negative_prompt": "is A1111's own field",
    "styles": "is A1111's own field",
    "num_images": "is `batch_size` times `n_iter`",
    "seed": "is A1111's own field, -1 for any",
    "preview_every": "a tenth of the steps",
    "num_inference_steps": "is `steps`",
    "guidance_scale": "is `cfg_scale`",
    "solver": "is `sampler_name`",
    "variation_seed": "is `subseed`",
    "variation_strength": "is `subseed_strength`",
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
    "hires_size": "is `hr_scale`, or `hr_resize_x` and `hr_resize_y`",
    "hires_method": "is `hr_upscaler`",
    "hires_strength": "is `denoising_strength`",
    "hires_steps": "is `hr_second_pass_steps`",
    "anagram": "is the arguments of a script of that name",
    "controlnet": "is part of its extension's unit",
    "controlnet_conditioning_scale": "is part of its extension's unit",
    "control_guidance_start": "is part of its extension's unit",
    "control_guidance_end": "is part of its extension's unit",
    "control_preprocessor": "is part of its extension's unit",
    "clip_skip": "is `CLIP_stop_at_last_layers` of `override_settings`",
    "outpaint": "A1111 has it as a script, and there are no scripts",
}
CHECKPOINT, CLIP_LAYERS = "sd_model_checkpoint", "CLIP_stop_at_last_layers"
MAX_ENLARGED = 8 * MAX_SIDE  # of a side, in pixels
OURS = tuple(name for name in CONTROLS if name not in NOT_HERE)  # further fields, by their names


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and math.isfinite(value) else value


Whole = Annotated[int, BeforeValidator(_whole), Field(ge=-(2**63), le=2**63)]
Real = Annotated[float, Field(allow_inf_nan=False)]


def _within(control: str, default: Any) -> Any:
    """A field within the bounds of a control."""
    bounds = CONTROLS[control].values.describe()
    return Field(default, ge=bounds["minimum"], le=bounds["maximum"])


class Lenient(BaseModel):
    """A request whose null fields are left out, and whose other fields `table` tells of."""

    model_config = ConfigDict(extra="ignore")

    table: ClassVar[dict[str, Row]] = {}

    @model_validator(mode="before")
    @classmethod
    def _checked(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        sent = {name: item for name, item in value.items() if item is not None}
        foreign_fields.check(cls.table, sent)
        return sent


_CONTROLNET, _ANAGRAM = "controlnet", "anagram"  # the extensions' names
_views: TypeAdapter[list[View]] = TypeAdapter(Views)


class ControlUnit(Lenient):
    """One unit of the extension for ControlNets."""

    model: str = Field(min_length=1, max_length=1000)
    module: str = Field("none", max_length=100)
    weight: Real = _within("controlnet_conditioning_scale", 1.0)
    guidance_start: Real = _within("control_guidance_start", 0.0)
    guidance_end: Real = _within("control_guidance_end", 1.0)
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
            "controlnet_conditioning_scale": self.weight,
            "control_guidance_start": self.guidance_start,
            "control_guidance_end": self.guidance_end,
            "control_preprocessor": None if self.module == "none" else self.module,
            "control_image": picture,
        }


class _Generate(Lenient):
    """`txt2img`, and what `img2img` shares with it."""

    table = a1111_fields.GENERATE

    prompt: Text = ""
    negative_prompt: Text = ""
    seed: Whole = Field(-1, ge=-1, le=MAX_SEED)
    subseed: Whole = Field(-1, ge=-1, le=MAX_SEED)
    subseed_strength: Real = _within("variation_strength", 0.0)
    sampler_name: str = Field("", max_length=100)
    sampler_index: str = Field("", max_length=100)
    scheduler: str = Field("", max_length=100)
    batch_size: Whole = Field(1, ge=1, le=MAX_IMAGES)
    n_iter: Whole = Field(1, ge=1, le=MAX_IMAGES)
    steps: Whole = _within("num_inference_steps", 50)
    cfg_scale: Real = _within("guidance_scale", 7.0)
    width: Whole = Field(512, ge=8, le=MAX_SIDE)
    height: Whole = Field(512, ge=8, le=MAX_SIDE)
    override_settings: dict[str, Any] = {}
    script_name: str = Field("", max_length=MAX_PROMPT)
    alwayson_scripts: dict[str, Any] = {}
    send_images: bool = True
    styles: list[Text] = []

    @field_validator("override_settings")
    @classmethod
    def _known_settings(cls, value: dict[str, Any]) -> dict[str, Any]:
        a1111_fields.check_settings(value, (CHECKPOINT, CLIP_LAYERS))
        return value

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
            elif name.lower() == _ANAGRAM:
                cls._views(value)
            elif any(_active(a) for a in arguments or ()):
                raise ValueError(f"there is no extension {name[:80]!r}")
        return value

    @staticmethod
    def _unit(scripts: dict[str, Any]) -> ControlUnit | None:
        """The one active unit of the extension for ControlNets."""
        units = _arguments(scripts, _CONTROLNET)
        if not isinstance(units, list | None) or not all(isinstance(u, dict) for u in units or ()):
            raise ValueError(f"the args of {_CONTROLNET} must be a list of units")
        active = [one for one in units or () if _active(one)]
        if len(active) > 1:
            raise ValueError("one ControlNet can act at a time")
        return ControlUnit.model_validate(active[0]) if active else None

    @staticmethod
    def _views(scripts: dict[str, Any]) -> list[View] | None:
        """The readings of an anagram."""
        arguments = _arguments(scripts, _ANAGRAM)
        return _views.validate_python(arguments) if arguments else None

    @property
    def views(self) -> list[View] | None:
        """The readings, where an anagram is asked for."""
        return self._views(self.alwayson_scripts)

    @property
    def chosen(self) -> set[str]:
        """Our own names of what the client set, of the fields with defaults per weights."""
        ours = {"steps": "num_inference_steps", "cfg_scale": "guidance_scale", "spacing": "spacing"}
        return {name for given, name in ours.items() if given in self.model_fields_set}

    def fields(self) -> dict[str, Any]:
        """As fields of our own requests."""
        given = {name: getattr(self, name) for name in OURS if name in self.model_fields_set}
        return {
            **{name: value for name, value in given.items() if value is not None},
            "prompt": self.prompt,
            "negative_prompt": self.negative_prompt,
            "styles": self.styles,
            "seed": None if self.seed < 0 else self.seed,
            "num_images": self.batch_size * self.n_iter,
            "num_inference_steps": self.steps,
            "guidance_scale": self.cfg_scale,
            "preview_every": max(1, self.steps // 10),
            "variation_strength": self.subseed_strength,
            **self._controlled(),
        }

    def _controlled(self) -> dict[str, Any]:
        unit = self._unit(self.alwayson_scripts)
        return {} if unit is None else unit.fields()


def _arguments(scripts: dict[str, Any], name: str) -> Any:
    """What an extension is given; None where it is not asked for."""
    content = next((c for n, c in scripts.items() if n.lower() == name), None)
    return content.get("args") if isinstance(content, dict) else None


def _active(argument: Any) -> bool:
    """Whether an extension's argument asks for anything."""
    return bool(argument.get("enabled", True) if isinstance(argument, dict) else argument)


_FIELDS: dict[str, Any] = {name: foreign_field_of(CONTROLS[name]) for name in OURS}
Generate = create_model("Generate", __base__=_Generate, __doc__=_Generate.__doc__, **_FIELDS)


class Create(Generate):
    """`txt2img`; upscalers of latents make a second pass, others enlarge the result."""

    table = a1111_fields.CREATE

    enable_hr: bool = False
    hr_scale: Real = Field(2.0, ge=1.0, le=8.0)
    hr_resize_x: Whole = Field(0, ge=0, le=MAX_ENLARGED)
    hr_resize_y: Whole = Field(0, ge=0, le=MAX_ENLARGED)
    hr_upscaler: str = Field("", max_length=100)
    hr_second_pass_steps: Whole = Field(0, ge=0, le=MAX_STEPS)
    denoising_strength: Real = _within("hires_strength", 0.75)


class Change(Generate):
    """`img2img`; several pictures are changed one after the other.

    `inpainting_fill` says what the masked part starts from: 0 the colours around it, 1 what is
    there, 2 and 3 noise. With `inpaint_full_res`, A1111's default, the region around the mask is
    worked on, and the picture keeps its size.
    """

    table = a1111_fields.CHANGE

    init_images: list[str] = Field(min_length=1, max_length=64)
    mask: str | None = None
    denoising_strength: Real = _within("strength", 0.75)
    resize_mode: Whole = Field(0, ge=0, le=2)
    mask_blur: Real = _within("mask_feather", 4.0)
    inpainting_fill: Whole = Field(0, ge=0, le=3)
    inpaint_full_res: bool = True
    inpaint_full_res_padding: Whole = _within("inpaint_padding", 0)
    inpainting_mask_invert: bool = False
    include_init_images: bool = False

    @property
    def stretches(self) -> bool:
        """Whether pictures of another shape are distorted; a region around a mask is not."""
        return self.resize_mode == 0 and not (self.mask is not None and self.inpaint_full_res)

    def fields(self) -> dict[str, Any]:
        """See `Generate`."""
        fields = super().fields()
        fields |= {
            "strength": self.denoising_strength,
            "resize_mode": "pad" if self.resize_mode == 2 else "crop",
        }
        if self.mask is not None:
            fields["mask_feather"] = self.mask_blur
            if self.inpaint_full_res:
                fields["inpaint_area"] = "only_masked"
                fields["inpaint_padding"] = self.inpaint_full_res_padding
            if self.inpainting_fill >= 2:
                fields["strength"] = 1.0
        if len(self.init_images) > 1:  # `batch_size` counts them
            fields["num_images"] = self.n_iter
        return fields


class PngInfoAsked(Lenient):
    """`png-info`."""

    image: str


class Options(Lenient):
    """`options`; only the model is used."""

    sd_model_checkpoint: str | None = Field(None, max_length=MAX_PROMPT)
