"""``han evaluate``: the metrics of a model on the photos of a split."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from han_retrieval.cli.devices import device_option, find_device
from han_retrieval.cli.names import printable
from han_retrieval.cli.options import FOLDER, allow_missing_option, scored_dataset_options
from han_retrieval.cli.splits import with_splits
from han_retrieval.data import read_dataset, read_entities
from han_retrieval.errors import ConfigError
from han_retrieval.matchers.hub import reference
from han_retrieval.matchers.saving import matcher_name, model_folder
from han_retrieval.processor import PRECISIONS
from han_retrieval.regions.store import RegionStore

_FILE = click.Path(dir_okay=False, path_type=Path)
_FEW = 500  # photos


@click.command()
@scored_dataset_options
@click.option("--split", required=True, help="The photos to rank: dev, test, ...")
@click.option("--folds", type=click.IntRange(min=1), default=1, help="Mean over consecutive folds (COCO 1K: 5).")
@click.option(
    "--equal-captions",
    type=click.Choice(["negative", "relevant"]),
    default="negative",
    show_default=True,
    help="What a caption that several photos have is to each: published figures take it for a negative to all but one.",
)
@click.option("--grounding", type=FOLDER, help="Entities annotations: measure phrase grounding too.")
@click.option("--json", "json_file", type=_FILE, help="Write all metrics and each query's results to this file.")
@click.option("--run", "run_file", type=_FILE, help="Write TREC runs and qrels, two files per direction.")
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default="float32",
    show_default=True,
    help="Of the large matrix products; bfloat16 needs a processor that is faster in it.",
)
@device_option
@allow_missing_option
def evaluate(
    model: str,
    dataset: Path,
    features: Path,
    split: str,
    format_name: str | None,
    splits: Path | None,
    folds: int,
    equal_captions: str,
    grounding: Path | None,
    json_file: Path | None,
    run_file: Path | None,
    precision: str,
    device: str,
    allow_missing: bool,
) -> None:
    """Rank the captions of DATASET for each photo and the photos for each caption, by their scores.

    MODEL is a folder, or "default" for the model that ships. Prints recalls, ranks and rSum of both directions; ties
    count against the model. Flickr30K 1K and COCO 5K are --split test; COCO 1K is --split test --folds 5.
    """
    dataset_read = with_splits(read_dataset(dataset, format=format_name), splits)
    for reason, count in dataset_read.skipped.items():
        click.echo(f"note: {printable(reason)}: {count}", err=True)
    photos = dataset_read.split(split)
    annotations = read_entities(grounding) if grounding else None
    store = RegionStore.open(features)
    folder = model_folder(model)
    matcher_name(folder)  # refuses what is no model
    from han_retrieval.evaluation import evaluate as evaluate_model  # from here on torch is imported
    from han_retrieval.evaluation import ground, write_runs
    from han_retrieval.evaluation.report import make_folder, results, table, write_json
    from han_retrieval.matchers import load_matcher
    from han_retrieval.scoring import prefers_bfloat16

    matcher = load_matcher(folder).to(find_device(device))
    if precision == "bfloat16" and not prefers_bfloat16(matcher.device):
        raise ConfigError("--precision bfloat16: this processor is not faster in it than in float32: leave it out")
    for file in (json_file, run_file):
        if file:
            make_folder(file)  # refused before the scoring, not after it
    try:
        found = evaluate_model(
            matcher,
            photos,
            store,
            folds=folds,
            allow_missing=allow_missing,
            equal_captions=equal_captions,
            precision=precision,
        )
        ids = [photo.id for photo in photos.photos]
        grounded = ground(matcher, annotations, store, ids=ids) if annotations else None
    except KeyboardInterrupt:
        click.echo("stopped; nothing was written", err=True)
        sys.exit(130)
    images = found.counts["images"] // folds
    if images < _FEW:
        click.echo(f"note: among {images:,} photos, recalls are much higher than among the usual 1,000", err=True)
    for note in found.notes:
        click.echo(f"note: {note}", err=True)
    click.echo(table(found, grounding=grounded))  # first: a file may not be written
    if json_file:
        write_json(json_file, results(found, model=reference(folder) or str(model), grounding=grounded))
    if run_file:
        files = write_runs(run_file, found.scores, found.relevance, folds=folds)
        click.echo("wrote " + ", ".join(str(file) for file in files), err=True)
