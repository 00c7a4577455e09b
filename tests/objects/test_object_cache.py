"""Copies of objects on this machine: of the state that was asked for, and no more bytes than may be."""

from __future__ import annotations

import pytest

from han_retrieval.errors import ConfigError
from han_retrieval.objects import cache, to_path


def kept() -> int:
    return sum(file.stat().st_size for file in cache.folder().rglob("*") if file.is_file())


def test_a_copy_is_made_once_and_anew_after_a_change(url):
    path = to_path(url) / "a.png"
    path.write_bytes(b"one")
    first = cache.local_copy(path)
    assert first.read_bytes() == b"one"
    assert cache.local_copy(path) == first
    path.write_bytes(b"two")
    assert cache.local_copy(path).read_bytes() == b"two"
    assert kept() == 6


def test_the_oldest_copies_leave_where_there_is_no_room(url, monkeypatch):
    monkeypatch.setenv(cache.SETTING, "0.00001")  # 10,000 bytes
    for i in range(40):
        path = to_path(url) / f"{i:02}.png"
        path.write_bytes(bytes([i]) * 1000)
        copy = cache.local_copy(path)
        assert copy.read_bytes() == bytes([i]) * 1000
        assert kept() <= 10_000


@pytest.mark.parametrize("size", ["0", "0.000001"])
def test_what_there_is_no_room_for_is_not_kept(size, url, monkeypatch):
    monkeypatch.setenv(cache.SETTING, size)
    path = to_path(url) / "a.png"
    path.write_bytes(b"x" * 1000)
    assert cache.local_copy(path) == b"x" * 1000
    assert kept() == 0


@pytest.mark.parametrize("size", ["many", "-1", "nan"])
def test_a_size_that_is_none_is_refused(size, monkeypatch):
    monkeypatch.setenv(cache.SETTING, size)
    with pytest.raises(ConfigError, match="in gigabytes"):
        cache.most_bytes()
