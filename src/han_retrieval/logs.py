"""What other libraries log."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_silent: dict[str, tuple[int, int]] = {}  # by the logger's name: how many contexts silence it, and its own level


@contextmanager
def silenced(*names: str) -> Iterator[None]:
    """A context in which these loggers say nothing below CRITICAL, in several threads at once, too.

    Import the libraries first: some set their loggers' levels when they are imported.
    """
    with _lock:
        for name in names:
            logger = logging.getLogger(name)
            count, level = _silent.get(name, (0, logger.level))
            _silent[name] = count + 1, level
            logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        with _lock:
            for name in names:
                count, level = _silent.pop(name)
                if count > 1:
                    _silent[name] = count - 1, level
                else:
                    logging.getLogger(name).setLevel(level)
