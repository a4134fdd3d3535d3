"""Routes whose bodies of JSON have one meaning, checked before anything is made of them."""

import json
import math
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute

from dg2_jax.serve.problems import ProblemError

MAX_DEPTH = 20  # of what a field holds; units of A1111's extensions need five


class _StrictRequest(Request):
    """A request whose JSON is that of RFC 8259, and of a depth that all can handle."""

    async def json(self) -> Any:
        """The body.

        Raises:
            json.JSONDecodeError: it is no JSON.
            ProblemError: 422, as `parsed`.
        """
        if not hasattr(self, "_json"):
            self._json = parsed(await self.body())
        return self._json


class Route(APIRoute):
    """A route that reads JSON strictly."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See `APIRoute`."""
        handle = super().get_route_handler()

        async def handle_strictly(request: Request) -> Response:
            return await handle(_StrictRequest(request.scope, request.receive))

        return handle_strictly


class Router(APIRouter):
    """A router of such routes."""

    def __init__(self, **options: Any):
        super().__init__(route_class=Route, **options)


def parsed(data: bytes) -> Any:
    """The value of a JSON text.

    Raises:
        json.JSONDecodeError: it is no JSON.
        ProblemError: 422 naming the field: it is there twice, is nested too deeply, or holds a
            number that is not finite or too long.
    """
    try:
        value = json.loads(data, object_pairs_hook=_object)
    except json.JSONDecodeError:
        raise
    except RecursionError:
        raise ProblemError(422, f"must be nested at most {MAX_DEPTH} deep", "body") from None
    except ValueError as error:  # no UTF-8, or thousands of digits
        raise ProblemError(422, f"must be JSON: {error}", "body") from error
    for name, item in value.items() if isinstance(value, dict) else [("body", value)]:
        _check(name[:80], item)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        (twice, _), *_ = Counter(name for name, _ in pairs).most_common(1)
        raise ProblemError(422, "must be there once", twice[:80])
    return found


def _check(name: str, value: Any) -> None:
    """Refuses what a field holds; without recursion, and no deeper than needed."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        if any(isinstance(one, float) and not math.isfinite(one) for one in level):
            raise ProblemError(422, "must hold finite numbers only", name)
        inner = [one for one in level if isinstance(one, dict | list)]
        if not inner:
            return
        level = [v for one in inner for v in (one.values() if isinstance(one, dict) else one)]
    raise ProblemError(422, f"must be nested at most {MAX_DEPTH} deep", name)
