"""Settings of the process that arithmetic on small machines gains from, and interrupts that wait."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any


def tune_process() -> None:
    """Settings for memory, waiting threads, numpy's threads and Lance's log. Call it before these are imported.

    Memory: scoring and convolutions free and take large blocks at every step. By default glibc maps and unmaps each of
    them, and on a small machine the page faults of that can take half of the time. Kept, the process stays as large as
    it once was, until ``give_memory_back``.

    Threads: at the end of each parallel operation torch's threads wait for one another. By default they spin for some
    milliseconds, and beside another busy process they spin while the thread that they wait for has no core: work then
    runs at a tenth of its speed. Here they spin for some 1,000 turns, well under a tenth of a millisecond, and then
    sleep. Alone that costs scoring, training and extraction a few percent at most; beside a busy process with as many
    threads, everything keeps 40 % of its speed and more (``benchmarks/neighbour.py``).

    OpenBLAS: numpy's threads would spin beside torch's. Large products are torch's here, so numpy needs none.

    Lance: where something fails it writes warnings to stderr, beside the line in which a command says so.

    What the environment says already is left as it is.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & set(os.environ):
        os.environ["OMP_WAIT_POLICY"] = "passive"  # for every OpenMP; torch's on Linux is GNU's, which spins before
        os.environ["GOMP_SPINCOUNT"] = "1000"
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("LANCE_LOG", "error")
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another libc
        return
    top_pad, trim_threshold, mmap_max = -2, -1, -4  # malloc.h's numbers of the settings
    mallopt(mmap_max, 0)
    mallopt(trim_threshold, 2**31 - 1)
    mallopt(top_pad, 2**26)


def threads_sleep() -> bool:
    """Whether torch's threads sleep while they wait for one another, as ``tune_process`` has them."""
    return os.environ.get("OMP_WAIT_POLICY", "").lower() == "passive"


def give_memory_back() -> None:
    """Give freed memory back to the system, after work that took much more than what is usual: 0.2 s a GB."""
    if sys.platform.startswith("linux"):
        with suppress(AttributeError):  # another libc
            ctypes.CDLL(None).malloc_trim(0)


@contextmanager
def interrupts_wait() -> Iterator[None]:
    """Let Ctrl-C act at the end of the block, for code of others that takes the exception for one of its own."""
    if threading.current_thread() is not threading.main_thread() or not callable(signal.getsignal(signal.SIGINT)):
        yield
        return
    asked: list[Any] = []
    before = signal.signal(signal.SIGINT, lambda *_: asked.append(True))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if asked:
            signal.raise_signal(signal.SIGINT)
