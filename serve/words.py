"""What pydantic says of a wrong value, in the words of the rest of the interface."""

from collections.abc import Callable, Mapping
from typing import Any

from dg2_jax.checks import ParameterError

_SAID: dict[str, str] = {
    "missing": "is required",
    "extra_forbidden": "is not a field here",
    "json_invalid": "must be JSON: {error}",
    "string_type": "must be a text",
    "string_too_long": "must have at most {max_length} characters",
    "string_too_short": "must have at least {min_length} characters",
    "string_pattern_mismatch": "must match {pattern}",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "int_type": "must be an integer",
    "int_parsing": "must be an integer",
    "int_from_float": "must be an integer",
    "int_parsing_size": "must be a smaller integer",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be an object",
    "too_long": "must have at most {max_length} items, not {actual_length}",
    "too_short": "must have at least {min_length} items, not {actual_length}",
    "union_tag_not_found": "is required, one of {choices}",
    "union_tag_invalid": "must be one of {choices}, got {tag!r}",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
}


def message(error: Mapping[str, Any], choices: Callable[[], str] = str) -> str:
    """The rest of a sentence that begins with the field's name.

    Args:
        error: one of pydantic's.
        choices: the values that a tag of a union may have.
    """
    refused = of_the_library(error)
    if refused is not None:
        return refused.problem
    kind, told = str(error["type"]), dict(error.get("ctx", {}))
    if kind == "value_error" and "UploadFile" in error["msg"]:
        return "must be a file"
    if kind not in _SAID:
        return str(error["msg"]).removeprefix("Value error, ")
    if kind.startswith("union_tag"):
        told["choices"] = choices()
    return _SAID[kind].format_map(told)


def of_the_library(error: Mapping[str, Any]) -> ParameterError | None:
    """The library's own error in one of pydantic's, if that is what it is."""
    cause = error.get("ctx", {}).get("error")
    return cause if isinstance(cause, ParameterError) else None
