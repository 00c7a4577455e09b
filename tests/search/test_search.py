"""Sentences to photos."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from tiny_index import SENTENCE, FakeDetector, make_model, make_photo, make_photos, update

from han_retrieval.errors import HANError, QueryError, StoreError
from han_retrieval.evidence import evidence_from_index
from han_retrieval.search import Index, Part, rank_captions, search
from han_retrieval.search.calibration import Calibration
from han_retrieval.search.opened import Unreadable

COUNT = 30


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    folder = tmp_path_factory.mktemp("search")
    photos = make_photos(folder / "photos", COUNT)
    for i in range(3):
        make_photo(photos / "trips" / f"{i}.png", 100 + i)
    update(photos, folder / "index", make_model(folder / "model"))
    return Index.open(folder / "index")


@pytest.fixture(scope="module")
def model(index):
    return index.load_model()


def brute_force(index, model, sentence=SENTENCE) -> np.ndarray:
    """Scores of all photos by the plain forward, one at a time."""
    ids, mask = model.words([sentence])
    with torch.no_grad():
        words = model.encode_texts(ids, mask)
        pairs = (index.tokens([row]) for row in range(len(index)))
        return np.array([float(model.score(*pair, words, mask, backend="reference")) for pair in pairs])


def test_exact_is_brute_force(index, model):
    scores = brute_force(index, model)
    hits = search(index, model, SENTENCE, k=COUNT + 3, exact=True).hits
    assert [hit.row for hit in hits] == list(np.argsort(-scores))
    assert np.allclose([hit.score for hit in hits], scores[[hit.row for hit in hits]], atol=1e-5)
    top = search(index, model, SENTENCE, k=4, exact=True).hits
    assert [hit.row for hit in top] == [hit.row for hit in hits[:4]]
    for hit in top:
        wanted = index.photos.slice(hit.row, 1).to_pylist()[0]
        assert (str(hit.path.name), hit.id, hit.copies) == (wanted["path"].rpartition("/")[2], wanted["id"], ())
        assert hit.path.is_file()
        assert len(hit.boxes) == len(hit.labels) == wanted["regions"]


@pytest.mark.parametrize(("waits", "threads"), [("passive", 1), ("active", 3)])
def test_a_sentence_has_one_thread_where_threads_sleep(index, model, monkeypatch, waits, threads):
    monkeypatch.setenv("OMP_WAIT_POLICY", waits)
    before, encode, seen = torch.get_num_threads(), model.encode_texts, []
    monkeypatch.setattr(model, "encode_texts", lambda *of: (seen.append(torch.get_num_threads()), encode(*of))[1])
    torch.set_num_threads(3)
    try:
        search(index, model, SENTENCE)
        assert (seen, torch.get_num_threads()) == ([threads], 3)
    finally:
        torch.set_num_threads(before)


def test_enough_candidates_give_what_exact_gives(index, model):
    exact = search(index, model, SENTENCE, exact=True).hits
    for candidates in (len(index), 1000):
        found = search(index, model, SENTENCE, candidates=candidates).hits
        assert [(hit.row, hit.score) for hit in found] == [(hit.row, hit.score) for hit in exact]
    few = search(index, model, SENTENCE, k=3, candidates=1).hits
    assert len(few) == 3  # never fewer than k
    scores = {hit.row: hit.score for hit in search(index, model, SENTENCE, k=1000, exact=True).hits}
    assert len(scores) == len(index)  # and k beyond the index is all of it
    assert all(hit.score == pytest.approx(scores[hit.row], abs=1e-5) for hit in few)


def test_candidates_are_the_nearest_pooled_vectors(index, model):
    queries = torch.nn.functional.normalize(torch.randn(3, 16, generator=torch.Generator().manual_seed(0)), dim=1)
    products = queries.numpy() @ index.pooled.T
    rows, near = index.candidates(queries, 5)
    assert np.array_equal(rows, np.argsort(-products, axis=1)[:, :5])
    assert np.allclose(near, -np.sort(-products, axis=1)[:, :5])
    some = np.array([2, 7, 11, 19])
    rows, near = index.candidates(queries, 9, rows=some)
    assert np.array_equal(rows, some[np.argsort(-products[:, some], axis=1)])
    rows, _ = index.candidates(queries, 5, rows=np.empty(0, np.int64))
    assert rows.shape == (3, 0)


def test_a_condition_chooses_what_is_ranked(index, model):
    wanted = [hit.row for hit in search(index, model, SENTENCE, k=100, exact=True).hits]
    for where in ("folder like 'trips/%'", "path in ('003.png', '004.png')", "width > height and folder = ''"):
        rows = index.filter(where)
        for options in ({"exact": True}, {}, {"candidates": len(rows)}):
            hits = search(index, model, SENTENCE, k=100, where=where, **options).hits
            assert [hit.row for hit in hits] == [row for row in wanted if row in rows]
    assert search(index, model, SENTENCE, where="width > 100").hits == []
    nearest = search(index, model, SENTENCE, k=1, candidates=1, where="folder like 'trips/%'").hits
    assert nearest[0].path.parent.name == "trips"


@pytest.mark.parametrize("where", ["nonsense = 3", "folder like", "1", "date >", "width + 'x'", "", "size = 'a'"])
def test_a_condition_that_is_none_is_one_clear_line(index, where):
    with pytest.raises(HANError) as error:
        index.filter(where)
    assert "\n" not in str(error.value)
    assert "/home" not in str(error.value)
    assert "it may hold the columns id, root, path, folder, mtime, size, width, height" in str(error.value)


PARTS = [Part("a red dog"), Part("a cat", -0.5), Part("blue", 2.0)]


def test_parts_are_ordered_by_the_weighted_sum_of_their_scores(index, model):
    wanted = sum(part.weight * brute_force(index, model, part.text) for part in PARTS)
    found = search(index, model, '"a red dog" - 0.5 * "a cat" + 2 * "blue"', k=len(index), exact=True)
    assert [hit.row for hit in found.hits] == list(np.argsort(-wanted))
    assert np.allclose([hit.score for hit in found.hits], wanted[[hit.row for hit in found.hits]], atol=1e-5)
    again = search(index, model, PARTS, k=len(index), exact=True)
    assert [(hit.row, hit.score) for hit in again.hits] == [(hit.row, hit.score) for hit in found.hits]


def test_candidates_of_parts_are_those_of_the_weighted_sum_of_vectors(index, model):
    with torch.no_grad():
        encoded = [model.encode_texts(*model.words([part.text]))[0] for part in PARTS]
    pooled = sum(
        part.weight * torch.nn.functional.normalize(tokens.mean(0), dim=0)
        for part, tokens in zip(PARTS, encoded, strict=True)
    )
    wanted = set(np.argsort(-(index.pooled @ pooled.numpy()))[:7].tolist())
    assert {hit.row for hit in search(index, model, PARTS, k=7, candidates=7).hits} == wanted


def test_a_query_that_asks_for_nothing_is_refused(index, model):
    with pytest.raises(HANError, match="asks for nothing"):
        search(index, model, [Part("a dog", -1.0)])
    with pytest.raises(HANError, match="knows none of the words in 'zebra'"):
        search(index, model, '"a dog" - "zebra"')


def test_a_query_of_too_many_words_is_refused(index, model):
    refused = pytest.raises(QueryError, match=r"501 words; a sentence may have 500|has 501 words; at most 500 can be")
    for query in ("dog " * 501, [Part("dog")] * 501, " + ".join(['"a dog"'] * 250 + ['"dog"'])):
        with refused:
            search(index, model, query)
    with refused:
        evidence_from_index(index, model, 0, ["dog " * 501])
    with refused:
        rank_captions(model, ["a dog", "dog " * 501], index.tokens([0])[0][0])
    assert len(search(index, model, "dog " * 500, k=1)) == 1


def calibration(**changes) -> Calibration:
    facts = dict.fromkeys(("precision", "recall", "answered_without", "error", "threshold"), 0.0)
    counts = dict.fromkeys(("photos", "sentences", "shown", "pairs"), 1)
    return Calibration(
        **{"slope": 2.0, "intercept": -1.0, "split": None, "model": "", "reliability": ()} | facts | counts | changes
    )


def test_probabilities_are_those_of_the_scores_of_one_sentence(index, model):
    plain = search(index, model, SENTENCE)
    assert not plain.nothing_matches
    assert all(hit.probability is None for hit in plain.hits)
    found = search(index, model, SENTENCE, calibration=calibration(photos=len(index)))
    for hit in found.hits:
        assert hit.probability == pytest.approx(1 / (1 + np.exp(1 - 2 * hit.score)))
    # Fitted among twice as many photos, each is twice as likely among these, as odds.
    likelier = search(index, model, SENTENCE, calibration=calibration(photos=2 * len(index)))
    odds = [[hit.probability / (1 - hit.probability) for hit in each.hits] for each in (found, likelier)]
    assert odds[1] == pytest.approx(2 * np.array(odds[0]))
    doubled = search(index, model, [Part(SENTENCE, 2.0)], calibration=calibration(photos=len(index)))
    assert [hit.probability for hit in doubled.hits] == pytest.approx([hit.probability for hit in found.hits])
    best = max(hit.probability for hit in found.hits)
    assert not search(
        index, model, SENTENCE, calibration=calibration(photos=len(index), threshold=best - 1e-9)
    ).nothing_matches
    too_high = search(index, model, SENTENCE, calibration=calibration(photos=len(index), threshold=best + 1e-9))
    assert too_high.nothing_matches
    assert len(too_high.hits) == 10
    several = search(index, model, PARTS, calibration=calibration(threshold=0.99))
    assert not several.nothing_matches
    assert several.hits[0].probability is None


def test_a_sentence_of_unknown_words_matches_nothing(index, model):
    fitted = calibration(photos=len(index))
    assert not search(index, model, SENTENCE, calibration=fitted).nothing_matches
    other = search(index, model, "ein a Hund Schnee", calibration=fitted)
    assert other.nothing_matches
    assert other.hits
    assert {(hit.probability, hit.match) for hit in other.hits} == {(None, "weak")}
    assert not search(index, model, "ein a Hund Schnee").nothing_matches  # nothing is claimed without a calibration


def test_no_match_is_likely_where_more_than_a_third_is_unknown(index, model):
    generous = calibration(photos=len(index), intercept=9.0)
    assert {hit.match for hit in search(index, model, "the red dog", calibration=generous)} == {"strong"}
    assert {hit.match for hit in search(index, model, "a red dog and a blue zebra", calibration=generous)} == {"strong"}
    found = search(index, model, "a red dog and a zebra", calibration=generous)
    assert not found.nothing_matches
    assert {(hit.probability, hit.match) for hit in found} == {(None, "weak")}
    (tokens,) = index.tokens([0])[0]
    ranked = rank_captions(model, ["a red dog", "a red dog and a zebra"], tokens, calibration=generous)
    assert {each.caption: each.match for each in ranked} == {
        "a red dog": "strong",
        "a red dog and a zebra": "weak",
    }


def test_among_few_photos_a_score_says_more(index, model):
    hits = search(index, model, SENTENCE, calibration=calibration(photos=len(index))).hits
    few = search(index, model, SENTENCE, calibration=calibration(photos=1000 * len(index))).hits
    many = search(index, model, SENTENCE, calibration=calibration(photos=max(1, len(index) // 1000), growth=1.0)).hits
    order = ("weak", "likely", "strong")
    for least, middle, most in zip(many, hits, few, strict=True):
        assert order.index(least.match) <= order.index(middle.match) <= order.index(most.match)
    assert few[0].match == "strong"
    assert few[0].probability > hits[0].probability


def test_stages_are_timed(index, model):
    seconds = search(index, model, SENTENCE).seconds
    assert list(seconds) == ["encode", "filter", "candidates", "fetch", "rank"]
    assert all(value > 0 for value in seconds.values())


def test_a_photo_is_found_by_its_id(index):
    ids = index.photos["id"].to_pylist()
    assert [index.row(each) for each in ids] == list(range(len(index)))
    assert index.row("nobody") is None


def test_evidence_of_a_stored_photo_is_that_of_its_score(index, model):
    hit = search(index, model, SENTENCE, k=1).hits[0]
    (evidence,) = evidence_from_index(index, model, hit.row, [SENTENCE])
    assert evidence.score == pytest.approx(hit.score, abs=1e-5)
    assert evidence.alignment.shape == (3, len(hit.boxes))
    assert np.array_equal(evidence.boxes, hit.boxes)
    assert (evidence.width, evidence.height, evidence.photo) == (hit.width, hit.height, hit.path)


def test_words(index, model):
    with pytest.raises(HANError, match="knows none of the words in 'zebra unicorn'"):
        search(index, model, "zebra unicorn")
    with pytest.raises(HANError, match="no words in the sentence"):
        search(index, model, " ... ")
    assert len(search(index, model, "zebra dog").hits) == 10


def test_refresh_takes_in_what_others_did_and_keeps_what_it_has(tmp_path, model):
    photos = make_photos(tmp_path / "photos", 5)
    update(photos, tmp_path / "index", make_model(tmp_path / "model"))
    index, han = Index.open(tmp_path / "index"), model
    assert not index.refresh()
    (photos / "000.png").unlink()
    (photos / "001.png").rename(photos / "moved.png")
    make_photos(photos, 2, first=10)
    update(photos, tmp_path / "index")
    assert sorted(path.name for path in (index.files(row)[0] for row in range(5)))[0] == "000.png"  # until it is asked
    index.pooled[:] += 1  # marks those that are not read again
    assert index.refresh()
    new = Index.open(tmp_path / "index")
    assert index.photos == new.photos
    kept = [index.files(row)[0].name in ("moved.png", "002.png", "003.png", "004.png") for row in range(len(index))]
    assert sum(kept) == 4
    assert np.array_equal(index.pooled, new.pooled + np.array(kept, np.float32)[:, None])
    assert not index.refresh()
    scores = brute_force(new, han)
    assert [hit.row for hit in search(index, han, SENTENCE, exact=True).hits] == list(np.argsort(-scores)[:10])


def test_refresh_knows_an_index_that_was_made_anew_in_its_folder(tmp_path, model):
    out, model_folder = tmp_path / "index", make_model(tmp_path / "model")
    update(make_photos(tmp_path / "one", 5), out, model_folder)
    index = Index.open(out)
    shutil.rmtree(out)
    update(make_photos(tmp_path / "two", 4, first=50), out, model_folder)  # rows and versions count from 0 again
    assert index.refresh()
    assert not index.refresh()
    new = Index.open(out)
    assert index.photos == new.photos
    assert np.array_equal(index.pooled, new.pooled)
    assert len(search(index, model, SENTENCE).hits) == 4
    make_photos(tmp_path / "two", 1, first=60)
    update(None, out)
    assert index.refresh()
    assert np.array_equal(index.pooled, Index.open(out).pooled)


def test_a_table_that_cannot_be_read_is_one_line(tmp_path):
    out = tmp_path / "index"
    update(make_photos(tmp_path / "photos", 2), out, make_model(tmp_path / "model"))
    index = Index.open(out)
    for file in (out / "photos-1" / "data").iterdir():
        file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(Unreadable, match="index: its open table is gone or broken") as error:
        index.tokens([0])
    assert "\n" not in str(error.value)
    with pytest.raises(StoreError, match=r"lance: is cut off: 100 of [\d,]+ bytes; `han doctor --repair`"):
        Index.open(out)


def test_an_index_without_photos_finds_nothing(tmp_path, model):
    photos = make_photos(tmp_path / "photos", 1)
    update(photos, tmp_path / "index", make_model(tmp_path / "model"))
    update(None, tmp_path / "index", forget=[photos])
    with Index.open(tmp_path / "index") as index:
        assert len(index) == 0
        for options in ({}, {"exact": True}, {"where": "width > 1"}):
            assert search(index, model, SENTENCE, **options).hits == []
        assert index.describe().photos == 0
    with pytest.raises(HANError, match="no such index"):
        Index.open(tmp_path / "none")
    with pytest.raises(HANError, match="not an index"):
        Index.open(photos)


def test_the_model_is_the_one_that_made_it(tmp_path):
    photos = make_photos(tmp_path / "photos", 1)
    update(photos, tmp_path / "index", make_model(tmp_path / "model"), detector=FakeDetector())
    with Index.open(tmp_path / "index") as index:
        (tmp_path / "model").rename(tmp_path / "moved")
        with pytest.raises(HANError, match="the index's model is not there; say where it is: --model"):
            index.load_model()
        assert index.load_model(tmp_path / "moved").config.joint_size == 16
        other = make_model(tmp_path / "other", seed=3)
        with pytest.raises(HANError, match=r"not the model that .* was made with"):
            index.load_model(other)
