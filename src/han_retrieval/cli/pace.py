"""How fast photos were taken in."""

from __future__ import annotations


def added_in(photos: int, seconds: float) -> str:
    """Words for so many photos in so many seconds: "5 added in 3 s (1.7 photos/s)", without the rate of none."""
    rate = f" ({photos / max(seconds, 1e-9):.1f} photos/s)" if photos else ""
    return f"{photos:,} added in {seconds:.0f} s{rate}"
