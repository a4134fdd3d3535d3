"""The OpenAPI document: FastAPI's, with plain names, and with the errors of every operation.

Programs are generated from it, whose classes and functions take their names from here.
"""

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field
from pydantic.json_schema import models_json_schema

from dg2_jax.models.folder import SAMPLING
from dg2_jax.serve import problems
from dg2_jax.serve.schemas import REQUESTS

_REF = "#/components/schemas/{model}"
# What every operation may answer: as its route says, and the layers around it.
_STATUSES = (400, 401, 403, 404, 409, 413, 415, 421, 422, 429, 500, 503, 507)
_FASTAPIS = ("HTTPValidationError", "ValidationError")  # errors, which nobody gets
_PREFIXES = {"A1111": "a1111_", "OpenAI": "openai_", "DiffusionGen2": "diffusiongen2_"}  # by tag


class FieldProblem(BaseModel):
    """What is wrong with a field."""

    field: str
    message: str


class Problem(BaseModel):
    """An error, of the form of RFC 9457."""

    type: str
    title: str
    status: int
    detail: str = Field(description="one sentence for people")
    errors: list[FieldProblem] = Field([], description="the fields at fault, if any are")


class A1111Error(BaseModel):
    """An error, of the form that A1111's clients know."""

    error: str
    detail: str = Field(description="one sentence for people")
    body: str
    errors: str


class OpenAIErrorDetail(BaseModel):
    """What an error of OpenAI's form tells."""

    message: str = Field(description="one sentence for people")
    type: str
    param: str | None = Field(description="the field at fault, if one is")
    code: str | None


class OpenAIError(BaseModel):
    """An error, of the form that OpenAI's clients know."""

    error: OpenAIErrorDetail


def operation_id(route: APIRoute) -> str:
    """The name of a route's function, after that of the foreign interface that it is of."""
    tag = str(route.tags[0]) if route.tags else ""
    return _PREFIXES.get(tag, "") + route.name


def install(app: FastAPI) -> None:
    """Completes what an application says of itself."""
    plain = app.openapi

    def described() -> dict[str, Any]:
        document = plain()
        if "Problem" not in document["components"]["schemas"]:
            _complete(document)
        return document

    app.openapi = described  # type: ignore[method-assign]


def _complete(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    models = [(model, "serialization") for model in (Problem, A1111Error, OpenAIError)]
    _, told = models_json_schema(models, ref_template=_REF)  # type: ignore[arg-type]
    schemas |= told["$defs"]
    for name in _FASTAPIS:
        schemas.pop(name, None)
    for request in REQUESTS.values():
        for name in SAMPLING:  # whose defaults are those of the model and its weights
            schemas[request.__name__]["properties"].get(name, {}).pop("default", None)
    for path, operations in document["paths"].items():
        for operation in operations.values():
            _name_form(operation, schemas)
            answers = operation["responses"]
            answers.pop("422", None)
            for status in _STATUSES:
                if status != 422 or not path.startswith("/v1/"):  # to which that is 400
                    answers.setdefault(str(status), _error(path, status))


def _name_form(operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Calls the form that an operation takes, if it takes one, as a class would be called.

    Its files are told as OpenAPI 3.0 does, which programs know.
    """
    for sent in operation.get("requestBody", {}).get("content", {}).values():
        name = sent["schema"].get("$ref", "").rpartition("/")[2]
        if name.startswith("Body_"):
            plain = "".join(part.title() for part in operation["operationId"].split("_")) + "Form"
            schemas[plain] = schemas.pop(name) | {"title": plain}
            sent["schema"]["$ref"] = _REF.format(model=plain)
            for field in schemas[plain]["properties"].values():
                if field.pop("contentMediaType", None) is not None:
                    field["format"] = "binary"


def _error(path: str, status: int) -> dict[str, Any]:
    model, media_type = Problem, problems.MEDIA_TYPE
    if path.startswith("/sdapi/"):
        model, media_type = A1111Error, "application/json"  # type: ignore[assignment]
    if path.startswith("/v1/"):
        model, media_type = OpenAIError, "application/json"  # type: ignore[assignment]
    content = {media_type: {"schema": {"$ref": _REF.format(model=model.__name__)}}}
    return {"description": HTTPStatus(status).phrase, "content": content}
