from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from han_retrieval.errors import HANError
from research.scenes import compose, render
from research.scenes.detector import SceneDetector

SIZES = [(1, 1), (2, 900), (900, 2), (40, 40), (256, 192)]


def overlap(a: tuple[int, int, int, int], boxes: np.ndarray) -> float:
    """The greatest intersection over union."""
    across = np.minimum(a[2], boxes[:, 2]) - np.maximum(a[0], boxes[:, 0])
    down = np.minimum(a[3], boxes[:, 3]) - np.maximum(a[1], boxes[:, 1])
    both = np.clip(across, 0, None) * np.clip(down, 0, None)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return float((both / ((a[2] - a[0]) * (a[3] - a[1]) + areas - both)).max())


@pytest.mark.parametrize("size", SIZES)
def test_any_photo_has_regions_within_it(size: tuple[int, int]) -> None:
    detector = SceneDetector()
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    for photo in (Image.fromarray(noise), Image.new("RGB", size, (9, 120, 30))):
        (regions,) = detector.detect([photo])
        assert regions.boxes is not None
        assert regions.features.shape == (len(regions.boxes), detector.feature_size)
        assert regions.features.dtype == np.float16
        assert regions.boxes.dtype == np.float32
        assert np.isfinite(regions.features).all()
        assert (regions.width, regions.height) == size
        assert 5 <= len(regions.boxes) <= detector.regions
        assert (regions.boxes >= 0).all()
        assert (regions.boxes <= np.array(size * 2)).all()
        assert (regions.boxes[:, 2:] > regions.boxes[:, :2]).all()


def test_a_photo_s_regions_do_not_depend_on_its_batch() -> None:
    photos = [render(compose(rng), rng) for rng in map(np.random.default_rng, range(3))]
    detector = SceneDetector()
    together = detector.detect(photos)
    for photo, regions in zip(photos, together, strict=True):
        (alone,) = detector.detect([photo])
        assert np.array_equal(alone.features, regions.features)
        assert np.array_equal(alone.boxes, regions.boxes)


def test_it_finds_most_things() -> None:
    detector, hits = SceneDetector(), []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        scene = compose(rng)
        (regions,) = detector.detect([render(scene, rng)])
        hits += [overlap(box, regions.boxes) > 0.5 for thing in scene.things for box in thing.seen]
    assert np.mean(hits) > 0.75


def test_the_fingerprint_tells_detectors_apart() -> None:
    assert SceneDetector(regions=14).fingerprint == SceneDetector().fingerprint
    assert SceneDetector(regions=9).fingerprint != SceneDetector().fingerprint
    with pytest.raises(HANError, match="5"):
        SceneDetector(regions=4)
