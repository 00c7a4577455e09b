"""``han search``: the photos of an index that fit a sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from han_retrieval.cli.devices import find_device
from han_retrieval.errors import HANError
from han_retrieval.index import CANDIDATES, Hit, Index
from han_retrieval.index import search as search_index


@click.command()
@click.argument("index", type=click.Path(path_type=Path))
@click.argument("sentence")
@click.option("-k", type=click.IntRange(min=1), default=10, show_default=True, help="How many photos.")
@click.option("--where", metavar="SQL", help="Only photos that this holds for: \"date >= '2024' and width > height\".")
@click.option("--exact", is_flag=True, help="Score every photo, not the nearest candidates alone.")
@click.option(
    "--candidates", type=click.IntRange(min=1), default=CANDIDATES, show_default=True, help="How many are scored."
)
@click.option("--model", type=click.Path(path_type=Path), help="Where the index's model is, if it was moved.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1; auto takes a GPU if there is one.")
@click.option("--paths", is_flag=True, help="Print paths alone, one a line.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with boxes and labels.")
def search(
    index: Path,
    sentence: str,
    k: int,
    where: str | None,
    exact: bool,
    candidates: int,
    model: Path | None,
    device: str,
    paths: bool,
    as_json: bool,
) -> None:
    """Print the photos of INDEX that fit SENTENCE best, best first, each with the model's score.

    --where takes SQL over id, root, path, folder, mtime, size, width, height, date, camera and regions: date is
    '2024-01-31 12:00:00' of EXIF, folder 'trips/2024/' with its slash. Of copies, the first path counts.
    """
    if paths and as_json:
        raise HANError("--paths and --json are two ways to print: choose one")
    with Index.open(index) as photos:
        han = photos.load_model(model, device=find_device(device))
        for word, known in han.known_words(sentence).items():
            if not known:
                click.echo(f"note: {word!r} is not in the model's vocabulary", err=True)
        hits = search_index(photos, han, sentence, k=k, candidates=candidates, where=where, exact=exact)
        if not len(photos):
            click.echo(f"note: {index} is empty", err=True)
        elif not hits:
            click.echo(f"note: no photo is such that {where}", err=True)
    if as_json:
        click.echo(json.dumps({"sentence": sentence, "hits": [_as_json(hit) for hit in hits]}))
        return
    for hit in hits:
        more = f"  (and {len(hit.copies)} more of the same content)" if hit.copies else ""
        click.echo(str(hit.path) if paths else f"{hit.score:7.4f}  {hit.path}{more}")


def _as_json(hit: Hit) -> dict[str, Any]:
    return {
        "path": str(hit.path),
        "copies": [str(path) for path in hit.copies],
        "id": hit.id,
        "score": hit.score,
        "width": hit.width,
        "height": hit.height,
        "date": hit.date,
        "boxes": None if hit.boxes is None else hit.boxes.tolist(),
        "labels": hit.labels,
    }
