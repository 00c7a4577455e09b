"""``han search``: the photos of an index that fit a query."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from han_retrieval.cli.hits import hit_as_json, likely_hits, print_hits, refuse_two_outputs
from han_retrieval.cli.json_output import print_json
from han_retrieval.cli.options import index_options
from han_retrieval.cli.query_command import QueryCommand
from han_retrieval.cli.unknown_words import name_unknown
from han_retrieval.parsing import shown
from han_retrieval.rounding import rounded_seconds
from han_retrieval.search.query import CANDIDATES, Part, loose_minus, parse_query, scored

if TYPE_CHECKING:
    from han_retrieval.search import Hit, Index, SearchResult


@click.command(cls=QueryCommand)
@index_options(candidates=CANDIDATES)
@click.argument("query")
@click.option("--collapse", is_flag=True, help="Leave out near-duplicates of a better photo.")
@click.option("--all", "show_all", is_flag=True, help="Print photos even if none is likely to match.")
@click.option("--detector", help="The detector for photos of the query, if its weights are your own.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with boxes, labels and the evidence of each word.")
def search(
    index: Path,
    query: str,
    k: int,
    where: str | None,
    exact: bool,
    candidates: int,
    collapse: bool,
    show_all: bool,
    model: str | None,
    detector: str | None,
    device: str,
    paths: bool,
    null: bool,
    as_json: bool,
) -> None:
    """Print the photos of INDEX that fit QUERY best, best first, with their scores.

    QUERY is a sentence, which may leave out words: 'a dog -leash'. Or it is sentences in quotation marks and photos,
    with weights: '"a dog" - "a leash"', '2 * "red" + "a car"', 'beach.jpg + "a dog"'. A photo is any photo file, or the
    path of a photo in the index from its root; a path with spaces is written photo:"my beach.jpg".
    'a beach text:lisbon' keeps to photos with "lisbon" in their path, title, caption, keywords or place.
    If `han calibrate` has calibrated the model, each photo is said to be a strong, a likely or a weak match.

    --where takes an SQL condition on id, root, path, folder, mtime, size, width, height, date, camera, text, latitude,
    longitude, place and regions. date is '2024-01-31 12:00:00' from EXIF, folder is 'trips/2024/' with its slash. Of
    copies, the first path counts.
    """
    refuse_two_outputs(paths=paths, null=null, as_json=as_json)
    parts = parse_query(query)
    if loose := loose_minus(query):
        left_out, written = loose
        click.echo(
            f"note: a minus with a space behind it leaves nothing out; to leave out {left_out!r}, write {written}",
            err=True,
        )
    how: dict[str, Any] = {"k": k, "candidates": candidates, "where": where, "exact": exact}
    if device == "cpu" and scored(parts) and not (as_json or collapse or any(part.photo is not None for part in parts)):
        found = _without_torch(index, model, parts, how)
        if found is not None:
            print_hits(likely_hits(found, show_all=show_all), paths=paths, null=null)
            return
    from han_retrieval.cli.devices import find_device
    from han_retrieval.search import Index

    with Index.open(index, model=model, detector=detector, device=find_device(device)) as photos:
        name_unknown(photos.model, _sentences(parts), folder=model or photos.settings.model)
        found = photos.search(parts, collapse=collapse, **how)
        _say_why_none(index, len(photos), found, parts, where)
        hits = likely_hits(found, show_all=show_all)
        if not as_json:
            print_hits(hits, paths=paths, null=null)
            return
        sentences = [part for part in scored(parts) if part.photo is None]
        shown = [hit_as_json(hit) | {"evidence": _evidence(photos, hit, sentences)} for hit in hits]
    seconds = rounded_seconds(found.seconds)
    print_json({"query": query, "nothing": found.nothing_matches, "seconds": seconds, "hits": shown})


def _sentences(parts: Sequence[Part]) -> list[str]:
    return [part.text for part in scored(parts) if part.photo is None]


def _conditions(parts: Sequence[Part], where: str | None) -> list[str]:
    """What photos must meet, as the user wrote it."""
    written = [f"{'-' if part.weight < 0 else ''}text:{shown(part.written)}" for part in parts if part.written]
    return ([] if where is None else [where]) + written


def _without_torch(index: Path, model: str | None, parts: list[Part], how: dict[str, Any]) -> SearchResult | None:
    """What a search finds, with the notes; None where it takes torch."""
    from han_retrieval.light.search import LightSearch
    from han_retrieval.search.reader import IndexReader

    with IndexReader(index) as photos:
        opened = LightSearch.open(photos, model)
        if opened is None or not all(opened.model.known_words(part.text) for part in scored(parts)):
            return None
        name_unknown(opened.model, _sentences(parts), folder=model or photos.settings.model)
        found = opened.search(parts, **how)
        _say_why_none(index, len(photos), found, parts, how["where"])
    return found


def _say_why_none(index: Path, photos: int, found: SearchResult, parts: Sequence[Part], where: str | None) -> None:
    if not photos:
        click.echo(f"note: {index} is empty", err=True)
    elif not found and (where is not None or len(scored(parts)) < len(parts)):
        click.echo(f"note: no photo meets {' and '.join(_conditions(parts, where))}", err=True)
    elif not found:
        click.echo("note: no other photo is in the index", err=True)


def _evidence(index: Index, hit: Hit, parts: list[Part]) -> list[dict[str, Any]] | None:
    """The evidence for each sentence of the query as JSON takes it; None where the photo's regions have no boxes."""
    if hit.boxes is None:
        return None
    from han_retrieval.evidence import evidence_from_index

    evidence = evidence_from_index(index, index.model, hit.row, [part.text for part in parts])
    return [{"weight": part.weight} | each.to_dict() for part, each in zip(parts, evidence, strict=True)]
