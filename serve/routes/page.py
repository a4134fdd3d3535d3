"""The page and its files, and the content-security policy that goes with them."""

import base64
import hashlib
import re
from pathlib import Path

from fastapi.responses import FileResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.types import Scope

from dg2_jax.serve.problems import ProblemError
from dg2_jax.serve.routing import Router

STATIC = Path(__file__).parents[1] / "static"
_IMPORT_MAP = re.compile(r'<script type="importmap">(.*?)</script>', re.DOTALL)

router = Router(include_in_schema=False)


@router.get("/")
def page() -> FileResponse:
    """The page."""
    index = STATIC / "index.html"
    if not index.is_file():
        raise ProblemError(404, "this build has no page; the API is at /api/v1/openapi.json")
    return FileResponse(index, headers={"Cache-Control": "no-cache"})


@router.get("/favicon.ico")
def favicon() -> FileResponse:
    """What browsers ask for by themselves."""
    icon = STATIC / "favicon.svg"
    if not icon.is_file():
        raise ProblemError(404, "there is no icon")
    return FileResponse(icon)


class PageFiles(StaticFiles):
    """The page's files, revalidated each time (304 if unchanged): no page of mixed versions."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """See `StaticFiles`."""
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "no-cache"
        return response


def policy() -> str:
    """No script but our files; an import map must be inline, so its digest is allowed."""
    index = STATIC / "index.html"
    maps = _IMPORT_MAP.findall(index.read_text(encoding="utf-8")) if index.is_file() else []
    digests = [base64.b64encode(hashlib.sha256(m.encode()).digest()).decode() for m in maps]
    scripts = " ".join(["'self'", *(f"'sha256-{digest}'" for digest in digests)])
    return (
        f"default-src 'none'; script-src {scripts}; style-src 'self'; "
        "img-src 'self' data: blob:; connect-src 'self' blob: data:; font-src 'self'; "
        "manifest-src 'self'; worker-src 'self' blob:; base-uri 'none'; form-action 'self'; "
        "frame-ancestors 'none'"
    )
