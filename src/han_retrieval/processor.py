"""What the processors of this machine can do."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

PRECISIONS = ("float32", "bfloat16")
"""In which large matrix products can be computed."""


def device_or_best(device: str | torch.device | None) -> torch.device:
    """The device, or for None a GPU if there is one."""
    import torch

    return torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute on one thread: work so small that threads would wait for one another longer than they compute.

    A Python thread whose first use of torch falls into that time keeps one for good: use torch in it before.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@functools.cache
def prefers_bfloat16() -> bool:
    """Whether the processor multiplies faster in bfloat16 than in float32; False where it cannot be told.

    AVX-512 has such products on Intel's processors too, but there they run at half the rate of float32's (Emerald
    Rapids; docs/results/speed.md). What is fast there is AMX, which virtual machines may hide.
    """
    try:
        from llvmlite.binding import get_host_cpu_features, get_host_cpu_name
    except ImportError:
        return False
    features = get_host_cpu_features()
    by_amd = get_host_cpu_name().startswith("znver")
    return bool(features.get("amx-bf16") or features.get("bf16") or (features.get("avx512bf16") and by_amd))
