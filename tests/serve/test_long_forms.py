"""The soak, the fuzz and the load of a fleet in short; their long forms are scripts."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import pytest

from tests.serve import fleet_load
from tests.serve.fuzz import fuzz
from tests.serve.soak import Figures, soak


def soak_alone(*args, **kwargs) -> Figures:
    """`soak` in a new process: its shares are of that process's memory, not of all tests'."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(soak, *args, **kwargs).result()


def test_soak_is_steady_in_what_can_be_counted(tmp_path):
    figures = soak_alone(tmp_path, jobs=150)
    assert figures.open_jobs == figures.channels == 0
    assert figures.files_after <= figures.files_before + 3
    assert figures.growth < 1.2


def test_soak_notices_a_leak(tmp_path):
    assert not soak_alone(tmp_path, jobs=150, leak=True).holds


def test_no_request_brings_a_500(start):
    server = start(queue_limit=10_000, client_limit=10_000)
    statuses = fuzz(server.url, cases=120)
    assert statuses.total() >= 120
    assert {200, 422} <= set(statuses)


@pytest.mark.timeout(120)
def test_a_fleet_loses_nothing_and_does_not_grow(postgresql, tmp_path):
    figures = fleet_load.load(tmp_path, postgresql.new_database(), jobs=150)
    assert figures.lost == 0
    assert max(figures.growth.values()) < 1.2
