from __future__ import annotations

import json
import os
import pickle
import shutil
import threading
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import lance
import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from han_retrieval.errors import HANError
from han_retrieval.regions import RegionRow, Regions, RegionStore
from han_retrieval.regions import store as store_module
from han_retrieval.regions.damage import check_store, repair_store, unchecked_store
from han_retrieval.regions.rows import batch_of, interleave, row_schema
from han_retrieval.storage import table as table_module

SIZE = 6


def regions(
    seed: int, m: int = 3, *, boxes: bool = True, labels: bool = True, scores: bool = True, pooled: int = 0
) -> Regions:
    noise = np.random.default_rng(seed)
    return Regions(
        features=noise.standard_normal((m, SIZE)).astype(np.float16),
        boxes=noise.random((m, 4)).astype(np.float32) if boxes else None,
        width=seed + 1,
        height=seed + 2,
        labels=tuple(f"label {i} é" for i in range(m)) if labels else None,
        scores=noise.random(m).astype(np.float32) if scores else None,
        pooled=noise.standard_normal(pooled).astype(np.float16) if pooled else None,
    )


def row(seed: int, m: int = 3, **kinds: int) -> RegionRow:
    return RegionRow(f"photo {seed}", Path(f"/photos/{seed}.jpg") if seed % 2 else None, regions(seed, m, **kinds))


def new_store(folder: Path, rows=(), *, commit: int = 4) -> RegionStore:
    store = RegionStore.create(folder / "features", fingerprint="fake:1", feature_size=SIZE)
    rows = list(rows)
    for first in range(0, len(rows), commit):
        store.append(rows[first : first + commit])
    return store


def same(a: Regions, b: Regions) -> bool:
    def equal(x, y):
        return (x is None and y is None) or (x is not None and y is not None and np.array_equal(x, y))

    return (
        equal(a.features, b.features)
        and a.features.dtype == b.features.dtype
        and equal(a.boxes, b.boxes)
        and equal(a.scores, b.scores)
        and equal(a.pooled, b.pooled)
        and (a.labels, a.width, a.height) == (b.labels, b.width, b.height)
    )


kinds = st.fixed_dictionaries({name: st.booleans() for name in ("boxes", "labels", "scores")})


@settings(max_examples=12, deadline=None)
@given(
    shapes=st.lists(st.tuples(st.integers(1, 5), kinds), min_size=1, max_size=14),
    commit=st.integers(1, 5),
    compacted=st.booleans(),
    pooled=st.sampled_from([0, 5]),
    data=st.data(),
)
def test_reads_give_what_was_written_in_any_order_with_repeats(shapes, commit, compacted, pooled, data):
    rows = [row(i, m, pooled=pooled, **kind) for i, (m, kind) in enumerate(shapes)]
    asked = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=20))
    with TemporaryDirectory() as folder, new_store(Path(folder), rows, commit=commit) as store:
        if compacted:
            store.compact()
        store = RegionStore.open(store.path)
        assert store.pooled_size == pooled
        ids = [rows[i].id for i in asked]
        read = store.read(ids)
        assert len(read) == len(asked)
        assert all(same(found, rows[i].regions) for found, i in zip(read, asked, strict=True))
        batch = store.batch(ids)
        largest = max((len(rows[i].regions.features) for i in asked), default=0)
        assert batch.features.shape == (len(asked), largest, SIZE)
        assert batch.features.dtype == torch.float32
        assert batch.mask.dtype == torch.bool
        for k, i in enumerate(asked):
            wanted = rows[i].regions
            m = len(wanted.features)
            assert batch.mask[k].tolist() == [True] * m + [False] * (largest - m)
            assert np.array_equal(batch.features[k, :m].numpy(), wanted.features.astype(np.float32))
            assert not batch.features[k, m:].any()
            assert (batch.boxes[k] is None) == (wanted.boxes is None)
            assert wanted.boxes is None or np.array_equal(batch.boxes[k], wanted.boxes)
            assert not pooled or np.array_equal(batch.pooled[k].numpy(), wanted.pooled.astype(np.float32))
        assert (batch.pooled is None) == (not pooled or not asked)


