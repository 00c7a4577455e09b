"""``han calibrate``: fit probabilities to a model's scores, and keep them in its folder."""

from __future__ import annotations

from pathlib import Path

import click

from han_retrieval.cli.devices import device_option, find_device
from han_retrieval.cli.options import allow_missing_option, json_option, scored_dataset_options
from han_retrieval.cli.splits import with_splits
from han_retrieval.data import read_dataset
from han_retrieval.matchers.hub import refuse_cached
from han_retrieval.matchers.saving import folder_hash, matcher_name, model_folder
from han_retrieval.regions.store import RegionStore
from han_retrieval.search.calibration import NAME, SHOWN, Calibration, refuse_too_few
from han_retrieval.search.calibration import calibrate as fit


@click.command()
@scored_dataset_options
@click.option("--split", default="dev", show_default=True, help="Photos that the model was not trained on.")
@click.option(
    "--shown",
    type=click.IntRange(min=1),
    default=SHOWN,
    show_default=True,
    help="The number of photos that a search shows.",
)
@allow_missing_option
@json_option
@device_option
def calibrate(
    model: str,
    dataset: Path,
    features: Path,
    split: str,
    format_name: str | None,
    splits: Path | None,
    shown: int,
    allow_missing: bool,
    as_json: bool,
    device: str,
) -> None:
    """Fit probabilities to the scores of MODEL on DATASET, and keep them in its folder as calibration.json.

    `han search` then says whether a match is strong, likely or weak, or that nothing matches; with --json, it gives the
    probability that a photo is the right one. Each sentence is searched for twice: among all photos of the split, and
    among all but its own. A sentence that several photos have has these as its own.
    """
    photos = with_splits(read_dataset(dataset, format=format_name), splits).split(split)
    folder = model_folder(model)
    refuse_cached(folder)
    matcher_name(folder)  # refuses what is no model
    store = RegionStore.open(features)
    from han_retrieval.evaluation import evaluate  # from here on torch is imported
    from han_retrieval.evaluation.report import make_folder
    from han_retrieval.matchers import load_matcher

    make_folder(folder / NAME)  # refused now, not after the scoring
    refuse_too_few(len(photos), shown=shown)
    weights = folder_hash(folder)  # of those that are read now: others may take their place while they score
    matcher = load_matcher(folder).to(find_device(device))
    found = evaluate(matcher, photos, store, allow_missing=allow_missing, equal_captions="relevant")
    for note in found.notes:
        click.echo(f"note: {note}", err=True)
    fitted = fit(found.scores, found.relevance, model=weights, split=found.split, shown=shown)
    path = fitted.write(folder)
    click.echo(fitted.model_dump_json(indent=2) if as_json else _table(fitted))
    click.echo(f"wrote {path}", err=True)


def _table(fitted: Calibration) -> str:
    lines = [
        f"{fitted.sentences} sentences, each among {fitted.photos} photos of {fitted.split or 'no split'} with and "
        f"without its own; the first {fitted.shown} count",
        f"probability  sigmoid({fitted.slope:.3f} * score {fitted.intercept:+.3f})",
        f"threshold    {fitted.threshold:.2%}; below it nothing matches",
        f"growth       {fitted.growth:.2f}: among n times as many photos, its odds are n to this power higher",
        f"precision    {fitted.precision:.1%} of the answered searches show a right photo",
        f"recall       {fitted.recall:.1%} of the searches that find a right photo are answered",
        f"without it   {fitted.answered_without:.1%} of the searches without a right photo are answered all the same",
        f"error        {fitted.error:.2%} between probability and share right, on photos that it was not fitted to",
        "probability  right  pairs",
        *(f"{each.probability:11.2%} {each.right:6.2%} {each.pairs:6}" for each in fitted.reliability),
    ]
    return "\n".join(lines)
