"""What the server answers, from an index of drawn photos."""

from __future__ import annotations

import contextlib
import io
import json
import re
import threading
from dataclasses import fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from served import NAMES, SENTENCE, calibrate, client, error, ids, make_index, make_picture, names
from tiny_index import update

from han_retrieval.errors import QueryError
from han_retrieval.search import Hit, Index, SearchResult, search
from han_retrieval.serve import Limits, SearchService, ranking
from han_retrieval.serve import service as service_module
from han_retrieval.serve.catalogue import Catalogue
from han_retrieval.serve.pixels import PixelBudget
from han_retrieval.text import Vocabulary
from han_retrieval.text.vocabulary import SPECIAL_WORDS


def test_a_search_is_that_of_the_index(web, index):
    with Index.open(index) as opened:
        hits = search(opened, opened.load_model(), SENTENCE, k=6, exact=True).hits
    answer = web.get("/api/search", params={"q": SENTENCE})
    assert ids(answer) == [hit.id for hit in hits]
    said = answer.json()
    assert [hit["score"] for hit in said["hits"]] == pytest.approx([hit.score for hit in hits], abs=1e-5)
    assert (said["total"], said["photos"], said["unknown"]) == (6, 6, [])
    assert {hit["name"] for hit in said["hits"]} == set(NAMES)
    assert web.get("/api/search", params={"q": "a red zebra"}).json()["unknown"] == ["zebra"]


def test_pages_of_a_ranking_are_the_whole_of_it_once(web, index, monkeypatch):
    monkeypatch.setattr(ranking, "CANDIDATES", 2)  # so that there are rounds
    monkeypatch.setattr(ranking, "_GROWTH", 2)
    pages = [ids(web.get("/api/search", params={"q": SENTENCE, "first": first, "k": 2})) for first in (0, 2, 4, 6)]
    assert pages[3] == []
    assert len({photo_id for page in pages for photo_id in page}) == 6
    with client(SearchService(index)) as another:  # which has shown none of the pages before
        assert ids(another.get("/api/search", params={"q": SENTENCE, "first": 4, "k": 2})) == pages[2]


def test_filters_choose_by_folder_and_day(web):
    def found(path: str = "/api/search", **filters: str) -> set[str]:
        return names(web.get(path, params={"q": SENTENCE, **filters}))

    for path in ("/api/search", "/api/photos"):
        assert found(path, folder="trips/") == {NAMES[1], NAMES[2], NAMES[3]}  # not trips_not
        assert found(path, folder="trips") == found(path, folder="trips/")
        assert found(path, folder="trips/2024/") == {NAMES[1], NAMES[2]}
        assert found(path, since="2024-03-01", until="2024-03-01") == {NAMES[2]}
        assert found(path, since="2024-01-02") == {NAMES[2], NAMES[4]}
        assert found(path, where="path like '%''s.jpg' or width > height * 2", folder="trips/") == {NAMES[2], NAMES[3]}
        assert found(path, folder="it's none") == set()
    assert web.get("/api/search", params={"q": SENTENCE, "folder": "trips/"}).json()["total"] == 3


def test_without_a_sentence_the_newest_come_first(web):
    said = web.get("/api/photos", params={"k": 4}).json()
    dates = [hit["date"] for hit in said["hits"]]
    assert dates == ["2024-05-01 12:00:00", "2024-03-01 12:00:00", "2024-01-01 12:00:00", None]
    assert said["total"] == 6
    rest = web.get("/api/photos", params={"k": 4, "first": 4}).json()["hits"]
    assert len({hit["id"] for hit in said["hits"] + rest}) == 6


def test_facets_count_folders_with_what_is_below(web, index):
    said = web.get("/api/facets").json()
    assert [(each["folder"], each["photos"]) for each in said["folders"]] == [
        ("", 6), ("trips/", 3), ("trips/2024/", 2), ("trips_not/", 1)
    ]  # fmt: skip
    assert said["months"] == {"2024-01": 1, "2024-03": 1, "2024-05": 1}
    assert said["examples"] == []  # the model knows no name that this detector gives
    assert {each["root"] for each in said["folders"]} == {str(index.parent / "photos")}


