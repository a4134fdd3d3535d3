"""Numbers for Prometheus; each application has its own registry."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300)


class Metrics:
    """All that is counted."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.jobs = Counter(
            "dg2_jobs", "Jobs that ended", ["kind", "status"], registry=self.registry
        )
        self.images = Counter("dg2_images", "Pictures stored", registry=self.registry)
        self.batch_size = Histogram(
            "dg2_batch_images",
            "Pictures computed together",
            buckets=(1, 2, 4, 8, 16),
            registry=self.registry,
        )
        self.image_seconds = Histogram(
            "dg2_image_seconds", "Seconds a picture", buckets=_SECONDS, registry=self.registry
        )
        self.requests = Histogram(
            "dg2_request_seconds",
            "Seconds until a response begins",
            ["method", "status"],
            registry=self.registry,
        )
        self._queue = Gauge("dg2_queue_jobs", "Jobs waiting", registry=self.registry)

    def watch_queue(self, length: Callable[[], int]) -> None:
        """Where the queue's length is read."""
        self._queue.set_function(length)

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self.registry)
