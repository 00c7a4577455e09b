"""``han demo``: index a gallery of real photos, search it, and show the evidence."""

from __future__ import annotations

import shlex
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from han_retrieval.cli.gallery import GALLERY, copy_gallery
from han_retrieval.cli.options import model_option
from han_retrieval.errors import DataError
from han_retrieval.files import write_whole
from han_retrieval.matchers.saving import matcher_name, model_folder

if TYPE_CHECKING:
    from han_retrieval.evidence import PageTable, QueryResults
    from han_retrieval.search import Index

SENTENCES = (
    "a man in a black coat looks through a camera on a tripod",
    "a woman in an orange suit smiles in front of a flag",
    "a woman in a dark uniform and a white hat",
    "a red cup on a wooden table",
    "a building with a red roof near the water",
)
PHOTOS_A_SENTENCE = 3


@click.command()
@model_option
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("demo"),
    show_default=True,
    help="Folder to write; it must be new, empty, or of an earlier demo.",
)
def demo(model: str, out: Path) -> None:
    """Index a gallery of real photos, search it with five sentences, and show why each photo was found.

    The folder OUT then has the photos (of scikit-image, scikit-learn and matplotlib, free to use), an index as
    `han index` makes it, and a page with the evidence that opens without a server.
    """
    started = time.monotonic()
    matcher_name(model_folder(model))  # refuses what is no model
    _make_folder(out)
    copy_gallery(out / "photos")
    from han_retrieval.evidence import evidence_page  # from here on torch is imported
    from han_retrieval.search import Index, index_photos

    click.echo(f"1/3 indexing {len(GALLERY)} photos", err=True)
    index_photos([out / "photos"], out / "index", model=model, progress=True)
    click.echo(f"2/3 searching with {len(SENTENCES)} sentences", err=True)
    with Index.open(out / "index") as index:
        queries = [_search(index, sentence) for sentence in SENTENCES]
    click.echo("3/3 writing the page with the evidence", err=True)
    intro = (
        f"The best matches among {len(GALLERY)} photos that the model was not trained on. Point at a word to see the "
        "regions it is aligned with, point at a region to see its words. Each number says how well the word matches "
        "its regions, from -1 to 1."
    )
    page = evidence_page(
        "Photos found, and the evidence", queries, intro=intro, tables=[_credits()], commands=_commands(out)
    )
    write_whole(out / "index.html", page)
    click.echo(f"done in {time.monotonic() - started:.0f} s", err=True)
    click.echo("\n\n".join([*map(_lines, queries), _next_steps(out)]))


def _make_folder(out: Path) -> None:
    """Make the demo's folder with its mark, and delete the photos and the index of an earlier demo in it.

    Raises:
        DataError: There is a folder that no demo made, or nothing can be written there.
    """
    mark, text = out / "demo.json", '{"made_by": "han demo"}\n'
    try:
        is_ours = mark.is_file() and mark.read_bytes().strip() == text.strip().encode()
        if out.exists() and not is_ours and not (out.is_dir() and not any(out.iterdir())):
            raise DataError(f"{out}: is not a folder that an earlier han demo made; choose another with --out")
        for part in ("photos", "index"):
            if (out / part).exists():
                shutil.rmtree(out / part)
        out.mkdir(parents=True, exist_ok=True)
        mark.write_bytes(text.encode())
    except OSError as error:
        raise DataError(f"{out}: cannot be written ({error.strerror})") from None


def _search(index: Index, sentence: str) -> QueryResults:
    from han_retrieval.evidence import PhotoResult, QueryResults, evidence_from_index

    results = []
    for hit in index.search(sentence, k=PHOTOS_A_SENTENCE).hits:
        (evidence,) = evidence_from_index(index, index.model, hit.row, [sentence])
        note = "" if hit.match is None else f"{hit.match} match"
        results.append(PhotoResult(hit.path.name, evidence, note))
    return QueryResults(sentence, results)


def _credits() -> PageTable:
    from han_retrieval.evidence import PageTable

    rows = [[photo.name, photo.shows, photo.by, photo.licence, photo.package] for photo in GALLERY]
    return PageTable("The photos", ["file", "shows", "by", "licence", "from"], rows)


def _lines(query: QueryResults) -> str:
    found = "\n".join(
        f"{result.evidence.score:7.4f}  {result.name}" + (f"  ({result.note})" if result.note else "")
        for result in query.results
    )
    return f'"{query.sentence}"\n{found}'


def _commands(out: Path) -> list[str]:
    han, index = shlex.quote(_program()), shlex.quote(str(out / "index"))
    return [f'{han} search {index} "an orange flower"', f"{han} serve {index}", f"{han} index ~/Pictures --out index"]


def _program() -> str:
    """What a shell finds this program by: its name, or the path by which it runs now, as in ``make demo``."""
    called = Path(sys.argv[0])
    return str(called) if called.stem == "han" and shutil.which("han") is None else "han"


def _next_steps(out: Path) -> str:
    page = (out / "index.html").absolute().as_uri()
    search, serve, index = _commands(out)
    return (
        f"To see the evidence, open {page}\n"
        f"To search these photos: {search}\n"
        f"To search in a browser: {serve}\n"
        f"Next, index photos of your own: {index}"
    )
