"""The example of a loop of one's own runs, and its loss is the one that it says to expect."""

from __future__ import annotations

import runpy
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_the_example_learns():
    losses, found = runpy.run_path(str(EXAMPLES / "own_loop.py"))["main"]()
    assert 0.8 < losses[0] < 1.3
    assert losses[-1] < 0.1
    assert found > 0.9


def test_it_is_read_in_one_go():
    assert len((EXAMPLES / "own_loop.py").read_text(encoding="utf-8").splitlines()) <= 60
