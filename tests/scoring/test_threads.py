"""Threads that score."""

from __future__ import annotations

import multiprocessing

import pytest
import torch

from han_retrieval.scoring.cpu.threads import share


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
def test_a_forked_child_has_threads_of_its_own():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert share(list, [[1, 2], [3]]) == [[1, 2, 3]]
        child = multiprocessing.get_context("fork").Process(target=share, args=(list, [[1, 2], [3]]))
        child.start()
        child.join(30)
        is_over = not child.is_alive()
        child.kill()
        assert is_over
        assert child.exitcode == 0
    finally:
        torch.set_num_threads(before)
