"""``han demo``: real photos to an index, sentences to photos, and why."""

from __future__ import annotations

import shlex
import time
from pathlib import Path

import click

from han_retrieval.cli.gallery import GALLERY, copy_gallery
from han_retrieval.cli.options import model_option
from han_retrieval.cli.own_folder import make_own_folder
from han_retrieval.evidence import PageTable, PhotoResult, QueryResults, evidence_from_index, evidence_page
from han_retrieval.files import write_whole
from han_retrieval.matchers import AligningMatcher
from han_retrieval.search import Hit, Index, index_photos, search
from han_retrieval.search.calibration import Calibration

SENTENCES = (
    "a man in a black coat looks through a camera on a tripod",
    "a woman in an orange suit smiles in front of a flag",
    "a woman in a dark uniform and a white hat",
    "a red cup on a wooden table",
    "a tall tower lit up at night",
)
PHOTOS_A_SENTENCE = 3


@click.command()
@model_option
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("demo"), show_default=True, help="A folder of its own."
)
def demo(model: str, out: Path) -> None:
    """Index a small gallery of real photos, search it for five sentences, and show why each photo was found.

    OUT is made, or replaced if an earlier demo made it. In it are the photos (of scikit-image, scikit-learn and
    matplotlib, free to use), the index of the ordinary verbs, and a page that opens without a server.
    """
    started = time.monotonic()
    make_own_folder(out, command="han demo", parts=("photos", "index"))
    copy_gallery(out / "photos")
    click.echo(f"1/3 finding the regions of {len(GALLERY)} photos, and indexing them", err=True)
    index_photos([out / "photos"], out / "index", model=model, progress=True)
    with Index.open(out / "index") as index:
        matcher = index.load_model()
        click.echo(f"2/3 searching for {len(SENTENCES)} sentences", err=True)
        calibration = Calibration.read(index.settings.model)
        queries = []
        for sentence in SENTENCES:
            found = search(index, matcher, sentence, k=PHOTOS_A_SENTENCE, calibration=calibration)
            queries.append(QueryResults(sentence, [_result(index, matcher, hit, sentence) for hit in found.hits]))
    click.echo("3/3 writing the page", err=True)
    intro = (
        f"The best matches among {len(GALLERY)} photos that the model was not trained on. Point at a word to see the "
        "regions it is aligned with, point at a region to see its words."
    )
    page = evidence_page("Words and regions", queries, intro=intro, tables=[_credits()], commands=_commands(out))
    write_whole(out / "index.html", page)
    click.echo("\n\n".join([*map(_told, queries), _ending(out)]))
    click.echo(f"done in {time.monotonic() - started:.0f} s", err=True)


def _result(index: Index, model: AligningMatcher, hit: Hit, sentence: str) -> PhotoResult:
    (evidence,) = evidence_from_index(index, model, hit.row, [sentence])
    probability = "" if hit.probability is None else f"matches with probability {hit.probability:.0%}"
    return PhotoResult(hit.path.name, evidence, probability)


def _credits() -> PageTable:
    rows = [[photo.name, photo.shows, photo.by, photo.licence, photo.package] for photo in GALLERY]
    return PageTable("The photos", ["", "shows", "by", "licence", "from"], rows)


def _told(query: QueryResults) -> str:
    found = "\n".join(
        f"{result.evidence.score:7.4f}  {result.name}" + (f"  ({result.note})" if result.note else "")
        for result in query.results
    )
    return f'"{query.sentence}"\n{found}'


def _commands(out: Path) -> list[str]:
    index, photos = (shlex.quote(str(out / part)) for part in ("index", "photos"))
    return [
        f'han search {index} "an orange flower"',
        f"han index ~/Pictures {photos} --out index",  # a demo's own index goes with the next demo
    ]


def _ending(out: Path) -> str:
    page = (out / "index.html").absolute().as_uri()
    return "\n".join([f"The page: {page}", "To go on:", *(f"  {command}" for command in _commands(out))])
