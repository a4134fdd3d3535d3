"""Who may ask: RELIABILITY 14 and 15."""

import re
import socket
import time

import httpx
import pytest
from pydantic import ValidationError

from dg2_jax.serve import access
from dg2_jax.serve.access import FAILURE_SECONDS, MOST_FAILURES, Failures, session_token
from dg2_jax.serve.routes.page import policy
from dg2_jax.serve.security import is_public
from dg2_jax.serve.server_settings import ServerSettings

on_each_database = pytest.mark.usefixtures("each_database")

KEY = "open sesame"


def all_routes(app):
    """(method, path) of every route, also those that the schema hides."""
    schema = app.openapi()["paths"]
    found = {(m.upper(), path) for path, methods in schema.items() for m in methods}
    return sorted(found | {("GET", "/"), ("GET", "/favicon.ico"), ("GET", "/api/v1/openapi.json")})


@on_each_database
def test_every_route_but_the_public_ones_needs_the_key(start, monkeypatch):
    monkeypatch.setattr(access, "MOST_FAILURES", 10_000)
    server = start(api_key=KEY)
    routes = all_routes(server.app)
    assert len(routes) > 45
    open_to_all = set()
    with httpx.Client(base_url=server.url) as stranger:
        for method, path in routes:
            url = re.sub(r"{\w+}", "x", path)
            for headers in ({}, {"X-API-Key": "wrong"}, {"Authorization": "Bearer x"}):
                answer = stranger.request(method, url, headers=headers)
                if answer.status_code != 401:
                    open_to_all.add(path)
            if method == "GET":
                assert (stranger.head(url).status_code == 401) == (not is_public(path))
    assert open_to_all == {
        "/", "/favicon.ico", "/api/v1/health", "/api/v1/ready", "/api/v1/login",
    }  # fmt: skip


@on_each_database
@pytest.mark.parametrize(
    "headers",
    [
        {"X-API-Key": KEY},
        {"Authorization": f"Bearer {KEY}"},
        {"Authorization": "Basic YTpvcGVuIHNlc2FtZQ=="},
        {"Cookie": f"dg2_session={session_token(KEY)}"},
    ],
)
def test_ways_to_show_the_key(start, headers):
    url = start(api_key=KEY).url
    assert httpx.get(f"{url}/api/v1/jobs", headers=headers).status_code == 200


@on_each_database
@pytest.mark.parametrize(
    "headers",
    [
        {"X-API-Key": KEY + "x"},
        {"X-API-Key": "ö".encode()},
        {"Authorization": "Basic !!!"},
        {"Authorization": "Basic /w=="},
        {"Cookie": "dg2_session=1.x"},
        {"Cookie": f"dg2_session={session_token(KEY, int(time.time()) - 1)}"},
        {"Cookie": f"dg2_session={session_token('another key')}"},
        {"Cookie": "dg2_session=٣.x".encode()},
    ],
)
def test_ways_to_fail(start, headers):
    url = start(api_key=KEY).url
    assert httpx.get(f"{url}/api/v1/jobs", headers=headers).status_code == 401


@on_each_database
def test_login_gives_a_cookie(start):
    server = start(api_key=KEY)
    with httpx.Client(base_url=server.url) as browser:
        assert browser.get("/api/v1/login").json() == {"required": True, "authenticated": False}
        assert browser.post("/api/v1/login", json={"key": "wrong"}).status_code == 401
        answer = browser.post("/api/v1/login", json={"key": KEY})
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert KEY not in cookie
        assert browser.get("/api/v1/jobs").status_code == 200
        browser.delete("/api/v1/login")
        assert browser.get("/api/v1/jobs").status_code == 401


WRONG = (
    {"X-API-Key": "wrong"},
    {"Authorization": "Bearer wrong"},
    {"Authorization": "Basic YTp3cm9uZw=="},
)


def test_wrong_keys_from_an_address_slow_it_down(start):
    server = start(api_key=KEY)
    now = [0.0]
    server.context.access.failures.clock = lambda: now[0]
    here = httpx.Client(base_url=server.url)
    other = httpx.Client(base_url=server.url, headers={"X-Forwarded-For": "203.0.113.7"})
    right = {"X-API-Key": KEY}
    session = {"Cookie": f"dg2_session={session_token(KEY)}"}
    jobs, login = "/api/v1/jobs", "/api/v1/login"
    with here, other:
        for _ in range(2 * MOST_FAILURES):  # no key is no wrong key
            assert here.get(jobs).status_code == 401
        for number in range(MOST_FAILURES - 1):
            now[0] += 1
            headers = WRONG[number % len(WRONG)]
            assert here.get(jobs, headers=headers).status_code == 401
        assert here.get(jobs, headers=right).status_code == 200
        assert here.post(login, json={"key": "wrong"}).status_code == 401
        for answer in (
            here.get(jobs, headers=WRONG[0]),
            here.get(jobs, headers=right),  # or a guess would tell
            here.post(login, json={"key": KEY}),
            here.get(login, headers=right),
            here.post("/sdapi/v1/txt2img", headers=right, json={}),
            here.post("/v1/images/generations", headers=right, json={}),
        ):
            assert answer.status_code == 429
            assert int(answer.headers["retry-after"]) == FAILURE_SECONDS - MOST_FAILURES + 2
        assert answer.json()["error"]["type"] == "rate_limit_error"
        assert here.get(jobs, headers=session).status_code == 200
        assert here.get("/api/v1/health").status_code == 200
        assert other.get(jobs, headers=right).status_code == 200
        assert other.get(jobs, headers=WRONG[0]).status_code == 401
        now[0] = 1 + FAILURE_SECONDS
        assert here.get(jobs, headers=right).status_code == 200
        assert here.get(jobs, headers=WRONG[0]).status_code == 401
        assert here.get(jobs, headers=WRONG[0]).status_code == 429


