"""A matcher whose formulas the engine does not know: all that scores or explains it takes the formulas."""

from __future__ import annotations

import pytest
import torch
from matchers_of_all_kinds import SENTENCES, random_regions, small_matcher

from han_retrieval.matchers import HAN, SCAN, MaxSim
from han_retrieval.matchers.han import score_pairs


class Even(HAN):
    """HAN whose words are aligned with all regions alike."""

    def align(self, queries, keys, key_mask):
        there = key_mask.unsqueeze(1).expand(-1, queries.shape[1], -1).float()
        return there / there.sum(-1, keepdim=True)


class Renamed(HAN):
    """HAN under another title."""

    title = "Another"


@pytest.fixture
def model():
    torch.manual_seed(0)
    like = small_matcher("han", blocks=1)
    return Even(like.config, vocabulary=like.vocabulary).eval()


def test_who_says_what_the_engine_knows():
    assert [kind.attention for kind in (HAN, SCAN, MaxSim, Renamed)] == ["cosine", "clipped", "max", "cosine"]
    assert Even.attention is None
    assert type("Said", (Even,), {"align": HAN.align, "attention": "cosine"}).attention == "cosine"


@torch.inference_mode()
@pytest.mark.parametrize("storage", ["float32", "int8"])
def test_all_scores_are_those_of_the_formulas(model, storage):
    regions, region_mask = random_regions(5, 4)
    words, word_mask = model.words(SENTENCES)
    images, texts = model.encode_images(regions, region_mask), model.encode_texts(words, word_mask)
    found = model.score(images, region_mask, texts, word_mask)
    for photo in range(5):
        for text in range(len(SENTENCES)):
            one, there = images[photo : photo + 1], region_mask[photo : photo + 1]
            its = texts[text : text + 1, word_mask[text]]
            all_words = torch.ones(its.shape[:2], dtype=torch.bool)
            attended, of_words, _ = model.attend(one, there, its, all_words)
            wanted = score_pairs(attended, there, of_words, all_words, align=model.align, config=model.config)
            assert found[photo, text] == pytest.approx(float(wanted), abs=1e-6)
    assert (found - small_matcher("han", blocks=1).score(images, region_mask, texts, word_mask)).abs().max() > 1e-3

    stored = model.store_images(images, region_mask, storage=storage)
    assert stored.split() is None
    assert len(stored) == 5
    assert stored.bytes_an_item > 0
    for text in range(len(SENTENCES)):
        scores = stored.scores(texts[text, word_mask[text]])
        assert (scores - found[:, text]).abs().max() < (1e-6 if storage == "float32" else 0.02)
    of_texts = model.store_texts(texts, word_mask, storage="float32")
    assert torch.allclose(of_texts.scores(images[0, region_mask[0]]), found[0], atol=1e-6)
    pair = model.explain_tokens(images[0, region_mask[0]], words[1, word_mask[1]])
    assert pair.score == pytest.approx(float(found[0, 1]), abs=1e-6)


@torch.inference_mode()
def test_photos_are_compared_by_the_formulas(model):
    regions, mask = random_regions(4, 5)
    tokens = model.encode_images(regions, mask)
    query = tokens[1][mask[1]]
    found = model.compare_images(query, tokens, mask)
    for photo in range(4):
        mean = tokens[photo][mask[photo]].mean(0)
        assert found[photo] == pytest.approx(float(torch.cosine_similarity(query, mean.unsqueeze(0)).mean()), abs=1e-5)


def test_it_learns(model):
    regions, region_mask = random_regions(3, 4)
    words, word_mask = model.words(SENTENCES[:3])
    model(regions, region_mask, words, word_mask).sum().backward()
    assert model.image_encoder.projection.weight.grad.abs().sum() > 0


def test_an_unknown_backend_is_refused(model):
    regions, region_mask = random_regions(1, 4)
    words, word_mask = model.words(SENTENCES[:1])
    with pytest.raises(ValueError, match="backend must be 'gram' or 'reference'"):
        model.score(
            model.encode_images(regions, region_mask), region_mask, model.encode_texts(words, word_mask), word_mask,
            backend="fast",
        )  # fmt: skip


@torch.inference_mode()
@pytest.mark.parametrize("name", ["han", "scan", "vse++", "vse-infinity", "maxsim"])
def test_no_sentences_have_no_scores(name):
    model = small_matcher(name)
    regions, region_mask = random_regions(2, 4)
    words, word_mask = model.words([])
    texts = model.encode_texts(words, word_mask)
    assert model.score(model.encode_images(regions, region_mask), region_mask, texts, word_mask).shape == (2, 0)
