"""The index as people use it in Python."""

from __future__ import annotations

import shutil

import pytest
import torch
from PIL import Image
from tiny_index import SENTENCE, FakeDetector, make_model, make_photo, make_photos, update

import han_retrieval
from han_retrieval.errors import ConfigError, ModelError, QueryError, StoreError
from han_retrieval.matchers.saving import folder_hash
from han_retrieval.retriever import Retriever
from han_retrieval.search import Calibration, Hit, Index, Part, SearchResult, search, similar
from han_retrieval.search.pooling import TextMap

COUNT = 12
LOADED = "han_retrieval.search.index.detector_for"


@pytest.fixture
def model(tmp_path):
    return make_model(tmp_path / "model")


@pytest.fixture
def retriever(model):
    return han_retrieval.load(model, detector=FakeDetector())


@pytest.fixture
def photos(tmp_path):
    return make_photos(tmp_path / "photos", COUNT)


def test_it_is_created_filled_searched_and_opened_again(tmp_path, retriever, photos, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    with Index.create(tmp_path / "index", retriever) as index:
        assert index.model is retriever.model
        assert len(index) == 0
        assert list(index.search(SENTENCE)) == []
        report = index.add("~/photos")
        assert (report.photos, report.added, len(index)) == (COUNT, COUNT, COUNT)
        found = index.search(SENTENCE, k=3)
        assert isinstance(found, SearchResult)
        assert [hit.path.parent for hit in found] == [photos] * 3
        assert found[0].score >= found[-1].score
        assert found[:2] == found.hits[:2]
        assert len(found) == 3
        assert found[0] in found
    with Index.open(tmp_path / "index") as index:
        assert [hit.id for hit in index.search(SENTENCE, k=3)] == [hit.id for hit in found]
        assert index.model is index.model  # loaded once


def test_it_is_made_in_the_home_folder(tmp_path, retriever, photos, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    with Index.create("~/index", retriever) as index:
        assert index.path == tmp_path / "index"
    assert update(photos, "~/index").added == COUNT
    assert len(Index.open("~/index")) == COUNT


def test_a_new_index_chooses_candidates_by_the_model_s_map(tmp_path, retriever, photos, model):
    random = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(16, 16, generator=random), torch.randn(16, generator=random)
    TextMap(weight, bias).write(model, model=folder_hash(model))
    with Index.create(tmp_path / "index", retriever) as created:
        created.add(photos)
        with Index.open(tmp_path / "index") as opened:
            found = [[hit.id for hit in each.search(SENTENCE, k=3, candidates=3)] for each in (created, opened)]
    assert found[0] == found[1]


def test_adding_is_incremental_and_follows_what_is_gone(tmp_path, retriever, photos):
    with Index.create(tmp_path / "index", retriever) as index:
        index.add(photos)
        seen = retriever.detector.seen
        assert index.add(photos).added == 0
        make_photo(photos / "new.png", 50)
        (photos / "000.png").unlink()
        make_photos(tmp_path / "more", 2, first=60)
        report = index.add()  # the folders of before
        assert (report.added, report.removed, len(index)) == (1, 1, COUNT)
        assert index.add(tmp_path / "more", progress=False).photos == COUNT + 2 == len(index)
        assert retriever.detector.seen == seen + 3


def test_the_command_line_goes_on_with_it(tmp_path, retriever, photos, model):
    Index.create(tmp_path / "index", retriever, storage="float16").close()
    report = update(photos, tmp_path / "index")
    assert report.added == COUNT
    with Index.open(tmp_path / "index") as index:
        assert index.made_by.storage == "float16"
        assert index.settings.model == str(model)


def test_what_it_finds_is_what_the_functions_find(tmp_path, retriever, photos):
    with Index.create(tmp_path / "index", retriever) as index:
        index.add(photos)
        options = {"k": 5, "where": "path > '003'", "exact": True}
        wanted = search(index, index.model, SENTENCE, **options)
        found = index.search(SENTENCE, **options)
        assert [(hit.row, hit.score) for hit in found] == [(hit.row, hit.score) for hit in wanted]
        collapsed = index.search(SENTENCE, k=5, collapse=True)
        assert len(collapsed) <= 5
        assert isinstance(collapsed[0], Hit)
        with pytest.raises(QueryError, match="knows none of the words"):
            index.search("zebra")
        with pytest.raises(QueryError, match="'nonsense' is not known; it may hold the columns"):
            index.search(SENTENCE, where="nonsense")


def test_similar_takes_a_photo_in_every_form(tmp_path, retriever, photos):
    with Index.create(tmp_path / "index", retriever) as index:
        index.add(photos)
        path = photos / "004.png"
        row = index.find(path)
        others = [hit.row for hit in similar(index, index.model, row, k=4)]
        for photo in (path, str(path), "004.png", row):
            assert [hit.row for hit in index.similar(photo, k=4)] == others
            assert index.similar(photo, k=1, keep_itself=True)[0].row == row
        (encoded,) = retriever.encode_images([path])
        for photo in (Image.open(path), encoded, encoded.regions):
            found = index.similar(photo, k=5)
            assert found[0].row == row  # from outside, nobody knows that it is the same
            assert {hit.row for hit in found[1:]} == set(others)
        make_photo(tmp_path / "outside.png", 200)
        assert len(index.similar(tmp_path / "outside.png", k=4)) == 4
        with pytest.raises(han_retrieval.DataError, match="no such photo"):
            index.similar("nowhere.png")


def test_the_detector_is_loaded_once_and_only_when_a_photo_needs_it(tmp_path, photos, model, monkeypatch):
    update(photos, tmp_path / "index", model)
    loaded = []

    def load(fingerprint, name, **_):
        assert name is None
        loaded.append(fingerprint)
        return FakeDetector(fingerprint)

    monkeypatch.setattr(LOADED, load)
    with Index.open(tmp_path / "index") as index:
        index.search(SENTENCE)
        index.similar("004.png")
        index.add()
        assert loaded == []
        for seed in (200, 201):
            index.similar(make_photo(tmp_path / f"{seed}.png", seed))
        make_photo(photos / "new.png", 50)
        index.add()
        assert loaded == ["fake:1"]


def test_probabilities_come_with_a_calibrated_model(tmp_path, retriever, photos, model):
    with Index.create(tmp_path / "index", retriever) as index:
        index.add(photos)
        assert index.calibration is None
        assert index.search(SENTENCE)[0].probability is None
    facts = dict.fromkeys(("precision", "recall", "answered_without", "error"), 0.5)
    counts = dict.fromkeys(("photos", "sentences", "shown", "pairs"), COUNT)
    whose = {"split": None, "model": folder_hash(model), "reliability": ()}
    Calibration(slope=1.0, intercept=0.0, threshold=1.0, **facts, **counts, **whose).write(model)
    with Index.open(tmp_path / "index") as index:
        found = index.search(SENTENCE)
        assert 0 < found[0].probability < 1
        assert found.nothing_matches


def test_what_cannot_make_an_index_is_refused(tmp_path, retriever, photos, model):
    Index.create(tmp_path / "index", retriever).close()
    with pytest.raises(StoreError, match="is an index already"):
        Index.create(tmp_path / "index", retriever)
    with pytest.raises(StoreError, match="holds other things"):
        Index.create(photos, retriever)
    with pytest.raises(ConfigError, match="tokens are kept as one of"):
        Index.create(tmp_path / "new", retriever, storage="int4")
    with pytest.raises(ModelError, match="in memory alone"):
        Index.create(tmp_path / "new", Retriever(retriever.model, detector=FakeDetector()))
    with pytest.raises(ModelError, match="was made with the detector 'fake:1'"):
        Index.open(tmp_path / "index", detector=FakeDetector("fake:2"))
    other = make_model(tmp_path / "other", seed=4)
    with Index.open(tmp_path / "index", model=other) as index, pytest.raises(ModelError, match="not the model that"):
        index.search(SENTENCE)
    assert not (tmp_path / "new").exists()


def test_photos_are_named_as_the_index_names_them(tmp_path, retriever, photos):
    with Index.create(tmp_path / "index", retriever) as index:
        index.add(photos)
        row = index.filter("path = '000.png'")[0]
        assert [hit.id for hit in index.similar(row)] == [hit.id for hit in index.similar(int(row))]
        assert index.search([Part(SENTENCE), Part(photo=row)]).hits


def test_a_moved_model_brings_its_detector(tmp_path, retriever, photos, model, monkeypatch):
    with Index.create(tmp_path / "index", retriever) as index:
        index.add(photos)
    shutil.copytree(model, tmp_path / "moved")
    asked = []

    def detector_for(fingerprint, *, name, model):
        asked.append(model)
        return FakeDetector(fingerprint)

    monkeypatch.setattr("han_retrieval.search.index.detector_for", detector_for)
    with Index.open(tmp_path / "index", model=tmp_path / "moved") as index:
        index.similar(Image.new("RGB", (8, 8)))
    assert asked == [tmp_path / "moved"]


def test_it_knows_a_rebuild_with_another_model(tmp_path, retriever, photos):
    with Index.create(tmp_path / "index", retriever) as index:
        index.add(photos)
        update(None, tmp_path / "index", make_model(tmp_path / "other", seed=5), rebuild=True)
        assert index.refresh()
        with Index.open(tmp_path / "index") as new:
            assert [hit.score for hit in index.search(SENTENCE)] == [hit.score for hit in new.search(SENTENCE)]
