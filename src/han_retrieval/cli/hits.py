"""Photos that a search found, as lines and as JSON."""

from __future__ import annotations

from typing import Any

import click

from han_retrieval.search import Hit, SearchResult
from han_retrieval.search.calibration import Calibration


def note_nothing(answer: SearchResult, calibration: Calibration | None, *, show_all: bool) -> list[Hit]:
    """The hits to be shown: none, and a note of that, where nothing matches and not all are asked for."""
    if not (answer.nothing_matches and answer.hits):
        return answer.hits
    assert calibration is not None
    best = max(hit.probability or 0 for hit in answer.hits)
    more = "" if show_all else "; --all shows the nearest photos"
    click.echo(
        f"nothing here matches: the best photo has a probability of {best:.1%}, and {calibration.threshold:.1%} would "
        f"be enough{more}",
        err=True,
    )
    return answer.hits if show_all else []


def hit_line(hit: Hit) -> str:
    """Score, probability where it is known, and path."""
    more = f"  (and {len(hit.copies)} more of the same content)" if hit.copies else ""
    probability = "" if hit.probability is None else f"  {hit.probability:6.1%}"
    return f"{hit.score:7.4f}{probability}  {hit.path}{more}"


def hit_as_json(hit: Hit) -> dict[str, Any]:
    """All that is known of a hit."""
    return {
        "path": str(hit.path),
        "copies": [str(path) for path in hit.copies],
        "id": hit.id,
        "score": hit.score,
        "probability": hit.probability,
        "width": hit.width,
        "height": hit.height,
        "date": hit.date,
        "boxes": None if hit.boxes is None else hit.boxes.tolist(),
        "labels": hit.labels,
    }
