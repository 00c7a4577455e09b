"""Facts as JSON on standard output."""

from __future__ import annotations

import codecs
import json
import sys
from typing import Any

import click

from han_retrieval.rounding import rounded


def print_json(facts: Any, *, indent: int | None = None) -> None:
    """Print facts as JSON, with their numbers ``rounded``; in ASCII where the output is not in UTF-8."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    is_utf8 = codecs.lookup(encoding).name.startswith("utf-8")
    click.echo(json.dumps(rounded(facts), ensure_ascii=not is_utf8, indent=indent))
