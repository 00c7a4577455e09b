"""A region store of which a file was damaged gives the same features, or says what is damaged."""

from __future__ import annotations

from pathlib import Path

import pytest
from damaged_tables import wrong_uses
from fake_detector import FakeDetector, make_photos

from han_retrieval.regions import RegionStore, extract
from han_retrieval.storage.table import Table

PHOTOS = 9


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return make_photos(tmp_path_factory.mktemp("photos"), PHOTOS)


@pytest.fixture(scope="module")
def folder(photos, tmp_path_factory):
    """A store with two data files."""
    folder = tmp_path_factory.mktemp("store") / "features"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Table, "compact", lambda table: None)
        extract(photos.only([photo.id for photo in photos.photos[:5]]), FakeDetector(), folder)
        extract(photos, FakeDetector(), folder)
    return folder


def read(path: Path) -> tuple:
    store = RegionStore.open(path)
    batch = store.batch(store.ids)
    regions = store.read(store.ids)
    return (
        store.ids,
        store.photos(),
        batch.features.numpy().tobytes(),
        [boxes.tobytes() for boxes in batch.boxes],
        [(each.features.tobytes(), each.boxes.tobytes(), each.labels, each.scores.tobytes()) for each in regions],
        [(each.width, each.height) for each in regions],
        store.describe().regions_mean,
        store.fingerprint,
    )


@pytest.mark.parametrize("extended", [False, True])
def test_damage_of_some_files_is_never_used(folder, photos, tmp_path, extended):
    check(folder, photos, tmp_path, extended, count=2, step=7)


@pytest.mark.slow
@pytest.mark.parametrize("extended", [False, True])
def test_damage_of_each_file_is_never_used(folder, photos, tmp_path, extended):
    check(folder, photos, tmp_path, extended, count=8)


def check(folder, photos, scratch, extended, **options) -> None:
    def use(path: Path) -> tuple:
        if extended:
            extract(photos, FakeDetector(), path)
        return read(path)

    tried, refused, wrong = wrong_uses(folder, use, scratch, **options)
    assert not wrong
    assert tried > 8
    assert refused
