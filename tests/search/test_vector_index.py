"""Candidates from a vector index: as the exact ones where all of it is read, kept up, and never in the way."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from killing import KILLED, kill_at, processes_with
from tiny_index import SENTENCE, make_model, make_photo, make_photos, update

from han_retrieval.checkup import check_path, repair_path
from han_retrieval.search import Index, search, vector_index
from han_retrieval.search.recall import candidate_recall
from han_retrieval.search.vector_index import FILE
from han_retrieval.search.vectors import InMemory, OnDisk
from han_retrieval.storage.table import Table

COUNT, LIMIT = 300, 256  # Lance learns its codes from at least 256 vectors
SENTENCES = [SENTENCE, "blue", "a cat", "cat dog"]
WHERE = "path < '200.png'"

processes = processes_with("han_retrieval.search", "lance")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vectors")
    make_photos(folder / "photos", COUNT)
    update(folder / "photos", folder / "index", make_model(folder / "model"), exact_up_to=LIMIT)
    return folder


@pytest.fixture
def folder(made, tmp_path):
    """A copy whose photos are in place, so that it can be changed."""
    photos, index = tmp_path / "photos", tmp_path / "index"
    shutil.copytree(made / "photos", photos)
    update(photos, index, made / "model", exact_up_to=LIMIT)
    return tmp_path


def found(index: Index, **options: object) -> list[list[tuple[str, float]]]:
    model = index.load_model()
    results = [search(index, model, each, k=10, candidates=50, **options) for each in SENTENCES]
    return [[(hit.id, round(hit.score, 4)) for hit in hits] for hits in results]


def found_in_memory(index: Index, **options: object) -> list[list[tuple[str, float]]]:
    vectors, index.vectors = index.vectors, InMemory(index.vectors.all())
    try:
        return found(index, **options)
    finally:
        index.vectors = vectors


def is_as_in_memory(path) -> bool:
    """Whether nearly the same photos are near to queries as without a vector index, each of them once."""
    with Index.open(path) as index:
        assert isinstance(index.vectors, OnDisk)
        memory = InMemory(index.vectors.all())
    shares = []
    with Index.open(path) as index:
        queries = torch.randn(20, index.made_by.pooled_size, generator=torch.Generator().manual_seed(0))
        for where in (None, WHERE):
            rows = None if where is None else index.filter(where)
            found = index.nearest(queries, 50, rows=rows, where=where)
            wanted = memory.nearest(queries, 50, rows=rows, where=where)
            assert found.shape == wanted.shape
            shares += [len(np.intersect1d(*each)) / 50 for each in zip(found, wanted, strict=True)]
    return np.mean(shares) > 0.97 and min(shares) > 0.9  # eight bits a number


def test_finds_what_is_found_in_memory(made, monkeypatch):
    monkeypatch.setattr("han_retrieval.search.vectors._FEW", 0)  # conditions are Lance's
    assert is_as_in_memory(made / "index")


def test_opens_and_searches_without_reading_all_vectors(made, monkeypatch):
    def refuse(*_):
        raise AssertionError("all vectors are read")

    monkeypatch.setattr("han_retrieval.search.vectors.read_all", refuse)
    with Index.open(made / "index") as index:
        assert all(found(index))
        assert all(found(index, where=WHERE))
        assert len(index.similar(3, k=5)) == 5
        assert search(index, index.model, "red", k=5, exact=True)


def test_few_photos_are_searched_in_memory(made, tmp_path):
    index = shutil.copytree(made / "index", tmp_path / "index")
    with Index.open(index) as photos:
        assert photos.describe().vector_index == COUNT
        assert photos.describe().exact_up_to == LIMIT
    update(made / "photos", index, exact_up_to=COUNT)
    with Index.open(index) as photos:
        assert isinstance(photos.vectors, InMemory)
        assert photos.describe().vector_index == 0
    assert not list((index / "photos-1" / "_indices").glob("*"))
    update(made / "photos", index)  # the setting stays
    assert not (index / "photos-1" / FILE).exists()


def test_recall_is_that_of_the_candidates(made):
    with Index.open(made / "index") as index:
        model = index.load_model()
        scored, kept = candidate_recall(index, model, SENTENCES, numbers=(20, 50))
        for number, share in kept.items():
            assert share > 15
            there = []
            for sentence in SENTENCES:
                exact = {hit.row for hit in search(index, model, sentence, k=10, exact=True)}
                near = {hit.row for hit in search(index, model, sentence, k=number, candidates=number)}
                there.append(10 * len(exact & near))
            assert share == pytest.approx(np.mean(there))
        assert scored == len(SENTENCES)


def test_is_kept_up(folder, monkeypatch):
    photos, out = folder / "photos", folder / "index"
    monkeypatch.setattr("han_retrieval.search.vectors._FEW", 0)
    for each in range(0, 60, 2):
        (photos / f"{each:03}.png").unlink()
    (photos / "001.png").rename(photos / "moved.png")
    make_photos(photos, 40, first=COUNT)
    report = update(photos, out)
    assert (report.added, report.removed, report.moved) == (40, 30, 1)
    with Index.open(out) as index:
        assert (len(index), index.describe().vector_index) == (310, 269)  # others are compared one by one
        assert index.find("moved.png") is not None
    assert is_as_in_memory(out)
    monkeypatch.setattr(vector_index, "_UNINDEXED", 8)
    make_photos(photos, 4, first=400)
    update(photos, out)
    with Index.open(out) as index:
        assert index.describe().vector_index == len(index) == 314
    assert is_as_in_memory(out)
    assert check_path(out).damages == ()
    make_photos(photos, 300, first=500)  # so many that the partitions are chosen anew
    update(photos, out)
    with Index.open(out) as index:
        assert index.describe().vector_index == len(index) == 614
        assert vector_index.read_made(out / "photos-1").rows == 614
    assert len(list((out / "photos-1" / "_indices").iterdir())) == 1
    assert is_as_in_memory(out)


def test_open_index_is_read_while_it_is_kept_up(folder, monkeypatch):
    monkeypatch.setattr(vector_index, "_UNINDEXED", 0)
    with Index.open(folder / "index") as index:
        before = found(index)
        make_photo(folder / "photos" / "new.png", 900)
        update(folder / "photos", folder / "index")
        assert found(index) == before
        assert index.refresh()
        assert len(index) == index.describe().vector_index == COUNT + 1


@pytest.mark.parametrize("damage", ["cut", "flipped", "gone", "unknown"])
def test_damage_is_named_and_mended(made, tmp_path, damage):
    index = shutil.copytree(made / "index", tmp_path / "index")
    table = index / "photos-1"
    file = max((table / "_indices").glob("*/*"), key=lambda each: each.stat().st_size)
    content = bytearray(file.read_bytes())
    if damage == "cut":
        file.write_bytes(content[:-100])
    elif damage == "flipped":
        content[len(content) // 3] ^= 16
        file.write_bytes(content)
    elif damage == "gone":
        shutil.rmtree(file.parent)
    else:
        (table / FILE).unlink()
    with pytest.warns(UserWarning, match="the next `han index` makes it anew; candidates"):
        photos = Index.open(index)
    with photos, Index.open(made / "index") as sound:
        assert isinstance(photos.vectors, InMemory)
        assert found(photos) == found_in_memory(sound)
    (named,) = check_path(index).damages
    assert "the next `han index` makes it anew" in str(named)
    repaired = shutil.copytree(index, tmp_path / "repaired")
    (line,) = repair_path(repaired)
    assert "the vector index left the index" in line
    assert check_path(repaired).damages == ()
    for each in (index, repaired):
        update(made / "photos", each)
        assert check_path(each).damages == ()
        assert is_as_in_memory(each)


def test_what_lance_cannot_read_is_searched_in_memory(made, monkeypatch):
    with Index.open(made / "index") as index:
        wanted = found_in_memory(index)

    def fail(*_):
        raise OSError("a page of it is gone")

    monkeypatch.setattr(OnDisk, "_ask", fail)
    with Index.open(made / "index") as index, pytest.warns(UserWarning, match="cannot be read"):
        assert found(index) == wanted


def _update_killed(photos, out, name: str) -> None:
    torch.set_num_threads(1)
    kill_at(Table if hasattr(Table, name) else vector_index, name, 1)
    update(photos, out, exact_up_to=LIMIT)


@pytest.mark.filterwarnings("ignore:.*not finished")
@pytest.mark.parametrize("name", ["let_commit", "_record", "_hash", "_note"])
def test_interrupted_build_loses_nothing(made, tmp_path, name):
    index = tmp_path / "index"
    update(made / "photos", index, made / "model")
    process = processes.Process(target=_update_killed, args=(made / "photos", index, name))
    process.start()
    process.join()
    assert process.exitcode == KILLED
    with Index.open(index) as photos:
        assert isinstance(photos.vectors, InMemory)
        assert len(photos) == COUNT
        assert all(found(photos))
    update(made / "photos", index, exact_up_to=LIMIT)
    assert is_as_in_memory(index)
    assert len(list((index / "photos-1" / "_indices").iterdir())) == 1
