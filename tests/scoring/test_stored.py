"""One query against a stored collection gives what all pairs give."""

from __future__ import annotations

import pytest
import torch

from han_retrieval.matchers import HAN, HANConfig
from han_retrieval.scoring import STORAGES, Collection, Tokens
from han_retrieval.scoring.cpu import tiles


def random_model(**options: object) -> HAN:
    model = HAN(HANConfig(region_size=11, vocabulary_size=40, word_size=8, joint_size=32, **options))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def random_tokens(model: HAN, images: int, texts: int, m: int, n: int):
    region_mask = torch.rand(images, m) < 0.7
    region_mask[:, 0] = True
    word_mask = torch.rand(texts, n) < 0.7
    word_mask[:, 0] = True
    image_tokens = model.encode_images(torch.randn(images, m, 11), region_mask)
    text_tokens = model.encode_texts(torch.randint(1, 40, (texts, n)), word_mask)
    return image_tokens, region_mask, text_tokens, word_mask


OPTIONS = [
    {},
    {"residual": "token"},
    {"attention_over": "own"},
    {"attention_over": "other"},
    {"attention_over": "other", "blocks": 2},
    {"attention_over": "one-way"},
    {"attention_over": "one-way", "alignment": "both"},
    {"attention_over": "one-way", "blocks": 2},
    {"pooling": "lse"},
    {"blocks": 0},
    {"blocks": 2},
    {"alignment": "regions"},
    {"alignment": "both", "pooling": "lse"},
    {"alignment": "both", "blocks": 2},
]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("storage", STORAGES)
@torch.inference_mode()
def test_scores_are_those_of_the_rounded_tokens(options, storage):
    torch.manual_seed(0)
    model = random_model(**options)
    image_tokens, region_mask, text_tokens, word_mask = random_tokens(model, 21, 19, 9, 7)

    images = model.store_images(image_tokens, region_mask, storage=storage)
    rounded = Tokens.store(image_tokens, storage).load()
    wanted = model.score(rounded, region_mask, text_tokens, word_mask, backend="reference")
    for t in range(3):
        assert (images.scores(text_tokens[t, word_mask[t]]) - wanted[:, t]).abs().max() < 1e-5

    texts = model.store_texts(text_tokens, word_mask, storage=storage)
    rounded = Tokens.store(text_tokens, storage).load()
    wanted = model.score(image_tokens, region_mask, rounded, word_mask, backend="reference")
    for i in range(3):
        assert (texts.scores(image_tokens[i, region_mask[i]]) - wanted[i]).abs().max() < 1e-5


@pytest.mark.parametrize("options", [{}, {"alignment": "both"}, {"attention_over": "one-way", "alignment": "both"}])
@pytest.mark.parametrize("storage", ["int8", "float16"])
@torch.inference_mode()
def test_items_that_are_joined_are_scored_as_they_were_together(options, storage, monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(Collection, "_ready", lambda *_: True)
    model = random_model(**options)
    image_tokens, region_mask, text_tokens, word_mask = random_tokens(model, 21, 3, 9, 7)
    images = model.store_images(image_tokens, region_mask, storage=storage, wait=False)
    items = images.split()
    some = [5, 0, 20, 3]
    joined = images.join([items[i] for i in some])
    for words, there in zip(text_tokens, word_mask, strict=True):
        assert (joined.scores(words[there]) - images.scores(words[there])[some]).abs().max() < 1e-6


@pytest.mark.parametrize(("storage", "error"), [("float32", 0), ("float16", 5e-4), ("bfloat16", 4e-3), ("int8", 4e-3)])
def test_storage_rounds_no_more_than_it_must(storage, error):
    torch.manual_seed(0)
    tokens = torch.nn.functional.normalize(torch.randn(5, 3, 64), dim=-1)
    stored = Tokens.store(tokens, storage)
    assert stored.values.element_size() == {"float32": 4, "int8": 1}.get(storage, 2)
    greatest = tokens.abs().amax(-1, keepdim=True)
    assert ((stored.load() - tokens).abs() <= error * greatest).all()
    assert Tokens.store(torch.zeros(1, 2, 4), storage).load().eq(0).all()


@torch.inference_mode()
def test_one_item_none_and_bad_input():
    model = random_model()
    image_tokens, region_mask, text_tokens, _ = random_tokens(model, 1, 2, 1, 1)
    assert model.store_images(image_tokens, region_mask).scores(text_tokens[0]).shape == (1,)
    assert model.store_images(image_tokens[:0], region_mask[:0]).scores(text_tokens[0]).shape == (0,)
    assert "1 images" in repr(model.store_images(image_tokens, region_mask))
    with pytest.raises(ValueError, match="storage must be one of"):
        model.store_images(image_tokens, region_mask, storage="float8")


@torch.inference_mode()
def test_a_model_in_float64_scores_what_is_stored():
    torch.manual_seed(0)
    model = random_model().double()
    image_tokens, region_mask, text_tokens, word_mask = random_tokens(model.float(), 5, 3, 4, 6)
    wanted = model.score(image_tokens, region_mask, text_tokens, word_mask)
    images = model.double().store_images(Tokens.store(image_tokens, "float32"), region_mask)
    found = images.scores(text_tokens[0, word_mask[0]].double())
    assert found.dtype == torch.float64
    assert (found - wanted[:, 0]).abs().max() < 1e-5


@torch.inference_mode()
def test_stored_scores_are_in_float32_whatever_is_cast_around_them():
    torch.manual_seed(0)
    model = random_model()
    image_tokens, region_mask, text_tokens, word_mask = random_tokens(model, 5, 3, 4, 6)
    words = text_tokens[0, word_mask[0]]
    wanted = model.store_images(image_tokens, region_mask).scores(words)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(model.store_images(image_tokens, region_mask).scores(words), wanted)


@torch.inference_mode()
def test_one_photo_and_many_captions_are_shared_out_among_threads(monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(tiles, "WORD_ROWS", 64)
    model = random_model()
    image_tokens, region_mask, text_tokens, word_mask = random_tokens(model, 3, 90, 4, 6)
    parts, share = [], tiles.share

    def counted(work, given):
        parts.append(len(given))
        return share(work, given)

    monkeypatch.setattr(tiles, "share", counted)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        alone = model.score(image_tokens[:1], region_mask[:1], text_tokens, word_mask)
        together = model.score(image_tokens, region_mask, text_tokens, word_mask)
    finally:
        torch.set_num_threads(before)
    assert parts[0] > 2
    assert (alone[0] - together[0]).abs().max() < 1e-6


def test_other_queries_and_sides_are_refused():
    model = random_model()
    mask = torch.ones(3, 4, dtype=torch.bool)
    photos = model.store_images(torch.nn.functional.normalize(torch.randn(3, 4, model.config.joint_size), dim=-1), mask)
    for shape in ((0, model.config.joint_size), (2, model.config.joint_size + 1), (model.config.joint_size,)):
        with pytest.raises(ValueError, match="a query must be"):
            photos.scores(torch.zeros(shape))
    with pytest.raises(ValueError, match="of must be 'images' or 'texts'"):
        Collection(torch.zeros(1, 1, 2), mask[:1, :1], of="photos", blocks=(), matching=photos.matching)
