"""The parts of a query as the page shows them."""

from __future__ import annotations

from collections.abc import Sequence

from han_retrieval.search import parse_query
from han_retrieval.serve.catalogue import Catalogue
from han_retrieval.serve.schemas import QueryPart


def query_parts(query: str, ids: Sequence[str], catalogue: Catalogue) -> list[QueryPart]:
    """The parts that a query's text has, in order.

    Args:
        query: The query, which has been parsed without an error.
        ids: The id of each part that is a photo, "" of others; what follows the text's parts is left out.
        catalogue: The photos of the index.
    """
    found = []
    for part, photo_id in zip(parse_query(query), ids, strict=False):
        shown = QueryPart(weight=part.weight)
        if part.written:
            shown.written = part.written
        elif part.photo is None:
            shown.sentence = part.text
        else:
            shown.photo = str(part.photo)
            shown.id = None if catalogue.row(photo_id) is None else photo_id
        found.append(shown)
    return found
