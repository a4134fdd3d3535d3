"""Stored styles: named texts around prompts, which jobs ask for by name."""

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import Path, Response
from pydantic import BaseModel, ConfigDict

from dg2_jax.serve.context import Ctx
from dg2_jax.serve.job_controls import MAX_STYLE_NAME
from dg2_jax.serve.problems import ProblemError
from dg2_jax.serve.routing import Router
from dg2_jax.serve.schemas import Text
from dg2_jax.serve.styles import Style

router = Router(prefix="/styles", tags=["styles"])
_NAME = r"^[^\x00-\x1f,/]*[^\x00-\x20,/][^\x00-\x1f,/]*$"
Name = Annotated[
    str,
    Path(max_length=MAX_STYLE_NAME, pattern=_NAME, description="without commas and slashes"),
]


class StyleText(BaseModel):
    """The texts of a style; `{prompt}` in one is where the prompt goes, else the style follows."""

    model_config = ConfigDict(extra="forbid")

    prompt: Text = ""
    negative_prompt: Text = ""


@router.get("")
def list_styles(context: Ctx) -> dict[str, list[dict[str, Any]]]:
    """All styles, by name."""
    return {"styles": [asdict(style) for style in context.styles.all()]}


@router.put("/{name}", responses={201: {"description": "it is new"}})
def put_style(context: Ctx, name: Name, text: StyleText, response: Response) -> dict[str, Any]:
    """Stores a style, or replaces the one of that name."""
    if not text.prompt.strip() and not text.negative_prompt.strip():
        raise ProblemError(422, "a style needs a prompt or a negative prompt", "prompt")
    context.disk.check()
    style = Style(name, text.prompt, text.negative_prompt)
    response.status_code = 201 if context.styles.put(style) else 200
    return asdict(style)


@router.delete("/{name}", status_code=204)
def delete_style(context: Ctx, name: Name) -> None:
    """Deletes a style; what it has become part of stays as it is."""
    if not context.disk.insist(lambda: context.styles.delete(name)):
        raise ProblemError(404, f"there is no style {name!r}")
