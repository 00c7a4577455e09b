"""Threads that share nothing: each works alone on its part, with products on one core."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")


def share(work: Callable[[Iterator[T]], R], parts: Sequence[Sequence[T]]) -> list[R]:
    """Let every thread work on its share of the parts: what each gave, always in the same order.

    Who works on what does not depend on who is faster, so that sums come out the same to the last bit.

    Meanwhile the process counts one thread. A Python thread whose first use of torch falls into that time keeps one for
    good: use torch in it before, or set its count.
    """
    threads = torch.get_num_threads()
    stopped = threading.Event()

    def mine(first: int) -> Iterator[T]:
        for part in parts[first::threads]:
            for one in part:
                if stopped.is_set():
                    return
                yield one

    def run(first: int) -> R:
        torch.set_num_threads(1)  # of this thread's products
        with torch.no_grad():
            return work(mine(first))

    try:
        running = [_executor(threads, os.getpid()).submit(run, first) for first in range(min(threads, len(parts)))]
        return [one.result() for one in running]
    finally:
        stopped.set()  # after an error or an interrupt nothing further is begun
        torch.set_num_threads(threads)  # MKL counts its threads for the whole process


@cache
def _executor(threads: int, process: int) -> ThreadPoolExecutor:  # noqa: ARG001  # a fork has no threads of its parent
    return ThreadPoolExecutor(threads, thread_name_prefix="scoring")
