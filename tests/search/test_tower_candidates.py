"""An index whose candidates are chosen by the vectors of two towers, and whose tokens are scored exactly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_index import SIZE, FakeDetector, make_photo, make_photos, update
from two_towers import POOLED, register_towers

from han_retrieval.errors import HANError
from han_retrieval.matchers import load_matcher, matcher_class
from han_retrieval.search import Index, Part
from han_retrieval.search.recall import candidate_recall
from han_retrieval.text import Vocabulary
from han_retrieval.text.vocabulary import SPECIAL_WORDS

COUNT = 25
SENTENCE = "a red dog"


class TowerDetector(FakeDetector):
    """Gives a vector of the whole photo, too."""

    def __init__(self, size: int = POOLED) -> None:
        super().__init__()
        self._size = size

    def regions(self, photo):
        found = super().regions(photo)
        vector = np.random.default_rng(len(found.features) + int(np.asarray(photo).astype(np.int64).sum()))
        return replace(found, pooled=vector.standard_normal(self._size).astype(np.float16))


def make_model(folder, *, name: str = "han", text_encoder: str | None = None, detector: str = "fake:1"):
    torch.manual_seed(0)
    vocabulary = Vocabulary((*SPECIAL_WORDS, "a", "red", "blue", "dog", "cat"))
    kind = matcher_class(name)
    config = kind.config_class(
        region_size=SIZE,
        vocabulary_size=len(vocabulary),
        word_size=8,
        joint_size=16,
        detector_fingerprint=detector,
        text_encoder=text_encoder or register_towers(),
    )
    kind(config, vocabulary=vocabulary).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("towers")
    make_photos(folder / "photos", COUNT)
    update(
        folder / "photos", folder / "index", make_model(folder / "model"), detector=TowerDetector(), candidates="pooled"
    )
    return folder


def test_candidates_are_nearest_by_the_towers_and_ranked_by_the_model(folder):
    with Index.open(folder / "index", detector=TowerDetector()) as index:
        assert index.describe().pooling == "pooled"
        assert index.pooled.shape == (COUNT, POOLED)
        assert np.allclose(np.linalg.norm(index.pooled, axis=1), 1, atol=1e-3)
        tower = load_matcher(folder / "model").text_encoder
        vector = tower.pooled(*index.model.words([SENTENCE]))[0].numpy()
        nearest = set(np.argsort(-(index.pooled @ vector))[:6].tolist())
        found = index.search(SENTENCE, k=6, candidates=6)
        assert {hit.row for hit in found} == nearest
        exact = {hit.row: hit.score for hit in index.search(SENTENCE, k=COUNT, exact=True)}
        assert [hit.score for hit in found] == pytest.approx(sorted((exact[row] for row in nearest), reverse=True))

        photo = make_photo(folder / "other.png", 90)
        like = TowerDetector().detect([index_photo(photo)])[0].pooled.astype(np.float32)
        assert index.similar(photo, k=1, candidates=1)[0].row == int(np.argmax(index.pooled @ like))
        mixed = index.search([Part(SENTENCE), Part(photo=photo)], k=3)
        assert len(mixed) == 3

        _, kept = candidate_recall(index, index.model, [SENTENCE, "a blue cat"], numbers=(12, 20))
        assert 0 < kept[12] <= kept[20] <= 100


def index_photo(path):
    from han_retrieval.data import open_photo

    return open_photo(path)


def test_updates_keep_it_and_rebuilds_change_it(folder, tmp_path):
    photos, out, model = make_photos(tmp_path / "photos", 4), tmp_path / "index", folder / "model"
    update(photos, out, model)
    with Index.open(out) as index:
        assert index.describe().pooling == "mean"
    with pytest.raises(HANError, match=r"candidates are chosen by mean, not by pooled; --rebuild makes it anew"):
        update(photos, out, detector=TowerDetector(), candidates="pooled")
    update(photos, out, detector=TowerDetector(), candidates="pooled", rebuild=True)
    make_photos(photos, 2, first=10)
    assert update(photos, out, detector=TowerDetector()).added == 2  # candidates as before
    with Index.open(out) as index:
        assert (index.describe().pooling, index.pooled.shape) == ("pooled", (6, POOLED))
        assert len(index.search(SENTENCE, k=6)) == 6
    update(photos, out, candidates="mean", rebuild=True)
    with Index.open(out) as index:
        assert (index.describe().pooling, index.pooled.shape) == ("mean", (6, 16))


def test_what_has_no_such_vectors_is_refused_before_an_index_is_begun(folder, tmp_path):
    photos, out, options = make_photos(tmp_path / "photos", 2), tmp_path / "index", {"candidates": "pooled"}
    with pytest.raises(HANError, match="detector gives no vector of the whole photo to choose candidates by"):
        update(photos, out, folder / "model", **options)
    with pytest.raises(HANError, match=f"of 7 numbers, and the text encoder towers .* one of {POOLED}: .*two models"):
        update(photos, out, folder / "model", detector=TowerDetector(7), **options)
    bigru = make_model(tmp_path / "bigru", text_encoder="bigru")
    with pytest.raises(HANError, match="text encoder bigru gives no vector of a whole sentence to choose candidates"):
        update(photos, out, bigru, detector=TowerDetector(), **options)
    with pytest.raises(HANError, match="chosen by one of mean, pooled, not by 'first'"):
        update(photos, out, folder / "model", candidates="first")
    assert not out.exists()


def test_towers_of_two_models_are_refused_though_of_one_size(folder, tmp_path):
    tower = TowerDetector(384)
    tower.fingerprint = "bottom-up-1-36-0123abcd+timm:vit_small_patch16_224-1-0123abcd-224x224.16.bicubic.ab12"
    model = make_model(tmp_path / "model", text_encoder="minilm", detector=tower.fingerprint)
    options = {"detector": tower, "candidates": "pooled"}
    with pytest.raises(HANError, match=r"timm:vit_small_patch16_224 and .* minilm are of two models.*candidates mean"):
        update(folder / "photos", tmp_path / "index", model, **options)
    assert not (tmp_path / "index").exists()
    update(folder / "photos", tmp_path / "index", model, **options | {"candidates": "mean"})


def test_a_maxsim_model_is_indexed_searched_and_explained(folder, tmp_path):
    model = make_model(tmp_path / "model", name="maxsim")
    update(folder / "photos", tmp_path / "index", model, detector=TowerDetector(), candidates="pooled")
    with Index.open(tmp_path / "index", detector=TowerDetector()) as index:
        found = index.search(SENTENCE, k=COUNT, exact=True)
        tokens, mask = index.tokens(range(COUNT))
        words, there = index.model.words([SENTENCE])
        with torch.no_grad():
            text = index.model.encode_texts(words, there)
            wanted = index.model.score(tokens, mask, text, there, backend="reference")[:, 0]
        assert [hit.row for hit in found] == wanted.argsort(descending=True).tolist()
        assert [hit.score for hit in found] == pytest.approx(wanted.sort(descending=True).values.tolist(), abs=1e-5)
