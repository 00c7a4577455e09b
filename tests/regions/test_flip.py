"""Detection on horizontally flipped photos: other features, the same boxes."""

from __future__ import annotations

import numpy as np
import pytest
from fake_detector import FakeDetector
from PIL import Image, ImageOps

from han_retrieval.regions import FlippedDetector, same_detector


@pytest.fixture
def photo() -> Image.Image:
    """A red thing, left of the middle, on noise."""
    pixels = np.random.default_rng(0).integers(64, 128, (20, 30, 3), dtype=np.uint8)
    pixels[4:9, 3:11] = (255, 0, 0)
    return Image.fromarray(pixels)


def test_the_flipped_photo_is_detected_and_boxes_are_the_photos_own(photo):
    mirrored, own = (detector.detect([photo])[0] for detector in (FlippedDetector(FakeDetector()), FakeDetector()))
    assert mirrored.boxes.tolist() == own.boxes.tolist() == [[3, 4, 11, 9]] * len(own.boxes)
    assert mirrored.boxes.dtype == np.float32
    assert (mirrored.width, mirrored.height) == (30, 20)
    seen = FakeDetector().detect([ImageOps.mirror(photo)])[0]
    assert np.array_equal(mirrored.features, seen.features)
    assert mirrored.labels == seen.labels
    assert seen.boxes.tolist() == [[19, 4, 27, 9]] * len(seen.boxes)


def test_it_is_the_same_detector_with_a_fingerprint_of_its_own():
    fingerprint = FlippedDetector(FakeDetector()).fingerprint
    assert fingerprint == "fake:1-mirrored"
    assert same_detector("fake:1", fingerprint)
    assert same_detector("fake:1", "fake:1")
    assert not same_detector("fake:2", fingerprint)
