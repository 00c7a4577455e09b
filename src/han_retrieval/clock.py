"""Seconds of each step of a computation."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from han_retrieval.errors import QueryError


class Clock:
    """Measures steps: ``with clock("score"): ...`` adds the seconds of the block to ``seconds["score"]``.

    A step inside another counts for itself alone.

    Args:
        limit: Seconds for all steps together; none begins after them.
    """

    def __init__(self, limit: float | None = None) -> None:
        self.seconds: dict[str, float] = {}
        self._limit = limit
        self._inside = 0.0  # seconds of the steps inside the one that runs

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        """Time one step.

        Raises:
            QueryError: The steps before took longer than the limit.
        """
        if self._limit is not None and sum(self.seconds.values()) > self._limit:
            raise QueryError("this takes too long; ask for fewer photos, or with fewer words")
        before, self._inside = self._inside, 0.0
        start = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - start
            self.seconds[step] = self.seconds.get(step, 0.0) + seconds - self._inside
            self._inside = before + seconds
