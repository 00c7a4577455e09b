"""Progress bars on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

_SECONDS, _SECONDS_IN_A_LOG = 0.2, 30.0


def progress_bar(items: Iterable[Any] | None = None, *, show: bool = True, **options: Any) -> tqdm[Any]:
    """A bar with rate and time left; where stderr is a file, a line every 30 seconds.

    Args:
        items: What is gone through; without it, ``update`` moves the bar.
        show: Whether to show it.
        options: Further arguments of ``tqdm``, such as ``desc``, ``unit``, ``total``.
    """
    seconds = _SECONDS if sys.stderr.isatty() else _SECONDS_IN_A_LOG
    return tqdm(items, mininterval=seconds, disable=not show, **options)
