"""``han evaluate``: the figures of a model on the photos of a split."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from han_retrieval.cli.devices import device_option, find_device
from han_retrieval.cli.splits import with_splits
from han_retrieval.data import read_dataset, read_entities
from han_retrieval.errors import HANError
from han_retrieval.evaluation import evaluate as evaluate_model
from han_retrieval.evaluation import ground, write_runs
from han_retrieval.evaluation.protocols import BATCH
from han_retrieval.evaluation.report import make_folder, results, table, write_json
from han_retrieval.evaluation.runs import DEPTH
from han_retrieval.matchers import load_matcher
from han_retrieval.regions import RegionStore
from han_retrieval.scoring import PRECISIONS, has_bfloat16

FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.argument("model", type=click.Path())
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option("--features", type=click.Path(path_type=Path), required=True, help="What `han extract` wrote.")
@click.option("--split", required=True, help="The photos to rank: dev, test, ...")
@click.option("--format", "format_name", help="The dataset's format, where it is not recognised.")
@click.option("--folds", type=click.IntRange(min=1), default=1, help="Mean over consecutive folds (COCO 1K: 5).")
@click.option(
    "--grounding",
    type=click.Path(path_type=Path),
    help="Entities truth: also measure phrase grounding.",
)
@click.option("--json", "json_file", type=FILE, help="Write all figures and each query's results here.")
@click.option("--run", "run_file", type=FILE, help="Write TREC runs and qrels here, a pair of files a direction.")
@click.option("--depth", type=click.IntRange(min=1), default=DEPTH, show_default=True, help="Lines a query in --run.")
@click.option("--batch", type=click.IntRange(min=1), default=BATCH, show_default=True, help="Photos at once.")
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default="float32",
    show_default=True,
    help="Of the large products; bfloat16 where the processor has it.",
)
@device_option
@click.option("--allow-missing", is_flag=True, help="Leave out photos without features, however many.")
def evaluate(
    model: str,
    dataset: Path,
    features: Path,
    split: str,
    format_name: str | None,
    folds: int,
    grounding: Path | None,
    json_file: Path | None,
    run_file: Path | None,
    depth: int,
    batch: int,
    precision: str,
    device: str,
    allow_missing: bool,
) -> None:
    """Rank the captions of DATASET for each photo and the photos for each caption by MODEL.

    MODEL is a folder, or "default" for the model that ships.

    Prints recalls, ranks and rSum of both directions; ties count against the model.
    """
    dataset_read = read_dataset(dataset, format=format_name)
    for reason, count in dataset_read.skipped.items():
        click.echo(f"note: {reason}: {count}", err=True)
    photos = with_splits(dataset_read).split(split)
    truth = read_entities(grounding) if grounding else None
    store = RegionStore.open(features)
    matcher = load_matcher(model).to(find_device(device))
    if precision == "bfloat16" and not has_bfloat16(matcher.device):
        raise HANError("--precision bfloat16: this processor has no such products, they would be slower: leave it out")
    for file in (json_file, run_file):
        if file:
            make_folder(file)  # refused now, not after the scoring
    try:
        grounded = ground(matcher, truth, store, ids=[photo.id for photo in photos.photos]) if truth else None
        found = evaluate_model(
            matcher, photos, store, folds=folds, allow_missing=allow_missing, batch=batch, precision=precision
        )
    except KeyboardInterrupt:
        click.echo("stopped; nothing was written", err=True)
        sys.exit(130)
    for note in found.notes:
        click.echo(f"note: {note}", err=True)
    if json_file:
        write_json(json_file, results(found, model=str(model), grounding=grounded))
    if run_file:
        files = write_runs(run_file, found.scores, found.relevance, folds=folds, depth=depth)
        click.echo("wrote " + ", ".join(str(file) for file in files), err=True)
    click.echo(table(found, grounding=grounded))
