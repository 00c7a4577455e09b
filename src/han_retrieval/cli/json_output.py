"""Facts as JSON on standard output."""

from __future__ import annotations

import json
from typing import Any

import click

from han_retrieval.rounding import rounded


def print_json(facts: Any, *, indent: int | None = None) -> None:
    """Print facts as JSON, with their numbers ``rounded``."""
    click.echo(json.dumps(rounded(facts), ensure_ascii=False, indent=indent))
