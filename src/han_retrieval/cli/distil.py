"""``han distil``: learn to choose candidates from a model's scores, and keep that in its folder."""

from __future__ import annotations

from pathlib import Path

import click

from han_retrieval.cli.devices import device_option, find_device
from han_retrieval.cli.json_output import print_json
from han_retrieval.cli.options import json_option, scored_dataset_options
from han_retrieval.cli.splits import with_splits
from han_retrieval.data import read_dataset
from han_retrieval.matchers.hub import refuse_cached
from han_retrieval.matchers.saving import folder_hash, matcher_name, model_folder
from han_retrieval.regions.store import RegionStore
from han_retrieval.search.pooling import MAP_PHOTOS, MAP_SENTENCES, TEXT_MAP


@click.command()
@scored_dataset_options
@click.option("--split", default="train", show_default=True, help="The photos to learn from.")
@click.option(
    "--photos", type=click.IntRange(min=1), default=MAP_PHOTOS, show_default=True, help="Use at most this many."
)
@click.option(
    "--sentences", type=click.IntRange(min=1), default=MAP_SENTENCES, show_default=True, help="Use at most this many."
)
@json_option
@device_option
def distil(
    model: str,
    dataset: Path,
    features: Path,
    split: str,
    format_name: str | None,
    splits: Path | None,
    photos: int,
    sentences: int,
    as_json: bool,
    device: str,
) -> None:
    """Learn from MODEL's scores on DATASET which photos to score, and keep that in MODEL as candidates.safetensors.

    `han search` then needs fewer candidates for the same results. Existing indexes need no change.
    """
    captioned = with_splits(read_dataset(dataset, format=format_name), splits).split(split)
    folder = model_folder(model)
    refuse_cached(folder)
    matcher_name(folder)  # refuses what is no model
    store = RegionStore.open(features, copy=True)
    from han_retrieval.evaluation.protocols import check_regions  # from here on torch is imported
    from han_retrieval.evaluation.report import make_folder
    from han_retrieval.matchers import load_aligning_matcher
    from han_retrieval.search.distil import distil as learn

    make_folder(folder / TEXT_MAP)  # refused now, not after the scoring
    weights = folder_hash(folder)  # of those that are read now: others may take their place while they score
    matcher = load_aligning_matcher(folder).to(find_device(device))
    for note in check_regions(matcher, store):
        click.echo(f"note: {note}", err=True)
    found = learn(matcher, captioned, store, photos=photos, sentences=sentences, progress=True)
    path = found.text_map.write(folder, model=weights)
    if as_json:
        facts = {"photos": found.photos, "sentences": found.sentences, "before": found.before, "after": found.after}
        print_json(facts)
    else:
        click.echo(f"{found.photos} photos, {found.sentences} sentences; of the exact best ten, candidates keep")
        click.echo("candidates  before   after")
        for number, before in found.before.items():
            click.echo(f"{number:10} {before:6.1f}% {found.after[number]:6.1f}%")
    click.echo(f"wrote {path}", err=True)