def test_failures_are_of_a_sender_and_few_are_remembered(monkeypatch):
    monkeypatch.setattr(access, "_MOST_ADDRESSES", 3)
    failures = Failures(lambda: 0.0)
    for number in range(MOST_FAILURES):
        failures.note(f"2001:db8::{number}")
    assert failures.wait("2001:db8::ffff") == FAILURE_SECONDS
    assert failures.wait("2001:db8:0:1::1") == failures.wait("203.0.113.7") == 0
    for number in range(100):
        failures.note(f"203.0.113.{number}")
    assert len(failures) == 3
    assert failures.wait("2001:db8::1") == 0


METHODS = ("GET", "POST", "DELETE", "PUT", "PATCH", "OPTIONS", "HEAD")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "127.0.0.1.evil.example"}, 421),
        ({"Host": "192.168.1.5"}, 421),
        ({"Host": ""}, 421),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
    ],
)
def test_other_sites_are_refused_whatever_the_method(shared, method, headers, status):
    answer = shared.client.request(method, "/api/v1/jobs", headers=headers)
    assert answer.status_code == status
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    from tests.serve.live import LiveServer

    server = LiveServer(tmp_path_factory.mktemp("shared"))
    yield server
    server.stop()


def test_our_own_page_and_links_to_it_are_not_refused(shared):
    get = shared.client.get
    for host in (f"127.0.0.1:{shared.port}", "localhost:1", "[::1]:8000", "LOCALHOST"):
        headers = {"Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}
        assert get("/api/v1/jobs", headers=headers).status_code == 200
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert get("/", headers={**link, "Sec-Fetch-Dest": "document"}).status_code in (200, 404)
    assert get("/", headers={**link, "Sec-Fetch-Dest": "iframe"}).status_code == 403
    assert get("/api/v1/jobs", headers=link).status_code == 403


@on_each_database
def test_allowed_sites_may_call(start):
    site = "https://friend.example"
    server = start(allowed_origins=[site])
    headers = {"Origin": site, "Sec-Fetch-Site": "cross-site"}
    answer = server.client.get("/api/v1/jobs", headers=headers)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == site


def test_headers_of_every_answer(shared):
    for path in ("/", "/api/v1/jobs", "/api/v1/none", "/static/none"):
        headers = shared.client.get(path).headers
        assert headers["content-security-policy"] == policy()
        assert headers["x-content-type-options"] == "nosniff"
    assert "unsafe" not in policy()


def test_the_pages_files_are_asked_for_anew(shared):
    first = shared.client.get("/static/favicon.svg")
    assert first.headers["cache-control"] == "no-cache"
    again = shared.client.get(
        "/static/favicon.svg", headers={"If-None-Match": first.headers["etag"]}
    )
    assert again.status_code == 304


def test_other_addresses_need_a_key():
    for host in ("0.0.0.0", "::", "192.168.1.1", "example.org"):
        with pytest.raises(ValidationError, match="DG2_API_KEY"):
            ServerSettings(host=host)
        ServerSettings(host=host, api_key=KEY)
    for host in ("127.0.0.1", "::1", "localhost", "127.1.2.3"):
        ServerSettings(host=host)


def raw(port: int, target: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), 5) as connection:
        lines = [b"GET " + target + b" HTTP/1.1", b"Host: 127.0.0.1", b"Connection: close"]
        connection.sendall(b"\r\n".join([*lines, b"", b""]))
        found = b""
        while data := connection.recv(65536):
            found += data
    return found


def test_nothing_outside_leaks(shared, tmp_path):
    secret = shared.settings.data / "jobs.sqlite3"
    assert secret.exists()
    outside = tmp_path / "outside.png"
    outside.write_bytes(b"a secret")
    link = shared.context.files.path("link_000")
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(outside)
    ups = [b"..", b"%2e%2e", b"%252e%252e", b".%2e", b"..%5c", b"..;", b"%c0%ae%c0%ae"]
    targets = [b"/static/" + b"/".join([up] * 6) + b"/etc/passwd" for up in ups]
    targets += [b"/api/v1/images/" + b"%2f".join([up] * 4) + b"%2fetc%2fpasswd.png" for up in ups]
    targets += [b"/" + b"/".join([up] * 9) + b"/etc/passwd" for up in ups]
    targets += [
        b"/static//etc/passwd", b"/static/%00", b"/api/v1/images/%00.png", b"//etc/passwd",
        b"/static/..%2f..%2fsettings.py", b"/static/../settings.py",
        b"/api/v1/images/..%2f..%2fjobs.sqlite3", b"/api/v1/images/jobs.sqlite3.png",
        b"/api/v1/jobs/..%2f..%2fetc%2fpasswd", b"/api/v1/jobs/%ff%fe/events",
        b"/api/v1/images/link_000.png",
    ]  # fmt: skip
    for target in targets:
        answer = raw(shared.port, target)
        status = int(answer.split(b" ", 2)[1])
        assert status in (400, 404, 405, 422), (target, status)
        for leaked in (b"root:", b"SQLite", b"pydantic", b"a secret"):
            assert leaked not in answer, target
