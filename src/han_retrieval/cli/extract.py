"""``han extract``: photos, or features that other programs made, to a region store."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from han_retrieval.cli.json_output import print_json
from han_retrieval.cli.names import printable
from han_retrieval.cli.options import FOLDER, SOURCE, engine_options, reading_options, splits_option
from han_retrieval.cli.pace import added_in
from han_retrieval.cli.splits import with_splits
from han_retrieval.cluster import Cluster
from han_retrieval.data import open_photo, read_dataset, with_splits_of
from han_retrieval.data.url_path import is_url
from han_retrieval.errors import ConfigError
from han_retrieval.matchers.detectors import find_detector
from han_retrieval.matchers.saving import config_fields, matcher_name, model_folder
from han_retrieval.objects import local_path, refuse_unreachable
from han_retrieval.pictures import refuse_overwriting, save_picture
from han_retrieval.regions.detector import Detector
from han_retrieval.regions.extraction import ExtractReport
from han_retrieval.regions.extraction import extract as extract_regions
from han_retrieval.regions.extraction_on_ray import extract_on_ray
from han_retrieval.regions.feature_files import FEATURE_FORMATS
from han_retrieval.regions.flip import FlippedDetector
from han_retrieval.regions.importers import feature_format, import_features
from han_retrieval.regions.loading import DEFAULT_DETECTOR, load_detector
from han_retrieval.regions.store import SKIPPED_NAME, RegionStore

_SHOWN = 5


@click.command()
@click.argument("source", type=SOURCE, required=False)
@click.option("--out", type=FOLDER, help="The folder of the region store; extended if it exists.")
@click.option(
    "--preview",
    type=click.Path(path_type=Path),
    metavar="PHOTO",
    help="Draw what the detector finds in this photo; --out is then the picture [default: PHOTO-regions.png here].",
)
@click.option(
    "--detector",
    help=f"The detector, NAME or NAME:ARGUMENT [default: {DEFAULT_DETECTOR}]; for features, the one that made them.",
)
@click.option("--model", type=click.Path(), help="Take the detector of this model, with as many regions.")
@click.option("--regions", type=click.IntRange(min=1), default=36, show_default=True, help="Regions per photo.")
@click.option("--horizontal-flip", is_flag=True, help="Flip each photo first: features for `han train --augmented`.")
@click.option("--format", "format_name", help="The source's format, if it is not recognised.")
@click.option("--split", help="Only the photos of this split.")
@splits_option
@click.option("--ids", type=click.Path(path_type=Path), help="For features: store them under the ids of this dataset.")
@reading_options
@engine_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def extract(
    source: Path | str | None,
    out: Path | None,
    preview: Path | None,
    detector: str | None,
    model: str | None,
    regions: int,
    horizontal_flip: bool,
    format_name: str | None,
    split: str | None,
    splits: Path | None,
    ids: Path | None,
    batch_size: int,
    threads: int,
    cluster: Cluster | None,
    as_json: bool,
) -> None:
    """Detect the regions of the photos of SOURCE and store their features and boxes.

    SOURCE is a dataset or a folder of photos, a pattern in quotes ('photos/**/*.jpg'), a text or Parquet file of paths
    and URLs, or a URL of one of these.

    SOURCE may also hold features that other programs made: SCAN's precomputed folder, bottom-up-attention TSV or .npz
    files.

    A run that was stopped goes on where it ended when you give the same command again; photos that could not be read
    are then tried again.

    han extract --preview PHOTO writes no store: it draws the regions of one photo, with their names and scores.
    """
    folder = None
    counted = click.get_current_context().get_parameter_source("regions") is ParameterSource.COMMANDLINE
    if model is not None:
        folder = model_folder(model).absolute()  # also where a worker looks for it
        matcher_name(folder)
        if counted and config_fields(folder).get("detector_fingerprint"):
            raise ConfigError("--model says how many regions a photo has: leave --regions out")
    if preview:
        for name, value in (
            ("SOURCE", source),
            ("--format", format_name),
            ("--split", split),
            ("--splits", splits),
            ("--ids", ids),
            ("--engine", cluster and "ray"),
        ):
            if value is not None:
                raise ConfigError(f"--preview draws the regions of {preview} alone; leave {name} ({value}) out")
        load = partial(_finder, detector, folder, regions=regions, horizontal_flip=horizontal_flip)
        _preview(preview, out, load, as_json=as_json)
        return
    if source is None or out is None:
        missing = "SOURCE" if source is None else "--out"
        raise ConfigError(f"{missing} is missing: han extract SOURCE --out FEATURES, or han extract --preview PHOTO")
    refuse_unreachable(out)  # before the detector is loaded
    try:
        recognised = None if format_name or is_url(source) else feature_format(Path(source))
        if format_name in FEATURE_FORMATS or recognised:
            for name, is_given in (
                ("--engine ray", cluster is not None),
                ("--model", model is not None),
                ("--horizontal-flip", horizontal_flip),
                ("--splits", splits is not None),
                ("--regions", counted),
            ):
                if is_given:
                    raise ConfigError(f"{source}: holds features, and {name} is for photos; leave it out")
            wanted = [photo.id for photo in read_dataset(ids).photos] if ids else None
            report = import_features(
                Path(source), out, format=format_name, split=split, ids=wanted, made_by=detector, progress=True
            )
        else:
            if ids:
                raise ConfigError("--ids is for features that others made; for photos, leave it out")
            dataset = read_dataset(source, format=format_name)
            if splits:
                dataset = with_splits_of(dataset, splits)
            for reason, count in dataset.skipped.items():
                click.echo(f"note: {printable(reason)}: {count}", err=True)
            if split:
                dataset = with_splits(dataset).split(split)
            load = partial(_finder, detector, folder, regions=regions, horizontal_flip=horizontal_flip)
            if cluster is None:
                report = extract_regions(dataset, load(), out, batch_size=batch_size, threads=threads, progress=True)
            else:
                with redirect_stdout(sys.stderr):  # where Ray prints notes
                    report = extract_on_ray(
                        dataset, load, out, cluster=cluster, batch_size=batch_size, threads=threads, progress=True
                    )
    except KeyboardInterrupt:
        click.echo(f"stopped; what was done is kept in {out}; the same command goes on from there", err=True)
        sys.exit(130)
    _show_skipped(report, out)
    if report.unmatched:
        click.echo(f"note: images left out because {ids} has no such id: {report.unmatched}", err=True)
    if as_json:
        print_json(_facts(report, out))
    else:
        click.echo(_summary(report, out))


def _finder(name: str | None, model: Path | None, *, regions: int, horizontal_flip: bool) -> Detector:
    if model is None:
        detector = load_detector(name or DEFAULT_DETECTOR, regions=regions)
    else:
        from han_retrieval.matchers import load_matcher

        detector = find_detector(load_matcher(model).config, model, name=name, regions=regions)
    return FlippedDetector(detector) if horizontal_flip else detector


def _preview(photo: Path, out: Path | None, load: Callable[[], Detector], *, as_json: bool) -> None:
    """Draw the regions of one photo, and print them on stdout, a line each, best first."""
    out = Path(f"{photo.stem}-regions.png") if out is None else local_path(out)
    refuse_overwriting(out, photo)
    picture = open_photo(photo)  # before torch is imported
    detector = load()
    from han_retrieval.evidence.preview import draw_regions

    regions = detector.detect([picture])[0]
    save_picture(out, draw_regions(picture, regions))
    assert regions.boxes is not None
    rows: list[dict[str, Any]] = [
        {
            "region": i,
            "label": regions.labels and regions.labels[i],
            "score": None if regions.scores is None else float(regions.scores[i]),
            "box": [float(edge) for edge in box],
        }
        for i, box in enumerate(regions.boxes)
    ]
    if as_json:
        print_json(
            {
                "photo": str(photo),
                "width": picture.width,
                "height": picture.height,
                "detector": detector.fingerprint,
                "picture": str(out),
                "regions": rows,
            }
        )
    else:
        click.echo(f"{'region':>6} {'score':>6}  {'x0 y0 x1 y1':<20} name")
        for row in rows:
            score = "" if row["score"] is None else f"{row['score']:.2f}"
            box = " ".join(f"{edge:.0f}" for edge in row["box"])
            click.echo(f"{row['region']:>6} {score:>6}  {box:<20} {printable(row['label'] or '')}".rstrip())
    click.echo(f"wrote {out} ({detector.fingerprint})", err=True)


def _show_skipped(report: ExtractReport, out: Path) -> None:
    if report.skipped:
        click.echo(f"photos skipped: {len(report.skipped)}, all listed in {out / SKIPPED_NAME}; the first:", err=True)
        for name, reason in report.skipped[:_SHOWN]:
            click.echo(f"  {printable(f'{name}: {reason}')}", err=True)


def _summary(report: ExtractReport, out: Path) -> str:
    store = RegionStore.open(out).describe()
    regions = f"{store.regions_mean:.4g} regions a photo" if store.photos else "no regions"
    return (
        f"{printable(str(out))}: {store.photos:,} photos, {regions}, {store.feature_size} numbers a region; "
        f"{added_in(report.done, report.seconds)}, "
        f"{report.already_there:,} there before, {len(report.skipped):,} skipped"
    )


def _facts(report: ExtractReport, out: Path) -> dict[str, Any]:
    return {
        "features": str(out),
        "done": report.done,
        "already_there": report.already_there,
        "skipped": [{"photo": name, "reason": reason} for name, reason in report.skipped],
        "unmatched": report.unmatched,
        "seconds": report.seconds,
        **asdict(RegionStore.open(out).describe()),
    }
