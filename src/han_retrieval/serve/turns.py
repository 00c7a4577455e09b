"""Requests take turns at the model."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from fastapi import HTTPException, Request

from han_retrieval.serve.engine import Engine
from han_retrieval.serve.metrics import Metrics

T = TypeVar("T")


class Turns:
    """One request after the other has the engine, in a thread of its own, so that the others can be waited with.

    The model uses all cores for each answer: two at once would take as long and share its caches. Who has gone when
    their turn comes, such as somebody who typed on, is passed over.

    Args:
        engine: What they take turns at.
        metrics: Where the number that wait and changes of the index are noted.
        waiting: How many may wait.
    """

    def __init__(self, engine: Engine, metrics: Metrics, *, waiting: int) -> None:
        self._engine, self._metrics, self._most = engine, metrics, waiting
        # The same thread each time: OpenMP keeps a team of threads for every one that calls it.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")
        self._lock = asyncio.Lock()
        self._waiting = 0
        metrics.photos.set(len(engine.catalogue))

    async def take(self, request: Request, work: Callable[[], T]) -> T:
        """What ``work`` returns, done when the request's turn comes, on the index as it then is.

        Raises:
            HTTPException: Too many wait (503), or whoever asked has gone (499, which nobody sees).
        """
        if self._waiting >= self._most:
            raise HTTPException(503, "too many requests are waiting; try again in a moment", {"Retry-After": "1"})
        self._waiting += 1
        self._metrics.waiting.inc()
        try:
            async with self._lock:
                if await request.is_disconnected():
                    raise HTTPException(499, "whoever asked has gone")
                return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, work)
        finally:
            self._waiting -= 1
            self._metrics.waiting.dec()

    def close(self) -> None:
        """Wait for what is being done."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _run(self, work: Callable[[], T]) -> T:
        before = self._engine.refreshes
        self._engine.refresh()
        if self._engine.refreshes != before:
            self._metrics.refreshed()
            self._metrics.photos.set(len(self._engine.catalogue))
        return work()
