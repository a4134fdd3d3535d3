"""Fixtures of the server's tests."""

import copy
import os

import pytest
import webuiapi

from tests.serve import postgres
from tests.serve.live import LiveServer, quiet

quiet()


@pytest.fixture(autouse=True)
def fresh_defaults(monkeypatch):
    """webuiapi writes into its methods' default dictionaries: no test may see another's."""
    for method in (webuiapi.WebUIApi.txt2img, webuiapi.WebUIApi.img2img):
        monkeypatch.setattr(method, "__defaults__", copy.deepcopy(method.__defaults__))


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


@pytest.fixture(scope="session")
def postgresql():
    """A PostgreSQL server; without the Debian package the tests are skipped, never in CI."""
    if postgres.BIN is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("there is no PostgreSQL")
    with postgres.running() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def each_database(request, monkeypatch):
    """Runs a test twice: its servers keep jobs in SQLite, then in a new database of PostgreSQL."""
    if request.param == "postgresql":
        url = request.getfixturevalue("postgresql").new_database()
        monkeypatch.setenv("DG2_DATABASE", url)
    return request.param
