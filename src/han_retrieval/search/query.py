"""What is searched for: one sentence, or sentences that add to a photo's score or take from it.

A query that begins with a quotation mark, behind a sign and a weight if there are any, is made of parts:

    query  = [sign] part { sign part }
    part   = [ number "*" ] '"' sentence '"'
    sign   = "+" | "-"

so that `"a dog" - "a leash"` looks for dogs without one, and `2 * "red" + "car in snow"` minds the colour more. Any
other query is one sentence as it stands, whatever hyphens, apostrophes and quotation marks are in it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from han_retrieval.errors import HANError

_QUOTES = str.maketrans("“”„‟", '""""')
_BEGINS = re.compile(r'\s*[+-]?\s*(?:[\d.]+\s*\*\s*)?"')
_PART = re.compile(r'\s*(?P<sign>[+-])?\s*(?:(?P<weight>\d+\.?\d*|\.\d+)\s*\*\s*)?"(?P<text>[^"]*)"\s*')


_LEAST, _MOST = 1e-6, 1e6  # of a weight's size


@dataclass(frozen=True, slots=True)
class Part:
    """A sentence, and what its score counts; below 0 it speaks against a photo."""

    text: str
    weight: float = 1.0


def parse_query(query: str) -> list[Part]:
    """The parts of a query; a plain sentence is one.

    Raises:
        HANError: It begins as parts do and does not go on so, or asks for nothing.
    """
    plain = query.translate(_QUOTES).replace("−", "-")
    if not _BEGINS.match(plain):
        return [Part(query)]
    parts: list[Part] = []
    at = 0
    while at < len(plain):
        found = _PART.match(plain, at)
        if found is None or (parts and not found["sign"]):
            wanted = "a closing quotation mark" if plain.count('"') % 2 else '+ or - and a "sentence"'
            raise HANError(
                f"the query {query!r} breaks off at {query[at:]!r}, where {wanted} should be; parts are written so: "
                '"a dog" - 0.5 * "a leash"'
            )
        weight = float(found["weight"] or 1)
        parts.append(Part(found["text"].strip(), -weight if found["sign"] == "-" else weight))
        at = found.end()
    check_parts(parts)
    return parts


def check_parts(parts: Sequence[Part]) -> None:
    """See that parts ask for something, with weights that scores can be multiplied by.

    Raises:
        HANError: None of them has a weight above 0, or one is beyond what float32 sums well.
    """
    for part in parts:
        if part.weight != 0 and not _LEAST <= abs(part.weight) <= _MOST:
            raise HANError(
                f"the weight {abs(part.weight):g} of {part.text!r}: a weight is 0, or from {_LEAST:f} to {_MOST:,.0f}"
            )
    if not any(part.weight > 0 for part in parts):
        raise HANError(
            'the query asks for nothing: at least one part needs a weight above 0, as in "a dog" - "a leash"'
        )