def test_a_photo_and_why_it_matches(web, index):
    hit = web.get("/api/search", params={"q": SENTENCE}).json()["hits"][0]
    facts = web.get(f"/api/photos/{hit['id']}").json()
    assert Path(facts["path"]) == index.parent / "photos" / hit["name"]
    assert facts["copies"] == []
    pair = web.get(f"/api/photos/{hit['id']}/evidence", params={"q": f"{SENTENCE} zebra"}).json()
    (part,) = pair["parts"]
    assert (part["sentence"], part["weight"], part["score"]) == (f"{SENTENCE} zebra", 1, pair["score"])
    assert [word["word"] for word in part["words"]] == ["a", "red", "dog", "zebra"]
    assert [word["known"] for word in part["words"]] == [True, True, True, False]
    assert np.array(part["alignment"]).shape == (4, facts["regions"]) == (4, len(part["boxes"]))
    assert np.array(part["alignment"]).sum(1) == pytest.approx(np.ones(4), abs=0.01)
    shown = [each["region"] for each in pair["shown"]]
    assert shown == list(dict.fromkeys(word["region"] for word in part["words"] if word["region"] in shown))
    score = web.get(f"/api/photos/{hit['id']}/evidence", params={"q": SENTENCE}).json()["score"]
    assert score == pytest.approx(hit["score"], abs=1e-4)


def test_parts_of_a_query_are_explained_each_by_itself(web):
    query = '2 * "a red dog" - "a blue cat"'
    hit = web.get("/api/search", params={"q": query}).json()["hits"][0]

    def explained(query: str) -> dict:
        return web.get(f"/api/photos/{hit['id']}/evidence", params={"q": query}).json()

    pair = explained(query)
    assert (pair["query"], pair["probability"]) == (query, None)
    assert pair["score"] == pytest.approx(hit["score"], abs=1e-4)  # what ordered it
    assert [(part["sentence"], part["weight"]) for part in pair["parts"]] == [("a red dog", 2), ("a blue cat", -1)]
    for part in pair["parts"]:
        (alone,) = explained(part["sentence"])["parts"]
        assert part["score"] == pytest.approx(alone["score"], abs=1e-6)
        assert (part["phrases"], part["alignment"]) == (alone["phrases"], alone["alignment"])
        assert [word["match"] for word in part["words"]] == [word["match"] for word in alone["words"]]
    shown = [each["region"] for each in pair["shown"]]
    aligned = [word["region"] for part in pair["parts"] for word in part["words"]]
    assert shown == list(dict.fromkeys(region for region in aligned if region in shown))
    assert len({each["colour"] for each in pair["shown"]}) == len(shown) > 0
    for query, says in (('"a dog" - "quagga"', "knows none of the words"), ('"a dog" -', "breaks off")):
        answer = web.get(f"/api/photos/{hit['id']}/evidence", params={"q": query})
        assert says in error(answer, 422)


