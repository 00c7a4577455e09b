"""Numbers as JSON answers have them, on standard output and from the server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def rounded(facts: Any) -> Any:
    """Facts with 6 digits of each number that is no whole one: more mean nothing in a float32."""
    if isinstance(facts, float):
        return float(f"{facts:.6g}")
    if isinstance(facts, dict):
        return {name: rounded(value) for name, value in facts.items()}
    if isinstance(facts, list | tuple):
        return [rounded(value) for value in facts]
    return facts


def rounded_seconds(seconds: Mapping[str, float]) -> dict[str, float]:
    """Times with 4 decimals, so that JSON writes none of them with an exponent."""
    return {step: round(each, 4) for step, each in seconds.items()}
