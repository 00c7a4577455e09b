"""Queries: one sentence, or several sentences and photos whose scores are added with weights.

A query that begins with a quotation mark or a photo, after an optional sign and weight, is made of parts:

    query  = [sign] part { sign part }
    part   = [ number "*" ] ( '"' sentence '"' | photo )
    photo  = path | "photo:" path | 'photo:"' path '"'
    sign   = "+" | "-"

For example, `"a dog" - "a leash"` finds dogs without a leash, `2 * "red" + "car in snow"` gives the colour more weight,
and `beach.jpg + "a dog"` finds photos that are like one and have a dog. A path without "photo:" has no space, ends as
photos' files do, and stands alone or before a sign; one with spaces is written `photo:"my beach.jpg"`.

Any other query is one sentence, whatever hyphens, apostrophes and quotation marks are in it, but for words to leave
out: `a dog -leash -"red ball"` is `"a dog" - "leash" - "red ball"`, with a space before each minus and none behind it.

In either kind, `text:lisbon` and `text:"new york"` keep to photos about which that is written: in their path, title,
caption, keywords or place. `-text:lisbon` keeps to the others.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from han_retrieval.data import PHOTO_SUFFIXES
from han_retrieval.errors import QueryError
from han_retrieval.parsing import shown
from han_retrieval.search.conditions import check_condition, literal
from han_retrieval.text import tokenize
from han_retrieval.text.tokenizer import MOST_WORDS

if TYPE_CHECKING:
    from PIL import Image

    from han_retrieval.regions import Regions

    QueryPhoto = str | Path | Image.Image | int | Regions

MOST_PHOTOS = 8  # in a query
MOST_CONDITIONS = 8
_WRITTEN_IN = ("path", "text", "place")  # columns of the index
CANDIDATES = 200  # photos that are scored exactly, unless a search says otherwise

_QUOTES = str.maketrans("“”„‟", '""""')
_SUFFIXES = "|".join(sorted(suffix[1:] for suffix in PHOTO_SUFFIXES))
_WEIGHT = r"(?:(?P<weight>\d+\.?\d*|\.\d+)\s*\*\s*)?"
_PHOTO = (
    r'photo:"(?P<quoted>[^"]*)"|photo:(?P<named>[^\s"]+?)(?=\s|$|[+-]\s*(?:[\d.]+\s*\*\s*)?")'
    rf'|(?P<path>[^\s"*]+\.(?i:{_SUFFIXES}))(?=\s*(?:$|[+-]))'
)
_BEGINS = re.compile(rf'\s*[+-]?\s*(?:[\d.]+\s*\*\s*)?(?:"|{_PHOTO})')
_PART = re.compile(rf'\s*(?P<sign>[+-])?\s*{_WEIGHT}(?:"(?P<text>[^"]*)"|{_PHOTO})\s*')
_WRITTEN = re.compile(r'"[^"]*"|(?<!\S)(?P<sign>-?)text:(?:"(?P<quoted>[^"]*)"|(?P<word>[^\s"]+))(?!\S)')
_LEFT_OUT = re.compile(r'(?<!\S)-(?:"(?P<quoted>[^"]+)"|(?P<word>[^\W\d_][\w\'’-]*))(?!\S)')
_LOOSE = re.compile(r'(?<!\S)-\s+(?:"(?P<quoted>[^"]+)"|(?P<words>[^\W\d_][^"]*?)(?=\s+-|\s*$))')
_FORM = 'parts are written so: "a dog" + beach.jpg - 0.5 * "a leash"'


_LEAST, _MOST = 1e-6, 1e6  # limits of a weight without its sign
_MOST_WRITTEN = 200


@dataclass(frozen=True, slots=True)
class Part:
    """A sentence or a photo, and the weight of its score; a negative weight counts against a photo.

    Or a condition: what must be written about a photo, or must not be where the weight is negative. It has no score.

    Attributes:
        text: The sentence; "" where the part is no sentence.
        weight: The weight.
        photo: The photo, as ``Index.similar`` takes one; None where the part is no photo.
        written: What stands in the photo's path, title, caption, keywords or place, in any case; "" for no condition.

    Example:
        >>> [Part("a dog"), Part(photo="beach.jpg"), Part("a leash", -0.5), Part(written="lisbon")]
    """

    text: str = ""
    weight: float = 1.0
    photo: QueryPhoto | None = None
    written: str = ""


def parse_query(query: str) -> list[Part]:
    """The parts of a query; a plain sentence is one part, and so is each word to leave out. Photos are paths, as text.

    Raises:
        QueryError: The syntax of its parts is wrong, or no part has a positive weight.

    Example:
        >>> parse_query('"a dog" - 0.5 * "a leash"')
        [Part(text='a dog', weight=1.0, photo=None, written=''),
         Part(text='a leash', weight=-0.5, photo=None, written='')]
    """
    query, conditions = _conditions(query)
    plain = query.translate(_QUOTES).replace("−", "-")
    if conditions and not plain.strip():
        check_parts(conditions)
        return conditions
    if not _BEGINS.match(plain):
        found = _sentence(query, plain) + conditions
        check_parts(found)
        return found
    parts: list[Part] = []
    at = 0
    while at < len(plain):
        match = _PART.match(plain, at)
        if match is None or (parts and not match["sign"]):
            wanted = "a closing quotation mark" if plain.count('"') % 2 else '+ or - and a "sentence" or a photo'
            raise QueryError(
                f"the query {shown(query)} breaks off at {shown(query[at:])}, where {wanted} should be; {_FORM}"
            )
        weight = float(match["weight"] or 1) * (-1 if match["sign"] == "-" else 1)
        if match["text"] is not None:
            parts.append(Part(match["text"].strip(), weight))
        else:
            (name,) = (name for name in ("quoted", "named", "path") if match[name] is not None)
            parts.append(Part(weight=weight, photo=query[match.start(name) : match.end(name)]))
        at = match.end()
    parts += conditions
    check_parts(parts)
    return parts


