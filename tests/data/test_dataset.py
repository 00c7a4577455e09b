"""What holds of every dataset, whatever it was read from."""

from __future__ import annotations

from pathlib import Path

import pytest

from han_retrieval.data import CaptionedPhoto, CaptionedPhotos
from han_retrieval.errors import HANError


def dataset(count: int, *, split: str | None = None) -> CaptionedPhotos:
    photos = tuple(CaptionedPhoto(f"{i}.jpg", None, ("a photo",), split) for i in range(count))
    return CaptionedPhotos("made-up", Path("made-up"), photos)


def test_a_dataset_without_splits_is_divided_by_id_alone():
    small, large = dataset(500).divided(), dataset(2000).divided()
    assert 0.07 < large.splits["dev"] / 2000 < 0.13
    assert [photo.split for photo in small.photos] == [photo.split for photo in large.photos[:500]]
    assert {photo.id for photo in large.photos} == {photo.id for photo in dataset(2000).photos}


def test_an_id_that_is_no_text_is_divided_too():
    photo = CaptionedPhoto("\ud800.jpg", None, ())  # as JSON may have it
    assert len(CaptionedPhotos("made-up", Path("made-up"), (photo,)).divided()) == 1


def test_ids_are_unique():
    photo = CaptionedPhoto("a.jpg", None, ())
    with pytest.raises(HANError, match=r"'a\.jpg' occurs 2 times"):
        CaptionedPhotos("made-up", Path("made-up"), (photo, photo))


def test_a_missing_split_names_those_there_are():
    with pytest.raises(HANError, match=r"no photo is in split 'val'; splits there: train \(3\)"):
        dataset(3, split="train").split("val")
