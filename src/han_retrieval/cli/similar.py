"""``han similar``: the photos of an index that are like a photo."""

from __future__ import annotations

import json
from pathlib import Path

import click

from han_retrieval.cli.detectors import find_detector
from han_retrieval.cli.devices import find_device
from han_retrieval.cli.hits import hit_as_json, hit_line
from han_retrieval.data import open_photo
from han_retrieval.errors import HANError
from han_retrieval.search import CANDIDATES, Index
from han_retrieval.search import similar as similar_photos


@click.command()
@click.argument("index", type=click.Path(path_type=Path))
@click.argument("photo")
@click.option("-k", type=click.IntRange(min=1), default=10, show_default=True, help="How many photos.")
@click.option("--where", metavar="SQL", help="Only photos that this holds for; see `han search --help`.")
@click.option("--exact", is_flag=True, help="Compare with every photo, not the nearest candidates alone.")
@click.option(
    "--candidates", type=click.IntRange(min=1), default=CANDIDATES, show_default=True, help="How many are compared."
)
@click.option("--keep-itself", is_flag=True, help="Leave the photo itself among them, where the index has it.")
@click.option("--model", type=click.Path(), help="Where the index's model is, if it was moved.")
@click.option("--detector", help="What finds the regions, where its weights are your own.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1; auto takes a GPU if there is one.")
@click.option("--paths", is_flag=True, help="Print paths alone, one a line.")
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
    as_json: bool,
) -> None:
    """Print the photos of INDEX that are most like PHOTO, best first, by what is in their regions.

    PHOTO is any photo's file, or the path of one in the index, from its root. The score is the mean cosine of its
    regions with what they gather from the other photo's; 1 is the most.
    """
    if paths and as_json:
        raise HANError("--paths and --json are two ways to print: choose one")
    with Index.open(index) as photos:
        han = photos.load_model(model, device=find_device(device))
        row = photos.find(photo)
        if row is None:
            picture = open_photo(Path(photo))
            finder = find_detector(han.config, model or photos.settings.model, name=detector, regions=36)
            like = finder.detect([picture])[0]
        options = {"k": k, "candidates": candidates, "where": where, "exact": exact, "keep_itself": keep_itself}
        found = similar_photos(photos, han, like if row is None else row, **options)  # type: ignore[arg-type]
    if not found.hits:
        click.echo("note: no other photo is in the index" + (f" such that {where}" if where else ""), err=True)
    if as_json:
        shown = {"photo": photo, "indexed": row is not None, "seconds": found.seconds}
        click.echo(json.dumps(shown | {"hits": [hit_as_json(hit) for hit in found.hits]}, ensure_ascii=False))
        return
    for hit in found.hits:
        click.echo(str(hit.path) if paths else hit_line(hit))
