"""Counts and times for Prometheus, at /metrics."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector, generate_latest

PATHS = {"/", "/collect", "/docs", "/health", "/metrics", "/model", "/openapi.json", "/predict"}
SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)


class Metrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter("requests", "Answered requests", ["path", "status"], registry=self.registry)
        self.seconds = Histogram(
            "request_seconds", "Time of a request", ["path"], registry=self.registry, buckets=SECONDS
        )
        self.under_way = Gauge("requests_under_way", "Requests under way", registry=self.registry)
        self.pictures = Counter("pictures", "Pictures by outcome", ["outcome"], registry=self.registry)
        self.digits = Counter("digits", "Predicted digits", ["digit"], registry=self.registry)
        self.collected = Counter("collected", "Pictures saved by digit", ["digit"], registry=self.registry)
        self.model = Info("model", "The model that is served", registry=self.registry)
        self.changes = Counter("model_changes", "Changes of the model", registry=self.registry)

    @contextmanager
    def request(self) -> Iterator[Callable[[str, int], None]]:
        """Time a request. The block calls the yielded function with its path and its answer's status."""
        started = time.perf_counter()
        self.under_way.inc()

        def done(path: str, status: int) -> None:
            known = path if path in PATHS else "other"  # clients do not choose the number of series
            self.requests.labels(known, str(status)).inc()
            self.seconds.labels(known).observe(time.perf_counter() - started)

        try:
            yield done
        finally:
            self.under_way.dec()

    def text(self) -> bytes:
        return generate_latest(self.registry)
