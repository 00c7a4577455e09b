"""Photos to networks: those of one shape together, or one a thread with a share of torch's threads.

On a CPU, a photo each is quicker than all threads on one photo, and its maps fit caches.
"""

from __future__ import annotations

import functools
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")

_MOST = 8  # as many photos as a batch has by default


def map_on_threads(work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """``work`` of each item, in order; one item is worked on in this thread, by all of torch's threads."""
    if len(items) < 2 or torch.get_num_threads() < 2:
        return [work(item) for item in items]
    return list(_pool(torch.get_num_threads()).map(work, items))


def map_by_shape(
    work: Callable[[list[T], tuple[int, int]], Sequence[R]],
    photos: Sequence[T],
    shapes: Sequence[tuple[int, int]],
    *,
    one_a_thread: bool,
) -> list[R]:
    """What ``work`` gives for each photo, in order.

    Args:
        work: Takes photos and the shape (w, h) that they are resized to, and gives something for each.
        photos: Of any number.
        shapes: (w, h) of each.
        one_a_thread: Give it one photo at a time, on several threads; otherwise all photos of a shape at once, one
            shape after the other.
    """
    alike: dict[tuple[int, int], list[int]] = defaultdict(list)
    for place, shape in enumerate(shapes):
        alike[shape].append(place)
    groups = [[place] for places in alike.values() for place in places] if one_a_thread else list(alike.values())

    def run(places: list[int]) -> Sequence[R]:
        return work([photos[place] for place in places], shapes[places[0]])

    found: dict[int, R] = {}
    for places, of_group in zip(groups, map_on_threads(run, groups) if one_a_thread else map(run, groups), strict=True):
        found.update(zip(places, of_group, strict=True))
    return [found[place] for place in range(len(photos))]


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    workers = min(threads, _MOST)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="detect")
    started = threading.Barrier(workers + 1)

    def begin() -> None:
        torch.set_num_threads(threads // workers)
        started.wait()

    for _ in range(workers):
        pool.submit(begin)
    started.wait()
    torch.set_num_threads(threads)  # a thread's setting is also that of threads that are yet to begin
    return pool
