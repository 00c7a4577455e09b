"""Facts as JSON on standard output."""

from __future__ import annotations

import json
from typing import Any

import click


def print_json(facts: Any, *, indent: int | None = None) -> None:
    """Print facts as JSON, with 6 digits of each number that is no whole one: more mean nothing in a float32."""
    click.echo(json.dumps(_rounded(facts), ensure_ascii=False, indent=indent))


def _rounded(facts: Any) -> Any:
    if isinstance(facts, float):
        return float(f"{facts:.6g}")
    if isinstance(facts, dict):
        return {name: _rounded(value) for name, value in facts.items()}
    if isinstance(facts, list | tuple):
        return [_rounded(value) for value in facts]
    return facts
