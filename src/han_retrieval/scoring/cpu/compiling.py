"""Compiling kernels: at their first call, once a machine, kept on disk for as long as no kernel's source changes."""

from __future__ import annotations

import functools
import hashlib
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba

# Without Numba's own annotations, which change from release to release.
njit: Any = numba.njit(nogil=True)
_settings: Any = numba.config


def cached_njit(function: Callable[..., Any]) -> Any:
    """A function to call from Python: compiled at its first call on a machine, and kept on disk.

    The log says so where a process compiles it first; for arguments of other types it is compiled anew in silence.
    """
    users = _settings.CACHE_DIR
    _settings.CACHE_DIR = str(Path(users or Path(__file__).parent / "__pycache__") / f"kernels-{_sources()}")
    try:
        compiled = numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:  # no folder to keep it in
        compiled = numba.njit(nogil=True)(function)
    finally:
        _settings.CACHE_DIR = users

    @functools.wraps(function)
    def call(*args: Any) -> Any:
        if compiled.signatures:
            return compiled(*args)
        note = threading.Timer(2, _say_that_it_compiles)
        note.start()
        try:
            return compiled(*args)
        finally:
            note.cancel()

    return call


@functools.cache
def _sources() -> str:
    """A hash of all that goes into kernels; Numba itself looks at the file of the outermost function alone."""
    folder = Path(__file__).parent
    named = ("compiling.py", "lanes.py", "products.py", "../alignment.py")
    files = [*(folder / name for name in named), *sorted(folder.glob("*_kernel.py"))]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


@functools.cache
def _say_that_it_compiles() -> None:
    logging.getLogger(__name__).warning("compiling the scoring kernels for this processor: once, under a minute")
