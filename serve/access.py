"""Who may ask: what shows the API key, or proves that its bearer has shown it before.

Only a key can be guessed, so wrong ones are counted by the address that they come from. After a few
no key from there is compared for a while, a right one neither: who guesses learns nothing more.
Sessions and addresses of pictures carry proofs that nobody guesses, and stay as they are.
"""

import base64
import binascii
import hashlib
import hmac
import ipaddress
import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from hmac import compare_digest
from urllib.parse import parse_qs

import structlog
from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.types import Scope

from dg2_jax.serve.problems import ProblemError

log = structlog.get_logger()

COOKIE = "dg2_session"
COOKIE_SECONDS = 30 * 24 * 3600
MOST_FAILURES = 5  # wrong keys from an address within FAILURE_SECONDS, before it has to wait
FAILURE_SECONDS = 60.0
_MOST_ADDRESSES = 10_000  # that are remembered; beyond them, those that failed last
_PICTURES = "/api/v1/images/"


def session_token(key: str, expires: int | None = None) -> str:
    """A cookie's value: proof that its bearer knew the key, until `expires` (Unix time)."""
    expires = int(time.time()) + COOKIE_SECONDS if expires is None else expires
    proof = hmac.new(key.encode(), f"dg2 session {expires}".encode(), hashlib.sha256)
    return f"{expires}.{proof.hexdigest()}"


def picture_token(key: str | None, picture_id: str) -> str:
    """The query with which an address shows one picture to who has no key; empty where none is."""
    return "" if key is None else f"?token={_picture_proof(key, picture_id)}"


class Failures:
    """The wrong keys of the last while, by address.

    Attributes:
        clock: gives seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self.clock = clock
        self._times: OrderedDict[str, deque[float]] = OrderedDict()

    def wait(self, address: str) -> int:
        """Seconds until keys from an address are compared again; 0 where they are."""
        times = self._times.get(_network(address))
        if times is None or len(times) < MOST_FAILURES:
            return 0
        return max(0, math.ceil(times[0] + FAILURE_SECONDS - self.clock()))

    def note(self, address: str) -> None:
        """Counts a wrong key."""
        network = _network(address)
        times = self._times.setdefault(network, deque(maxlen=MOST_FAILURES))
        times.append(self.clock())
        self._times.move_to_end(network)
        if len(self._times) > _MOST_ADDRESSES:
            self._times.popitem(last=False)
        if self.wait(address):
            log.warning("too many wrong keys", address=address)

    def __len__(self) -> int:
        return len(self._times)


class Access:
    """The key of a server, and who has it; for the event loop alone.

    Attributes:
        key: None: all may ask.
        failures: the wrong keys that were shown.
    """

    def __init__(self, key: str | None):
        self.key = key
        self.failures = Failures()

    def admits(self, headers: Headers, address: str) -> bool:
        """Whether a request shows the key or a session.

        Raises:
            ProblemError: as `takes`.
        """
        if self.key is None:
            return True
        cookie = cookie_parser(headers.get("cookie", "")).get(COOKIE, "")
        if _session_holds(self.key, cookie):
            return True
        shown = _shown(headers)
        return bool(shown) and self.takes(shown, address)

    def takes(self, given: list[str], address: str) -> bool:
        """Whether one of the given texts is the key.

        Raises:
            ProblemError: 429, too many wrong ones came from the address, and none was compared.
        """
        if self.key is None:
            return True
        seconds = self.failures.wait(address)
        if seconds:
            raise ProblemError(429, "too many wrong API keys came from here", retry_after=seconds)
        right = any([_same(one, self.key) for one in given])
        if not right:
            self.failures.note(address)
        return right

    def shows_picture(self, scope: Scope) -> bool:
        """Whether this asks for a picture by an address that `picture_token` completed."""
        path = scope["path"]
        name, dot, _ = path.removeprefix(_PICTURES).rpartition(".")
        if (
            self.key is None
            or scope["method"] != "GET"
            or not path.startswith(_PICTURES)
            or not dot
        ):
            return False
        query = parse_qs(scope["query_string"].decode("latin-1"))
        return _same(query.get("token", [""])[0], _picture_proof(self.key, name))


def address_of(scope: Scope) -> str:
    """Where a request comes from."""
    return scope["client"][0] if scope.get("client") else "unknown"


def _network(address: str) -> str:
    """What one sender has: an address, or the 64 bits before those that IPv6 lets it choose."""
    try:
        known = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network((known, 64), strict=False)) if known.version == 6 else address


def _shown(headers: Headers) -> list[str]:
    """The keys in the headers of a request."""
    found = [headers["x-api-key"]] if "x-api-key" in headers else []
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        found.append(value.strip())
    if scheme.lower() == "basic":
        try:
            _, _, password = base64.b64decode(value, validate=True).decode().partition(":")
        except (binascii.Error, ValueError):
            password = ""
        found.append(password)
    return [one for one in found if one]


def _session_holds(key: str, token: str) -> bool:
    expires = token.partition(".")[0]
    if not expires.isascii() or not expires.isdigit() or len(expires) > 12:
        return False
    return _same(token, session_token(key, int(expires))) and int(expires) > time.time()


def _picture_proof(key: str, picture_id: str) -> str:
    return hmac.new(key.encode(), f"dg2 picture {picture_id}".encode(), hashlib.sha256).hexdigest()


def _same(given: str, secret: str) -> bool:
    """Compares texts in a time that tells nothing about where they differ."""
    return compare_digest(given.encode("utf-8", "replace"), secret.encode())
