"""Compiling kernels: at their first call, once a machine, kept on disk for as long as no kernel's source changes."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numba
import portalocker

from han_retrieval.caches import cache_folder

# Without Numba's own annotations, which change from release to release.
njit: Any = numba.njit(nogil=True)
_settings: Any = numba.config


def cached_njit(function: Callable[..., Any]) -> Any:
    """A function to call from Python: compiled at its first call on a machine, and kept on disk.

    The log says so where a process compiles it first; for arguments of other types it is compiled anew in silence.
    """
    users, folder = _settings.CACHE_DIR, kept_in()
    _settings.CACHE_DIR = str(folder)
    try:
        compiled = numba.njit(nogil=True, cache=True)(function)
        _save_one_at_a_time(compiled, folder)
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


def kept_in() -> Path:
    """The folder of the compiled kernels: Numba's own setting, else beside this file, else among the user's caches."""
    name = f"kernels-{_sources()}"
    if _settings.CACHE_DIR:
        return Path(_settings.CACHE_DIR) / name
    beside = Path(__file__).parent / "__pycache__" / name
    return beside if is_writable(beside) else cache_folder() / name


@functools.cache
def is_writable(folder: Path) -> bool:
    """Whether files can be made in a folder, which is made if need be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _save_one_at_a_time(compiled: Any, folder: Path) -> None:
    """Let processes that compile at the same time write their kernels one after the other.

    Numba reads a function's list of files, adds one and writes the list and the file, under no lock: of two processes
    at once, one's list may name the other's file. What cannot be written is compiled anew by the next process.
    """
    cache = compiled._cache
    save = cache.save_overload

    def locked(signature: Any, data: Any) -> None:
        with contextlib.suppress(OSError, portalocker.LockException):
            folder.mkdir(parents=True, exist_ok=True)
            with portalocker.Lock(folder / "lock", "a", timeout=60):
                save(signature, data)

    cache.save_overload = locked


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
