"""Splits for datasets that have none, the same in every verb."""

from __future__ import annotations

from pathlib import Path

import click

from han_retrieval.data import CaptionedPhotos, with_splits_of


def with_splits(dataset: CaptionedPhotos, listed: Path | None = None, *, note: bool = True) -> CaptionedPhotos:
    """The dataset in the splits of the list, or divided into train and dev where it knows none; the latter is noted on
    standard error, unless ``note`` is false.
    """
    if listed is not None:
        return with_splits_of(dataset, listed)
    if dataset.splits:
        return dataset
    divided = dataset.divided()
    sizes = ", ".join(f"{name} ({count})" for name, count in divided.splits.items())
    if note:
        click.echo(f"note: {dataset.source} has no splits; by a hash of the photos' ids they become {sizes}", err=True)
    return divided