def test_pictures_are_upright_small_and_kept_by_browsers(changing):
    folder, web = changing
    path = folder / "photos" / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    Image.new("RGB", (900, 3000), "green").save(path, exif=exif)
    update(folder / "photos", folder / "index")
    (photo_id,) = ids(web.get("/api/photos", params={"where": "path = 'turned.jpg'"}))
    for address, size in ((f"/photos/{photo_id}.jpg", (2048, 614)), (f"/thumbnails/{photo_id}.jpg", (1200, 360))):
        answer = web.get(address)
        photo = Image.open(io.BytesIO(answer.content))
        assert (photo.format, photo.size) == ("JPEG", size)
        assert not photo.getexif()
        assert "max-age" in answer.headers["cache-control"]
        again = web.get(address, headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


def test_examples_are_of_different_things():
    names = ["thing", "brown dog", "black dog", "shirt", "blue shirt", "young man"]
    assert Catalogue(pa.table({"id": []}), names).examples == ["brown dog", "blue shirt", "young man"]
    assert Catalogue(pa.table({"id": []}), names[:3]).examples == ["brown dog", "thing"]


def test_an_original_is_the_file_itself(changing):
    folder, web = changing
    (photo_id,) = ids(web.get("/api/photos", params={"where": f"path = '{NAMES[1]}'"}))
    answer = web.get(f"/originals/{photo_id}")
    assert answer.content == (folder / "photos" / NAMES[1]).read_bytes()
    assert answer.headers["content-disposition"].startswith("attachment; ")  # nothing of it is run as a page
    assert answer.headers["content-type"] == "application/octet-stream"
    assert "max-age" in answer.headers["cache-control"]
    assert "no photo" in error(web.get("/originals/nonsense"), 404)


def test_an_original_is_viewed_as_an_image_alone(changing):
    _, web = changing
    (jpeg_id,) = ids(web.get("/api/photos", params={"where": f"path = '{NAMES[1]}'"}))
    (png_id,) = ids(web.get("/api/photos", params={"where": f"path = '{NAMES[5]}'"}))
    for photo_id, kind in ((jpeg_id, "image/jpeg"), (png_id, "image/png")):
        answer = web.get(f"/originals/{photo_id}", params={"view": True})
        assert answer.headers["content-type"] == kind
        assert answer.headers["content-disposition"].startswith("inline; ")
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_parts_of_a_query_are_told(web):
    def parts(query: str) -> list[dict]:
        answer = web.get("/api/search", params={"q": query})
        assert answer.status_code == 200, answer.text
        return answer.json()["parts"]

    sentence = {"weight": 1.0, "sentence": "a red dog", "written": None, "photo": None, "id": None}
    assert parts("a red dog") == [sentence]
    assert parts('a red dog -"blue cat"') == [sentence, {**sentence, "weight": -1.0, "sentence": "blue cat"}]
    (photo_id,) = ids(web.get("/api/photos", params={"where": "path = 'a.jpg'"}))
    photo = {**sentence, "weight": -0.5, "sentence": None, "photo": "a.jpg", "id": photo_id}
    assert parts('"a red dog" - 0.5 * a.jpg') == [sentence, photo]
    written = {**sentence, "weight": -1.0, "sentence": None, "written": "b's"}
    assert parts("a red dog -text:b's") == [sentence, written]
    assert parts("-text:b's") == [written]
    like = web.get("/api/search", params={"q": "a red dog", "like": photo_id}).json()
    assert like["parts"] == [sentence]  # of the text alone
    assert web.get("/api/photos").json()["parts"] == []


def test_a_photo_that_is_gone_or_another_is_said_to_be(changing):
    folder, web = changing
    gone, changed = (web.get("/api/photos", params={"where": f"path = '{name}'"}) for name in (NAMES[0], NAMES[2]))
    copy = make_picture(folder / "photos" / "copy of e.jpg", 4, date="2024:05:01 12:00:00")
    update(folder / "photos", folder / "index")
    (kept,) = ids(web.get("/api/photos", params={"where": f"path = '{NAMES[4]}' or path = '{copy.name}'"}))
    for photo_id in (*ids(gone), *ids(changed), kept):
        assert web.get(f"/thumbnails/{photo_id}.jpg").status_code == 200
    (folder / "photos" / NAMES[0]).unlink()
    make_picture(folder / "photos" / NAMES[2], 99)
    copy.unlink()
    # Also what was made and kept before.
    for photo_id, name in ((ids(gone)[0], NAMES[0]), (ids(changed)[0], NAMES[2])):
        for address in (
            f"thumbnails/{photo_id}.jpg",
            f"photos/{photo_id}.jpg",
            f"originals/{photo_id}",
        ):
            assert f"{name}: gone or changed" in error(web.get(f"/{address}"), 410)
    assert web.get(f"/thumbnails/{kept}.jpg").status_code == 200  # from its other file
    assert len(ids(web.get("/api/search", params={"q": SENTENCE}))) == 6


@pytest.mark.parametrize(
    ("path", "params", "status", "says"),
    [
        ("/api/search", {"q": "zebra quagga"}, 422, "knows none of the words"),
        ("/api/search", {"q": "?!"}, 422, "no words in the sentence"),
        ("/api/search", {}, 422, "q: "),
        ("/api/search", {"q": SENTENCE, "k": 201}, 422, "k: should be less than or equal to 200"),
        ("/api/search", {"q": SENTENCE, "k": 0}, 422, "k: should be greater"),
        ("/api/search", {"q": SENTENCE, "first": -1}, 422, "first: "),
        ("/api/search", {"q": SENTENCE, "first": 10_001}, 422, "first: "),
        ("/api/search", {"q": "dog " * 251}, 422, "q: "),
        ("/api/search", {"q": SENTENCE, "since": "yesterday"}, 422, "since: "),
        ("/api/search", {"q": SENTENCE, "where": "colour = 1"}, 422, "'colour' is not known"),
        ("/api/photos", {"where": "levenshtein(path, id) > 0"}, 422, "'levenshtein' is not known"),
        ("/api/photos", {"where": "true) or (true", "folder": "trips/"}, 422, "a bracket is not opened"),
        ("/api/photos/none", {}, 404, "no photo 'none'"),
        ("/api/photos/none/evidence", {"q": SENTENCE}, 404, "no photo 'none'"),
        ("/photos/none.jpg", {}, 404, "no photo 'none'"),
        ("/photos/..%2F..%2Fetc%2Fpasswd.jpg", {}, 404, ""),
        ("/static/..%2Fengine.py", {}, 404, ""),
        ("/nowhere", {}, 404, "Not Found"),
    ],
)
def test_what_is_wrong_is_one_line(web, path, params, status, says):
    assert says in error(web.get(path, params=params), status)


@pytest.mark.parametrize("words", [None, Vocabulary((*SPECIAL_WORDS, "a", "red", "blue", "dog", "#"))])
def test_it_starts_whatever_the_model_s_words_are(index, words):
    service = SearchService(index)
    service._model.vocabulary = words
    service.warm_up()
    service.close()


def test_an_empty_index_answers(tmp_path):
    index = make_index(tmp_path, photos=1)
    (tmp_path / "photos" / NAMES[0]).rename(tmp_path / "elsewhere.jpg")
    update(None, index, forget=[tmp_path / "photos"])
    service = SearchService(index)
    service.warm_up()
    with client(service) as web:
        for path in ("/api/search", "/api/photos"):
            said = web.get(path, params={"q": SENTENCE}).json()
            assert (said["hits"], said["photos"], said["total"]) == ([], 0, 0)
        assert web.get("/api/facets").json() == {"photos": 0, "folders": [], "months": {}, "examples": []}
        assert web.get("/ready").json() == {"status": "ready", "photos": 0}


def test_requests_at_once_each_get_their_own_answer(web):
    sentences = ["a red dog", "a blue cat", "a dog", "blue", "a cat", "red"] * 4
    alone = {sentence: ids(web.get("/api/search", params={"q": sentence})) for sentence in set(sentences)}
    answers: dict[int, list[str]] = {}

    def ask(i: int) -> None:
        # Each of another number, so that none is answered from what was ranked before.
        answers[i] = ids(web.get("/api/search", params={"q": sentences[i], "where": f"width > {-i}"}))

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(len(sentences))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answers[i] for i in range(len(sentences))] == [alone[sentence] for sentence in sentences]


