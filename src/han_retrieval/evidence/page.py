"""One HTML file that shows answers and their evidence: it needs no server, no network and no other file.

Hovering or focusing a word lights up the regions that it looked at, a region the words that looked at it. Everything
that comes from data is escaped, and the page's own policy lets only its own script run.
"""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np
from PIL import Image

from han_retrieval.evidence.colours import NEUTRAL, region_colours
from han_retrieval.evidence.pair import PairEvidence

_LONGEST = 640  # pixels of a photo's longer side in the page


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """A photo that a query found, and why.

    Attributes:
        photo: The upright photo.
        name: What it is called.
        evidence: For the query and this photo.
        note: Something to say about it ("the caption's own photo").
    """

    photo: Image.Image
    name: str
    evidence: PairEvidence
    note: str = ""


@dataclass(frozen=True, slots=True)
class Query:
    """A sentence and its answers, best first."""

    sentence: str
    answers: Sequence[Answer]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Figures: the first cell of a row names it."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def evidence_page(
    title: str, queries: Sequence[Query], *, intro: str = "", tables: Sequence[Table] = (), commands: Sequence[str] = ()
) -> str:
    """The page as HTML text.

    Args:
        title: Its heading.
        queries: What it shows.
        intro: A paragraph below the heading.
        tables: Figures, side by side before the queries.
        commands: Command lines to go on with, at the end.
    """
    script = _asset("light.js") + "document.querySelectorAll('figure[data-alignment]').forEach(lightUp);\n"
    style = _asset("evidence.css") + _asset("page.css")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    body = [
        f"<h1>{_text(title)}</h1>",
        f'<p class="faint">{_text(intro)}</p>' if intro else "",
        f'<div class="tables">{"".join(map(_table, tables))}</div>' if tables else "",
        *map(_query, queries),
        f"<h2>To go on</h2><pre><code>{_text(chr(10).join(commands))}</code></pre>" if commands else "",
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_text(policy)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in body if part)
        + f'\n</main>\n<script type="module">{script}</script>\n</body>\n</html>\n'
    )


@cache
def _asset(name: str) -> str:
    return (resources.files("han_retrieval.evidence") / name).read_text(encoding="utf-8")


def _text(text: str) -> str:
    return html.escape(text, quote=True)


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col">{_text(cell)}</th>' for cell in table.columns)
    rows = "".join(
        f'<tr><th scope="row">{_text(row[0])}</th>{"".join(f"<td>{_text(cell)}</td>" for cell in row[1:])}</tr>'
        for row in table.rows
    )
    return (
        f'<div class="table"><table><caption>{_text(table.title)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _query(query: Query) -> str:
    answers = "".join(f"<li>{_figure(answer, rank)}</li>" for rank, answer in enumerate(query.answers, start=1))
    note = f'<p class="faint">{_text(query.note)}</p>' if query.note else ""
    return f'<section><h2>{_text(query.sentence)}</h2>{note}<ol class="answers">{answers}</ol></section>'


def _figure(answer: Answer, rank: int) -> str:
    evidence = answer.evidence
    colours = region_colours(evidence)
    strengths = _strengths(evidence)
    alignment = json.dumps(np.round(evidence.alignment, 3).tolist(), separators=(",", ":"))
    words = " ".join(evidence.words)
    facts = f"{rank}. <strong>score {evidence.score:.3f}</strong> {_text(answer.name)}"
    note = f" <strong>{_text(answer.note)}</strong>" if answer.note else ""
    wide = min(1.0, evidence.width / evidence.height)  # tall photos are no taller than wide ones are wide
    return (
        f'<figure data-alignment="{_text(alignment)}">'
        f'<div class="photo" style="width:{100 * wide:.1f}%">'
        f'<img src="{_data_uri(answer.photo)}" width="{evidence.width}" height="{evidence.height}" '
        f'alt="{_text(answer.name)}">{_overlay(evidence, colours, strengths)}</div>'
        f'<figcaption><div class="chips" role="group" aria-label="{_text(words)}">'
        f'{_chips(evidence, colours, strengths)}</div><p class="facts">{facts}{note}</p></figcaption></figure>'
    )


def _strengths(evidence: PairEvidence) -> np.ndarray:
    """(n,) how strongly each word is coloured: its greatest weight, relative to the sentence's greatest."""
    weights = evidence.alignment.max(1)
    return np.asarray(weights / weights.max())


def _overlay(evidence: PairEvidence, colours: dict[int, str], strengths: np.ndarray) -> str:
    """Every region as two rectangles over the photo, small ones on top; those of no word's choice wait unseen."""
    looked_at = evidence.looked_at
    areas = (evidence.boxes[:, 2:] - evidence.boxes[:, :2]).prod(1)
    groups = []
    for region in np.argsort(-areas, kind="stable").tolist():
        x0, y0, x1, y1 = (float(edge) for edge in evidence.boxes[region])
        box = f'x="{x0:.1f}" y="{y0:.1f}" width="{x1 - x0:.1f}" height="{y1 - y0:.1f}" rx="2"'
        words = [i for i in range(len(looked_at)) if looked_at[i] == region]
        strength = max((float(strengths[i]) for i in words), default=0.0)
        shown = region in colours
        name = f"region looked at by {', '.join(evidence.words[i] for i in words)}"
        reach = f'tabindex="0" role="img" aria-label="{_text(name)}"' if shown else 'aria-hidden="true"'
        groups.append(
            f'<g data-region="{region}" data-strength="{strength:.2f}" class="{"shown" if shown else "unseen"}" '
            f'style="--colour:{colours.get(region, NEUTRAL)};--on:{strength if shown else 0:.2f}">'
            f'<rect class="halo" {box}/><rect class="edge" {box} {reach}/></g>'
        )
    size = f"0 0 {evidence.width} {evidence.height}"
    return f'<svg class="regions" viewBox="{size}" preserveAspectRatio="none">{"".join(groups)}</svg>'


def _chips(evidence: PairEvidence, colours: dict[int, str], strengths: np.ndarray) -> str:
    spans = []
    for phrase in evidence.phrases():
        colour = colours.get(phrase.region, NEUTRAL)
        chips = []
        for i in range(phrase.start, phrase.end):
            word, known = _text(evidence.words[i]), evidence.known[i]
            fit = f"{evidence.match[i]:.2f}" if known else "?"
            label = f"{word}, {f'match {fit}' if known else 'not in the vocabulary'}, "
            label += f"{evidence.alignment[i, phrase.region]:.0%} from one region"
            chips.append(
                f'<button type="button" class="chip{"" if known else " unknown"}" '
                f'style="--colour:{colour};--strength:{strengths[i]:.2f}" aria-label="{label}">'
                f"{word}<small>{fit}</small></button>"
            )
        spans.append(f'<span class="phrase">{"".join(chips)}</span>')
    return "".join(spans)


def _data_uri(photo: Image.Image) -> str:
    photo = photo.convert("RGB")
    photo.thumbnail((_LONGEST, _LONGEST))
    buffer = io.BytesIO()
    photo.save(buffer, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
