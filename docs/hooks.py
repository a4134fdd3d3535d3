"""What of the site is generated: tables from declarations, equations as MathML, examples as code.

A line `<!-- table: NAME -->` or `<!-- table: NAME ARGUMENT -->` of a page becomes the table that
the function of that name in `TABLES` returns. mkdocs.yml names this file.
"""

import dataclasses
import html
import inspect
import re
import types
import typing
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import griffe
from latex2mathml.converter import convert

from dg2_jax.config import field_types
from dg2_jax.controls.arguments import declared
from dg2_jax.controls.declaration import Control
from dg2_jax.models.architectures import ARCHITECTURES
from dg2_jax.serve.server_settings import ServerSettings
from dg2_jax.training import runs
from dg2_jax.training.config import RunConfig

_MARKER = re.compile(r"^<!-- table: (\w+)(?: (.+?))? -->$", re.MULTILINE)
_EQUATION = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
_ATTRIBUTE = re.compile(r"^ {4}([\w, ]+): (.*)$")
_EXAMPLE = re.compile(r"^( *)>>> .*(?:\n\1\S.*)*", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Puts the tables in."""
    return _MARKER.sub(lambda match: TABLES[match[1]](*filter(None, [match[2]])), markdown)


def on_page_content(content: str, **_: Any) -> str:
    """Turns TeX into MathML, which browsers draw without scripts."""

    def drawn(match: re.Match[str]) -> str:
        display = "inline" if match[1] == "span" else "block"
        return convert(html.unescape(match[2]).strip(), display=display)

    return _EQUATION.sub(drawn, content)


class Examples(griffe.Extension):
    """Has the examples of docstrings shown as code; Markdown would take `>>>` for a quotation."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Fences the examples of an object's docstring."""
        if obj.docstring is not None:
            text = obj.docstring.value
            obj.docstring.value = _EXAMPLE.sub(r"\1```pycon\n\g<0>\n\1```", text)


def controls(group: str) -> str:
    """The controls of a group: a row each, from their declarations."""
    rows = [
        (f"`{entry.name}`", _allowed(entry), _code(entry.default) + _by_kind(entry), entry.help)
        for entry in declared().values()
        if entry.group == group
    ]
    return _table(("control", "allowed", "default", "what"), rows)


def server_settings() -> str:
    """Every setting of the server: its variable, default and description."""
    rows = [
        (
            f"`DG2_{name.upper()}`",
            f"`--{name.replace('_', '-')}`",
            "" if field.default is None else _code(field.default),
            field.description or "",
        )
        for name, field in ServerSettings.model_fields.items()
    ]
    return _table(("variable", "flag", "default", "what"), rows)


def configuration() -> str:
    """Every class of the configurations, with its keys and what they mean."""
    return "\n\n".join(_section(cls) for cls in _configurations())


TABLES: dict[str, Callable[..., str]] = {
    "controls": controls,
    "server_settings": server_settings,
    "configuration": configuration,
}


def _allowed(control: Control) -> str:
    told = control.values.describe()
    low, high, length = told.get("minimum"), told.get("maximum"), told.get("length")
    match told["type"]:
        case "integer" | "number":
            text = f"{told['type']}, {low:g} to {high:g}"
        case "integers" | "numbers":
            text = f"{length} {told['type']}, {low:g} to {high:g}"
        case "choice":
            text = ", ".join(map(_code, told["choices"]))
        case "pairs":
            views = ", ".join(map(_code, told["choices"]))
            text = f"{low} to {high} pairs (prompt, view); views: {views}"
        case "text":
            text = f"text of at most {high} characters"
        case other:
            text = other
    return f"{text}, or `None`" if control.optional else text


def _by_kind(control: Control) -> str:
    return "".join(f"; {kind} {_code(value)}" for kind, value in control.kind_defaults.items())


def _configurations() -> Iterator[type]:
    """The run configurations, then all classes that their fields hold, each once."""
    classes = [
        RunConfig,
        runs.DenoiserRunConfig,
        runs.DistillationRunConfig,
        runs.AutoencoderRunConfig,
        runs.ProbeRunConfig,
    ]
    denoisers = [architecture.config for architecture in ARCHITECTURES.values()]
    for cls in classes:  # which grows
        yield cls
        own = [hint for name, hint in field_types(cls, {}).items() if name != "denoiser"]
        more = [part for hint in own for part in _parts(hint) if dataclasses.is_dataclass(part)]
        if cls is classes[1]:
            more += denoisers
        classes += [part for part in dict.fromkeys(more) if part not in classes]


def _parts(hint: Any) -> tuple[Any, ...]:
    is_union = isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union
    return typing.get_args(hint) if is_union else (hint,)


def _section(cls: Any) -> str:
    texts = attributes(cls)
    own = inspect.get_annotations(cls)
    hints = field_types(cls, {})
    rows = [
        (f"`{field.name}`", _type(cls, field.name, hints), _default(field), texts[field.name])
        for field in dataclasses.fields(cls)
        if field.name in own
    ]
    summary = inspect.cleandoc(cls.__doc__ or "").partition("\n\n")[0].replace("\n", " ")
    parents = [f"[{b.__name__}](#{b.__name__.lower()})" for b in cls.__bases__ if b is not object]
    more = [f"And all keys of {parents[0]}."] if parents else []
    table = _table(("key", "type", "default", "what"), rows)
    return "\n\n".join([f"## {cls.__name__}", f"`{cls.__module__}`: {summary}", *more, table])


def attributes(cls: type) -> dict[str, str]:
    """The section "Attributes" of a class's docstring, by name; those of its bases too."""
    texts: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        lines = inspect.cleandoc(base.__dict__.get("__doc__") or "").splitlines()
        inside, names = False, []
        for line in lines:
            if not line.startswith(" "):
                inside = line == "Attributes:"
            elif inside and (match := _ATTRIBUTE.match(line)):
                names = match[1].split(", ")
                texts |= dict.fromkeys(names, match[2])
            elif inside:
                texts |= {name: f"{texts[name]} {line.strip()}" for name in names}
    return texts


def _type(cls: type, name: str, hints: dict[str, Any]) -> str:
    if name == "denoiser":
        return "the class of `model`"
    names = [getattr(part, "__name__", str(part)) for part in _parts(hints[name])]
    if typing.get_origin(hints[name]) is tuple:
        names = [str(hints[name])]
    linked = [f"[{n}](#{n.lower()})" if n.endswith(("Config", "Weights")) else n for n in names]
    return " or ".join(linked).replace("NoneType", "None")


def _default(field: dataclasses.Field) -> str:
    if field.default is not dataclasses.MISSING:
        return _code(field.default)
    return "required" if field.default_factory is dataclasses.MISSING else "its defaults"


def _code(value: Any) -> str:
    return f"`{str(value) if isinstance(value, bool | float) or value is None else repr(value)}`"


def _table(head: Iterable[str], rows: Iterable[tuple[str, ...]]) -> str:
    head, rows = list(head), list(rows)
    if not rows:
        raise ValueError("a table without rows")
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(text: str) -> str:
    """Text without bars; what is no code is neither HTML nor emphasis."""
    parts = text.replace("|", "∣").split("`")
    parts[::2] = [part.replace("<", "&lt;").replace("_", r"\_") for part in parts[::2]]
    return "`".join(parts)