def _conditions(query: str) -> tuple[str, list[Part]]:
    """The query without what must be written about photos, and that."""
    plain = query.translate(_QUOTES).replace("−", "-")
    found = [each for each in _WRITTEN.finditer(plain) if each["sign"] is not None]
    if not found:
        return query, []
    parts = []
    kept, at = "", 0
    for each in found:
        name = "word" if each["quoted"] is None else "quoted"
        written = query[each.start(name) : each.end(name)].strip()
        if not written:
            raise QueryError('text: needs what is written, as in text:lisbon or text:"new york"')
        if len(written) > _MOST_WRITTEN:
            raise QueryError(f"text: takes at most {_MOST_WRITTEN} characters; found {shown(written)}")
        parts.append(Part(weight=-1.0 if each["sign"] else 1.0, written=written))
        kept += query[at : each.start()] + " "
        at = each.end()
    return (kept + query[at:]).strip(), parts


def condition_of(parts: Sequence[Part], where: str | None) -> str | None:
    """The condition of SQL that photos must meet: ``where``, and what the query's parts say is written about them."""
    written = [part for part in parts if part.written]
    if not written:
        return where
    conditions = [] if where is None else [f"({check_condition(where)})"]
    for part in written:
        # Disks of Macs and archives made there have names with letters and accents apart.
        forms = dict.fromkeys(unicodedata.normalize(form, part.written.lower()) for form in ("NFC", "NFD"))
        patterns = [literal(each) for each in forms]
        found = " or ".join(f"contains(lower({column}), {each})" for column in _WRITTEN_IN for each in patterns)
        # A column that is null contains nothing.
        conditions.append(f"({found})" if part.weight > 0 else f"(({found}) is not true)")
    return " and ".join(conditions)


def scored(parts: Sequence[Part]) -> list[Part]:
    """The parts that have a score: sentences and photos."""
    return [part for part in parts if not part.written]


def _sentence(query: str, plain: str) -> list[Part]:
    """A plain sentence, and what is to be left out."""
    left_out = list(_LEFT_OUT.finditer(plain))
    kept = " ".join(_LEFT_OUT.sub(" ", plain).split())
    if not left_out:
        return [Part(query)]
    if not kept:
        raise QueryError(f"the query {shown(query)} only leaves out: say also what to find, as in 'a dog -leash'")
    return [Part(kept), *(Part((found["quoted"] or found["word"]).strip(), -1.0) for found in left_out)]


def loose_minus(query: str) -> tuple[str, str] | None:
    """What stands behind a minus and a space in a sentence, and how it is written to be left out; None for no such.

    Example:
        >>> loose_minus("a dog - ball")
        ('ball', '-ball')
    """
    query, _ = _conditions(query)
    plain = query.translate(_QUOTES).replace("−", "-")
    found = None if _BEGINS.match(plain) else _LOOSE.search(plain)
    if found is None:
        return None
    what = (found["quoted"] or found["words"]).strip()
    return what, f"-{what}" if _LEFT_OUT.fullmatch(f"-{what}") else f'-"{what}"'


def begins_with_sign(argument: str) -> bool:
    """Whether an argument of a command line is a query that begins with a minus, and not an option."""
    plain = argument.translate(_QUOTES)
    return plain.startswith("-") and any(form.match(plain) for form in (_BEGINS, _LEFT_OUT, _WRITTEN))


def check_parts(parts: Sequence[Part]) -> None:
    """Check the weights of parts, and how long they are together.

    Raises:
        QueryError: There is no part; one is both a sentence and a photo, or a photo without a name; no weight is
            positive, one is too small or too large for float32; all sentences together have more than ``MOST_WORDS``
            words, or there are more than ``MOST_PHOTOS`` photos.
    """
    if not parts:
        raise QueryError("the query is empty")
    for part in parts:
        if part.written and (part.text or part.photo is not None):
            raise QueryError("a part of a query is a condition or has a score, not both: Part(written='lisbon')")
        if part.photo is not None and part.text:
            raise QueryError("a part of a query is a sentence or a photo, not both: Part('a dog'), Part(photo='a.jpg')")
        if isinstance(part.photo, str) and not part.photo.strip():
            raise QueryError(f"a photo of the query has no name; {_FORM}")
    words = sum(len(tokenize(part.text)) for part in parts)
    if words > MOST_WORDS:
        raise QueryError(f"the query has {words:,} words; at most {MOST_WORDS} can be searched for at once")
    photos = sum(part.photo is not None for part in parts)
    if photos > MOST_PHOTOS:
        raise QueryError(f"the query has {photos} photos; at most {MOST_PHOTOS} can be searched for at once")
    conditions = len(parts) - len(scored(parts))
    if conditions > MOST_CONDITIONS:
        raise QueryError(
            f"the query has {conditions} times text:; at most {MOST_CONDITIONS} can be searched for at once"
        )
    for part in parts:
        if part.weight != 0 and not _LEAST <= abs(part.weight) <= _MOST:
            what = repr(part.text) if part.photo is None else "a photo"
            raise QueryError(
                f"the weight {abs(part.weight):g} of {what}: a weight is 0, or from {_LEAST:f} to {_MOST:,.0f}"
            )
    if not any(part.weight > 0 for part in scored(parts)) and conditions < len(parts):
        raise QueryError(
            'the query asks for nothing: at least one part needs a weight above 0, as in "a dog" - "a leash"'
        )
