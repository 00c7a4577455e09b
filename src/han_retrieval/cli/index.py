"""``han index``: make an index of folders of photos, or bring it up to date."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from han_retrieval.cli.devices import device_option, find_device
from han_retrieval.cli.json_output import print_json
from han_retrieval.cli.names import printable
from han_retrieval.cli.options import FOLDER, SOURCE, detector_options, engine_options, json_option, reading_options
from han_retrieval.cli.pace import added_in
from han_retrieval.cluster import Cluster
from han_retrieval.errors import ConfigError, DataError
from han_retrieval.files import from_home
from han_retrieval.matchers.detectors import find_detector
from han_retrieval.matchers.saving import DEFAULT_MODEL, model_folder
from han_retrieval.objects import to_path
from han_retrieval.regions.loading import detector_for
from han_retrieval.regions.store import RegionStore
from han_retrieval.regions.stored import StoredRegions
from han_retrieval.search.pooling import POOLINGS
from han_retrieval.search.report import STAGES, IndexReport
from han_retrieval.search.rows import DEFAULT_STORAGE, STORAGES
from han_retrieval.search.scan import follow, resolve_roots
from han_retrieval.search.settings import Patterns, Settings, is_index
from han_retrieval.search.vector_index import EXACT_UP_TO

if TYPE_CHECKING:
    from han_retrieval.regions.detector import Detector

_SHOWN = 5


@click.command()
@click.argument("photos", nargs=-1, type=SOURCE)
@click.option(
    "--out",
    type=FOLDER,
    default="index",
    show_default=True,
    help="The folder of the index; brought up to date if it exists.",
)
@click.option(
    "--model", type=click.Path(), help="The model's folder [default: the model of the index, else the one that ships]."
)
@click.option("--include", multiple=True, metavar="PATTERN", help="Only photos that match, such as '*.jpg'.")
@click.option("--exclude", multiple=True, metavar="PATTERN", help="No photos that match, such as 'thumbs'.")
@click.option(
    "--forget", multiple=True, type=FOLDER, metavar="FOLDER", help="Remove this folder's photos from the index."
)
@click.option(
    "--features",
    type=FOLDER,
    help="Regions of PHOTOS that `han extract` stored: only photos that are not among them go through the detector.",
)
@click.option(
    "--tokens", type=click.Choice(list(STORAGES)), help=f"How tokens are stored [default: {DEFAULT_STORAGE}]."
)
@click.option(
    "--candidates",
    type=click.Choice(POOLINGS),
    help="What chooses the candidates of a search: the mean of the tokens, or the vectors that the two towers of the "
    f"model give [default: {POOLINGS[0]}].",
)
@click.option(
    "--exact-up-to",
    type=click.IntRange(min=0),
    metavar="PHOTOS",
    help=f"With more photos, a vector index finds the candidates of a search [default: {EXACT_UP_TO:,}].",
)
@click.option(
    "--rebuild", is_flag=True, help="Build the index anew beside the present one, then switch: for another model."
)
@click.option("--profile", is_flag=True, help="Print the processor time of a new photo by stage.")
@detector_options
@reading_options
@engine_options
@device_option
@json_option
def index(
    photos: tuple[Path | str, ...],
    out: Path,
    model: str | None,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    forget: tuple[Path, ...],
    features: Path | None,
    tokens: str | None,
    candidates: str | None,
    exact_up_to: int | None,
    rebuild: bool,
    profile: bool,
    detector: str | None,
    regions: int,
    batch_size: int,
    threads: int,
    cluster: Cluster | None,
    device: str,
    as_json: bool,
) -> None:
    """Make an index of the photos in and below the folders PHOTOS, or bring it up to date.

    PHOTOS may also be a text or Parquet file of paths and URLs, a pattern in quotes ('photos/**/*.jpg'), or a URL.

    An update reads only photos that are new, changed or moved, and removes those that are gone. Without PHOTOS it
    updates all folders of the index.

    A PATTERN with a slash must match a photo's path below its folder; a PATTERN without one must match a name on that
    path, of a folder or a file. Case does not matter.
    """
    out = from_home(out)
    before = Settings.read(out) if is_index(out) else None
    load = None
    if detector is not None or features is not None:
        if features is not None and len(photos) != 1:
            raise ConfigError("--features holds the regions of one folder: give that folder as PHOTOS")
        named = model or (before.model if before else DEFAULT_MODEL)
        if model and Path(model).is_dir():  # also where a worker looks for it
            named = str(Path(model).absolute())
        folder = to_path(photos[0]).absolute() if photos else Path()
        load = partial(_finder, named, detector, regions, features and features.absolute(), folder)
    if profile and cluster is not None:
        raise ConfigError("--profile tells the time of this process: leave --engine ray out")
    if cluster is not None and device != "auto":
        raise ConfigError(f"--device {device} is for one machine: give workers GPUs with --gpus-per-worker")
    if (include or exclude) and not photos:
        raise ConfigError("--include and --exclude are for folders that are named: give PHOTOS too")
    # What is missing is said before torch is imported; index_photos looks again once it has the lock.
    follow(before, resolve_roots(photos, before.roots if before else ()), forget, Patterns())
    from han_retrieval.search.update import index_photos
    from han_retrieval.search.update_on_ray import index_on_ray

    finder = None
    options: dict[str, Any] = {
        "model": model,
        "include": include,
        "exclude": exclude,
        "forget": forget,
        "storage": tokens,
        "candidates": candidates,
        "exact_up_to": exact_up_to,
        "rebuild": rebuild,
        "batch_size": batch_size,
        "threads": threads,
        "progress": True,
    }
    try:
        if cluster is None:
            finder = load() if load else None
            report = index_photos(photos, out, detector=finder, device=find_device(device), **options)
        else:
            with redirect_stdout(sys.stderr):  # where Ray prints notes
                report = index_on_ray(photos, out, cluster=cluster, load=load, **options)
    except KeyboardInterrupt:
        kept = f"what was done is kept in {out}: the same command goes on from there"
        click.echo(f"stopped; {kept if is_index(out) else 'nothing was written'}", err=True)
        sys.exit(130)
    _show_notes(report)
    if isinstance(finder, StoredRegions):
        click.echo(f"note: {finder.taken:,} photos had their regions in {features}", err=True)
    if report.removed and (include or exclude):
        click.echo(
            f"note: {report.removed:,} photos left the index, those that the patterns leave out among them; patterns "
            "hold until others are given",
            err=True,
        )
    if profile:
        _show_profile(report)
    made = is_index(out)
    if as_json:
        print_json(_facts(report, out))
    elif made:
        click.echo(_summary(report, out))
    if not made:
        raise DataError(f"{out}: no photo could be indexed, so no index was made")


def _finder(model: str, detector: str | None, regions: int, features: Path | None, photos: Path) -> Detector:
    """The detector of a name, or the regions of a store with what detects those of other photos."""
    from han_retrieval.matchers import load_aligning_matcher
    from han_retrieval.search.maker import LazyDetector

    finder = None
    if detector is not None:
        folder = model_folder(model)
        finder = find_detector(load_aligning_matcher(folder).config, folder, name=detector, regions=regions)
    if features is None:
        assert finder is not None
        return finder
    store = RegionStore.open(features)
    load = partial(detector_for, store.fingerprint, model=model_folder(model))
    others = finder or LazyDetector(store.fingerprint, store.feature_size, load)
    return StoredRegions(store, photos, others)


def _show_notes(report: IndexReport) -> None:
    for files, what in (
        (report.broken, "files that could not be indexed, tried again when they change"),
        (report.unread, "files that cannot be read now, tried again by the next update"),
    ):
        if files:
            click.echo(f"{what}: {len(files)}", err=True)
        for name, reason in files[:_SHOWN]:
            click.echo(f"  {printable(f'{name}: {reason}')}", err=True)
        if len(files) > _SHOWN:
            click.echo("  ... (--json lists them all)", err=True)
    for folder in report.unreadable:
        click.echo(f"note: {printable(folder)}: cannot be listed; the photos below it stay in the index", err=True)


def _show_profile(report: IndexReport) -> None:
    """The processor time of a photo by stage, in milliseconds, on stderr."""
    if not report.added:
        click.echo("no new photo, so no time of one", err=True)
        return
    whole = sum(report.processor_seconds.values())
    click.echo(f"processor time a photo, of {report.added:,} new ones:", err=True)
    for name in STAGES:
        seconds = report.processor_seconds.get(name, 0.0)
        click.echo(f"  {name:<8}{1000 * seconds / report.added:>9.1f} ms {seconds / whole:>6.1%}", err=True)
    click.echo(f"  {'all':<8}{1000 * whole / report.added:>9.1f} ms", err=True)


def _summary(report: IndexReport, out: Path) -> str:
    return (
        f"{printable(str(out))}: {report.photos:,} photos; {added_in(report.added, report.seconds)}, "
        f"{report.moved:,} moved, {report.removed:,} removed, {len(report.broken):,} broken"
    )


def _facts(report: IndexReport, out: Path) -> dict[str, Any]:
    files = {
        what: [{"photo": name, "reason": reason} for name, reason in listed]
        for what, listed in (("broken", report.broken), ("unread", report.unread))
    }
    return {"index": str(out), **asdict(report), **files}
