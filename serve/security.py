"""Who may ask: Host, Origin and Sec-Fetch-Site of every request, then the API key; and how much.

All of it is one ASGI layer around the application, so that no route can be forgotten. A server on
localhost is reachable from every web page its user opens, hence the first three; `access` says who
has the key.
"""

import ipaddress
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dg2_jax.serve import problems
from dg2_jax.serve.access import Access, address_of
from dg2_jax.serve.problems import ProblemError
from dg2_jax.serve.server_settings import ServerSettings, is_loopback

PUBLIC = ("/", "/favicon.ico", "/api/v1/login", "/api/v1/health", "/api/v1/ready")
PUBLIC_PREFIX = "/static/"


def is_public(path: str) -> bool:
    """Whether a path is served without a key."""
    return path in PUBLIC or path.startswith(PUBLIC_PREFIX)


class Guard:
    """The layer; see the module's docstring."""

    def __init__(self, app: ASGIApp, settings: ServerSettings, access: Access, policy: str):
        self._app = app
        self._access = access
        self._names = {"localhost", settings.host.lower(), *map(str.lower, settings.allowed_hosts)}
        self._any_address = not is_loopback(settings.host)
        self._origins = set(settings.allowed_origins)
        self._max_body = int(settings.max_body_mb * 2**20)
        self._headers = {
            "content-security-policy": policy,
            "x-content-type-options": "nosniff",
            "x-frame-options": "DENY",
            "referrer-policy": "no-referrer",
            "cross-origin-opener-policy": "same-origin",
            "cross-origin-resource-policy": "same-origin",
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuses, or hands on with limits and headers."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
                if not scope["path"].startswith(PUBLIC_PREFIX):
                    headers.setdefault("cache-control", "no-store")
            await send(message)

        try:
            self._check(scope)
        except ProblemError as refusal:
            told = refusal.status, refusal.detail, (), refusal.retry_after
            await problems.respond(scope["path"], *told)(scope, receive, send_with_headers)
            return
        await self._app(scope, self._limited(receive), send_with_headers)

    def _limited(self, receive: Receive) -> Receive:
        """A `receive` that counts, since not every body tells its length."""
        left = self._max_body

        async def counting() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise HTTPException(413, self._too_large())
            return message

        return counting

    def _check(self, scope: Scope) -> None:
        """Raises ProblemError where a request is refused before its body is read."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._knows(host):
            detail = "this server does not go by that Host; see DG2_ALLOWED_HOSTS"
            raise ProblemError(421, detail)
        origin = headers.get("origin")
        if origin is not None and not self._is_ours(origin, host):
            raise ProblemError(403, "requests from other sites are refused (Origin)")
        site = headers.get("sec-fetch-site", "none").lower()
        if site not in ("none", "same-origin") and not (
            (origin is not None and origin in self._origins) or _opens_page(scope, headers)
        ):
            raise ProblemError(403, "requests from other sites are refused (Sec-Fetch-Site)")
        if not self._may(scope, headers):
            detail = "an API key is needed: X-API-Key, Authorization, or login"
            raise ProblemError(401, detail)
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length[:20]) > self._max_body:
            raise ProblemError(413, self._too_large())

    def _may(self, scope: Scope, headers: Headers) -> bool:
        if is_public(scope["path"]) or self._access.shows_picture(scope):
            return True
        return self._access.admits(headers, address_of(scope))

    def _too_large(self) -> str:
        return f"the request must be at most {self._max_body} bytes"

    def _knows(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname
        except ValueError:
            return False
        if not name or "@" in host:
            return False
        if name in self._names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        # A page of another site that points its own name here still sends that name as Host.
        return address.is_loopback or self._any_address

    def _is_ours(self, origin: str, host: str) -> bool:
        if origin in self._origins:
            return True
        scheme, _, rest = origin.partition("://")
        return scheme in ("http", "https") and rest.lower() == host.lower()


def _opens_page(scope: Scope, headers: Headers) -> bool:
    """Following a link to the page is not a call of the API."""
    return (
        scope["method"] == "GET"
        and scope["path"] == "/"
        and headers.get("sec-fetch-mode") == "navigate"
        and headers.get("sec-fetch-dest") == "document"
    )
