"""Large photos are decoded at the scale that the detector needs; what is stored of them is in their own pixels."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from tiny_index import FakeDetector, make_model, make_photo

from han_retrieval.data import read_dataset
from han_retrieval.regions import RegionStore, extract
from han_retrieval.regions.detector import size_needed
from han_retrieval.regions.flip import FlippedDetector
from han_retrieval.search import Index, index_photos
from han_retrieval.search.maker import LazyDetector


class Small(FakeDetector):
    """Looks at 40 x 30 pixels at most; remembers the sizes that it was given."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def size_needed(self, width, height):
        return min(width, 40), min(height, 30)

    def detect(self, photos):
        self.sizes += [photo.size for photo in photos]
        return super().detect(photos)


@pytest.fixture
def photos(tmp_path):
    make_photo(tmp_path / "photos" / "small.png", 0)
    for number, name in enumerate(("large.jpg", "large.png"), start=1):
        with Image.open(make_photo(tmp_path / f"{number}.png", number)) as photo:
            photo.resize((800, 600)).save(tmp_path / "photos" / name)
    return tmp_path / "photos"


@pytest.mark.parametrize("lazy", [False, True])
def test_an_index_has_the_photos_own_sizes(photos, tmp_path, lazy):
    detector = Small()
    given = LazyDetector(detector.fingerprint, detector.feature_size, lambda: detector) if lazy else detector
    index_photos([photos], tmp_path / "index", model=make_model(tmp_path / "model"), detector=given)
    assert sorted(detector.sizes)[-1] < (200, 150)
    with Index.open(tmp_path / "index") as index:
        rows = {row["path"]: row for row in index.photos.select(["path", "width", "height"]).to_pylist()}
    assert {(rows[name]["width"], rows[name]["height"]) for name in ("large.jpg", "large.png")} == {(800, 600)}


def test_boxes_are_scaled_to_the_photos_own_sizes(photos, tmp_path):
    plain, small = FakeDetector(), Small()
    for name, detector in (("plain", plain), ("small", small), ("flipped", FlippedDetector(small))):
        extract(read_dataset(photos), detector, tmp_path / name)
    stores = {name: RegionStore.open(tmp_path / name) for name in ("plain", "small", "flipped")}
    for name, given in (("large.jpg", (100, 75)), ("large.png", (62, 47))):
        assert given in small.sizes
        regions, flipped = (next(iter(stores[each].read([name]))) for each in ("small", "flipped"))
        assert (regions.width, regions.height) == (flipped.width, flipped.height) == (800, 600)
        assert np.allclose(regions.boxes[0], [0, 0, 800 / given[0], 8 * 600 / given[1]], rtol=1e-3)
        assert np.allclose(flipped.boxes[0, 2], 800)
    plain, small = (next(iter(stores[each].read(["small.png"]))) for each in ("plain", "small"))
    assert np.array_equal(plain.boxes, small.boxes)
    assert np.array_equal(plain.features, small.features)


def test_a_detector_that_does_not_say_gets_all_pixels(photos, tmp_path):
    assert size_needed(FakeDetector()) is None
    lazy = LazyDetector("fake:1", 12, FakeDetector)
    assert size_needed(lazy)(800, 600) == (800, 600)
