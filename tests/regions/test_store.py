"""A region store: reads, appends, merges, readers beside a writer."""

from __future__ import annotations

import os
import pickle
import threading
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
from small_stores import SIZE, new_store, regions, row, same

from han_retrieval.errors import HANError
from han_retrieval.regions import RegionRow, RegionStore
from han_retrieval.regions import store as store_module
from han_retrieval.regions.damage import check_store, repair_store, unchecked_store
from han_retrieval.regions.rows import batch_of, interleave, row_schema
from han_retrieval.storage import table as table_module

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
