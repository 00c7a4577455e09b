"""A model and photos that tests of updates share; other files have their own of these names."""

from __future__ import annotations

import pytest
from tiny_index import make_model, make_photos


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("model") / "model")


@pytest.fixture
def photos(tmp_path):
    return make_photos(tmp_path / "photos", 6)
