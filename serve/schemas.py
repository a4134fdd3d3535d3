"""What a job may ask for: a model per kind of job, its fields derived from the controls."""

import dataclasses
import functools
import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    create_model,
    model_validator,
)
from pydantic_core import core_schema

from dg2_jax.checks import ParameterError
from dg2_jax.controls.declaration import KINDS, Control
from dg2_jax.controls.values import Choice, Integer, Values
from dg2_jax.controls.values import Text as TextValues
from dg2_jax.serve.job_controls import CONTROLS, SPLITS, of_kind
from dg2_jax.settings import MAX_SEED, Settings

MAX_PROMPT = TextValues().length
PICTURES = ("image", "mask", "control_image")  # the fields that hold one
_JSON_TYPES = {int: "integer", float: "number", str: "string", bool: "boolean"}


@dataclass(frozen=True)
class Checked:
    """Annotates a field whose values a control checks.

    Attributes:
        control: the control.
        from_text: whether a text may stand for another type, as in a form.
    """

    control: Control
    from_text: bool = False

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """Replaces the annotated type's validation."""
        return core_schema.no_info_plain_validator_function(self._check)

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        """Shows type and bounds."""
        shown = _json_schema(self.control)
        return {"anyOf": [shown, {"type": "null"}]} if self.control.optional else shown

    def _check(self, value: Any) -> Any:
        if self.from_text and isinstance(value, str) and self.control.values.python is not str:
            value = self.control.parse(value)
        if self.control.values.python is int and isinstance(value, float) and value.is_integer():
            value = int(value)  # JSON has one type of number
        return self.control.checked(value)


def _json_schema(control: Control) -> dict[str, Any]:
    told = control.values.describe()
    if told["type"] in ("integers", "numbers"):
        item = {"type": told["type"][:-1], "minimum": told["minimum"], "maximum": told["maximum"]}
        length = told["length"]
        return {"type": "array", "items": item, "minItems": length, "maxItems": length}
    if told["type"] == "texts":
        text = {"type": "string", "maxLength": told["maximum"]}
        return {"type": "array", "items": text, "maxItems": told["length"]}
    shown: dict[str, Any] = {"type": _JSON_TYPES[control.values.python]}
    if told["type"] == "choice":
        return shown | {"enum": told["choices"]}
    if told["type"] == "text":
        return shown | {"maxLength": told["maximum"]}
    return shown | {name: told[name] for name in ("minimum", "maximum") if name in told}


def field_of(control: Control) -> tuple[Any, Any]:
    """A control as a pydantic field: its type, and its default and help text."""
    return Annotated[Any, Checked(control)], Field(control.default, description=control.help)


def foreign_field_of(control: Control) -> tuple[Any, Any]:
    """The same in another interface, where it may be left out and where a text may stand for it."""
    optional: Any = Annotated[
        Any, Checked(dataclasses.replace(control, optional=True), from_text=True)
    ]
    return optional, Field(None, description=control.help)


def checked(values: Values, name: str = "value") -> Checked:
    """The check of a field that is not a control."""
    return Checked(Control(values, "", "", name=name))


VIEWS = tuple(CONTROLS["anagram"].values.describe()["choices"])
Text = Annotated[str, checked(TextValues(), "text")]
Count = Annotated[int, checked(Integer(1, 100), "count")]
Seed = Annotated[int, checked(Integer(0, MAX_SEED), "seed")]
Split = Annotated[str, checked(Choice(SPLITS), "split")]
Picture = Annotated[str, Field(min_length=1, description="base64, data: URI or a picture's id")]


class View(BaseModel):
    """One reading of an anagram."""

    model_config = ConfigDict(extra="forbid")

    prompt: Text
    view: Annotated[str, checked(Choice(VIEWS), "view")]


_views = CONTROLS["anagram"].values.describe()
Views = Annotated[list[View], Field(min_length=_views["minimum"], max_length=_views["maximum"])]


