"""What the processor of this machine can do."""

from __future__ import annotations

import functools

PRECISIONS = ("float32", "bfloat16")
"""In which large matrix products can be computed."""


@functools.cache
def has_bfloat16() -> bool:
    """Whether the processor multiplies in bfloat16; False where it cannot be told."""
    try:
        from llvmlite.binding import get_host_cpu_features
    except ImportError:
        return False
    features = get_host_cpu_features()
    return any(features.get(name) for name in ("avx512bf16", "amx-bf16", "bf16"))
