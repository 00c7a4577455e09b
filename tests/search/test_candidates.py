"""What finds candidates: how much it keeps, what makes it better, and photos that are nearly the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from damaging import without_checksums
from tiny_index import SENTENCE, make_model, make_photos, update
from training_data import make_data

from han_retrieval.errors import HANError
from han_retrieval.matchers import HAN, HANConfig
from han_retrieval.matchers.saving import folder_hash
from han_retrieval.search import Index, MeanPooling, search
from han_retrieval.search import distil as learning
from han_retrieval.search.distil import distil
from han_retrieval.search.near_duplicates import without_near_duplicates
from han_retrieval.search.pooling import TextMap
from han_retrieval.search.recall import candidate_recall, frequent_words, share_kept
from han_retrieval.text import Vocabulary, tokenize

COUNT = 40
SENTENCES = [SENTENCE, "blue", "a cat", "cat dog", "zebra"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("candidates")
    update(make_photos(folder / "photos", COUNT), folder / "index", make_model(folder / "model"))
    return folder


def test_recall_is_that_of_the_searches(folder):
    with Index.open(folder / "index") as index:
        model = index.load_model()
        scored, found = candidate_recall(index, model, SENTENCES, top=5, numbers=(5, 8, 20, COUNT, 100))
        assert scored == 4
        assert list(found) == [5, 8, 20]
        for number, kept in found.items():
            shares = []
            for sentence in SENTENCES[:4]:
                exact = {hit.row for hit in search(index, model, sentence, k=5, exact=True).hits}
                near = {hit.row for hit in search(index, model, sentence, k=number, candidates=number).hits}
                shares.append(100 * len(exact & near) / 5)
            assert kept == pytest.approx(np.mean(shares))
        assert candidate_recall(index, model, frequent_words(model, 3), top=5)[0] == 3
        with pytest.raises(HANError, match="no word of any of the 1 sentences"):
            candidate_recall(index, model, ["zebra"])
        with pytest.raises(HANError, match=f"{COUNT} photos are too few"):
            candidate_recall(index, model, SENTENCES, top=COUNT)


def test_the_share_kept_is_counted_by_hand():
    random = np.random.default_rng(0)
    scores, products = (random.standard_normal((6, 30)).astype(np.float32) for _ in range(2))
    scores[:, 4] = -np.inf  # left out, however near it is
    products[:, 4] = 100
    kept = share_kept(products, scores, top=3, numbers=(5, 10, 29, 30))
    assert list(kept) == [5, 10, 29]
    others = np.delete(np.arange(30), 4)
    for number, share in kept.items():
        best = [set(others[np.argsort(-row[others])][:3]) for row in scores]
        near = [set(others[np.argsort(-row[others])][:number]) for row in products]
        assert share == pytest.approx(np.mean([100 * len(a & b) / 3 for a, b in zip(best, near, strict=True)]))


def small_teacher(sentences) -> HAN:
    torch.manual_seed(1)
    vocabulary = Vocabulary.from_sentences(sentences)
    config = HANConfig(region_size=12, vocabulary_size=len(vocabulary), word_size=8, joint_size=16)
    model = HAN(config, vocabulary=vocabulary).eval()
    for name, value in model.blocks.named_parameters():  # far from the identity that blocks start from
        if name.endswith("weight"):
            torch.nn.init.normal_(value, std=0.25)
    return model


def different(photos) -> int:
    """How many captions there are that differ in their words."""
    return len({tuple(tokenize(caption)) for photo in photos.photos for caption in photo.captions} - {()})


def test_what_was_distilled_keeps_more_of_the_best(tmp_path):
    photos, store = make_data(tmp_path, photos=80)
    model = small_teacher([caption for photo in photos.photos for caption in photo.captions])
    found = distil(model, photos, store)
    assert (found.photos, found.sentences) == (80, different(photos))
    assert list(found.before) == list(found.after) == [20, 50]
    assert found.after[20] > found.before[20]
    again = distil(model, photos, store)
    assert torch.equal(found.text_map.weight, again.text_map.weight)
    fewer = distil(model, photos, store, photos=30, sentences=40)
    assert (fewer.photos, fewer.sentences) == (30, 40)
    with pytest.raises(HANError, match="too few to learn from"):
        distil(model, photos, store, photos=20)


def test_equal_captions_are_learned_from_once(tmp_path, monkeypatch):
    photos, store = make_data(tmp_path, photos=80)
    model = small_teacher([caption for photo in photos.photos for caption in photo.captions])
    half = [
        replace(photo, captions=(*photo.captions, "A ball.")) if row % 2 else photo
        for row, photo in enumerate(photos.photos)
    ]
    every = [replace(photo, captions=(*photo.captions, "A ball.")) for photo in photos.photos]
    unknown = []
    fit = learning._fit

    def watched(queries, vectors, scores, *given, **options):
        unknown.append(scores.isinf().sum(1).tolist())
        return fit(queries, vectors, scores, *given, **options)

    monkeypatch.setattr(learning, "_fit", watched)
    monkeypatch.setattr(learning, "_HELD_OUT", 0.0)  # one sentence
    some, none = (distil(model, replace(photos, photos=tuple(each)), store) for each in (half, every))
    # A sentence that every photo has leaves none to learn from.
    assert (some.sentences, none.sentences) == (different(photos) + 1, different(photos))
    assert sum(count == 40 for count in unknown[0]) == 1
    assert max(unknown[1]) < 10


def test_an_index_takes_what_its_model_s_folder_has(tmp_path, folder):
    model_folder = make_model(tmp_path / "model")
    own = folder_hash(model_folder)
    random = torch.Generator().manual_seed(0)
    text_map = TextMap(torch.randn(16, 16, generator=random), torch.randn(16, generator=random))
    with Index.open(folder / "index") as index:
        model = index.load_model(model_folder)
        with torch.no_grad():
            words, mask = model.words([SENTENCE])
            texts = model.encode_texts(words, mask)
        plain = MeanPooling().texts(texts, mask)
        assert torch.equal(index.pooling.texts(texts, mask), plain)
        text_map.write(model_folder, model="another")
        index.load_model(model_folder)
        assert torch.equal(index.pooling.texts(texts, mask), plain)
        text_map.write(model_folder, model=own)
        assert folder_hash(model_folder) == own
        index.load_model(model_folder)
        wanted = plain @ text_map.weight.T + text_map.bias
        assert torch.allclose(index.pooling.texts(texts, mask), wanted)
        nearest = np.argsort(-(index.pooled @ wanted[0].numpy()))[:10]
        hits = search(index, model, SENTENCE, k=10, candidates=10).hits
        assert {hit.row for hit in hits} == set(nearest.tolist())
        exact = search(index, model, SENTENCE, exact=True).hits
        assert [hit.row for hit in search(index, model, SENTENCE, candidates=COUNT).hits] == [hit.row for hit in exact]
        weights = model_folder / "model.safetensors"
        content = weights.read_bytes()
        weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(HANError, match=r"model\.safetensors: is damaged"):  # not that it is another model
            index.load_model(model_folder)
        weights.write_bytes(content)
        (model_folder / "candidates.safetensors").write_bytes(b"no tensors")
        with pytest.raises(HANError, match=r"candidates\.safetensors: is cut off .*han distil"):
            index.load_model(model_folder)
        without_checksums(model_folder)
        with pytest.raises(HANError, match=r"cannot be read .*han distil"):
            index.load_model(model_folder)
        TextMap(torch.eye(3), torch.ones(3)).write(model_folder, model=own)
        with pytest.raises(HANError, match=r"a map of \(3, 3\) and \(3,\) numbers; this model takes \(16, 16\)"):
            index.load_model(model_folder)


def test_nearly_the_same_photos_are_left_out(folder):
    with Index.open(folder / "index") as index:
        model = index.load_model()
        plain = search(index, model, SENTENCE, k=COUNT, exact=True).hits
        rows = np.array([hit.row for hit in plain])
        assert without_near_duplicates(index, rows, 7, threshold=2.0) == list(range(7))
        assert without_near_duplicates(index, rows, COUNT, threshold=-2.0) == [0]
        twice = np.repeat(rows, 2)
        assert without_near_duplicates(index, twice, COUNT, threshold=0.999) == list(range(0, 2 * COUNT, 2))
        collapsed = search(index, model, SENTENCE, k=COUNT, exact=True, collapse=True).hits
        kept = without_near_duplicates(index, rows, COUNT)
        assert [hit.row for hit in collapsed] == [int(rows[place]) for place in kept]
        few = search(index, model, SENTENCE, k=3, exact=True, collapse=True).hits
        assert [hit.row for hit in few] == [hit.row for hit in collapsed[:3]]
