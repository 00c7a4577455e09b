"""Damage is found by a full check."""

from __future__ import annotations

from pathlib import Path

from han_retrieval.storage.damage import Damage


def test_damage_is_one_line():
    assert str(Damage(Path("a", "b"), "is cut off", "make it anew")) == f"{Path('a', 'b')}: is cut off; make it anew"
