"""What the server counts, for Prometheus."""

from __future__ import annotations

import time
from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

STAGES = ("encode", "filter", "candidates", "fetch", "rank", "detect")
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """One server's figures.

    Attributes:
        waiting: Requests that wait for the model, the one that has it included.
        photos: In the index.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._stages = Histogram(
            "han_stage_seconds",
            "Time in each stage of an answer.",
            ["stage"],
            buckets=_BUCKETS,
            registry=self._registry,
        )
        for stage in STAGES:
            self._stages.labels(stage)  # so that each is there from the beginning
        self._requests = Histogram(
            "han_request_seconds", "Time of a request, waiting included.", ["route", "status"],
            buckets=_BUCKETS, registry=self._registry,
        )  # fmt: skip
        self.waiting = Gauge("han_waiting_requests", "Requests that wait for the model.", registry=self._registry)
        self.photos = Gauge("han_photos", "Photos in the index.", registry=self._registry)
        self._refreshes = Counter("han_refreshes", "Times that changes were taken in.", registry=self._registry)

    def stages(self, seconds: Mapping[str, float]) -> None:
        """Note how long each stage of an answer took."""
        for stage, each in seconds.items():
            self._stages.labels(stage).observe(each)

    def request(self, route: str, status: int, seconds: float) -> None:
        """Note a request that was answered; ``route`` is its pattern, never the path that was asked for."""
        self._requests.labels(route, str(status)).observe(seconds)

    def refreshed(self) -> None:
        """Note that changes were taken in."""
        self._refreshes.inc()

    def text(self) -> bytes:
        """All of it, in Prometheus's text format."""
        return generate_latest(self._registry)


class Timed:
    """An application whose requests are noted.

    Args:
        app: What answers.
        metrics: Where they are noted.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request; ASGI's other messages pass."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def send_noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_noted)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            self._metrics.request(route, status, time.perf_counter() - began)
