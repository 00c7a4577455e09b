"""Processor time by stage of a work: a few clock reads a photo, so that it is always collected.

A thread is in one stage at a time; a stage inside another takes its time from it. Threads of torch's operations are in
no stage; their time is shared out among the stages that use them.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Collection, Iterator
from contextlib import contextmanager

_totals: dict[str, float] = defaultdict(float)
_lock = threading.Lock()
_local = threading.local()


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Count the processor time of this thread in the block under a name."""
    outer: str | None = getattr(_local, "name", None)
    _switch(name)
    try:
        yield
    finally:
        _switch(outer)


def _switch(name: str | None) -> None:
    now = time.thread_time()
    before: str | None = getattr(_local, "name", None)
    if before is not None:
        with _lock:
            _totals[before] += now - _local.since
    _local.name, _local.since = name, now


class StageTimes:
    """The processor seconds of this process from here on, by stage.

    Args:
        parallel: Stages in which torch's threads take part.
    """

    def __init__(self, parallel: Collection[str]) -> None:
        self._parallel = parallel
        with _lock:
            self._before = dict(_totals)
        self._began = time.process_time()

    def seconds(self) -> dict[str, float]:
        """Seconds by stage; threads that are in a stage count when they have left it."""
        with _lock:
            found = {name: seconds - self._before.get(name, 0.0) for name, seconds in _totals.items()}
        found = {name: seconds for name, seconds in found.items() if seconds > 0}
        rest = time.process_time() - self._began - sum(found.values())
        shared = sum(seconds for name, seconds in found.items() if name in self._parallel)
        if rest > 0 and shared > 0:
            found |= {name: found[name] * (1 + rest / shared) for name in self._parallel if name in found}
        return found
