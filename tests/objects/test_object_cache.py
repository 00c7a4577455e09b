"""Copies of objects on this machine: of the state that was asked for, and no more bytes than may be."""

from __future__ import annotations

import pytest
import torch
from training_data import make_data

from han_retrieval.errors import ConfigError
from han_retrieval.objects import cache, to_path
from han_retrieval.regions import RegionRow, RegionStore


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


def rows_of(store: RegionStore) -> list[RegionRow]:
    return [RegionRow(name, None, regions) for name, regions in zip(store.ids, store.read(store.ids), strict=True)]


def test_a_copy_of_a_store_is_read_without_the_storage(url, tmp_path, monkeypatch):
    _, here = make_data(tmp_path)
    with RegionStore.create(url, fingerprint=here.fingerprint, feature_size=12) as store:
        store.append(rows_of(here))
    with RegionStore.open(url, copy=True) as copied:
        assert copied._table.path.is_relative_to(cache.folder())
        assert copied.path == to_path(url)
        with monkeypatch.context() as offline:
            offline.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
            assert torch.equal(copied.batch(here.ids).features, here.batch(here.ids).features)
        copied.append([RegionRow("one more", None, here.read(here.ids[:1])[0])])
    assert len(RegionStore.open(url)) == len(RegionStore.open(url, copy=True)) == len(here) + 1


def test_copies_of_stores_take_no_more_room_than_they_may(url, tmp_path, monkeypatch):
    _, here = make_data(tmp_path)
    for name in "abc":
        with RegionStore.create(f"{url}/{name}", fingerprint="made-up", feature_size=12) as store:
            store.append(rows_of(here))
    first = RegionStore.open(f"{url}/a", copy=True)
    size = kept()
    monkeypatch.setenv(cache.SETTING, str(2.5 * size / 1e9))
    RegionStore.open(f"{url}/b", copy=True)._copy[1].close()  # is not read any more
    assert kept() > 1.9 * size
    last = RegionStore.open(f"{url}/c", copy=True)
    assert kept() < 2.5 * size
    assert last.read(last.ids)[0].features.tobytes() == first.read(first.ids)[0].features.tobytes()
    with pytest.warns(UserWarning, match="leaves no room"):
        assert len(RegionStore.open(f"{url}/b", copy=True)) == len(here)
