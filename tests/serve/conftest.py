"""Fixtures of the server's tests."""

import pytest

from tests.serve.live import LiveServer, quiet

quiet()


@pytest.fixture
def start(tmp_path):
    """Starts servers that are stopped at the end: start(step_seconds=…, **settings)."""
    running = []

    def make(**options):
        server = LiveServer(options.pop("data", tmp_path / "data"), **options)
        running.append(server)
        return server

    yield make
    for server in running:
        server.stop()


@pytest.fixture
def server(start):
    """A server with the fake pipeline."""
    return start()
