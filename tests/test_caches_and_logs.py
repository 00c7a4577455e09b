"""Caches and loggers: nothing is kept without a home folder; silence ends with the last thread that asked for it."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from han_retrieval.caches import cache_folder
from han_retrieval.logs import silenced
from han_retrieval.scoring.cpu.compiling import is_writable


def test_without_a_home_folder_nothing_is_kept(monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert not is_writable(cache_folder() / "kernels")


def test_a_logger_has_its_level_back_after_threads_that_silence_it_together():
    logger = logging.getLogger("test_caches")
    logger.setLevel(logging.INFO)
    both_in, first_out = threading.Barrier(2), threading.Event()

    def first():
        with silenced("test_caches"):
            both_in.wait(10)
        first_out.set()

    thread = threading.Thread(target=first)
    thread.start()
    with silenced("test_caches"):
        both_in.wait(10)
        first_out.wait(10)
        assert logger.level == logging.CRITICAL
    thread.join()
    assert logger.level == logging.INFO
