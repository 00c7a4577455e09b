"""A server whose index, model or calibration changes while it runs."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from damaging import without_checksums
from served import NAMES, SENTENCE, calibrate, client, error, ids, make_picture, names
from tiny_index import make_model, update

from han_retrieval.matchers import hub
from han_retrieval.matchers.saving import folder_hash
from han_retrieval.search import Index, search
from han_retrieval.search.opened import Unreadable
from han_retrieval.search.pooling import TextMap
from han_retrieval.serve import SearchService, ranking
from han_retrieval.serve import service as service_module


def test_changes_of_the_index_are_taken_in(changing):
    folder, web = changing
    assert len(ids(web.get("/api/search", params={"q": SENTENCE}))) == 6
    make_picture(folder / "photos" / "new.jpg", 77)
    (folder / "photos" / NAMES[0]).unlink()
    update(folder / "photos", folder / "index")
    found = web.get("/api/search", params={"q": SENTENCE})
    assert "new.jpg" in names(found)
    assert NAMES[0] not in names(found)
    assert "han_refreshes_total 1.0" in web.get("/metrics").text


def test_another_table_of_another_model_takes_over(changing):
    folder, web = changing
    before = web.get("/api/search", params={"q": SENTENCE}).json()
    update(folder / "photos", folder / "index", make_model(folder / "other", seed=5), rebuild=True)
    after = web.get("/api/search", params={"q": SENTENCE}).json()
    assert len(after["hits"]) == 6
    assert {hit["id"]: hit["score"] for hit in after["hits"]} != {hit["id"]: hit["score"] for hit in before["hits"]}
    shutil.rmtree(folder / "model")
    update(folder / "photos", folder / "index", make_model(folder / "third", seed=6), rebuild=True)
    shutil.rmtree(folder / "third")  # its model is not to be had
    assert "model is not there" in error(web.get("/api/search", params={"q": SENTENCE}), 503)
    assert "model is not there" in error(web.get("/ready"), 503)
    assert web.get("/health").json()["status"] == "ok"
    make_model(folder / "third", seed=6)
    assert len(ids(web.get("/api/search", params={"q": SENTENCE}))) == 6


def test_an_index_made_anew_in_its_folder_is_taken_in(changing):
    folder, web = changing
    shutil.rmtree(folder / "index")
    assert "no such index" in error(web.get("/ready"), 503)
    assert "gone or broken" in error(web.get("/api/search", params={"q": SENTENCE}), 503)
    make_picture(folder / "photos" / "new.jpg", 77)
    update(folder / "photos", folder / "index", folder / "model")
    assert web.get("/ready").json()["photos"] == 7
    assert "new.jpg" in names(web.get("/api/search", params={"q": SENTENCE}))


def test_a_table_that_cannot_be_read_is_told_with_the_reason(changing):
    folder, web = changing
    make_picture(folder / "photos" / "new.jpg", 77)
    update(folder / "photos", folder / "index")
    for file in (folder / "index" / "photos-1" / "data").iterdir():
        file.write_bytes(file.read_bytes()[:100])
    assert "is cut off: 100 of" in error(web.get("/ready"), 503)
    assert "gone or broken" in error(web.get("/api/search", params={"q": SENTENCE}), 503)


def test_names_that_cannot_be_read_leave_the_photos_right(changing, monkeypatch):
    folder, web = changing

    def away(self):
        raise Unreadable("the storage is away")

    before = web.get("/api/facets").json()
    assert before["examples"] is not None
    monkeypatch.setattr(Index, "region_names", away)
    make_picture(folder / "photos" / "new.jpg", 77)
    (folder / "photos" / NAMES[0]).unlink()
    update(folder / "photos", folder / "index")
    found = web.get("/api/search", params={"q": SENTENCE}).json()["hits"]
    assert {hit["name"] for hit in found} == {*NAMES[1:], "new.jpg"}
    with Index.open(folder / "index") as index:
        expected = {hit.id: hit.path.relative_to(folder / "photos").as_posix() for hit in index.search(SENTENCE)}
    assert {hit["id"]: hit["name"] for hit in found} == expected
    assert web.get("/api/facets").json()["examples"] == []
    assert web.get("/ready").status_code == 200
    with client(SearchService(folder / "index")) as anew:
        assert anew.get("/ready").status_code == 200


def test_examples_come_back_after_a_change_that_was_read_by_half(changing, monkeypatch):
    folder, web = changing
    monkeypatch.setattr(SearchService, "_names", lambda _: ["dog"])
    calibration = folder / "model" / "calibration.json"
    make_picture(folder / "photos" / "new.jpg", 77)
    update(folder / "photos", folder / "index")
    calibration.write_text("{")
    assert "calibration.json" in error(web.get("/ready"), 503)
    calibration.unlink()
    assert web.get("/ready").json()["photos"] == 7
    assert web.get("/api/facets").json()["examples"] == ["dog"]


def test_a_model_that_has_moved_is_followed(changing):
    folder, web = changing
    assert ids(web.get("/api/search", params={"q": SENTENCE}))
    (folder / "model").rename(folder / "moved")
    update(folder / "photos", folder / "index", folder / "moved")
    calibrate(folder / "moved", threshold=0.1, photos=6)
    assert web.get("/api/search", params={"q": SENTENCE}).json()["hits"][0]["probability"] is not None


def test_a_model_of_the_hub_is_asked_for_once(changing, monkeypatch):
    folder, _ = changing
    asked = []
    monkeypatch.setattr(service_module, "model_folder", lambda name: asked.append(name) or folder / "model")
    with client(SearchService(folder / "index")) as web:
        for _ in range(3):
            assert web.get("/api/search", params={"q": SENTENCE}).json()["hits"]
    assert len(asked) == 1


def test_a_calibration_is_taken_in(changing):
    folder, web = changing

    def said() -> dict:
        return web.get("/api/search", params={"q": SENTENCE}).json()

    def expected(score: float) -> float:
        return 1 / (1 + np.exp(-2 * score))

    assert {hit["probability"] for hit in said()["hits"]} == {None}
    calibrate(folder / "model", threshold=0.0, photos=6)
    hits = said()["hits"]
    assert [hit["probability"] for hit in hits] == pytest.approx([expected(hit["score"]) for hit in hits], abs=2e-6)
    evidence = web.get(f"/api/photos/{hits[0]['id']}/evidence", params={"q": SENTENCE}).json()
    assert evidence["probability"] == pytest.approx(hits[0]["probability"], abs=1e-4)
    assert not said()["nothing"]
    calibrate(folder / "model", threshold=1.0, photos=6)
    assert said()["nothing"]
    assert "han_refreshes_total 2.0" in web.get("/metrics").text

    file = folder / "model" / "calibration.json"
    whole = file.read_text()
    file.write_text("{")
    assert said()["nothing"]  # by the one before
    assert "calibration.json: is cut off" in error(web.get("/ready"), 503)
    file.write_text(whole)
    assert web.get("/ready").status_code == 200
    (folder / "model").rename(folder / "moved")
    assert said()["nothing"]
    (folder / "moved").rename(folder / "model")
    without_checksums(folder / "model")
    file.unlink()
    assert {hit["probability"] for hit in said()["hits"]} == {None}


def test_a_calibration_of_other_weights_is_not(changing):
    folder, web = changing
    make_model(folder / "model", seed=5)  # in the place of those that are served
    calibrate(folder / "model", threshold=0.0, photos=6)
    assert {hit["probability"] for hit in web.get("/api/search", params={"q": SENTENCE}).json()["hits"]} == {None}


def test_another_map_of_sentences_is_taken_in(changing, monkeypatch):
    monkeypatch.setattr(ranking, "CANDIDATES", 2)  # so that it matters which they are
    folder, web = changing
    before = ids(web.get("/api/search", params={"q": SENTENCE, "k": 2}))
    model = folder / "model"
    TextMap(-torch.eye(16), torch.zeros(16)).write(model, model=folder_hash(model))
    after = ids(web.get("/api/search", params={"q": SENTENCE, "k": 2}))
    with Index.open(folder / "index") as opened:
        hits = search(opened, opened.load_model(), SENTENCE, k=2, candidates=2).hits
    assert after == [hit.id for hit in hits]
    assert set(after) != set(before)


def test_the_hub_is_asked_for_a_model_once(changing, tmp_path, monkeypatch):
    asked = []

    def download(name):
        asked.append(name)
        return tmp_path / "model"

    monkeypatch.setattr(hub, "download", download)
    with client(SearchService(tmp_path / "index", model="someone/their-model")) as web:
        for _ in range(3):  # each looks for changes
            assert web.get("/api/search", params={"q": SENTENCE}).json()["hits"]
    assert asked == ["someone/their-model"]
