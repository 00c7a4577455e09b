"""A region store in object storage is the one that a folder would hold."""

from __future__ import annotations

import numpy as np
import pytest
from fake_detector import FakeDetector, make_photos, set_small_commits
from object_server import copy_folder

from han_retrieval.data import read_dataset
from han_retrieval.errors import StoreError
from han_retrieval.objects import to_path
from han_retrieval.regions import RegionStore, extract
from han_retrieval.regions.damage import check_store, repair_store, unchecked_store
from han_retrieval.regions.store import SKIPPED_NAME
from han_retrieval.storage import table as table_module
from han_retrieval.storage.versions import versions

PHOTOS = 14


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return make_photos(tmp_path_factory.mktemp("photos"), PHOTOS)


@pytest.fixture
def small_commits(monkeypatch):
    for name in ("SMALL_FILES", "ROWS_A_FILE"):
        monkeypatch.setattr(table_module, name, getattr(table_module, name))
    monkeypatch.setattr("han_retrieval.regions.extraction._ROWS_A_COMMIT", 4)
    set_small_commits()


def same(left: RegionStore, right: RegionStore) -> bool:
    assert left.ids == right.ids
    assert [photo[2:] for photo in left.photos()] == [photo[2:] for photo in right.photos()]
    for one, other in zip(left.read(left.ids), right.read(right.ids), strict=True):
        assert np.array_equal(one.features, other.features)
        assert np.array_equal(one.boxes, other.boxes)
        assert one.labels == other.labels
    return True


def test_the_same_rows_as_in_a_folder_after_many_commits_and_a_merge(url, photos, tmp_path, small_commits):
    extract(photos, FakeDetector(), tmp_path / "features", batch_size=2)
    report = extract(photos, FakeDetector(), url, batch_size=2)
    assert (report.done, report.already_there) == (PHOTOS, 0)
    there, here = RegionStore.open(url), RegionStore.open(tmp_path / "features")
    assert same(there, here)
    assert there.describe().regions_mean == here.describe().regions_mean
    assert there.path == to_path(url)
    assert len(there._table.dataset.get_fragments()) < 4
    again = extract(photos, FakeDetector(), url)
    assert (again.done, again.already_there) == (0, PHOTOS)
    assert check_store(url) == []
    assert unchecked_store(url) is None
    assert repair_store(url) == []


def test_photos_are_read_from_there_and_those_that_cannot_be_are_listed(url, photos, tmp_path):
    folder = photos.source
    copy_folder(folder, f"{url}/photos")
    for name, content in (("zz broken.png", b"broken"), ("zz empty.jpg", b""), (".hidden.png", b"x"), ("a.txt", b"x")):
        (to_path(url) / "photos" / name).write_bytes(content)
    found = read_dataset(f"{url}/photos")
    assert len(found) == PHOTOS + 2
    detector = FakeDetector()
    report = extract(found, detector, f"{url}/features")
    assert report.skipped == [
        (f"{url}/photos/zz broken.png", "not an image that can be read"),
        (f"{url}/photos/zz empty.jpg", "the file is empty"),
    ]
    assert (to_path(url) / "features" / SKIPPED_NAME).read_bytes().count(b"\n") == 2
    extract(read_dataset(folder), FakeDetector(), tmp_path / "features")
    store = RegionStore.open(f"{url}/features")
    assert same(store, RegionStore.open(tmp_path / "features"))
    assert store.photos()[0].path == to_path(f"{url}/photos") / store.ids[0]
    one = read_dataset(f"{url}/photos/photo 0.png")
    assert [photo.id for photo in one.photos] == ["photo 0.png"]


def test_a_reader_goes_on_while_a_writer_commits_merges_and_cleans(url, photos, small_commits, monkeypatch):
    extract(_first(photos, 3), FakeDetector(), url)
    reader = RegionStore.open(url)
    before = [regions.features.tobytes() for regions in reader.read(reader.ids)]
    extract(photos, FakeDetector(), url, batch_size=2)
    assert len(versions(to_path(url))) > 1  # old ones are kept
    assert [regions.features.tobytes() for regions in reader.read(reader.ids)] == before
    monkeypatch.setattr(table_module, "KEPT", table_module.timedelta(0))
    with RegionStore.resume(url, fingerprint="fake:1", feature_size=12) as store:
        store.compact()
    assert len(versions(to_path(url))) == 1
    assert [regions.features.tobytes() for regions in reader.read(reader.ids)] == before
    assert len(RegionStore.open(url)) == PHOTOS


def _first(photos, count: int):
    return type(photos)(photos.format, photos.source, photos.photos[:count])


def test_features_of_another_detector_and_places_of_other_things_are_refused(url, photos):
    extract(_first(photos, 2), FakeDetector(), f"{url}/features")
    with pytest.raises(StoreError, match="its features were made by 'fake:1'"):
        extract(photos, FakeDetector("fake:2"), f"{url}/features")
    (to_path(url) / "other" / "file.txt").write_bytes(b"x")
    with pytest.raises(StoreError, match=r"holds other things, such as file\.txt"):
        extract(photos, FakeDetector(), f"{url}/other")
    with pytest.raises(StoreError, match="is a region store already"):
        RegionStore.create(f"{url}/features", fingerprint="fake:1", feature_size=12)
    with pytest.raises(StoreError, match="no such region store"):
        RegionStore.open(f"{url}/nothing")
    with pytest.raises(StoreError, match="not a region store"):
        RegionStore.open(f"{url}/other")


def test_damaged_rows_leave_by_a_repair_and_are_detected_again(url, photos):
    extract(photos, FakeDetector(), url)
    store = RegionStore.open(url)
    before = [regions.features.tobytes() for regions in store.read(store.ids)]
    (file,) = (to_path(url) / "data").iterdir()
    content = bytearray(file.read_bytes())
    content[60:90] = bytes(30)
    file.write_bytes(bytes(content))
    (damage,) = check_store(url)
    assert "are not as they were written" in damage.what
    assert repair_store(url)
    assert check_store(url) == []
    assert extract(photos, FakeDetector(), url).done > 0
    store = RegionStore.open(url)
    assert {regions.features.tobytes() for regions in store.read(store.ids)} == set(before)
