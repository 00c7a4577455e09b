"""What holds for all tests."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def kernels_at_once() -> Iterator[None]:
    """Let searches wait for the scoring kernels: scores before and after they are loaded differ by rounding."""
    import torch

    from han_retrieval.scoring import collection, kernels

    lock = threading.Lock()

    def are_ready(use: kernels.Use) -> bool:
        with lock:
            if use not in kernels._ready:
                kernels._ready[use] = False
                kernels.prepare(use, torch.get_num_threads())
            return kernels._ready[use]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collection, "are_ready", are_ready)
        yield
