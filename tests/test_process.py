"""The settings of the process, and that the environment's own come first."""

from __future__ import annotations

import os

import pytest

from han_retrieval.process import tune_process

NAMES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


@pytest.mark.parametrize("given", [{}, {"OMP_WAIT_POLICY": "active"}, {"GOMP_SPINCOUNT": "5"}])
def test_waiting_threads_sleep_soon_unless_the_environment_says_otherwise(given, monkeypatch):
    for name in NAMES:
        monkeypatch.setenv(name, given.get(name, ""))  # so that it is as before in the end
        if name not in given:
            monkeypatch.delenv(name)
    tune_process()
    found = {name: os.environ[name] for name in NAMES if name in os.environ}
    assert found == (given or {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "1000"})
