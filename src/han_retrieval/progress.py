"""Progress bars on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

_SECONDS_IN_A_LOG = 30.0


def progress_bar(items: Iterable[Any] | None = None, *, show: bool = True, **options: Any) -> tqdm[Any]:
    """A bar with rate and time left; where stderr is a file, a line every 30 seconds.

    Args:
        items: What is gone through; without it, ``update`` moves the bar.
        show: Whether to show it; it is never shown where there is no stderr.
        options: Further arguments of ``tqdm``, such as ``desc``, ``unit``, ``total``.
    """
    hidden = not show or sys.stderr is None
    if not hidden and not sys.stderr.isatty() and "ipykernel" not in sys.modules:  # whose stderr is a notebook's cell
        options = {"mininterval": _SECONDS_IN_A_LOG, "maxinterval": _SECONDS_IN_A_LOG, **options}
    return tqdm(items, disable=hidden, **options)
