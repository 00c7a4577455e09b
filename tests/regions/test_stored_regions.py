"""Regions that were extracted before take the place of the detector, and make the same index."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from tiny_index import FakeDetector, make_model, make_photo, make_photos, update

from han_retrieval.data import read_dataset
from han_retrieval.errors import HANError
from han_retrieval.regions import RegionStore, extract
from han_retrieval.regions.stored import StoredRegions
from han_retrieval.search import Index


@pytest.fixture
def photos(tmp_path):
    make_model(tmp_path / "model")
    make_photos(tmp_path / "photos", 4)
    return make_photos(tmp_path / "photos" / "more", 3, first=10).parent


def stored_tokens(out) -> dict[str, np.ndarray]:
    with Index.open(out) as index:
        tokens, mask = index.tokens(range(len(index)))
        return {name: tokens[row][mask[row]].numpy() for row, name in enumerate(index.photos["path"].to_pylist())}


def test_an_index_of_stored_regions_is_that_of_the_detector(photos, tmp_path):
    extract(read_dataset(photos), FakeDetector(), tmp_path / "store")
    make_photos(photos, 2, first=20)  # which are new
    make_photo(photos / "more" / "000.png", 30)  # one that is called as another one of another folder
    make_photo(photos / "001.png", 40)
    (photos / "002.png").unlink()
    detector = FakeDetector()
    found = StoredRegions(RegionStore.open(tmp_path / "store"), photos, detector)
    report = update(photos, tmp_path / "index", tmp_path / "model", detector=found)
    assert (report.added, found.taken, detector.seen) == (9, 6, 3)
    update(photos, tmp_path / "plain", tmp_path / "model")
    plain, stored = stored_tokens(tmp_path / "plain"), stored_tokens(tmp_path / "index")
    assert plain.keys() == stored.keys()
    changed = "001.png"  # of the same size as before, so that nothing shows that it is another photo
    assert all(np.array_equal(plain[name], stored[name]) for name in plain.keys() - {changed})


def test_a_photo_of_another_size_is_detected_anew(photos, tmp_path):
    extract(read_dataset(photos), FakeDetector(), tmp_path / "store")
    Image.open(photos / "001.png").resize((30, 20)).save(photos / "001.png")
    detector = FakeDetector()
    found = StoredRegions(RegionStore.open(tmp_path / "store"), photos, detector)
    update(photos, tmp_path / "index", tmp_path / "model", detector=found)
    assert (found.taken, detector.seen) == (6, 1)


def test_paths_count_from_the_folder_that_was_extracted(photos, tmp_path):
    extract(read_dataset(photos), FakeDetector(), tmp_path / "store")
    detector = FakeDetector()
    found = StoredRegions(RegionStore.open(tmp_path / "store"), photos / "more", detector)
    update(photos / "more", tmp_path / "index", tmp_path / "model", detector=found)
    assert (found.taken, detector.seen) == (0, 3)


def test_features_of_another_detector_are_refused(photos, tmp_path):
    extract(read_dataset(photos), FakeDetector("other:1"), tmp_path / "store")
    found = StoredRegions(RegionStore.open(tmp_path / "store"), photos, FakeDetector("other:1"))
    with pytest.raises(HANError, match="other:1"):
        update(photos, tmp_path / "index", tmp_path / "model", detector=found)
