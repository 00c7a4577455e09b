"""The settings of the process, and that the environment's own come first."""

from __future__ import annotations

import os
import signal

import pytest

from han_retrieval.process import interrupts_wait, tune_process

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


def test_an_interrupt_waits_for_the_end_of_a_block():
    before, done = signal.signal(signal.SIGINT, signal.default_int_handler), []
    try:
        with pytest.raises(KeyboardInterrupt), interrupts_wait():
            done = [signal.raise_signal(signal.SIGINT), "the rest"]
        assert done[1:] == ["the rest"]
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
