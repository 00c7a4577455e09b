"""Numbers as JSON answers have them, on standard output and from the server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_DEGREES = {"latitude", "longitude"}


def rounded(facts: Any) -> Any:
    """Facts with 6 digits of each number that is no whole one: more mean nothing in a float32.

    Degrees on the globe have 6 decimals, a tenth of a metre.
    """
    if isinstance(facts, float):
        return float(f"{facts:.6g}")
    if isinstance(facts, dict):
        return {name: _degrees(value) if name in _DEGREES else rounded(value) for name, value in facts.items()}
    if isinstance(facts, list | tuple):
        return [rounded(value) for value in facts]
    return facts


def _degrees(value: Any) -> Any:
    return round(value, 6) if isinstance(value, float) else value


def rounded_seconds(seconds: Mapping[str, float]) -> dict[str, float]:
    """Times with 4 decimals, so that JSON writes none of them with an exponent."""
    return {step: round(each, 4) for step, each in seconds.items()}
