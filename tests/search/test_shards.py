"""An index in shards: the answers of one process, and what is missing where a shard does not answer."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from tiny_index import SENTENCE, FakeDetector, make_model, make_photo, make_photos, update

from han_retrieval.data import open_photo
from han_retrieval.errors import HANError, QueryError
from han_retrieval.search import Index
from han_retrieval.search.shards import Shard, ShardedIndex, first_row

QUERIES = (SENTENCE, '"a red dog" - 0.5 * "a cat"', "a blue cat")


class Here:
    """Shards in this process; those in ``dead`` do not answer."""

    def __init__(self, index, count: int) -> None:
        self.count = count
        self.shards = [Shard(index, None, each, count) for each in range(count)]
        self.dead: set[int] = set()

    def ask(self, method, arguments):
        return [
            None if given is None or each in self.dead else getattr(self.shards[each], method)(*given)
            for each, given in enumerate(arguments)
        ]


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sharded")
    update(make_photos(folder / "photos", 33), folder / "index", make_model(folder / "model"))
    return folder / "index"


def found(result) -> list[tuple[str, float]]:
    return [(hit.id, pytest.approx(hit.score, abs=1e-5)) for hit in result]


@pytest.mark.parametrize("count", [1, 2, 3, 40])
def test_the_answers_are_those_of_one_process(index, count):
    shards = Here(index, count)
    assert sum(len(each._reader.pooled) for each in shards.shards) == 33
    with Index.open(index) as whole, ShardedIndex(index, shards) as parts:
        assert len(parts.pooled) == 0
        for options in ({}, {"candidates": 12}, {"exact": True}, {"where": "path > '015'", "candidates": 11}):
            for query in QUERIES:
                assert found(parts.search(query, k=10, **options)) == found(whole.search(query, k=10, **options))
            assert found(parts.similar(7, k=9, **options)) == found(whole.similar(7, k=9, **options))
        regions = FakeDetector().detect([open_photo(whole.files(3)[0])])[0]
        assert found(parts.similar(regions, k=5, candidates=6)) == found(whole.similar(regions, k=5, candidates=6))
        assert not parts.search(SENTENCE, where="path > 'z'").hits
        assert parts.missing == 0


@pytest.mark.parametrize("options", [{"candidates": 12}, {"exact": True}])
def test_what_a_dead_shard_has_is_missing_and_the_others_answer(index, options):
    shards = Here(index, 3)
    with Index.open(index) as whole, ShardedIndex(index, shards) as parts:
        shards.dead = {1}
        begin, end = first_row(33, 1, 3), first_row(33, 2, 3)
        names = [f"{row:03}.png" for row in range(begin, end)]
        there = f"path < '{names[0]}' or path > '{names[-1]}'"
        assert found(parts.search(SENTENCE, **options)) == found(whole.search(SENTENCE, where=there, **options))
        assert parts.missing == end - begin
        shards.dead = set()
        parts.begin_search()
        assert found(parts.search(SENTENCE, **options)) == found(whole.search(SENTENCE, **options))
        assert parts.missing == 0
        shards.dead = {0, 1, 2}
        parts.begin_search()
        with pytest.raises(HANError, match="none of its 3 shards answers; they are being replaced"):
            parts.search(SENTENCE, **options)
        with pytest.raises(HANError, match="none of its 3 shards answers"):
            parts.check()
        shards.dead = {0, 1}
        parts.check()


def test_a_filter_that_only_a_dead_shard_meets(index):
    shards = Here(index, 3)
    with ShardedIndex(index, shards) as parts:
        shards.dead = {1}
        first = f"{first_row(33, 1, 3):03}.png"
        for query in QUERIES:
            for options in ({"exact": True}, {"candidates": 1}):
                parts.begin_search()
                assert not parts.search(query, where=f"path = '{first}'", **options).hits
                assert parts.missing == 11


def test_a_shard_follows_the_front_to_a_new_state(tmp_path):
    photos, out = make_photos(tmp_path / "photos", 9), tmp_path / "index"
    update(photos, out, make_model(tmp_path / "model"))
    shards = Here(out, 2)
    with ShardedIndex(out, shards) as parts:
        before = found(parts.search(SENTENCE, k=99))
        (photos / "000.png").unlink()
        make_photo(photos / "new.png", 77)
        update(photos, out)
        shards.shards[0]._reader.refresh()
        with pytest.raises(HANError, match="changes just now"):  # a shard that is ahead
            parts.search(SENTENCE, candidates=5, k=5)
        parts.refresh()
        with Index.open(out) as whole:
            after = found(whole.search(SENTENCE, k=99))
            assert found(parts.search(SENTENCE, k=99)) == after != before
            assert np.array_equal(np.concatenate([each._reader.pooled for each in shards.shards]), whole.pooled)


def test_an_index_that_was_made_anew_with_as_many_commits_is_another(tmp_path):
    out, model = tmp_path / "index", make_model(tmp_path / "model")
    update(make_photos(tmp_path / "before", 9), out, model)
    shards = Here(out, 2)
    with ShardedIndex(out, shards) as parts:
        parts.search(SENTENCE)
        shutil.rmtree(out)
        update(make_photos(tmp_path / "after", 9, first=50), out, model)
        parts.refresh()
        with Index.open(out) as whole:
            assert found(parts.search(SENTENCE, k=9)) == found(whole.search(SENTENCE, k=9))


def test_a_row_that_the_index_does_not_have_is_refused(index):
    with Index.open(index) as whole:
        for row in (-1, 33):
            with pytest.raises(QueryError, match=f"row {row}: the index has 33 photos"):
                whole.similar(row)