@pytest.mark.parametrize("limits", [Limits(waiting=1), Limits(seconds=0.3)])
def test_who_comes_when_too_many_wait_is_told_so(index, monkeypatch, limits):
    service = SearchService(index)
    begun, go_on = threading.Event(), threading.Event()

    def slow(*args: object, **options: object) -> object:
        begun.set()
        assert go_on.wait(20)
        return original(*args, **options)

    original = service.search
    monkeypatch.setattr(service, "search", slow)
    with client(service, limits=limits) as web:
        first = threading.Thread(target=lambda: ids(web.get("/api/search", params={"q": SENTENCE})))
        first.start()
        assert begun.wait(20)
        refused = web.get("/api/search", params={"q": SENTENCE})
        assert web.get("/health").status_code == 200  # the loop is free
        assert web.get(f"/thumbnails/{service.catalogue.facts(0)['id']}.jpg").status_code == 200  # and photos are
        go_on.set()
        first.join()
        assert "too many requests" in error(refused, 503)
        assert refused.headers["retry-after"] == "1"
        assert web.get("/api/search", params={"q": SENTENCE}).status_code == 200


def test_a_search_that_takes_too_long_is_given_up(web, monkeypatch):
    monkeypatch.setattr(service_module, "_LONGEST_SECONDS", -1.0)
    assert "this takes too long" in error(web.get("/api/search", params={"q": SENTENCE}), 422)
    monkeypatch.undo()
    assert len(ids(web.get("/api/search", params={"q": SENTENCE}))) == 6


