"""Data and a run that the tests of trainings share."""

from __future__ import annotations

from pathlib import Path

import pytest
from training_data import EVERY_STEP, make_data, small_config

from han_retrieval.training import train


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def unbroken(data, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("unbroken") / "model"
    train(small_config(checkpoint_minutes=EVERY_STEP), *data, out, progress=False)
    return out
