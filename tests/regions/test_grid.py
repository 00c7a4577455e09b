"""The grid detector: fixed boxes, features that depend on the photo alone, known weights only."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from han_retrieval.errors import ConfigError, HANError, ModelError
from han_retrieval.regions import detector_for, load_detector
from han_retrieval.regions.backbones import efficientnet
from han_retrieval.regions.grid import GridDetector, pyramid


@pytest.fixture(scope="module")
def detector() -> GridDetector:
    return GridDetector()


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def test_pyramid_is_36_different_boxes_that_cover_the_photo():
    boxes = pyramid(36)
    assert boxes.shape == (36, 4)
    assert len(np.unique(boxes.round(4), axis=0)) == 36
    assert boxes[0].tolist() == [0, 0, 1, 1]
    assert (boxes[:, :2] < boxes[:, 2:]).all()
    assert boxes.min() >= 0
    assert boxes.max() <= 1 + 1e-6
    for windows in (boxes[2:11], boxes[11:]):  # each grid covers every place
        places = np.random.default_rng(0).random((500, 1, 2))
        assert ((windows[:, :2] <= places) & (places <= windows[:, 2:] + 1e-6)).all(2).any(1).all()


def test_regions_of_photos_of_any_shape(detector):
    photos = [noise(320, 240), noise(240, 320), noise(7, 5), noise(3000, 40)]
    for photo, regions in zip(photos, detector.detect(photos), strict=True):
        assert regions.features.shape == (36, detector.feature_size)
        assert regions.features.dtype == np.float16
        assert np.isfinite(regions.features).all()
        assert (regions.width, regions.height) == photo.size
        assert regions.boxes[0].tolist() == [0, 0, photo.width, photo.height]
        assert (regions.boxes[:, 2:] <= np.array(photo.size) + 1e-3).all()


def test_features_do_not_depend_on_batch_mates(detector):
    photos = [noise(320, 240, seed) for seed in range(3)]
    together = detector.detect(photos)
    alone = detector.detect(photos[1:2])[0]
    assert np.allclose(together[1].features, alone.features, atol=2e-3)
    assert not np.allclose(together[0].features, alone.features, atol=0.1)


def test_a_batch_mate_of_the_same_large_shape_and_another_small_one_changes_nothing(detector):
    photos = [noise(500, 200), noise(500, 207)]
    together = detector.detect(photos)
    for photo, found in zip(photos, together, strict=True):
        assert np.allclose(found.features, detector.detect([photo])[0].features, atol=2e-3)


def test_features_are_of_their_boxes(detector):
    photo = noise(448, 448)
    changed = photo.copy()
    changed.paste((255, 0, 0), (0, 0, 90, 90))  # the upper left corner
    before, after = (regions.features.astype(float) for regions in detector.detect([photo, changed]))
    change = np.abs(after - before).mean(1)
    assert change[11] > 3 * change[35]  # the third-size windows at the corner and opposite


def test_fewer_regions_are_the_first_of_more(detector):
    few = GridDetector(regions=5)
    photo = noise(300, 200)
    assert np.array_equal(few.detect([photo])[0].boxes, detector.detect([photo])[0].boxes[:5])
    assert few.fingerprint != detector.fingerprint
    with pytest.raises(HANError, match="not --regions 37"):
        GridDetector(regions=37)


def test_detectors_by_name_and_by_fingerprint(detector):
    assert detector_for(detector.fingerprint).fingerprint == detector.fingerprint
    for fingerprint in ("imported:scan-npy:2048", "grid", "", "magic-1-36"):
        with pytest.raises(ModelError, match="cannot run on a photo here"):
            detector_for(fingerprint)
    with pytest.raises(ModelError, match=f"'grid-0-36-other', and 'grid' gives '{detector.fingerprint[:20]}"):
        detector_for("grid-0-36-other")
    with pytest.raises(ModelError, match="'grid-1-99-other': the grid detector gives 1 to 36 regions"):
        detector_for("grid-1-99-other")
    with pytest.raises(ModelError, match="and 'bottom-up' gives others"):
        detector_for(detector.fingerprint, name="bottom-up")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gird", "no detector is called 'gird'; did you mean 'grid'. .*bottom-up, boxes, grid, .*torchvision"),
        ("", "no detector is called ''"),
        ("grid:36", "the grid detector takes no argument"),
        ("torchvision", "name one, such as --detector torchvision:fasterrcnn_resnet50_fpn"),
        ("torchvision:", "name one, such as"),
    ],
)
def test_a_name_that_is_none_says_what_there_is(name, message):
    with pytest.raises(ConfigError, match=message):
        load_detector(name, regions=36)


def test_bfloat16_changes_features_little_and_no_fingerprint(monkeypatch):
    photos, found, names = [noise(320, 240, seed) for seed in range(2)], [], set()
    for is_rounded in (False, True):
        monkeypatch.setattr(efficientnet, "prefers_bfloat16", lambda is_rounded=is_rounded: is_rounded)
        detector = GridDetector(regions=5)
        found.append(detector.detect(photos))
        names.add(detector.fingerprint)
    for one, other in zip(*found, strict=True):
        a, b = (each.features.astype(np.float32) for each in (one, other))
        assert not np.array_equal(a, b)
        assert ((a * b).sum(1) > 0.99 * np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)).all()
    assert len(names) == 1
