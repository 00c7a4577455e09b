"""Splits from another file: a copy of a dataset that lost its splits, joined with the list that has them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from han_retrieval.data.dataset import CaptionedPhotos
from han_retrieval.data.read import read_dataset
from han_retrieval.errors import DataError

# COCO's files: the number, with zeros before it or after the name of a year's set.
_COCO = re.compile(r"(?:COCO_\w+?_)?0*(\d+)")


def with_splits_of(dataset: CaptionedPhotos, listed: str | Path) -> CaptionedPhotos:
    """The same photos in the splits of another dataset, such as Karpathy's JSON; joined by id.

    Two ids fit when their last parts are the same without the ending: "val2014/COCO_val2014_000000391895.jpg",
    "000000391895.jpg" and "391895" are one photo, and so are "1000092795.jpg" and "train-00000/1000092795".
    Photos that are not listed have no split.

    Args:
        dataset: The photos.
        listed: What ``read_dataset`` reads; its photos need not be there.

    Raises:
        DataError: It has no splits, none of the photos is listed, or an id fits two photos there, or here without
            being listed itself.
    """
    source = read_dataset(listed)
    splits: dict[str, str | None] = {}
    for photo in source.photos:
        if splits.setdefault(_key(photo.id), photo.split) != photo.split:
            raise DataError(f"{source.source}: two photos are called {_key(photo.id)!r}, in different splits")
    if not source.splits:
        raise DataError(f"{source.source}: has no splits")
    photos = tuple(replace(photo, split=splits.get(_key(photo.id))) for photo in dataset.photos)
    missing = [photo.id for photo in dataset.photos if _key(photo.id) not in splits]
    if len(missing) == len(photos):
        raise DataError(
            f"{dataset.source}: none of its photos is in {source.source}: ids such as {photos[0].id!r} there, and "
            f"{source.photos[0].id!r} in the list"
        )
    listed_ids = {photo.id for photo in source.photos}
    fitting: dict[str, str] = {}
    for photo in dataset.photos:
        key = _key(photo.id)
        if key in splits and photo.id not in listed_ids and (other := fitting.setdefault(key, photo.id)) != photo.id:
            raise DataError(
                f"{dataset.source}: {other!r} and {photo.id!r} both fit {key!r} of {source.source}: these ids do not "
                "tell which photo it is"
            )
    skipped = dataset.skipped.copy()
    if missing:
        skipped[f"photo in no split of {source.source}, such as {missing[0]}"] = len(missing)
    return replace(dataset, photos=photos, skipped=skipped)


def _key(photo_id: str) -> str:
    name = photo_id.rpartition("/")[2]
    stem, dot, ending = name.rpartition(".")
    stem = stem if dot and len(ending) <= 4 else name
    number = _COCO.fullmatch(stem)
    return number[1] if number else stem
