"""Requests made from the OpenAPI schema by schemathesis: none may bring a 500, and none may hang.

python -m tests.serve.fuzz --cases=10000
"""

import argparse
import contextlib
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import hypothesis
import schemathesis
from hypothesis import HealthCheck

from tests.serve.live import Process

SLOW_SECONDS = 10.0


def fuzz(url: str, cases: int, seed: int = 0) -> Counter:
    """Sends at least `cases` requests, in rounds over all operations; returns statuses' counts.

    Raises:
        AssertionError: with the request that brought a 500 or took too long.
    """
    schema = schemathesis.openapi.from_url(f"{url}/api/v1/openapi.json")
    operations = [result.ok() for result in schema.get_all_operations()]
    statuses: Counter = Counter()
    while statuses.total() < cases:
        each = 1 + (cases - statuses.total()) // (2 * len(operations))
        for operation in operations:
            if not operation.path.endswith("/events"):  # a stream ends with its job
                for mode in schemathesis.GenerationMode:
                    _send_some(operation, mode, each, seed, statuses)
        seed += 1
    return statuses


def _send_some(operation, mode, count: int, seed: int, statuses: Counter) -> None:
    """Sends at most `count` requests, right ones or wrong ones, as the mode says."""

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=count,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
    def send(case) -> None:
        start = time.monotonic()
        response = case.call(timeout=SLOW_SECONDS)
        taken = time.monotonic() - start
        statuses[response.status_code] += 1
        about = f"{case.method} {case.path} {case.body!r:.500}: {response.text[:300]}"
        assert response.status_code != 500, about
        assert taken < SLOW_SECONDS, about

    with contextlib.suppress(hypothesis.errors.Unsatisfiable):  # nothing can be wrong in it
        send()


def main() -> None:
    """Prints the statuses' counts."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = Process(Path(folder), queue_limit=100_000, client_limit=100_000)
        start = time.monotonic()
        try:
            statuses = fuzz(server.url, options.cases, options.seed)
        except AssertionError as error:
            print(f"FAILED: {error}")
            sys.exit(1)
        finally:
            server.end(signal.SIGTERM)
    taken = time.monotonic() - start
    counts = ", ".join(f"{status}: {count}" for status, count in sorted(statuses.items()))
    print(f"{sum(statuses.values())} cases in {taken:.0f} s: {counts}")


if __name__ == "__main__":
    main()