class _Request(BaseModel):
    """What is asked of a job; its fields besides the kind are those of `job_controls.of_kind`."""

    model_config = ConfigDict(extra="forbid")

    kind: str

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    @property
    def text(self) -> str:
        """What the job shows, for lists and searches."""
        if self.kind == "anagram":
            return " | ".join(view.prompt for view in self.anagram)
        return getattr(self, "prompt", "")

    @property
    def count(self) -> int:
        """How many pictures it makes."""
        return getattr(self, "num_images", 1)

    def fields(self) -> dict[str, Any]:
        """All of it as plain data, as it is stored and shown."""
        return self.model_dump(mode="json", warnings=False)

    def asks_the_same(self, other: "_Request") -> bool:
        """Whether they are equal but for the seed, which may have been drawn."""
        return {**self.fields(), "seed": None} == {**other.fields(), "seed": None}

    def settings(self) -> dict[str, Any]:
        """The keyword arguments of `Settings` that it gives."""
        names = Settings.__dataclass_fields__
        given = {name: getattr(self, name) for name in type(self).model_fields if name in names}
        if self.kind == "anagram":
            given["anagram"] = tuple((view.prompt, view.view) for view in self.anagram)
        return given

    @model_validator(mode="after")
    def _goes_together(self) -> "_Request":
        """What the library would refuse of any model is refused here."""
        if self.kind != "upscale":
            Settings(**self.settings())
        return self


class _Inpaint(_Request):
    """Repaints part of a picture, or paints around it."""

    @model_validator(mode="after")
    def _one_region(self) -> "_Inpaint":
        if (self.mask is None) == (self.outpaint is None):
            raise ParameterError("mask", "or outpaint is required, and not both")
        return self


_DOCS = {
    "txt2img": "Pictures from a prompt.",
    "img2img": "A picture changed towards a prompt.",
    "inpaint": "A part of a picture, or what lies around it, repainted.",
    "anagram": "A picture that reads differently when it is turned.",
    "upscale": "A picture enlarged.",
}
_NAMES = dict(zip(KINDS, ("Txt2Img", "Img2Img", "Inpaint", "Anagram", "Upscale"), strict=True))


def _model(kind: str) -> type[_Request]:
    fields: dict[str, Any] = {name: field_of(entry) for name, entry in of_kind(kind).items()}
    if kind in ("img2img", "inpaint", "upscale"):
        fields["image"] = (Picture, ...)
    if kind == "inpaint":
        fields["mask"] = (Picture | None, None)
    if "controlnet" in fields:
        fields["control_image"] = (Picture | None, None)
    if kind == "anagram":
        fields["anagram"] = (Views, ...)
    if kind == "upscale":
        factor = dataclasses.replace(of_kind(kind)["upscale"], optional=False)
        fields["upscale"] = field_of(factor)
    base = _Inpaint if kind == "inpaint" else _Request
    own_kind: Any = (Literal[kind], kind)
    return create_model(_NAMES[kind], __base__=base, __doc__=_DOCS[kind], kind=own_kind, **fields)


REQUESTS = {kind: _model(kind) for kind in KINDS}

if TYPE_CHECKING:
    JobRequest = _Request
else:
    JobRequest = Annotated[
        functools.reduce(operator.or_, REQUESTS.values()), Field(discriminator="kind")
    ]
job_request: TypeAdapter[Any] = TypeAdapter(JobRequest)


def stored_request(kind: str, fields: dict[str, Any]) -> "_Request":
    """A request that was validated before it was stored, perhaps by another version.

    Fields that are not known are left out, and missing ones have their defaults.
    """
    model = REQUESTS[kind]
    known: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value  # JSON has no tuples
        for name, value in fields.items()
        if name in model.model_fields
    }
    if "anagram" in known:
        known["anagram"] = [View.model_construct(**view) for view in known["anagram"] or ()]
    known["kind"] = kind
    return model.model_construct(**known)


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
