"""Who may ask: Host, Origin and Sec-Fetch-Site of every request, then the API key; and how much.

All of it is one ASGI layer around the application, so that no route can be forgotten. A server on
localhost is reachable from every web page its user opens, hence the first three; the key comes in a
header, or in a cookie that a browser gets by `login`.
"""

import base64
import binascii
import hashlib
import hmac
import ipaddress
import time
from hmac import compare_digest
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import cookie_parser
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dg2_jax.serve import problems
from dg2_jax.serve.server_settings import ServerSettings, is_loopback

COOKIE = "dg2_session"
COOKIE_SECONDS = 30 * 24 * 3600
PUBLIC = ("/", "/favicon.ico", "/api/v1/login", "/api/v1/health", "/api/v1/ready")
PUBLIC_PREFIX = "/static/"
_PICTURES = "/api/v1/images/"


def is_public(path: str) -> bool:
    """Whether a path is served without a key."""
    return path in PUBLIC or path.startswith(PUBLIC_PREFIX)


def session_token(key: str, expires: int | None = None) -> str:
    """A cookie's value: proof that its bearer knew the key, until `expires` (Unix time)."""
    expires = int(time.time()) + COOKIE_SECONDS if expires is None else expires
    proof = hmac.new(key.encode(), f"dg2 session {expires}".encode(), hashlib.sha256)
    return f"{expires}.{proof.hexdigest()}"


def _session_holds(key: str, token: str) -> bool:
    expires = token.partition(".")[0]
    if not expires.isascii() or not expires.isdigit() or len(expires) > 12:
        return False
    return same(token, session_token(key, int(expires))) and int(expires) > time.time()


def picture_token(key: str | None, picture_id: str) -> str:
    """The query with which an address shows one picture to who has no key; empty where none is."""
    return "" if key is None else f"?token={_picture_proof(key, picture_id)}"


def _picture_proof(key: str, picture_id: str) -> str:
    return hmac.new(key.encode(), f"dg2 picture {picture_id}".encode(), hashlib.sha256).hexdigest()


def _picture_allowed(scope: Scope, key: str) -> bool:
    """Whether this asks for a picture by an address that `picture_token` completed."""
    name, dot, _ = scope["path"].removeprefix(_PICTURES).rpartition(".")
    if scope["method"] != "GET" or not scope["path"].startswith(_PICTURES) or not dot:
        return False
    query = parse_qs(scope["query_string"].decode("latin-1"))
    return same(query.get("token", [""])[0], _picture_proof(key, name))


def same(given: str, secret: str) -> bool:
    """Compares texts in a time that tells nothing about where they differ."""
    return compare_digest(given.encode("utf-8", "replace"), secret.encode())


def authenticated(headers: Headers, key: str | None) -> bool:
    """Whether a request shows the key; any does where there is none."""
    if key is None:
        return True
    if same(headers.get("x-api-key", ""), key):
        return True
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return same(value.strip(), key)
    if scheme.lower() == "basic":
        try:
            _, _, password = base64.b64decode(value, validate=True).decode().partition(":")
        except (binascii.Error, ValueError):
            return False
        return same(password, key)
    return _session_holds(key, cookie_parser(headers.get("cookie", "")).get(COOKIE, ""))


class Guard:
    """The layer; see the module's docstring."""

    def __init__(self, app: ASGIApp, settings: ServerSettings, policy: str):
        self._app = app
        self._key = settings.key
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

        refusal = self._refusal(scope)
        if refusal is not None:
            await problems.respond(scope["path"], *refusal)(scope, receive, send_with_headers)
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

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._knows(host):
            return 421, "this server does not go by that Host; see DG2_ALLOWED_HOSTS"
        origin = headers.get("origin")
        if origin is not None and not self._is_ours(origin, host):
            return 403, "requests from other sites are refused (Origin)"
        site = headers.get("sec-fetch-site", "none").lower()
        if site not in ("none", "same-origin") and not (
            (origin is not None and origin in self._origins) or _opens_page(scope, headers)
        ):
            return 403, "requests from other sites are refused (Sec-Fetch-Site)"
        if not self._may(scope, headers):
            return 401, "an API key is needed: X-API-Key, Authorization, or login"
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length[:20]) > self._max_body:
            return 413, self._too_large()
        return None

    def _may(self, scope: Scope, headers: Headers) -> bool:
        if self._key is None or is_public(scope["path"]):
            return True
        return authenticated(headers, self._key) or _picture_allowed(scope, self._key)

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
