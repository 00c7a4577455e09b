"""Photos that were found, as lines and as JSON."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from han_retrieval.cli.names import path_line
from han_retrieval.errors import ConfigError

if TYPE_CHECKING:
    from han_retrieval.search import Hit, SearchResult


def refuse_two_outputs(*, paths: bool, null: bool, as_json: bool) -> None:
    """Check that at most one form of output is asked for.

    Raises:
        ConfigError: Two of --paths, --null and --json are given.
    """
    given = [name for name, is_given in (("--paths", paths), ("--null", null), ("--json", as_json)) if is_given]
    if len(given) > 1:
        raise ConfigError(f"{given[0]} and {given[1]} are two ways to print: choose one")


def likely_hits(found: SearchResult, *, show_all: bool) -> list[Hit]:
    """The hits to print: where nothing matches, a note on stderr and none of them, unless all are asked for."""
    if not (found.nothing_matches and found):
        return found.hits
    more = "" if show_all else "; --all shows the nearest photos"
    click.echo(f"nothing here is likely to match{more}", err=True)
    return found.hits if show_all else []


def print_hits(hits: Sequence[Hit], *, paths: bool, null: bool) -> None:
    """Print a line a hit: score and how well it fits, where known, and path; or only paths, ended by NUL on wish."""
    for hit in hits:
        if null:
            click.echo(os.fsencode(str(hit.path)) + b"\0", nl=False)  # of text, it would drop codes for terminals
            continue
        more = f"  (and {len(hit.copies)} more of the same content)" if hit.copies else ""
        score = "" if hit.score is None else f"{hit.score:7.4f}{match_column(hit.match)}  "
        line = f"{score}{path_line(hit.path)}{more}"
        click.echo(path_line(hit.path) if paths else line)


def match_column(match: str | None) -> str:
    """How well something fits, as a column of a line; nothing where it is not known."""
    return "" if match is None else f"  {match:6}"


def hit_as_json(hit: Hit) -> dict[str, Any]:
    """All fields of a hit."""
    return {
        "path": str(hit.path),
        "copies": [str(path) for path in hit.copies],
        "id": hit.id,
        "score": hit.score,
        "probability": hit.probability,
        "match": hit.match,
        "width": hit.width,
        "height": hit.height,
        "date": hit.date,
        "boxes": None if hit.boxes is None else hit.boxes.tolist(),
        "labels": hit.labels,
    }
