"""Whether probabilities hold in collections smaller than the one that they were fitted on.

    python -m research.calibration MODEL DATASET --features STORE

Sentences of the dev split search random parts of its photos, once with their own photo among them and once without. As
many photos are shown as for ``han calibrate``, ten by default; the tenth of them that is most probable is compared with
what it fitted. Only its own photo is right for a sentence, so take a dataset in which hardly any sentence stands under
several photos.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
from scipy.special import expit

from han_retrieval.data import read_dataset
from han_retrieval.errors import HANError
from han_retrieval.evaluation.scores import encode_photos, score_all
from han_retrieval.matchers import load_aligning_matcher
from han_retrieval.regions import RegionStore
from han_retrieval.search.calibration import Calibration
from research.program import run

FOLDER = click.Path(exists=True, path_type=Path)


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("dataset", type=FOLDER)
@click.option("--features", type=FOLDER, required=True)
@click.option("--sentences", default=600, show_default=True)
def main(model: Path, dataset: Path, features: Path, sentences: int) -> None:
    """Print a table of sizes."""
    calibration, random = read_calibration(model), np.random.default_rng(0)
    photos, chosen = dev_captions(dataset, sentences, random)
    matcher, store = load_aligning_matcher(model), RegionStore.open(features)
    encoded = encode_photos(matcher, store, photos)
    scores = score_all(matcher, encoded, [caption for _, caption in chosen], photo_ids=photos)
    click.echo("| photos | said | right | said without regard to their number |\n|---|---|---|---|")
    for size in (25, 50, 100, 300, len(photos)):
        shown, right = [], []
        for column, (own, _) in enumerate(chosen):
            others = random.permutation(np.delete(np.arange(len(photos)), own))
            for rows in (np.append(others[: size - 1], own), others[:size]):
                best = rows[np.argsort(-scores[rows, column])[: calibration.shown]]
                shown.append(scores[best, column])
                right.append(best == own)
        found, hits = np.concatenate(shown), np.concatenate(right)
        top = np.argsort(-found)[: len(found) // 10]
        said = calibration.probability(found[top], among=size).mean()
        plain = expit(calibration.slope * found[top] + calibration.intercept).mean()
        click.echo(f"| {size} | {said:.1%} | {hits[top].mean():.1%} | {plain:.1%} |")


def read_calibration(model: Path) -> Calibration:
    """The calibration of a model.

    Raises:
        HANError: It has none.
    """
    if (calibration := Calibration.read(model)) is None:
        raise HANError(f"{model}: not calibrated; han calibrate does it")
    return calibration


def dev_captions(dataset: Path, count: int, random: np.random.Generator) -> tuple[list[str], list[tuple[int, str]]]:
    """The ids of the dev photos, and captions drawn from theirs, at most so many, each with the place of its photo."""
    photos = read_dataset(dataset).split("dev").photos
    pairs = [(place, caption) for place, photo in enumerate(photos) for caption in photo.captions]
    return [photo.id for photo in photos], [pairs[i] for i in random.permutation(len(pairs))[:count]]


if __name__ == "__main__":
    run(main)
