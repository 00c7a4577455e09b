"""A queue in front of the model: one request at a time uses it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from fastapi import HTTPException, Request

from han_retrieval.serve.connections import network_of
from han_retrieval.serve.metrics import Metrics
from han_retrieval.serve.service import SearchService
from han_retrieval.serve.turns import Turns

T = TypeVar("T")


class RequestQueue:
    """Runs requests that need the model one after the other in a thread of its own, so that the event loop is free.

    The model uses all cores for each request: two at once would not be faster and would compete for the caches. The
    networks of clients take turns. A request whose client has disconnected, for example because the person typed on,
    is skipped.

    Args:
        service: Refreshed before each request.
        metrics: Counts waiting requests, photos and refreshes.
        waiting: How many requests may wait, of one network half of them.
        seconds: How long each may wait.
    """

    def __init__(self, service: SearchService, metrics: Metrics, *, waiting: int, seconds: float) -> None:
        self._service, self._metrics, self._limit, self._seconds = service, metrics, waiting, seconds
        # One thread for all requests: OpenMP keeps a team of threads for every thread that calls it.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")
        self._turns = Turns()
        self._waiting = 0
        metrics.photos.set(len(service.catalogue))

    async def run(self, request: Request, work: Callable[[], T]) -> T:
        """Wait for the model, refresh the index, and return what ``work`` returns.

        Raises:
            HTTPException: The queue is full, or its turn did not come in time (503), or the client has disconnected
                (499, which nobody receives).
        """
        busy = HTTPException(503, "too many requests are waiting; try again in a moment", {"Retry-After": "1"})
        network = network_of(request.client)
        if self._waiting >= self._limit or self._turns.waiting(network) >= max(1, self._limit // 2):
            raise busy
        self._waiting += 1
        self._metrics.waiting.inc()
        try:
            try:
                await asyncio.wait_for(self._turns.acquire(network), self._seconds)
            except TimeoutError:
                raise busy from None
            try:
                if await request.is_disconnected():
                    raise HTTPException(499, "the client has disconnected")
                return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, work)
            finally:
                self._turns.release()
        finally:
            self._waiting -= 1
            self._metrics.waiting.dec()

    def close(self) -> None:
        """Wait for the request that is running; drop those that wait."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _run(self, work: Callable[[], T]) -> T:
        before = self._service.refreshes
        self._service.refresh()
        if self._service.refreshes != before:
            self._metrics.refreshes.inc()
            self._metrics.photos.set(len(self._service.catalogue))
        return work()