def test_ids_photos_and_containment_keep_the_order_of_appends(tmp_path):
    rows = [row(i) for i in (5, 3, 9, 1)]
    store = new_store(tmp_path, rows, commit=2)
    assert store.ids == [each.id for each in rows]
    assert [(photo.id, photo.path, photo.width, photo.height) for photo in store.photos()] == [
        (each.id, each.path, each.regions.width, each.regions.height) for each in rows
    ]
    assert len(store) == 4
    assert "photo 9" in store
    assert "photo 2" not in store


def test_pooled_vectors_are_of_one_size_or_none_has_one(tmp_path):
    store = new_store(tmp_path, [row(1, pooled=4)])
    for other in (0, 5):
        with pytest.raises(HANError, match=f"photo 2.*has {other} numbers, that of the photos before 4"):
            store.append([row(2, pooled=other)])
    damaged = np.array([1, np.inf, 0, 0], np.float16)
    with pytest.raises(HANError, match=r"photo 2.*NaN, infinite"):
        store.append([RegionRow("photo 2", None, replace(regions(2), pooled=damaged))])
    assert store.ids == ["photo 1"]
    assert store.describe().pooled_size == 4


def test_a_store_from_before_pooled_vectors_is_read_grows_and_is_mended(tmp_path):
    def schema_of_before(size):
        return pa.schema([field for field in row_schema(size) if not field.name.startswith("pooled")])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store_module, "row_schema", schema_of_before)
        new_store(tmp_path, [row(i) for i in range(4)], commit=2)
    path = tmp_path / "features"
    assert "pooled" not in lance.dataset(path).schema.names
    with RegionStore.resume(path, fingerprint="fake:1", feature_size=SIZE) as store:
        store.append([row(4, pooled=5)])  # which is left out
        store.compact()
        assert all(same(found, regions(i)) for i, found in enumerate(store.read(store.ids)[:4]))
        assert store.batch(store.ids).pooled is None
        assert store.pooled_size == 0
    assert unchecked_store(path) is None
    assert check_store(path) == []
    (file,) = (path / "data").glob("*.lance")
    content, part = file.read_bytes(), regions(2).features.tobytes()
    assert content.count(part) == 1
    file.write_bytes(content.replace(part, bytes([part[0] ^ 1]) + part[1:]))
    assert check_store(path)
    assert repair_store(path)
    assert RegionStore.open(path).ids == [f"photo {i}" for i in (0, 1, 3, 4)]


def test_batches_of_several_stores_are_put_together():
    parts = [batch_of([regions(seed, m, pooled=3) for seed, m in of]) for of in ([(0, 2), (1, 4)], [(2, 1)])]
    joined = interleave([([2, 0], parts[0]), ([1], parts[1])])
    for place, (seed, m) in enumerate([(1, 4), (2, 1), (0, 2)]):
        wanted = regions(seed, m, pooled=3)
        assert np.array_equal(joined.pooled[place].numpy(), wanted.pooled.astype(np.float32))
        assert np.array_equal(joined.features[place, :m].numpy(), wanted.features.astype(np.float32))
    without = batch_of([regions(5)])
    assert without.pooled is None
    assert interleave([([2, 0], parts[0]), ([1], without)]).pooled is None


def test_an_id_is_stored_once_and_the_first_stays(tmp_path):
    store = new_store(tmp_path, [row(1)])
    twice = RegionRow("photo 2", None, regions(20))
    assert store.append([RegionRow("photo 1", None, regions(10)), twice, twice._replace(regions=regions(21))]) == 1
    assert store.append([twice]) == 0
    assert store.ids == ["photo 1", "photo 2"]
    assert same(store.read(["photo 1"])[0], regions(1))
    assert same(store.read(["photo 2"])[0], regions(20))
    assert RegionStore.open(store.path).ids == ["photo 1", "photo 2"]


def test_an_append_after_one_that_was_cut_between_commit_and_return_doubles_nothing(tmp_path, monkeypatch):
    store = new_store(tmp_path)
    calls = []

    def stop(self, *folders):
        calls.append(folders)
        if len(calls) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(table_module.Table, "_sync", stop)
        with pytest.raises(KeyboardInterrupt):
            store.append([row(1), row(2)])
    assert store.append([row(1), row(2), row(3)]) == 1
    assert RegionStore.open(store.path).ids == ["photo 1", "photo 2", "photo 3"]


