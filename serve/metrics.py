"""Numbers for Prometheus; each application, and each worker's process, has its own registry."""

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from dg2_jax.serve.records import QUEUED, RUNNING

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
        self.queue_seconds = Histogram(
            "dg2_queue_seconds",
            "Seconds that a job waited for its first picture to begin",
            ["model"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.slots_in_use = Gauge(
            "dg2_slots_in_use",
            "Branches of guidance that are evaluated together, of dg2_slots",
            registry=self.registry,
        )
        self.slots = Gauge("dg2_slots", "Branches that there is room for", registry=self.registry)
        self.compile_seconds = Counter(
            "dg2_compile_seconds",
            "Seconds of compiling ahead of demand",
            ["model"],
            registry=self.registry,
        )

    def watch_jobs(self, count: Callable[[], Mapping[str, Mapping[str, int]]]) -> None:
        """Where the numbers of unfinished jobs are read: by status, then by model."""
        self.registry.register(_Jobs(count))

    def watch_models(self, loaded: Callable[[], Iterable[str]]) -> None:
        """Where the names of the models in memory are read."""
        self.registry.register(_Models(loaded))

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self.registry)


class _Jobs(Collector):
    def __init__(self, count: Callable[[], Mapping[str, Mapping[str, int]]]):
        self._count = count

    def collect(self) -> Iterable[GaugeMetricFamily]:
        counted = self._count()
        total = sum(counted[QUEUED].values())
        yield GaugeMetricFamily("dg2_queue_jobs", "Jobs waiting", total)
        names = {QUEUED: "dg2_jobs_waiting", RUNNING: "dg2_jobs_running"}
        for status, name in names.items():
            family = GaugeMetricFamily(name, f"Jobs that are {status}", labels=["model"])
            for model, number in counted[status].items():
                family.add_metric([model], number)
            yield family


class _Models(Collector):
    def __init__(self, loaded: Callable[[], Iterable[str]]):
        self._loaded = loaded

    def collect(self) -> Iterable[GaugeMetricFamily]:
        family = GaugeMetricFamily("dg2_model_loaded", "Models in memory", labels=["model"])
        for model in self._loaded():
            family.add_metric([model], 1)
        yield family
