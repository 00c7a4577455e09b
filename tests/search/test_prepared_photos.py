"""What an index keeps of photos between searches changes no score, and is bounded."""

from __future__ import annotations

import pytest
import torch
from tiny_index import FakeDetector, make_model, make_photos

from han_retrieval.clock import Clock
from han_retrieval.scoring import kernels
from han_retrieval.search import Index, prepared, search


@pytest.fixture
def index(tmp_path, monkeypatch):
    monkeypatch.setattr(kernels, "are_ready", lambda use: True)
    monkeypatch.setattr("han_retrieval.scoring.collection.are_ready", lambda use: True)
    model = make_model(tmp_path / "model")
    make_photos(tmp_path / "photos", 9)
    with Index.open(_filled(tmp_path, model), detector=FakeDetector()) as found:
        yield found


def _filled(folder, model):
    from han_retrieval.search import index_photos

    index_photos([folder / "photos"], folder / "index", model=model, detector=FakeDetector())
    return folder / "index"


def scores(index, query, **options):
    return {hit.id: hit.score for hit in search(index, index.model, query, k=9, **options)}


def test_a_second_search_fetches_no_tokens_and_gives_the_same_scores(index, monkeypatch):
    wanted = {query: scores(index, query) for query in ("a red dog", "cat")}
    fetched = []
    fetch = index.stored_tokens
    monkeypatch.setattr(index, "stored_tokens", lambda rows: fetched.append(list(rows)) or fetch(rows))
    assert {query: scores(index, query) for query in wanted} == wanted
    assert not fetched


def test_what_is_there_and_what_is_missing_come_together(index, monkeypatch):
    wanted = scores(index, "a red dog", exact=True)
    index._prepared = None
    some = scores(index, "a red dog", where="path < '004'", exact=True)
    assert 0 < len(some) < 9
    both = scores(index, "a red dog", exact=True)
    assert both == pytest.approx(wanted, abs=1e-6)
    assert some == pytest.approx({name: wanted[name] for name in some}, abs=1e-6)


def test_it_is_bounded_and_forgotten_with_the_model(index, monkeypatch):
    scores(index, "a red dog")
    kept = index._prepared
    (size, *_) = {item.nbytes for item in kept._items.values()}
    monkeypatch.setattr(prepared, "MOST_BYTES", 3 * max(item.nbytes for item in kept._items.values()))
    index._prepared = None
    wanted = scores(index, "a red dog", exact=True)
    assert size
    assert 0 < index._prepared._bytes <= prepared.MOST_BYTES
    assert index._prepared._bytes == sum(item.nbytes for item in index._prepared._items.values())
    other = index.load_model()
    for parameter in other.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    changed = {hit.id: hit.score for hit in search(index, other, "a red dog", k=9)}
    assert changed != pytest.approx(wanted, abs=1e-3)


def test_a_new_version_of_the_index_begins_anew(index, tmp_path):
    scores(index, "a red dog")
    make_photos(tmp_path / "photos", 12)
    index.add()
    assert index._prepared is None
    assert len(scores(index, "a red dog")) == 9


def test_steps_within_a_step_count_for_themselves():
    clock = Clock()
    with clock("outer"), clock("inner"):
        torch.randn(300, 300) @ torch.randn(300, 300)
    assert clock.seconds["inner"] > 0
    assert clock.seconds["outer"] < clock.seconds["inner"]