def test_an_append_after_one_that_was_cut_while_it_merged_files_doubles_nothing(tmp_path, monkeypatch):
    def stop(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(table_module, "SMALL_FILES", 1)
    store = new_store(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(table_module.Table, "compact", stop)
        with pytest.raises(KeyboardInterrupt):
            store.append([row(1)])
    assert store.append([row(1), row(2)]) == 1
    assert RegionStore.open(store.path).ids == ["photo 1", "photo 2"]


def test_a_batch_is_synced_before_it_is_committed_and_the_commit_before_it_is_reported(tmp_path, monkeypatch):
    store = new_store(tmp_path)
    events = []
    fsync, commit = os.fsync, lance.LanceDataset.commit

    def watched_fsync(descriptor):
        events.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        fsync(descriptor)

    def watched_commit(*args, **kwargs):
        events.append("commit")
        return commit(*args, **kwargs)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(lance.LanceDataset, "commit", staticmethod(watched_commit))
    store.append([row(1)])
    at = events.index("commit")
    data = set((store.path / "data").iterdir())
    manifests = set((store.path / "_versions").glob("*.manifest"))
    assert data
    assert data | {store.path / "data"} <= set(events[:at])
    newest = min(manifests)
    assert {newest, store.path / "_versions"} <= set(events[at:])


def test_merging_keeps_rows_and_leaves_one_file(tmp_path):
    rows = [row(i, 1 + i % 3) for i in range(30)]
    store = new_store(tmp_path, rows, commit=3)
    assert len(list((store.path / "data").iterdir())) == 10
    (store.path / "data" / "left-by-a-killed-run.lance").write_bytes(b"half a file")
    store.compact()
    assert len(list((store.path / "data").iterdir())) == 1
    assert store.ids == [each.id for each in rows]
    assert all(same(a, b.regions) for a, b in zip(store.read(store.ids), rows, strict=True))
    store.compact()
    assert store.append([row(99)]) == 1
    assert same(RegionStore.open(store.path).read(["photo 99"])[0], regions(99))


def test_many_appends_merge_by_themselves(tmp_path, monkeypatch):
    monkeypatch.setattr(table_module, "SMALL_FILES", 4)
    monkeypatch.setattr(table_module, "ROWS_A_FILE", 10)
    rows = [row(i) for i in range(40)]
    store = new_store(tmp_path, rows, commit=1)
    assert len(list((store.path / "data").iterdir())) < 10
    assert all(same(a, b.regions) for a, b in zip(store.read(store.ids), rows, strict=True))


def test_a_reader_outlives_merging_and_growth_by_a_writer(tmp_path):
    rows = [row(i, 1 + i % 3) for i in range(12)]
    writer = new_store(tmp_path, rows, commit=2)
    reader = RegionStore.open(writer.path)
    writer.append([row(50), row(51)])
    writer.compact()
    assert all(same(a, b.regions) for a, b in zip(reader.read(reader.ids), rows, strict=True))
    writer.append([row(52)])
    writer.compact()
    assert [photo.id for photo in reader.photos()] == [each.id for each in rows]
    assert reader.describe().photos == 12
    assert "photo 52" not in reader


def test_threads_read_at_once(tmp_path):
    rows = [row(i, 1 + i % 4) for i in range(40)]
    store = new_store(tmp_path, rows, commit=10)
    wrong = []

    def read(seed: int) -> None:
        noise = np.random.default_rng(seed)
        for _ in range(10):
            asked = noise.integers(0, 40, 16)
            found = store.read([rows[i].id for i in asked])
            wrong.extend(i for i, each in zip(asked, found, strict=True) if not same(each, rows[i].regions))

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_forked_process_is_refused_and_a_pickled_store_opens_itself(tmp_path, monkeypatch):
    store = new_store(tmp_path, [row(1)])
    assert pickle.loads(pickle.dumps(store)).ids == ["photo 1"]
    monkeypatch.setattr(os, "getpid", lambda: -1)
    with pytest.raises(RuntimeError, match="fork"):
        store.read(["photo 1"])


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
