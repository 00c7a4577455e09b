"""One writer at a time in object storage, and a second one that is told so."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
from fake_detector import FakeDetector, make_photos

from han_retrieval.data import open_photo
from han_retrieval.errors import StoreError
from han_retrieval.objects import to_path
from han_retrieval.regions import RegionRow, RegionStore
from han_retrieval.storage import lease as lease_module
from han_retrieval.storage import table as table_module
from han_retrieval.storage.lease import Lease
from han_retrieval.storage.locks import LOCK_NAME, WriterLock

LAPSED = 1.6  # seconds, of which the storage counts whole ones
HOLD = """
import sys, time
from han_retrieval.objects import to_path
from han_retrieval.storage.locks import WriterLock
lock = WriterLock(to_path(sys.argv[1]))
print("held", flush=True)
time.sleep(60 if len(sys.argv) == 2 else 0)
"""


def holder(url: str, *arguments: str) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, url, *arguments], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


def rows(photos, first: int, end: int) -> list[RegionRow]:
    images = [(photo, open_photo(photo.path)) for photo in photos.photos[first:end]]
    return [RegionRow(photo.id, photo.path, *FakeDetector().detect([image])) for photo, image in images]


def test_a_second_writer_is_told_who_writes_until_the_first_ends(url):
    folder = to_path(url)
    with WriterLock(folder), pytest.raises(StoreError, match=f"process {os.getpid()} on .* is writing to it"):
        WriterLock(folder)
    assert not (folder / LOCK_NAME).exists()
    WriterLock(folder).close()


def test_a_writer_in_another_process_keeps_others_out_until_it_is_killed(url):
    process = holder(url)
    with pytest.raises(StoreError, match=f"process {process.pid} on .* is writing to it"):
        WriterLock(to_path(url))
    process.kill()
    process.wait()
    WriterLock(to_path(url)).close()  # at once, since it is known here that the process is gone


def test_a_process_that_ends_without_closing_gives_the_right_back(url):
    assert holder(url, "and end").wait(60) == 0
    assert not (to_path(url) / LOCK_NAME).exists()


@pytest.fixture
def short(monkeypatch):
    """A right that lapses within a second, and whose writer is suspended."""
    monkeypatch.setattr(lease_module, "SECONDS", 0.5)
    monkeypatch.setattr(lease_module, "_RENEWED", 1000.0)


def test_a_writer_elsewhere_that_is_not_heard_of_is_replaced(url, short, monkeypatch):
    folder = to_path(url)
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(lease_module, "_this_process", lambda: {"host": "far", "process": 7, "system": "other"})
        old = WriterLock(folder)
    with monkeypatch.context() as long:
        long.setattr(lease_module, "SECONDS", 60.0)
        with pytest.raises(StoreError, match="process 7 on far is writing to it"):
            WriterLock(folder)
    time.sleep(LAPSED)
    new = WriterLock(folder)
    old.close()  # which takes nothing from the new one
    assert (folder / LOCK_NAME).exists()
    new.close()
    assert not (folder / LOCK_NAME).exists()


def test_a_writer_that_is_heard_of_keeps_the_right(url, monkeypatch):
    monkeypatch.setattr(lease_module, "SECONDS", 3.0)
    monkeypatch.setattr(lease_module, "_RENEWED", 0.3)
    monkeypatch.setattr(lease_module, "_system", lambda: None)
    with WriterLock(to_path(url)):
        time.sleep(4.5)
        with pytest.raises(StoreError, match="is writing to it"):
            WriterLock(to_path(url))


def test_a_suspended_writer_goes_on_where_nobody_took_over(url, short, tmp_path):
    photos = make_photos(tmp_path / "photos", 4)
    with RegionStore.create(url, fingerprint="fake:1", feature_size=12) as store:
        store.append(rows(photos, 0, 2))
        time.sleep(LAPSED)
        store.append(rows(photos, 2, 4))
    assert len(RegionStore.open(url)) == 4


def test_a_suspended_writer_commits_nothing_after_another_took_over(url, short, tmp_path):
    photos = make_photos(tmp_path / "photos", 6)
    store = RegionStore.create(url, fingerprint="fake:1", feature_size=12)
    store.append(rows(photos, 0, 2))
    time.sleep(LAPSED)
    with RegionStore.resume(url, fingerprint="fake:1", feature_size=12) as other:
        other.append(rows(photos, 2, 4))
        lease_module._held[url] = store._lock._held  # as in a process of its own
        with pytest.raises(StoreError, match="another process writes to it by now"):
            store.append(rows(photos, 2, 6))
        store.close()
    found = RegionStore.open(url)
    assert found.ids == [photo.id for photo in photos.photos[:4]]
    assert found._table.dataset.count_rows() == 4


def test_a_commit_that_comes_behind_another_writer_s_is_taken_back(url, tmp_path, monkeypatch):
    """Both writers are sure of their right, as where one was suspended in the moment before its commit."""
    photos = make_photos(tmp_path / "photos", 6)
    first = RegionStore.create(url, fingerprint="fake:1", feature_size=12)
    first.append(rows(photos, 0, 2))
    first.close()
    monkeypatch.setattr(table_module, "require_lease", lambda _: None)
    late, soon = RegionStore.open(url), RegionStore.open(url)
    late.lock()
    monkeypatch.setattr(late._table, "catch_up", lambda: None)
    late.close()
    soon.lock()
    soon.append(rows(photos, 2, 4))
    late.lock = lambda: None
    with pytest.raises(StoreError, match="another process writes to it"):
        late.append(rows(photos, 2, 5))
    soon.append(rows(photos, 4, 6))
    soon.close()
    found = RegionStore.open(url)
    assert found.ids == [photo.id for photo in photos.photos]
    assert found._table.dataset.count_rows() == 6


def test_an_answer_that_was_lost_is_no_other_writer(url):
    with Lease(to_path(url), LOCK_NAME) as lease:
        lease._file.write_bytes(lease._content, instead_of=lease._status)
        lease._status = lease._file.write_bytes(b"{}")  # what is remembered is not what is there
        lease._file.write_bytes(lease._content)
        lease.renew()
        lease.require()


def test_a_machine_that_slept_asks_before_it_commits(url, monkeypatch):
    folder = to_path(url)
    lock = Lease(folder, LOCK_NAME)
    (folder / LOCK_NAME).write_bytes(b"another writer")
    wall = time.time()
    monkeypatch.setattr(lease_module.time, "time", lambda: wall + 61)  # time.monotonic stood still
    with pytest.raises(StoreError, match="another process writes to it by now"):
        lock.require()
    lock.close()
