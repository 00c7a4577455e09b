"""Queries: one sentence, or several sentences whose scores are added with weights.

A query that begins with a quotation mark, after an optional sign and weight, is made of parts:

    query  = [sign] part { sign part }
    part   = [ number "*" ] '"' sentence '"'
    sign   = "+" | "-"

For example, `"a dog" - "a leash"` finds dogs without a leash, and `2 * "red" + "car in snow"` gives the colour more
weight. Any other query is one sentence, whatever hyphens, apostrophes and quotation marks are in it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from han_retrieval.errors import QueryError
from han_retrieval.parsing import shown
from han_retrieval.text import tokenize
from han_retrieval.text.tokenizer import MOST_WORDS

_QUOTES = str.maketrans("“”„‟", '""""')
_BEGINS = re.compile(r'\s*[+-]?\s*(?:[\d.]+\s*\*\s*)?"')
_PART = re.compile(r'\s*(?P<sign>[+-])?\s*(?:(?P<weight>\d+\.?\d*|\.\d+)\s*\*\s*)?"(?P<text>[^"]*)"\s*')


_LEAST, _MOST = 1e-6, 1e6  # limits of a weight without its sign


@dataclass(frozen=True, slots=True)
class Part:
    """A sentence and the weight of its score; a negative weight counts against a photo."""

    text: str
    weight: float = 1.0


def parse_query(query: str) -> list[Part]:
    """The parts of a query; a plain sentence is one part.

    Raises:
        QueryError: The syntax of its parts is wrong, or no part has a positive weight.

    Example:
        >>> parse_query('"a dog" - 0.5 * "a leash"')
        [Part(text='a dog', weight=1.0), Part(text='a leash', weight=-0.5)]
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
            raise QueryError(
                f"the query {shown(query)} breaks off at {shown(query[at:])}, where {wanted} should be; parts are "
                'written so: "a dog" - 0.5 * "a leash"'
            )
        weight = float(found["weight"] or 1)
        parts.append(Part(found["text"].strip(), -weight if found["sign"] == "-" else weight))
        at = found.end()
    check_parts(parts)
    return parts


def check_parts(parts: Sequence[Part]) -> None:
    """Check the weights of parts, and how long they are together.

    Raises:
        QueryError: No weight is positive, one is too small or too large for float32, or all sentences together have
            more than ``MOST_WORDS`` words.
    """
    words = sum(len(tokenize(part.text)) for part in parts)
    if words > MOST_WORDS:
        raise QueryError(f"the query has {words:,} words; at most {MOST_WORDS} can be searched for at once")
    for part in parts:
        if part.weight != 0 and not _LEAST <= abs(part.weight) <= _MOST:
            raise QueryError(
                f"the weight {abs(part.weight):g} of {part.text!r}: a weight is 0, or from {_LEAST:f} to {_MOST:,.0f}"
            )
    if not any(part.weight > 0 for part in parts):
        raise QueryError(
            'the query asks for nothing: at least one part needs a weight above 0, as in "a dog" - "a leash"'
        )
