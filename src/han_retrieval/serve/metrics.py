"""Metrics for Prometheus."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import FastAPI
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_fastapi_instrumentator import Instrumentator
from prometheus_fastapi_instrumentator.metrics import Info

STAGES = ("encode", "filter", "candidates", "fetch", "rank", "detect")
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """The metrics of one server.

    Attributes:
        waiting: Requests in the queue for the model, including the one that is running.
        photos: Photos in the index.
        refreshes: How often changes of the index were loaded.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()

        def histogram(name: str, text: str, labels: list[str]) -> Histogram:
            return Histogram(name, text, labels, buckets=_BUCKETS, registry=self._registry)

        self._stages = histogram("han_stage_seconds", "Time of each stage of a search.", ["stage"])
        for stage in STAGES:
            self._stages.labels(stage)  # so that each stage is there from the start
        self._requests = histogram("han_request_seconds", "Time of a request, with waiting.", ["route", "status"])
        self.waiting = Gauge("han_waiting_requests", "Requests in the queue for the model.", registry=self._registry)
        self.photos = Gauge("han_photos", "Photos in the index.", registry=self._registry)
        self.refreshes = Counter("han_refreshes", "Times that changes were loaded.", registry=self._registry)

    def stages(self, seconds: Mapping[str, float]) -> None:
        """Record how long each stage of a search took."""
        for stage, duration in seconds.items():
            self._stages.labels(stage).observe(duration)

    def time_requests(self, app: FastAPI) -> None:
        """Record the time of each request that the app answers, by its route and status."""

        def record(info: Info) -> None:
            self._requests.labels(info.modified_handler, info.modified_status).observe(info.modified_duration)

        Instrumentator(should_group_status_codes=False, registry=self._registry).add(record).instrument(app)

    def text(self) -> bytes:
        """All metrics in Prometheus's text format."""
        return generate_latest(self._registry)
