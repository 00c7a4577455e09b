"""``han index``: folders of photos to an index that sentences are searched in."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click

from han_retrieval.cli.detectors import find_detector
from han_retrieval.cli.devices import find_device
from han_retrieval.cli.pace import added_in
from han_retrieval.errors import HANError
from han_retrieval.matchers import DEFAULT_MODEL, load_aligning_matcher, model_folder
from han_retrieval.search import IndexReport, index_photos, is_index
from han_retrieval.search.rows import STORAGES
from han_retrieval.search.settings import Settings
from han_retrieval.search.update import DEFAULT_STORAGE

FOLDER = click.Path(path_type=Path)
_SHOWN = 5


@click.command()
@click.argument("photos", nargs=-1, type=FOLDER)
@click.option("--out", type=FOLDER, required=True, help="The index, a folder; brought up to date if there.")
@click.option(
    "--model", type=click.Path(), help="The model's folder [default: that of the index, else the one that ships]."
)
@click.option("--include", multiple=True, metavar="PATTERN", help="Only photos that it fits, such as '*.jpg'.")
@click.option("--exclude", multiple=True, metavar="PATTERN", help="No photos that it fits, such as 'thumbs'.")
@click.option("--forget", multiple=True, type=FOLDER, metavar="FOLDER", help="Follow this folder no longer.")
@click.option("--tokens", type=click.Choice(list(STORAGES)), help=f"How tokens are kept [default: {DEFAULT_STORAGE}].")
@click.option("--rebuild", is_flag=True, help="Build anew beside what is there, then switch: for another model.")
@click.option("--detector", help="What finds the regions, where the model does not say it or its weights are your own.")
@click.option(
    "--regions",
    type=click.IntRange(min=1),
    default=36,
    show_default=True,
    help="Where the model does not say how many.",
)
@click.option("--batch-size", type=click.IntRange(min=1), default=8, show_default=True, help="Photos detected at once.")
@click.option("--threads", type=click.IntRange(min=1), default=2, show_default=True, help="Threads that open photos.")
@click.option("--device", default="auto", show_default=True, help="Of the model: cpu, cuda, cuda:1; auto takes a GPU.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def index(
    photos: tuple[Path, ...],
    out: Path,
    model: str | None,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    forget: tuple[Path, ...],
    tokens: str | None,
    rebuild: bool,
    detector: str | None,
    regions: int,
    batch_size: int,
    threads: int,
    device: str,
    as_json: bool,
) -> None:
    """Make an index of the photos in and below the folders PHOTOS, or bring it up to date.

    Again, it looks only at what is new, changed, moved or gone; without PHOTOS, in the folders of before. A pattern
    with a slash is held against the path from the folder, one without against each name on it, in capitals or not.
    """
    finder = None
    if detector is not None:
        folder = model_folder(model or (Settings.read(out).model if is_index(out) else DEFAULT_MODEL))
        finder = find_detector(load_aligning_matcher(folder).config, folder, name=detector, regions=regions)
    if (include or exclude) and not photos:
        raise HANError("--include and --exclude are for folders that are named: give PHOTOS too")
    try:
        report = index_photos(
            photos,
            out,
            model=model,
            detector=finder,
            include=include,
            exclude=exclude,
            forget=forget,
            storage=tokens,
            rebuild=rebuild,
            device=find_device(device),
            batch_size=batch_size,
            threads=threads,
            progress=True,
        )
    except KeyboardInterrupt:
        kept = f"what was done is kept in {out}: the same command goes on from there"
        click.echo(f"stopped; {kept if is_index(out) else 'nothing was written'}", err=True)
        sys.exit(130)
    _show_notes(report)
    click.echo(_as_json(report, out) if as_json else _summary(report, out))


def _show_notes(report: IndexReport) -> None:
    if report.broken:
        click.echo(f"files that are no photos, tried again when they change: {len(report.broken)}", err=True)
        for name, reason in report.broken[:_SHOWN]:
            click.echo(f"  {name}: {reason}", err=True)
        if len(report.broken) > _SHOWN:
            click.echo("  ... (--json lists them all)", err=True)
    if report.heif:
        click.echo(f"note: {report.heif} .heic or .heif photos were passed over: pip install pillow-heif", err=True)
    for folder in report.unreadable:
        click.echo(f"note: {folder}: cannot be listed; what was known below it stays", err=True)


def _summary(report: IndexReport, out: Path) -> str:
    return (
        f"{out}: {report.photos:,} photos; {added_in(report.added, report.seconds)}, "
        f"{report.moved:,} moved, {report.removed:,} removed, {len(report.broken):,} broken"
    )


def _as_json(report: IndexReport, out: Path) -> str:
    broken = [{"photo": name, "reason": reason} for name, reason in report.broken]
    return json.dumps({"index": str(out), **asdict(report), "broken": broken})
