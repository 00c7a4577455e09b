"""What a region store refuses, and what it is after a disk, a process or a power cut failed it."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import contextmanager

import lance
import numpy as np
import pyarrow as pa
import pytest
from small_stores import SIZE, new_store, regions, row

from han_retrieval.errors import HANError
from han_retrieval.regions import RegionRow, Regions, RegionStore


def test_missing_ids_are_named_beside_what_the_ids_look_like(tmp_path):
    store = new_store(tmp_path, [row(1)])
    with pytest.raises(HANError, match=r"lacks 2 of .*, such as 'x.jpg' \(its ids are like 'photo 1'"):
        store.batch(["photo 1", "x.jpg", "y.jpg", "x.jpg"])


def test_features_of_another_detector_are_refused_by_both_names(tmp_path):
    store = new_store(tmp_path, [row(1)])
    store.require("fake:1")
    with pytest.raises(HANError, match="'fake:1', not by 'grid:2'"):
        store.require("grid:2")
    store.close()
    with pytest.raises(HANError, match="'fake:1', not by 'grid:2'"):
        RegionStore.resume(store.path, fingerprint="grid:2", feature_size=SIZE)
    assert RegionStore.resume(store.path, fingerprint="fake:1", feature_size=SIZE).ids == ["photo 1"]


def test_an_empty_store_is_taken_over_by_another_detector(tmp_path):
    new_store(tmp_path).close()
    with RegionStore.resume(tmp_path / "features", fingerprint="other:1", feature_size=2) as store:
        store.append([RegionRow("a", None, Regions(np.ones((1, 2), np.float16), None, 0, 0))])
    store = RegionStore.open(tmp_path / "features")
    assert (store.fingerprint, store.feature_size, store.ids) == ("other:1", 2, ["a"])


def test_one_writer_at_a_time_in_one_process(tmp_path):
    store = new_store(tmp_path, [row(1)])
    other = RegionStore.open(store.path)
    with pytest.raises(HANError, match=f"process {os.getpid()} is writing"):
        other.append([row(2)])
    store.append([row(2)])
    store.close()
    assert other.append([row(2), row(3)]) == 1  # what the first added is seen
    assert other.ids == ["photo 1", "photo 2", "photo 3"]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_not_finite_are_refused(tmp_path, value):
    store = new_store(tmp_path)
    bad = regions(2)
    bad.features[1, 2] = value
    with pytest.raises(HANError, match=r"photo 'bad': a feature is NaN, infinite"):
        store.append([row(1), RegionRow("bad", None, bad)])
    assert RegionStore.open(store.path).ids == []


@contextmanager
def full_disk():
    """No file may grow beyond some bytes, as on a disk that is full."""
    resource = pytest.importorskip("resource")
    _, hard = limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_is_one_line_and_keeps_what_was_committed(tmp_path):
    store = new_store(tmp_path, [row(1), row(2)], commit=1)
    reason = r"cannot be written \(File too large\); make room or choose another disk; what was committed is kept$"
    for write in (
        lambda: store.append([row(i) for i in range(3, 20)]),
        store.compact,
        lambda: RegionStore.create(tmp_path / "other", fingerprint="f", feature_size=SIZE),
    ):
        with pytest.raises(HANError, match=reason), full_disk():
            write()
    assert RegionStore.open(store.path).ids == ["photo 1", "photo 2"]
    assert store.append([row(3)]) == 1


def test_a_store_that_is_deleted_while_it_is_open_is_said(tmp_path):
    store = new_store(tmp_path, [row(1)])
    shutil.rmtree(store.path / "data")
    with pytest.raises(HANError, match="lance: is gone; `han doctor --repair`"):
        store.read(["photo 1"])
    shutil.rmtree(store.path)
    with pytest.raises(HANError, match="it has no version that can be opened"):
        store.read(["photo 1"])
    with pytest.raises(HANError, match="it has no version that can be opened"):
        store.append([row(2)])


def test_regions_that_break_their_promise_are_a_defect(tmp_path):
    store = new_store(tmp_path)
    good = regions(1)
    for wrong in (
        Regions(good.features.astype(np.float32), good.boxes, 1, 1),
        Regions(good.features[:, :-1], good.boxes, 1, 1),
        Regions(good.features[:0], None, 1, 1),
        Regions(good.features, good.boxes[:-1], 1, 1),
        Regions(good.features, good.boxes, 1, 1, labels=("one",)),
        Regions(good.features, good.boxes, 1, 1, scores=np.ones(7, np.float32)),
    ):
        with pytest.raises(ValueError, match="photo 'x'"):
            store.append([RegionRow("x", None, wrong)])
    assert len(store) == 0


def test_description(tmp_path):
    store = new_store(tmp_path)
    assert store.describe().photos == 0
    store.append([row(1, 1), row(2, 4, boxes=False), row(3, 4)])
    summary = store.describe()
    assert (summary.fingerprint, summary.feature_size, summary.photos, summary.with_boxes) == ("fake:1", SIZE, 3, 2)
    assert (summary.regions_min, summary.regions_mean, summary.regions_max) == (1, 3.0, 4)
    assert summary.bytes_a_photo > 3 * SIZE * 2
    assert json.dumps(summary.photos)


@pytest.mark.parametrize("name", ["with space", "a#b?c", "100%25", "ünï"])
def test_names_of_folders_are_taken_as_they_are(tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    RegionStore.create(name, fingerprint="f", feature_size=SIZE).append([row(1)])
    assert [entry.name for entry in tmp_path.iterdir()] == [name]
    assert RegionStore.open(name).ids == ["photo 1"]


def test_what_is_no_store_is_said_clearly(tmp_path):
    with pytest.raises(HANError, match="no such region store"):
        RegionStore.open(tmp_path / "none")
    for make in (RegionStore.open, lambda path: RegionStore.resume(path, fingerprint="f", feature_size=1)):
        with pytest.raises(HANError, match=r"aaa.*: .*(File name too long|no such region store)"):
            make(tmp_path / ("a" * 300))
    with pytest.raises(HANError, match="not a region store"):
        RegionStore.open(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(HANError, match="not a region store"):
        RegionStore.open(tmp_path / "file")
    with pytest.raises(HANError, match="no folder can be made there"):
        RegionStore.create(tmp_path / "file", fingerprint="f", feature_size=1)
    with pytest.raises(HANError, match="holds other things, such as file"):
        RegionStore.create(tmp_path, fingerprint="f", feature_size=1)
    lance.write_dataset(pa.table({"x": [1]}), tmp_path / "other")
    with pytest.raises(HANError, match="a Lance table, but not a region store"):
        RegionStore.open(tmp_path / "other")
    new_store(tmp_path).close()
    with pytest.raises(HANError, match="is a region store already"):
        RegionStore.create(tmp_path / "features", fingerprint="f", feature_size=1)


def test_a_newer_format_asks_for_an_upgrade(tmp_path):
    store = new_store(tmp_path, [row(1)])
    lance.dataset(store.path).update_schema_metadata({"han_regions_version": "2"})
    with pytest.raises(HANError, match="format 2, from a newer han-retrieval"):
        RegionStore.open(store.path)


@pytest.mark.parametrize("left", [0, 1, 20, -1])
def test_a_commit_that_a_power_cut_tore_is_left_out_and_deleted_by_a_writer(tmp_path, left):
    store = new_store(tmp_path, [row(1), row(2)], commit=1)
    store.close()
    newest = min((store.path / "_versions").glob("*.manifest"))
    newest.write_bytes(newest.read_bytes()[:left])
    with pytest.raises(HANError, match=f"{newest}: is not as it was written"):  # it was committed, and is damaged
        RegionStore.open(store.path)
    (store.path / "_hashes" / f"{store._table.dataset.version}.json").unlink()  # not yet written at a power cut
    with pytest.warns(UserWarning, match=f"{newest}: cannot be read, as a power cut can leave it"):
        assert RegionStore.open(store.path).ids == ["photo 1"]
    assert newest.exists()
    with pytest.warns(UserWarning, match="power cut"):
        store = RegionStore.resume(store.path, fingerprint="fake:1", feature_size=SIZE)
    with store:
        assert not newest.exists()
        assert store.ids == ["photo 1"]
        assert store.append([row(2)]) == 1
    assert RegionStore.open(store.path).ids == ["photo 1", "photo 2"]


def test_a_create_that_was_cut_is_begun_anew(tmp_path):
    folder = tmp_path / "features"
    for name in ("_versions", "_transactions", "data"):
        (folder / name).mkdir(parents=True)
    (folder / "writer.lock").write_text("123")
    with RegionStore.resume(folder, fingerprint="f", feature_size=SIZE) as store:
        assert store.append([row(1)]) == 1
