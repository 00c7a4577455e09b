"""Splits for datasets that have none, the same in every verb."""

from __future__ import annotations

import click

from han_retrieval.data import CaptionedPhotos


def with_splits(dataset: CaptionedPhotos) -> CaptionedPhotos:
    """The dataset, divided into train and dev where it knows no splits, and a note of that on standard error."""
    if dataset.splits:
        return dataset
    divided = dataset.divided()
    sizes = ", ".join(f"{name} ({count})" for name, count in divided.splits.items())
    click.echo(f"note: {dataset.source} has no splits; by a hash of the photos' ids they become {sizes}", err=True)
    return divided
