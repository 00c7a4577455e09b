"""Photos to photos, and captions to a photo."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_index import FakeDetector, make_model, make_photo, make_photos, update

from han_retrieval.data import open_photo
from han_retrieval.errors import HANError
from han_retrieval.matchers.han import align, match
from han_retrieval.search import Index, rank_captions, similar

COUNT = 20
CAPTIONS = ["a red dog", "zebra", "a blue cat", "...", "a dog", "dog a red blue cat a", "a"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("similar")
    make_photos(folder / "photos", COUNT)
    make_photo(folder / "photos" / "trips" / "new.png", 90)
    update(folder / "photos", folder / "index", make_model(folder / "model"), storage="float16")
    return folder


@pytest.fixture(scope="module")
def index(folder):
    return Index.open(folder / "index")


@pytest.fixture(scope="module")
def model(index):
    return index.load_model()


def by_hand(index, model, query: torch.Tensor) -> np.ndarray:
    """Each region of the query gathers from those of the other photo; the mean of the cosines."""
    scores = []
    for row in range(len(index)):
        others, there = index.tokens([row])
        alpha = align(query[None], others, there, temperature=model.config.alignment_temperature)
        scores.append(float(match(query[None], others, alpha).mean()))
    return np.array(scores)


def test_it_is_the_mean_match_of_the_photo_s_regions(index, model):
    row = next(row for row in range(len(index)) if index.photos["regions"][row].as_py() == 3)
    wanted = by_hand(index, model, index.tokens([row])[0][0])
    found = similar(index, model, row, k=COUNT + 1, exact=True, keep_itself=True)
    assert [hit.row for hit in found.hits] == list(np.argsort(-wanted))
    assert np.allclose([hit.score for hit in found.hits], np.sort(wanted)[::-1], atol=1e-5)
    assert all(hit.probability is None for hit in found.hits)
    assert not found.nothing_matches
    without = similar(index, model, row, k=COUNT + 1, exact=True)
    assert [hit.row for hit in without.hits] == [hit.row for hit in found.hits if hit.row != row]
    assert len(similar(index, model, row, k=3, candidates=1).hits) == 3
    some = similar(index, model, row, k=COUNT, where="folder = 'trips/'", keep_itself=True)
    assert [hit.path.name for hit in some.hits] == ["new.png"]


def test_a_photo_from_outside_is_like_itself_in_the_index(folder, index, model):
    photo = folder / "photos" / "trips" / "new.png"
    regions = FakeDetector().detect([open_photo(photo)])[0]
    row = index.find(photo)
    outside = similar(index, model, regions, k=COUNT + 1, exact=True)
    inside = similar(index, model, row, k=COUNT + 1, exact=True, keep_itself=True)
    assert len(outside.hits) == COUNT + 1
    scores = {hit.row: hit.score for hit in inside.hits}
    assert all(hit.score == pytest.approx(scores[hit.row], abs=2e-3) for hit in outside.hits)
    nothing = replace(regions, features=regions.features[:0], boxes=regions.boxes[:0], labels=())
    with pytest.raises(HANError, match="no region"):
        similar(index, model, nothing)


def test_a_photo_is_found_by_its_file_and_by_its_path(folder, index, tmp_path):
    photo = folder / "photos" / "trips" / "new.png"
    row = index.photos["path"].to_pylist().index("trips/new.png")
    copy = tmp_path / "copy.png"
    copy.write_bytes(photo.read_bytes())
    assert [index.find(each) for each in (photo, str(photo), copy, "trips/new.png")] == [row] * 4
    assert index.find(make_photo(tmp_path / "other.png", 200)) is None
    assert index.find("nowhere.png") is None


def test_a_photo_is_found_by_each_of_its_paths(tmp_path, model):
    photos = make_photos(tmp_path / "photos", 2)
    shutil.copy(photos / "001.png", photos / "copy.png")
    update(photos, tmp_path / "index", make_model(tmp_path / "model"))
    with Index.open(tmp_path / "index") as index:
        row = index.find(photos / "001.png")
        shutil.rmtree(photos)
        assert [index.find(each) for each in ("001.png", "copy.png", photos / "copy.png")] == [row] * 3
        with pytest.raises(HANError, match=r"cannot be read \(File name too long\)"):
            index.find("x" * 5000)


@pytest.mark.parametrize("k", [2, 10])
def test_captions_are_ranked_by_their_scores(index, model, k):
    tokens, mask = index.tokens([4])
    readable = [caption for caption in CAPTIONS if caption not in ("zebra", "...")]
    wanted = {}
    for caption in readable:
        with torch.no_grad():
            ids, there = model.words([caption])
            pair = model.score(tokens, mask, model.encode_texts(ids, there), there, backend="reference")
        wanted[caption] = float(pair)
    ranked = rank_captions(model, CAPTIONS, tokens[0], k=k)
    assert [each.caption for each in ranked] == sorted(readable, key=wanted.__getitem__, reverse=True)[:k]
    for each in ranked:
        assert each.score == pytest.approx(wanted[each.caption], abs=1e-5)
        assert each.match is None


def test_captions_of_regions_are_those_of_their_tokens(folder, index, model):
    photo = folder / "photos" / "003.png"
    regions = FakeDetector().detect([open_photo(photo)])[0]
    tokens, _ = index.tokens([index.find(photo)])
    of_tokens = {each.caption: each.score for each in rank_captions(model, CAPTIONS, tokens[0])}
    for each in rank_captions(model, CAPTIONS, regions):
        assert each.score == pytest.approx(of_tokens[each.caption], abs=2e-3)
    with pytest.raises(HANError, match="knows no word, or too few, of each of the 2 captions"):
        rank_captions(model, ["zebra", "..."], regions)
    mostly_unknown = "a zebra quagga"  # of which a search says that nothing matches
    assert [each.caption for each in rank_captions(model, [mostly_unknown, "a cat"], regions)] == ["a cat"]