def test_rounds_are_smaller_after_one_that_took_too_long(monkeypatch):
    monkeypatch.setattr(ranking, "CANDIDATES", 10)
    asked, ranked = [], ranking.Ranking(1000)
    hits = [Hit(**{each.name: None for each in fields(Hit)} | {"row": row}) for row in range(1000)]

    def rank(depth):
        asked.append(depth)
        if depth > ranked.depth + 60:
            raise QueryError("this takes too long")
        return SearchResult(hits[:depth], False, {})

    for _ in range(40):
        with contextlib.suppress(QueryError):
            ranked.grow(300, rank)
    assert asked[:6] == [10, 40, 160, 70, 280, 122]
    assert [hit.row for hit in ranked.hits][:300] == list(range(300))


def test_a_thumbnail_that_is_kept_waits_for_no_large_photo(web, monkeypatch):
    (photo_id, *_) = ids(web.get("/api/photos"))
    first = web.get(f"/thumbnails/{photo_id}.jpg")

    @contextlib.asynccontextmanager
    async def full(*_):
        pytest.fail("it would wait")
        yield

    monkeypatch.setattr(PixelBudget, "take", full)
    assert web.get(f"/thumbnails/{photo_id}.jpg").content == first.content


def test_metrics_tell_requests_by_their_routes(web):
    web.get("/api/search", params={"q": SENTENCE})
    web.get("/photos/none.jpg")
    said = web.get("/metrics").text
    assert 'han_request_seconds_count{route="/api/search",status="200"} 1.0' in said
    assert 'han_request_seconds_count{route="/photos/{photo_id}.jpg",status="404"} 1.0' in said
    assert 'han_stage_seconds_count{stage="rank"} 1.0' in said
    assert "han_photos 6.0" in said
    assert "han_waiting_requests 0.0" in said


def test_the_api_is_described(web):
    paths = web.get("/openapi.json").json()["paths"]
    assert {"/api/search", "/api/photos/{photo_id}/evidence", "/thumbnails/{photo_id}.jpg", "/health"} <= set(paths)
    assert all(each["get"].get("description") for path, each in paths.items() if "get" in each)


def test_numbers_have_six_digits_and_times_four_decimals(web):
    def digits(number: str) -> int:
        return len(number.partition("e")[0].replace(".", "").lstrip("-0"))

    text = web.get("/api/search", params={"q": SENTENCE}).text
    said = json.loads(text, parse_float=str)
    assert all(digits(hit["score"]) <= 6 for hit in said["hits"])
    assert said["seconds"]
    assert all(re.fullmatch(r"\d+\.\d{1,4}", each) for each in said["seconds"].values())
    pair = web.get(f"/api/photos/{said['hits'][0]['id']}/evidence", params={"q": SENTENCE}).text
    evidence = json.loads(pair, parse_float=str)
    assert all(digits(word["match"]) <= 6 for word in evidence["parts"][0]["words"])


def test_words_that_the_model_does_not_know_claim_nothing(changing):
    folder, web = changing
    calibrate(folder / "model", threshold=0.0, photos=6)

    def said(query: str) -> tuple[dict, set, dict]:
        answer = web.get("/api/search", params={"q": query}).json()
        pair = web.get(f"/api/photos/{answer['hits'][0]['id']}/evidence", params={"q": query}).json()
        return answer, {(hit["probability"], hit["match"]) for hit in answer["hits"]}, pair

    answer, fits, pair = said("ein a Hund")
    assert (answer["nothing"], fits) == (True, {(None, "weak")})
    assert answer["knows"] == "the words of its training captions"
    assert (pair["probability"], pair["match"]) == (None, "weak")
    answer, fits, pair = said("a red dog and a zebra")
    assert (answer["nothing"], answer["knows"], fits) == (False, None, {(None, "weak")})
    assert (pair["probability"], pair["match"]) == (None, "weak")
    assert said("the red dog")[0]["hits"][0]["probability"] is not None  # an article names nothing


def test_what_is_written_alone_has_no_score(web):
    hits = web.get("/api/search", params={"q": "text:jpg"}).json()["hits"]
    assert hits
    assert {hit["score"] for hit in hits} == {None}
