"""The detector that comes with the package."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_detector import noise

from han_retrieval.regions import detector_for, load_detector
from han_retrieval.regions.bottom_up.detector import SHIPPED


@pytest.fixture(scope="module")
def detector():
    return load_detector("bottom-up", regions=12)


def test_it_is_found_again_by_its_fingerprint(detector):
    assert detector.fingerprint.startswith("bottom-up-1-12-")
    assert detector_for(detector.fingerprint).fingerprint == detector.fingerprint


def test_it_gives_regions_with_names(detector):
    found = detector.detect([noise(160, 120), noise(90, 160)])
    for regions in found:
        assert 1 <= len(regions.features) <= 12
        assert regions.features.shape[1] == detector.feature_size
        assert np.isfinite(regions.features).all()
        assert regions.labels[0] == "photo"
    assert {"dog", "man", "ball"} < set(detector.network.config.names.nouns)


def test_it_is_small_and_has_its_card():
    assert sum(file.stat().st_size for file in SHIPPED.iterdir()) < 40e6
    card = (SHIPPED / "README.md").read_text(encoding="utf-8")
    assert "non-commercial research" in card
    assert "## Limits" in card
