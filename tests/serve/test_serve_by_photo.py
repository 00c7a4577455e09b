"""Asking with a photo: of the index, or one that is sent."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from PIL import Image
from served import NAMES, SENTENCE, calibrate, client, jpeg, make_index
from tiny_index import FakeDetector, make_model, update

from han_retrieval.data import open_photo
from han_retrieval.data.packed import PhotoBytes
from han_retrieval.data.photos import MOST_PIXELS
from han_retrieval.search import Index, Part, similar
from han_retrieval.serve import Limits, SearchService, uploads
from han_retrieval.serve import service as service_module

LIMITS = Limits(upload_bytes=100_000, upload_pixels=100_000, upload_pixels_other=10_000, sentences=3, words=9, query=50)


def png(size: tuple[int, int]) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size).save(buffer, "PNG")
    return buffer.getvalue()


PNG = png((101, 100))


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    return make_index(tmp_path_factory.mktemp("by-photo"))


@pytest.fixture
def detector():
    return FakeDetector()


@pytest.fixture
def web(index, detector):
    with client(SearchService(index, detector=detector), limits=LIMITS) as web:
        yield web


@pytest.fixture
def asked(index, detector):
    """A client that may ask longer queries."""
    with client(SearchService(index, detector=detector)) as asked:
        yield asked


def error(answer, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["error"]
    assert "\n" not in answer.json()["error"]
    return answer.json()["error"]


def found(answer) -> list[tuple[str, float]]:
    assert answer.status_code == 200, answer.text
    return [(hit["id"], hit["score"]) for hit in answer.json()["hits"]]


def test_photos_like_one_of_the_index_are_those_of_similar(web, index):
    with Index.open(index) as opened:
        photo_id, own = opened.photos["id"][2].as_py(), opened.photos["path"][2].as_py()
        hits = similar(opened, opened.load_model(), 2, exact=True).hits
    answer = web.get(f"/api/photos/{photo_id}/similar")
    assert [each for each, _ in found(answer)] == [hit.id for hit in hits]
    assert [score for _, score in found(answer)] == pytest.approx([hit.score for hit in hits], abs=1e-5)
    assert answer.json()["total"] == 5  # without itself
    assert {hit["probability"] for hit in answer.json()["hits"]} == {None}
    some = web.get(f"/api/photos/{photo_id}/similar", params={"folder": "trips/", "k": 1, "first": 1}).json()
    assert some["total"] == 3 - own.startswith("trips/")
    assert "no photo" in error(web.get("/api/photos/none/similar"), 404)


def test_a_photo_of_the_index_is_a_part_of_a_query(asked, index):
    with Index.open(index) as opened:
        ids, paths = opened.photos["id"].to_pylist(), opened.photos["path"].to_pylist()
        wanted = opened.search([Part("a red dog"), Part(photo=2, weight=-0.5)], exact=True)
        added = opened.search([Part("a dog"), Part(photo=2)], exact=True)
    for name in (ids[2], f'"{paths[2]}"'):
        answer = asked.get("/api/search", params={"q": f'"a red dog" - 0.5 * photo:{name}'})
        assert [each for each, _ in found(answer)] == [hit.id for hit in wanted]
        assert [score for _, score in found(answer)] == pytest.approx([hit.score for hit in wanted], abs=1e-5)
        assert answer.json()["total"] == 5  # without itself
    assert [each for each, _ in found(asked.get("/api/search", params={"q": "a dog", "like": ids[2]}))] == [
        hit.id for hit in added
    ]
    assert "no photo" in error(asked.get("/api/search", params={"q": "a dog", "like": "none"}), 404)

    best = wanted[0]
    evidence = asked.get(f"/api/photos/{best.id}/evidence", params={"q": f'"a red dog" - 0.5 * photo:{ids[2]}'}).json()
    assert evidence["score"] == pytest.approx(best.score, abs=1e-5)
    assert [part["sentence"] for part in evidence["parts"]] == ["a red dog"]
    assert [(part["id"], part["weight"]) for part in evidence["photos"]] == [(ids[2], -0.5)]
    assert evidence["probability"] is None


def test_no_file_of_the_server_is_looked_at(asked, index, tmp_path):
    own = tmp_path / "own.jpg"
    own.write_bytes(jpeg(7))
    copy = next(path for path in (index.parent / "photos").rglob("a.jpg"))
    (tmp_path / "copy.jpg").write_bytes(copy.read_bytes())  # which find() would know by its content
    for name in (own, tmp_path / "copy.jpg", "/etc/passwd", "gone.jpg"):
        for route in ("/api/search", "/api/photos/{}/evidence"):
            path = route.format(asked.get("/api/photos").json()["hits"][0]["id"])
            said = error(asked.get(path, params={"q": f'"a dog" + photo:"{name}"'}), 422)
            assert said.startswith("the index has no photo")
    assert error(asked.get("/api/search", params={"q": '"a dog" + photo:upload'}), 422).startswith("the index has no")
    # Evidence leaves the photo out that was sent with the search.
    found = asked.get(path, params={"q": '"a dog" + photo:upload'}).json()
    assert (len(found["parts"]), found["photos"]) == (1, [])
    for query in ("photo:upload", "text:jpg"):
        answer = asked.get(path, params={"q": query}).json()
        assert (answer["parts"], answer["photos"], answer["shown"]) == ([], [], [])
    answer = asked.get(path, params={"q": f"photo:{copy.relative_to(index.parent / 'photos').as_posix()}"}).json()
    assert (answer["parts"], len(answer["photos"]), answer["shown"]) == ([], 1, [])


def test_a_photo_that_is_sent_is_a_part_of_a_query(asked, index, detector):
    file = {"photo": ("mine.jpg", jpeg(1))}
    regions = FakeDetector().detect([open_photo(PhotoBytes("mine.jpg", jpeg(1)))])[0]
    with Index.open(index) as opened:
        added = opened.search([Part("a dog"), Part(photo=regions)], exact=True)
        named = opened.search([Part("a dog"), Part(photo=regions, weight=-0.5)], exact=True)
    answer = asked.post("/api/search", files=file, data={"q": "a dog"})
    assert [score for _, score in found(answer)] == pytest.approx([hit.score for hit in added], abs=1e-5)
    assert "detect" in answer.json()["seconds"]
    answer = asked.post(
        "/api/search", files=file, data={"q": '"a dog" - 0.5 * photo:upload'}, params={"k": 2, "first": 1}
    )
    assert [each for each, _ in found(answer)] == [hit.id for hit in named][1:3]
    path = f"/api/photos/{named[0].id}/evidence"  # to which the photo is not sent again
    evidence = asked.get(path, params={"q": '"a dog" - 0.5 * photo:upload'}).json()
    assert [part["sentence"] for part in evidence["parts"]] == ["a dog"]
    assert detector.seen == 1
    with Index.open(index) as opened:
        own, photo_id = opened.files(2)[0].read_bytes(), opened.photos["id"][2].as_py()
    answer = asked.post("/api/search", files={"photo": ("same.jpg", own)}, data={"q": "a dog"})
    assert found(answer) == found(asked.get("/api/search", params={"q": "a dog", "like": photo_id}))
    assert "broken.jpg: not an image" in error(
        asked.post("/api/search", files={"photo": ("broken.jpg", b"x")}, data={"q": "a dog"}), 422
    )


def test_a_photo_that_is_sent_is_looked_at_once(web, detector, monkeypatch):
    decoded, decode = [0], uploads._decode

    def counting(*given):
        decoded[0] += 1
        return decode(*given)

    monkeypatch.setattr(uploads, "_decode", counting)
    file = {"photo": ("mine.jpg", jpeg(1))}
    first = found(web.post("/api/similar", files=file, params={"k": 4}))
    rest = found(web.post("/api/similar", files=file, params={"k": 4, "first": 4}))
    assert len({photo_id for photo_id, _ in first + rest}) == 6
    scores = [score for _, score in first + rest]
    assert scores == sorted(scores, reverse=True)
    assert detector.seen == 1
    assert decoded == [1]
    assert 'han_stage_seconds_count{stage="detect"} 2.0' in web.get("/metrics").text


def test_an_upload_may_have_as_many_pixels_as_any_photo():
    limits = Limits()
    assert limits.upload_pixels == MOST_PIXELS >= 12032 * 9024  # of phones
    assert limits.upload_pixels_other <= MOST_PIXELS
    code = "from han_retrieval.serve.limits import Limits; print(Limits().upload_pixels, Limits().upload_pixels_other)"
    environment = {**os.environ, "HAN_MOST_PIXELS": "20000000"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["20000000", "20000000"]


def test_uploads_are_decoded_one_after_the_other(web, monkeypatch):
    threads, decode = [], uploads._decode

    def read(*args):
        threads.append(threading.current_thread().name)
        return decode(*args)

    monkeypatch.setattr(uploads, "_decode", read)
    for seed, path in enumerate(("/api/similar", "/api/captions")):
        file = {"photo": ("mine.jpg", jpeg(seed))}
        assert web.post(path, files=file, data={"sentences": SENTENCE}).status_code == 200
    assert threads == ["model_0"] * 2  # in their turns, of which there is one at a time


def test_an_upload_is_looked_at_again_by_another_detector(tmp_path, monkeypatch):
    index = make_index(tmp_path, photos=2)
    monkeypatch.setattr(service_module, "_CHECK_SECONDS", 0.0)
    detectors = {}
    load = lambda name, **_: detectors.setdefault(name, FakeDetector(name))  # noqa: E731
    monkeypatch.setattr(service_module, "detector_for", load)
    with client(SearchService(index)) as web:
        file = {"photo": ("mine.jpg", jpeg(1))}
        found(web.post("/api/similar", files=file))
        other = make_model(tmp_path / "other", fingerprint="fake:2")
        update(None, index, other, detector=FakeDetector("fake:2"), rebuild=True)
        found(web.post("/api/similar", files=file))
    assert {name: detector.seen for name, detector in detectors.items()} == {"fake:1": 1, "fake:2": 1}


def test_a_photo_of_the_index_that_is_sent_is_known(web, index, detector, monkeypatch):
    monkeypatch.setattr(uploads, "_decode", lambda *_: pytest.fail("its regions are known"))
    content = (index.parent / "photos" / NAMES[0]).read_bytes()
    hits = web.post("/api/similar", files={"photo": ("again.jpg", content)}).json()["hits"]
    assert NAMES[0] not in {hit["name"] for hit in hits}
    assert len(hits) == 5
    assert detector.seen == 0


def test_sentences_are_ranked_for_a_photo(web):
    photo_id = web.get("/api/photos").json()["hits"][0]["id"]
    sentences = "a red dog\n\na quagga\n a blue cat \n"
    said = web.post("/api/captions", data={"id": photo_id, "sentences": sentences}).json()
    assert {each["sentence"] for each in said["captions"]} == {"a red dog", "a blue cat"}
    assert said["left_out"] == ["a quagga"]
    for each in said["captions"]:
        pair = web.get(f"/api/photos/{photo_id}/evidence", params={"q": each["sentence"]}).json()
        assert each["score"] == pytest.approx(pair["score"], abs=1e-4)
    scores = [each["score"] for each in said["captions"]]
    assert scores == sorted(scores, reverse=True)
    sent = web.post("/api/captions", data={"sentences": sentences}, files={"photo": ("x.jpg", jpeg(2))}).json()
    assert len(sent["captions"]) == 2


@pytest.mark.parametrize(
    ("path", "content", "status", "says"),
    [
        ("/api/similar", b"no photo", 422, "mine.jpg: not an image"),
        ("/api/similar", b"", 422, "mine.jpg: the file is empty"),
        ("/api/similar", jpeg(1)[:-200], 422, "mine.jpg: "),
        ("/api/similar", jpeg(1, size=(401, 250)), 422, "mine.jpg: 401 x 250 pixels, more than the limit of 100,000"),
        ("/api/similar", PNG, 422, "mine.jpg: 101 x 100 pixels, more than the limit of 10,000; a JPEG may have more"),
        ("/api/similar", bytes(100_001), 413, "larger than the limit"),
        ("/api/captions", bytes(100_001), 413, "larger than the limit"),
    ],
)
def test_uploads_that_cannot_be_taken(web, path, content, status, says):
    answer = web.post(path, files={"photo": ("mine.jpg", content)}, data={"sentences": SENTENCE})
    assert says in error(answer, status)


def test_an_upload_that_hides_its_length_is_stopped(web):
    def body():
        yield b'--x\r\nContent-Disposition: form-data; name="photo"; filename="mine.jpg"\r\n\r\n'
        for _ in range(50):
            yield bytes(10_000)

    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    assert "larger than the limit" in error(web.post("/api/similar", content=body(), headers=headers), 413)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"sentences": "a\nb\nc\nd", "id": "x"}, "at most 3"),
        ({"sentences": "a" * 51, "id": "x"}, "at most 50 characters"),
        ({"sentences": " \n", "id": "x"}, "none was sent"),
        ({"sentences": "a dog\na b c d e f g h", "id": "x"}, "at most 9 words together"),
        ({"sentences": SENTENCE}, "send one photo"),
        ({"id": "x"}, "sentences: "),
    ],
)
def test_sentences_that_cannot_be_ranked(web, data, says):
    assert says in error(web.post("/api/captions", data=data), 422)


def test_a_calibrated_model_gives_probabilities(tmp_path):
    index = make_index(tmp_path)
    with Index.open(index) as opened:
        calibrate(tmp_path / "model", threshold=1.0, photos=len(opened))
    with client(SearchService(index)) as web:
        said = web.get("/api/search", params={"q": SENTENCE}).json()
        assert said["nothing"]
        for hit in said["hits"]:
            assert hit["probability"] == pytest.approx(1 / (1 + np.exp(-2 * hit["score"])), abs=2e-6)  # of 6 digits
            assert hit["match"] == ("strong" if hit["probability"] >= 0.25 else "likely")
        pair = web.get(f"/api/photos/{said['hits'][0]['id']}/evidence", params={"q": SENTENCE}).json()
        assert pair["probability"] == pytest.approx(said["hits"][0]["probability"], abs=1e-4)
        parts = web.get("/api/search", params={"q": '"a dog" - "a quagga cat"'}).json()
        assert (parts["hits"][0]["match"], parts["nothing"], parts["unknown"]) == (None, False, ["quagga"])
        assert "closing quotation mark" in error(web.get("/api/search", params={"q": '"a dog'}), 422)


def test_pairs_of_regions_say_why_a_photo_is_similar(web, index):
    asked = web.get("/api/photos").json()["hits"][0]["id"]
    listed = dict(found(web.get(f"/api/photos/{asked}/similar")))
    other = next(iter(listed))
    answer = web.get(f"/api/photos/{asked}/similar/{other}").json()
    assert answer["score"] == pytest.approx(listed[other], abs=1e-5)
    details = [web.get(f"/api/photos/{each}").json() for each in (asked, other)]
    assert (answer["width"], answer["height"]) == (details[0]["width"], details[0]["height"])
    assert (answer["other_width"], answer["other_height"]) == (details[1]["width"], details[1]["height"])
    cosines = [pair["cosine"] for pair in answer["pairs"]]
    assert 0 < len(cosines) <= 5
    assert cosines == sorted(cosines, reverse=True)
    with Index.open(index) as opened:
        rows = [opened.row(each) for each in (asked, other)]
        boxes = [regions.boxes.round(1).tolist() for regions in opened.regions(rows)]
        tokens, _ = opened.tokens(rows)
    for pair in answer["pairs"]:
        i, j = boxes[0].index(pair["box"]), boxes[1].index(pair["other_box"])
        cosine = float(torch.cosine_similarity(tokens[0, i], tokens[1, j], dim=0))
        assert pair["cosine"] == pytest.approx(cosine, abs=1e-5)
    assert len({pair["colour"] for pair in answer["pairs"]}) == len(cosines)

    itself = web.get(f"/api/photos/{asked}/similar/{asked}").json()
    assert all(pair["box"] == pair["other_box"] for pair in itself["pairs"])
    assert "no photo" in error(web.get(f"/api/photos/{asked}/similar/none"), 404)
    assert "no photo" in error(web.get(f"/api/photos/none/similar/{asked}"), 404)


def test_pairs_of_regions_with_a_photo_that_is_sent(web):
    (other, score), *_ = found(web.post("/api/similar", files={"photo": ("mine.jpg", jpeg(1))}))
    answer = web.post(f"/api/similar/{other}", files={"photo": ("mine.jpg", jpeg(1))}).json()
    assert answer["score"] == pytest.approx(score, abs=1e-5)
    assert (answer["width"], answer["height"]) == (64, 48)
    assert answer["pairs"]
    assert "not an image" in error(web.post(f"/api/similar/{other}", files={"photo": ("no.jpg", b"no")}), 422)
    assert "no photo" in error(web.post("/api/similar/none", files={"photo": ("mine.jpg", jpeg(1))}), 404)
