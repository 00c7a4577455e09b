"""``han caption``: the sentences that fit a photo best."""

from __future__ import annotations

import json
from pathlib import Path

import click

from han_retrieval.cli.detectors import find_detector
from han_retrieval.cli.devices import find_device
from han_retrieval.data import open_photo, read_sentences
from han_retrieval.errors import HANError
from han_retrieval.matchers import DEFAULT_MODEL, load_aligning_matcher
from han_retrieval.search import is_index, rank_captions
from han_retrieval.search.calibration import Calibration


@click.command()
@click.argument("captions", type=click.Path(path_type=Path))
@click.argument("photo", type=click.Path(path_type=Path))
@click.option(
    "--model",
    type=click.Path(),
    default=DEFAULT_MODEL,
    show_default=True,
    help="The model's folder; default is the one that ships.",
)
@click.option("-k", type=click.IntRange(min=1), default=10, show_default=True, help="How many sentences.")
@click.option("--detector", help="What finds the regions, where the model does not say it or its weights are your own.")
@click.option(
    "--regions", type=click.IntRange(min=1), default=36, show_default=True, help="Where the model does not say it."
)
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1; auto takes a GPU if there is one.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def caption(
    captions: Path, photo: Path, model: str, k: int, detector: str | None, regions: int, device: str, as_json: bool
) -> None:
    """Print the sentences of CAPTIONS that fit PHOTO best, best first, each with the model's score.

    CAPTIONS is a text file (.txt) with a sentence a line, or a dataset, whose captions are taken.
    """
    if is_index(captions):
        raise HANError(
            f"{captions}: an index holds photos and no captions; give a text file with a sentence a line, or a dataset"
        )
    sentences = read_sentences(captions)
    matcher = load_aligning_matcher(model).to(find_device(device))
    finder = find_detector(matcher.config, model, name=detector, regions=regions)
    found = finder.detect([open_photo(photo)])[0]
    ranked = rank_captions(matcher, sentences, found, k=k, calibration=Calibration.read(model))
    if as_json:
        shown = {"photo": str(photo), "captions": [each._asdict() for each in ranked]}
        click.echo(json.dumps(shown, ensure_ascii=False))
        return
    for each in ranked:
        probability = "" if each.probability is None else f"  {each.probability:6.1%}"
        click.echo(f"{each.score:7.4f}{probability}  {each.caption}")
