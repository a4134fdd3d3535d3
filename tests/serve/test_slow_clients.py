"""Clients that begin a request and do not end it are let go of; slow ones that go on are not."""

import itertools
import socket
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import uvicorn
from uvicorn.server import ServerState

from dg2_jax.serve.connections import PIECE_BYTES, protocol

BRIEF = 0.2  # seconds for headers, and for a piece of a body
HOST = b"Host: 127.0.0.1\r\n"
POST = b"POST /api/v1/jobs HTTP/1.1\r\nContent-Type: application/json\r\n" + HOST


@pytest.fixture
def brief(start):
    return start(request_seconds=BRIEF)


def connect(server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), 20)


def drip(connection: socket.socket, data: bytes) -> int:
    """Sends byte by byte until the other side closes; the bytes that it took."""
    connection.settimeout(0.02)
    for sent, byte in enumerate(itertools.cycle(data)):
        try:
            connection.sendall(bytes([byte]))
            if connection.recv(65536) == b"":
                return sent
        except TimeoutError:
            continue
        except OSError:
            return sent
    raise AssertionError


def answer(connection: socket.socket) -> bytes:
    connection.settimeout(20)
    found = b""
    while b"\r\n\r\n" not in found and (data := connection.recv(65536)):
        found += data
    return found


@pytest.mark.timeout(60)
@pytest.mark.parametrize("begun", [b"", b"GET / HT", b"GET / HTTP/1.1\r\n" + HOST])
def test_headers_that_do_not_end(brief, begun):
    with connect(brief) as resting:
        resting.sendall(begun)
        assert resting.recv(100) == b""  # or the time of the test is over
    with connect(brief) as dripping:
        dripping.sendall(b"GET / HTTP/1.1\r\nX: ")
        drip(dripping, b"x")


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "length", [b"Content-Length: 100000\r\n", b"Transfer-Encoding: chunked\r\n"]
)
def test_a_body_that_does_not_end(brief, length):
    with connect(brief) as connection:
        connection.sendall(POST + length + b"\r\n")
        drip(connection, b"1\r\n \r\n" if b"chunked" in length else b" ")
    assert brief.client.get("/api/v1/jobs").json()["jobs"] == []


@pytest.mark.timeout(60)
def test_a_body_that_nobody_waits_for(start):
    server = start(request_seconds=BRIEF, api_key="open sesame")
    with connect(server) as connection:
        connection.sendall(POST + b"Content-Length: 100000\r\n\r\n")
        assert b" 401 " in answer(connection)
        drip(connection, b" ")


@pytest.mark.timeout(60)
def test_the_next_request_of_a_connection_has_the_same_time(brief):
    with connect(brief) as connection:
        connection.sendall(b"GET /api/v1/queue HTTP/1.1\r\n" + HOST + b"\r\n")
        assert b" 200 " in answer(connection)
        drip(connection, b"GET / HTTP/1.1\r\nX: " + b"x" * 1000)


class Clock:
    """An event loop whose time is told; what it is to run besides is left out."""

    def __init__(self):
        self.now = 0.0
        self.timers = []

    def call_later(self, seconds, call):
        timer = SimpleNamespace(at=self.now + seconds, call=call)
        timer.cancel = lambda: self.timers.remove(timer) if timer in self.timers else None
        self.timers.append(timer)
        return timer

    def create_task(self, coroutine, **_):
        coroutine.close()
        return Mock()

    def wait(self, seconds):
        self.now += seconds
        for timer in [timer for timer in self.timers if timer.at <= self.now]:
            timer.cancel()
            timer.call()


def test_a_body_that_makes_progress_may_take_its_time():
    clock, transport = Clock(), Mock()
    transport.is_closing.return_value = False
    config = uvicorn.Config(Mock(), log_config=None)
    connection = protocol(10)(config, ServerState(), {}, clock)
    connection.connection_made(transport)
    clock.wait(9)
    connection.data_received(POST + b"Content-Length: 1000000\r\n\r\n")
    for _ in range(20):
        clock.wait(9)
        connection.flow.resume_reading()  # as the application does that reads
        connection.data_received(b" " * PIECE_BYTES)
    connection.data_received(b" " * (PIECE_BYTES - 1))
    connection.flow.pause_reading()
    clock.wait(10)
    assert not transport.close.called  # it is the application that does not read
    connection.flow.resume_reading()
    clock.wait(10)
    assert transport.close.called


@pytest.mark.timeout(60)
def test_who_waits_for_an_answer_owes_nothing(start):
    server = start(request_seconds=BRIEF, step_seconds=0.05)
    body = b'{"prompt": "a lake", "steps": 20}'
    with connect(server) as connection:
        head = POST.replace(b"/api/v1/jobs", b"/sdapi/v1/txt2img")
        connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        assert b" 200 " in answer(connection)
