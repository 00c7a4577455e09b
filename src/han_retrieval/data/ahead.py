"""Reading ahead: threads read the next items while the caller works on the last one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

PIXELS_AT_ONCE = 250_000_000
"""The most pixels of decoded photos in memory at once, of 4 bytes each; a larger photo is there alone."""


def read_ahead(items: Iterable[T], read: Callable[[T], R], *, threads: int, ahead: int) -> Generator[tuple[T, R]]:
    """Each item with ``read(item)``, in order; up to ``ahead`` further items are read meanwhile."""
    waiting: deque[tuple[T, Future[R]]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="read")
    try:
        for item in items:
            waiting.append((item, pool.submit(read, item)))
            if len(waiting) > ahead:
                first, result = waiting.popleft()
                yield first, result.result()
        while waiting:
            first, result = waiting.popleft()
            yield first, result.result()
    finally:
        pool.shutdown(cancel_futures=True)


def read_batches(
    items: Iterable[T],
    begin: Callable[[T], tuple[int, Callable[[], R]]],
    *,
    threads: int,
    batch_size: int,
    pixels: int = PIXELS_AT_ONCE,
) -> Generator[list[tuple[T, R]]]:
    """Photos in batches, in order; the next batch is read while the caller works on the last one.

    A batch has at most half of ``pixels``, or is one photo. When the caller asks for the next one, it is emptied.

    Args:
        items: What is to be read.
        begin: Gives the number of pixels of an item, and what decodes it.
        threads: Threads that read and decode.
        batch_size: The most items in a batch.
        pixels: The most pixels that are decoded or held by the caller at once, unless one photo alone has more.
    """
    rest = iter(items)
    begun: deque[tuple[T, Future[tuple[int, Callable[[], R]]]]] = deque()
    decoded: deque[tuple[T, int, Future[R]]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="read")

    def decode_ahead(held: int) -> None:
        """Decode what there is room for beside the pixels that the caller holds, and begin with what comes next."""
        held += sum(size for _, size, _ in decoded)
        begun.extend((item, pool.submit(begin, item)) for item in islice(rest, 2 * batch_size - len(begun)))
        while begun and len(decoded) < batch_size:
            size, decode = begun[0][1].result()
            if held and held + size > pixels:
                break
            held += size
            decoded.append((begun.popleft()[0], size, pool.submit(decode)))

    def next_batch() -> list[tuple[T, R]]:
        count = held = 0
        while count < min(len(decoded), batch_size) and (not count or held + decoded[count][1] <= pixels // 2):
            held += decoded[count][1]
            count += 1
        batch = [decoded.popleft() for _ in range(count)]
        decode_ahead(held)
        return [(item, photo.result()) for item, _, photo in batch]

    try:
        decode_ahead(0)
        while decoded:
            batch = next_batch()
            yield batch
            batch.clear()
            decode_ahead(0)
    finally:
        pool.shutdown(cancel_futures=True)
