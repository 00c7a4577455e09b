"""``han similar``: the photos of an index that are similar to a photo."""

from __future__ import annotations

from pathlib import Path

import click

from han_retrieval.cli.hits import hit_as_json, print_hits, refuse_two_outputs
from han_retrieval.cli.json_output import print_json
from han_retrieval.cli.options import index_options
from han_retrieval.rounding import rounded_seconds
from han_retrieval.search.query import CANDIDATES
from han_retrieval.search.settings import Settings


@click.command()
@index_options(candidates=CANDIDATES)
@click.argument("photo")
@click.option("--keep-itself", is_flag=True, help="Keep the photo itself in the result, if the index has it.")
@click.option("--detector", help="The detector, if its weights are your own.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with boxes and labels.")
def similar(
    index: Path,
    photo: str,
    k: int,
    where: str | None,
    exact: bool,
    candidates: int,
    keep_itself: bool,
    model: str | None,
    detector: str | None,
    device: str,
    paths: bool,
    null: bool,
    as_json: bool,
) -> None:
    """Print the photos of INDEX that are most similar to PHOTO, best first, by what is in their regions.

    PHOTO is any photo file, or the path of a photo in the index from its root. Each region of PHOTO is aligned with the
    regions of the other photo; the score is the mean cosine, at most 1. --where is explained in `han search --help`.
    """
    refuse_two_outputs(paths=paths, null=null, as_json=as_json)
    Settings.read(index)  # before torch is imported
    from han_retrieval.cli.devices import find_device
    from han_retrieval.search import Index

    with Index.open(index, model=model, detector=detector, device=find_device(device)) as photos:
        row = photos.find(photo)
        found = photos.similar(
            photo if row is None else row,
            k=k,
            candidates=candidates,
            where=where,
            exact=exact,
            keep_itself=keep_itself,
        )
    if not found:
        click.echo("note: no other photo is in the index" + (f" that meets {where}" if where else ""), err=True)
    if as_json:
        facts = {"photo": photo, "indexed": row is not None, "seconds": rounded_seconds(found.seconds)}
        print_json(facts | {"hits": [hit_as_json(hit) for hit in found]})
    else:
        print_hits(found.hits, paths=paths, null=null)
