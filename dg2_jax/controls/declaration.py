"""What a control is: its values, default, help text and group.

A control is declared once, as a field of a dataclass (`dg2_jax.settings`):

    guidance_scale: float = control(2.5, Real(-100.0, 100.0), "strength of the prompt", "guidance")

From the declaration come the checks, the keyword arguments of `Pipeline`, the flags of
scripts.sample, the fields of the HTTP interfaces and what the page shows.
"""

import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dg2_jax.checks import ParameterError
from dg2_jax.controls.other_names import OTHER_NAMES
from dg2_jax.controls.values import Values

KINDS = ("txt2img", "img2img", "inpaint", "anagram", "upscale")  # of jobs
SAMPLED = KINDS[:-1]  # the kinds that run the denoiser


@dataclass(frozen=True)
class Control:
    """A control as it was declared.

    Attributes:
        values: the values it may have.
        help: one sentence, with the unit and the meaning of both ends of the range.
        group: a heading of the page; `takes_settings` selects controls by it.
        kinds: the kinds of job that have it.
        advanced: whether it is rarely used.
        optional: whether it may be None.
        kind_defaults: defaults of single kinds of job, where they differ from `default`.
        default: the value that is used if none is given.
        name: the name of the field.
    """

    values: Values
    help: str
    group: str
    kinds: tuple[str, ...] = SAMPLED
    advanced: bool = False
    optional: bool = False
    kind_defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict, hash=False)
    default: Any = None
    name: str = ""

    def checked(self, value: Any) -> Any:
        """`value` in its plain form.

        Raises:
            ParameterError: it is not allowed.
        """
        if value is None and self.optional:
            return None
        return self.values.checked(self.name, value)

    def parse(self, text: str) -> Any:
        """The value a text stands for, unchecked; "none" is None where that is allowed."""
        return None if self.optional and text.lower() == "none" else self.values.parse(text)

    @property
    def python(self) -> Any:
        """The type in Python."""
        return self.values.python | None if self.optional else self.values.python

    def describe(self) -> dict[str, Any]:
        """All of it as plain data, every key present: what `GET /options` lists."""
        bounds = dict.fromkeys(("minimum", "maximum", "choices", "length"))
        return {
            "name": self.name,
            **bounds,
            **self.values.describe(),
            "default": self.default,
            "kind_defaults": dict(self.kind_defaults),
            "optional": self.optional,
            "group": self.group,
            "advanced": self.advanced,
            "kinds": list(self.kinds),
            "help": self.help,
        }


def control(default: Any, values: Values, help: str, group: str, **more: Any) -> Any:
    """A dataclass field that declares a control; see `Control` for the arguments."""
    return dataclasses.field(
        default=default, metadata={"control": Control(values, help, group, **more)}
    )


def of(declaration: type) -> dict[str, Control]:
    """The controls that a dataclass declares, by name, in its order."""
    return {
        field.name: dataclasses.replace(
            field.metadata["control"], name=field.name, default=field.default
        )
        for field in dataclasses.fields(declaration)
    }


def check_names(given: Iterable[str], known: Iterable[str], where: str) -> None:
    """Raises ParameterError, telling our name for it or near ones, unless all are `known`."""
    known = list(known)
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, 3, 0.6)
            ours = OTHER_NAMES.get(name)
            if ours is not None and (ours in known or not ours.isidentifier()):
                hint = f"; use {ours}"
            elif near:
                hint = f"; did you mean {' or '.join(near)}?"
            else:
                hint = f", which has: {', '.join(known)}"
            raise ParameterError(name, f"is not a parameter of {where}{hint}")
