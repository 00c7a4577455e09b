"""``han search``: the photos of an index that fit a query."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from han_retrieval.cli.devices import find_device
from han_retrieval.cli.hits import hit_as_json, hit_line, note_nothing
from han_retrieval.errors import HANError
from han_retrieval.evidence import evidence_from_index
from han_retrieval.matchers import AligningMatcher
from han_retrieval.search import CANDIDATES, Hit, Index, Part, parse_query
from han_retrieval.search import search as search_index
from han_retrieval.search.calibration import Calibration


@click.command()
@click.argument("index", type=click.Path(path_type=Path))
@click.argument("query")
@click.option("-k", type=click.IntRange(min=1), default=10, show_default=True, help="How many photos.")
@click.option("--where", metavar="SQL", help="Only photos that this holds for: \"date >= '2024' and width > height\".")
@click.option("--exact", is_flag=True, help="Score every photo, not the nearest candidates alone.")
@click.option(
    "--candidates", type=click.IntRange(min=1), default=CANDIDATES, show_default=True, help="How many are scored."
)
@click.option("--collapse", is_flag=True, help="Leave out photos that are nearly the same as a better one.")
@click.option("--all", "show_all", is_flag=True, help="Print photos though none is likely to match.")
@click.option("--model", type=click.Path(), help="Where the index's model is, if it was moved.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1; auto takes a GPU if there is one.")
@click.option("--paths", is_flag=True, help="Print paths alone, one a line.")
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
    device: str,
    paths: bool,
    as_json: bool,
) -> None:
    """Print the photos of INDEX that fit QUERY best, best first, each with the model's score.

    QUERY is a sentence, or sentences in quotation marks with weights: '"a dog" - "a leash"', '2 * "red" + "a car"'.
    One that begins with - comes last, behind --: han search INDEX -- '- "a leash" + "a dog"'.
    With a model that `han calibrate` has seen to, each photo has the probability that it is the one meant.

    --where takes SQL over id, root, path, folder, mtime, size, width, height, date, camera and regions: date is
    '2024-01-31 12:00:00' of EXIF, folder 'trips/2024/' with its slash. Of copies, the first path counts.
    """
    if paths and as_json:
        raise HANError("--paths and --json are two ways to print: choose one")
    parts = parse_query(query)
    with Index.open(index) as photos:
        han = photos.load_model(model, device=find_device(device))
        for word in {word: None for part in parts for word, known in han.known_words(part.text).items() if not known}:
            click.echo(f"note: {word!r} is not in the model's vocabulary", err=True)
        calibration = Calibration.read(model or photos.settings.model)
        found = search_index(
            photos,
            han,
            parts,
            k=k,
            candidates=candidates,
            where=where,
            exact=exact,
            collapse=collapse,
            calibration=calibration,
        )
        if not len(photos):
            click.echo(f"note: {index} is empty", err=True)
        elif not found.hits:
            click.echo(f"note: no photo is such that {where}", err=True)
        hits = note_nothing(found, calibration, show_all=show_all)
        if as_json:
            evidence = [_evidence(photos, han, hit, parts) for hit in hits]
    if as_json:
        shown = [hit_as_json(hit) | {"evidence": its} for hit, its in zip(hits, evidence, strict=True)]
        facts = {"nothing": found.nothing_matches, "seconds": found.seconds}
        click.echo(json.dumps({"query": query, **facts, "hits": shown}, ensure_ascii=False))
        return
    for hit in hits:
        click.echo(str(hit.path) if paths else hit_line(hit))


def _evidence(index: Index, model: AligningMatcher, hit: Hit, parts: list[Part]) -> list[dict[str, Any]] | None:
    """The evidence for each part of the query as JSON takes it; None where the photo's regions have no boxes."""
    if hit.boxes is None:
        return None
    evidence = evidence_from_index(index, model, hit.row, [part.text for part in parts])
    return [{"weight": part.weight} | each.to_dict() for part, each in zip(parts, evidence, strict=True)]
