"""One HTML file that shows search results with their evidence; it needs no server, no network and no other file.

Pointing at a word lights up its regions, pointing at a region lights up its words. Text is escaped by the template
engine, and the page's content security policy allows no script but its own.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np

from han_retrieval.evidence.colours import NEUTRAL, region_colours
from han_retrieval.evidence.evidence import Evidence

if TYPE_CHECKING:
    from jinja2 import Template
    from PIL import Image

_LONGEST_SIDE = 640  # pixels of a photo in the page


@dataclass(frozen=True, slots=True, eq=False)
class PhotoResult:
    """A photo that a query found.

    Attributes:
        name: The photo's name as the page shows it.
        evidence: Of the query and this photo; it has the photo.
        note: A remark on the photo, such as its probability.
    """

    name: str
    evidence: Evidence
    note: str = ""


@dataclass(frozen=True, slots=True)
class QueryResults:
    """A query and the photos that it found, best first."""

    sentence: str
    results: Sequence[PhotoResult]
    note: str = ""


@dataclass(frozen=True, slots=True)
class PageTable:
    """A table of figures; the first cell of each row names the row."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def evidence_page(
    title: str,
    queries: Sequence[QueryResults],
    *,
    intro: str = "",
    tables: Sequence[PageTable] = (),
    commands: Sequence[str] = (),
) -> str:
    """The page as HTML text.

    Args:
        title: The page's heading.
        queries: The queries with their results.
        intro: A paragraph below the heading.
        tables: Tables below the queries.
        commands: Command lines to try next, at the end of the page.

    Raises:
        DataError: A result's evidence has no photo, or the photo's file cannot be read.
    """
    script = _asset("light.js") + "document.querySelectorAll('figure[data-alignment]').forEach(lightUp);\n"
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    shown = [
        {"sentence": query.sentence, "note": query.note, "results": [_result(each) for each in query.results]}
        for query in queries
    ]
    return _template().render(
        title=title,
        intro=intro,
        queries=shown,
        tables=tables,
        commands=commands,
        policy=policy,
        script=script,
        style=_asset("evidence.css") + _asset("page.css"),
    )


@cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.tests["numeric"] = lambda text: re.fullmatch(r"-?[\d.,]+%?", text) is not None
    return environment.from_string(_asset("page.html"))


@cache
def _asset(name: str) -> str:
    return (resources.files("han_retrieval.evidence") / name).read_text(encoding="utf-8")


def _result(result: PhotoResult) -> dict[str, Any]:
    """What the template shows of a photo: numbers as text, regions and words with their colours."""
    evidence = result.evidence
    colours = region_colours(evidence)
    greatest = evidence.alignment.max(1)  # (n,)
    strengths = 0.3 + 0.7 * greatest / greatest.max()  # opacity of the words' colours
    return {
        "name": result.name,
        "note": result.note,
        "sentence": " ".join(evidence.words),
        "score": f"{evidence.score:.3f}",
        "image": _data_uri(evidence.load_photo()),
        "width": evidence.width,
        "height": evidence.height,
        "ratio": f"{evidence.width / evidence.height:.4f}",
        "alignment": json.dumps(np.round(evidence.alignment, 3).tolist(), separators=(",", ":")),
        "regions": _regions(evidence, colours, strengths),
        "phrases": [
            [_word(evidence, i, phrase.region, colours, strengths) for i in range(phrase.start, phrase.end)]
            for phrase in evidence.phrases()
        ],
    }


def _regions(evidence: Evidence, colours: dict[int, str], strengths: np.ndarray) -> list[dict[str, Any]]:
    """All regions, small ones last so that they lie on top; those without a colour are hidden at first."""
    areas = (evidence.boxes[:, 2:] - evidence.boxes[:, :2]).prod(1)
    regions = []
    for number in np.argsort(-areas, kind="stable").tolist():
        x0, y0, x1, y1 = evidence.boxes[number].tolist()
        words = np.flatnonzero((evidence.word_regions == number) & evidence.known).tolist()
        regions.append(
            {
                "number": number,
                "x": f"{x0:.1f}",
                "y": f"{y0:.1f}",
                "width": f"{x1 - x0:.1f}",
                "height": f"{y1 - y0:.1f}",
                "words": [evidence.words[i] for i in words],
                "strength": f"{max((float(strengths[i]) for i in words), default=0.0):.2f}",
                "shown": number in colours,
                "colour": colours.get(number, NEUTRAL),
            }
        )
    return regions


def _word(evidence: Evidence, i: int, region: int, colours: dict[int, str], strengths: np.ndarray) -> dict[str, Any]:
    return {
        "text": evidence.words[i],
        "known": evidence.known[i],
        "function": evidence.function_words[i],
        "match": f"{evidence.match[i]:.2f}",
        "weight": f"{evidence.alignment[i, region]:.0%}",
        "colour": colours.get(region, NEUTRAL),
        "strength": f"{strengths[i]:.2f}",
    }


def _data_uri(photo: Image.Image) -> str:
    small = photo.convert("RGB")
    small.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
