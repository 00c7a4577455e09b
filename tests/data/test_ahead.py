"""Photos that are read ahead of the caller: in order, and never more at once than there is room for."""

from __future__ import annotations

import gc
import threading
import time

import numpy as np
import pytest

from han_retrieval.data import read_batches


class Counted:
    """Something of a size; the class knows how much of it is alive, and how much was at most."""

    lock = threading.Lock()
    alive = most = 0

    def __init__(self, size):
        self.size = size
        with self.lock:
            Counted.alive += size
            Counted.most = max(Counted.most, Counted.alive)

    def __del__(self):
        with self.lock:
            Counted.alive -= self.size


@pytest.fixture
def counted():
    gc.collect()
    Counted.alive = Counted.most = 0
    return Counted


def begin(size):
    time.sleep(0.001 * (size % 3))
    return size, lambda: Counted(size)


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_batches_are_in_order_and_within_the_pixels(counted, threads, batch_size):
    sizes = np.random.default_rng(0).integers(0, 60, 80).tolist()
    seen = []
    for batch in read_batches(sizes, begin, threads=threads, batch_size=batch_size, pixels=100):
        assert 1 <= len(batch) <= batch_size
        assert len(batch) == 1 or sum(photo.size for _, photo in batch) <= 50
        assert all(item == photo.size for item, photo in batch)
        seen += [item for item, _ in batch]
        time.sleep(0.001)
    assert seen == sizes
    assert counted.most <= 100
    assert counted.alive == 0


def test_what_is_larger_than_the_pixels_is_alone(counted):
    sizes = [300, 10, 400, 500, 20]
    batches = read_batches(sizes, begin, threads=2, batch_size=8, pixels=100)
    assert [[item for item, _ in batch] for batch in batches] == [[300], [10], [400], [500], [20]]
    assert counted.most == 500


def test_the_next_batch_is_decoded_while_the_caller_works():
    decoded = []
    batches = read_batches(
        range(12), lambda item: (1, lambda: decoded.append(item)), threads=1, batch_size=4, pixels=100
    )
    next(batches)
    deadline = time.monotonic() + 10
    while len(decoded) < 8 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert decoded == list(range(8))
    batches.close()


def test_errors_reach_the_caller():
    def fail(item):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        next(read_batches([1], fail, threads=1, batch_size=2))
    with pytest.raises(ZeroDivisionError):
        next(read_batches([1], lambda item: (1, lambda: fail(item)), threads=1, batch_size=2))
