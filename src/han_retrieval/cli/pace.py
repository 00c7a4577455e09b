"""The speed of a run in words."""

from __future__ import annotations


def added_in(photos: int, seconds: float) -> str:
    """A number of photos, seconds and their rate: "5 added in 3 s (1.7 photos/s)"; no rate without photos."""
    rate = f" ({photos / max(seconds, 1e-9):.1f} photos/s)" if photos else ""
    return f"{photos:,} added in {seconds:.0f} s{rate}"
