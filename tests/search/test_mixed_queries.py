"""Sentences and photos in one query."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from commands import run_han
from tiny_index import SENTENCE, FakeDetector, make_model, make_photo, make_photos, update

from han_retrieval.data import open_photo
from han_retrieval.errors import HANError
from han_retrieval.search import Index, Part, search
from han_retrieval.search.calibration import Calibration

COUNT = 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixed")
    make_photos(folder / "photos", COUNT)
    update(folder / "photos", folder / "index", make_model(folder / "model"))
    make_photo(folder / "an other.png", 90)
    return folder


@pytest.fixture(scope="module")
def index(folder):
    return Index.open(folder / "index", detector=FakeDetector())


def by_hand(index, photo) -> np.ndarray:
    """The score of a photo as a part, for all photos of the index."""
    scores = {hit.row: 2 * hit.score - 1 for hit in index.similar(photo, k=COUNT, exact=True, keep_itself=True)}
    return np.array([scores[row] for row in range(len(index))])


def of_sentence(index, sentence) -> np.ndarray:
    scores = {hit.row: hit.score for hit in index.search(sentence, k=COUNT, exact=True)}
    return np.array([scores[row] for row in range(len(index))])


def test_the_score_is_the_weighted_sum_of_sentences_and_photos(folder, index):
    other = folder / "an other.png"
    wanted = of_sentence(index, SENTENCE) + 0.5 * by_hand(index, other) - by_hand(index, 3)
    order = [row for row in np.argsort(-wanted) if row != 3]  # a photo of the query is left out
    text = f'"{SENTENCE}" + 0.5 * photo:"{other}" - 003.png'
    parts = [Part(SENTENCE), Part(photo=other, weight=0.5), Part(photo=3, weight=-1.0)]
    regions = FakeDetector().detect([open_photo(other)])[0]
    by_pixels = [Part(SENTENCE), Part(photo=open_photo(other), weight=0.5), Part(photo=3, weight=-1.0)]
    by_regions = [Part(SENTENCE), Part(photo=regions, weight=0.5), Part(photo=3, weight=-1.0)]
    for query in (text, parts, by_pixels, by_regions):
        found = index.search(query, k=COUNT, exact=True)
        assert [hit.row for hit in found] == order
        assert [hit.score for hit in found] == pytest.approx(wanted[order].tolist(), abs=1e-5)


def test_a_photo_alone_orders_as_similar_does(index):
    alone = index.search("003.png", k=COUNT)
    similar = index.similar(3, k=COUNT)
    assert [hit.row for hit in alone] == [hit.row for hit in similar]
    assert [hit.score for hit in alone] == pytest.approx([2 * hit.score - 1 for hit in similar])


def test_candidates_are_those_of_the_weighted_sum_of_vectors(index):
    words, mask = index.model.words([SENTENCE])
    with torch.no_grad():
        mean = index.model.encode_texts(words, mask)[0].mean(0)
    vector = torch.nn.functional.normalize(mean, dim=0).numpy() + index.pooled[3]
    order = [row for row in np.argsort(-(index.pooled @ vector)) if row != 3]
    found = index.search(f'"{SENTENCE}" + 003.png', k=5, candidates=5)
    assert {hit.row for hit in found} == set(order[:5])


def test_probabilities_are_of_sentences_alone(index):
    shares = dict.fromkeys(("slope", "intercept", "threshold", "precision", "recall", "answered_without", "error"), 0.5)
    counts = dict.fromkeys(("photos", "sentences", "shown", "pairs"), 7)
    calibration = Calibration(**shares, **counts, reliability=(), split=None, model="")
    for query, known in ((SENTENCE, True), ([Part(photo=3)], False), ([Part(SENTENCE), Part(photo=3)], False)):
        found = search(index, index.model, query, calibration=calibration)
        assert all((hit.probability is not None) == known for hit in found)


def test_what_cannot_be_used_is_one_line(index):
    with pytest.raises(HANError, match=r"^gone\.jpg: no such photo, neither a file nor in the index$"):
        index.search('"a dog" + gone.jpg')
    with pytest.raises(HANError, match="a sentence or a photo, not both"):
        index.search([Part("a dog", photo=3)])
    with pytest.raises(HANError, match="has 9 photos; at most 8"):
        index.search([Part(photo=3)] * 9)
    with pytest.raises(HANError, match="photo of the query has no name"):
        index.search('photo:"" + "a dog"')
    with pytest.raises(TypeError, match="by its row or its regions"):
        search(index, index.model, "003.png")


def test_the_command_takes_it(folder, index, capsys):
    query = f'"{SENTENCE}" + 003.png'
    code, out, _ = run_han(capsys, "search", folder / "index", query, "-k", 3, "--json")
    assert code == 0
    found = json.loads(out)
    assert [hit["id"] for hit in found["hits"]] == [hit.id for hit in index.search(query, k=3)]
    assert [each["sentence"] for each in found["hits"][0]["evidence"]] == [SENTENCE]
    code, out, err = run_han(capsys, "search", folder / "index", '"a dog" - gone.jpg')
    assert (code, out) == (2, "")
    assert "gone.jpg: no such photo, neither a file nor in the index" in err
