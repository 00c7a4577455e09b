"""Items are taken some at a time: how many changes no score and no gradient."""

from __future__ import annotations

import pytest
import torch
from closeness import assert_close, assert_gradients_close, in_float64
from random_items import random_mask, random_model

from han_retrieval.scoring import api, many_blocks
from han_retrieval.scoring.cpu import layout, stored

SIZES = {
    (api, "IMAGES_A_CHUNK"): 4, (api, "TEXTS_A_CHUNK"): 9, (api, "WORDS_A_CHUNK"): 20,
    (many_blocks, "ITEMS_AT_ONCE"): 5, (many_blocks, "IMAGES_AT_ONCE"): 2,
    (stored, "GROUPS_A_CHUNK"): 1, (layout, "GROUPS_A_RUN"): 1,
}  # fmt: skip


@pytest.mark.parametrize(
    ("blocks", "dtype"),
    [(0, torch.float32), (1, torch.float32), (0, torch.float64), (1, torch.float64), (2, torch.float64)],
)
def test_chunks_of_any_size_give_the_same(blocks, dtype, monkeypatch):
    torch.manual_seed(0)
    model = random_model(blocks=blocks, joint_size=16).to(dtype)
    region_mask, word_mask = random_mask(11, 4), random_mask(37, 3)
    items = torch.randn(11, 4, 5, dtype=dtype), region_mask, torch.randint(1, 9, (37, 3)), word_mask
    weights = torch.randn(11, 37, dtype=torch.float64)

    def scores_and_gradients(model, regions, **backend) -> tuple[torch.Tensor, list[torch.Tensor]]:
        model.zero_grad()
        scores = model.similarity(regions, *items[1:], **backend)
        (scores * weights.to(scores.dtype)).sum().backward()
        return scores.detach(), [p.grad for p in model.parameters()]

    exact, exact_gradients = scores_and_gradients(in_float64(model), items[0].double(), backend="reference")
    for (module, name), size in SIZES.items():
        monkeypatch.setattr(module, name, size)
    scores, gradients = scores_and_gradients(model, items[0])
    assert_close(scores, exact, 1e-5 if dtype == torch.float32 else 1e-10)
    assert_gradients_close(gradients, exact_gradients, 1e-4 if dtype == torch.float32 else 1e-10)

    with torch.no_grad():
        images, texts = model.encode_images(*items[:2]), model.encode_texts(*items[2:])
        photos = model.store_images(images, region_mask, storage="float32")
        sentences = model.store_texts(texts, word_mask, storage="float32")
        by_text, by_image = photos.scores(texts[5, word_mask[5]]), sentences.scores(images[3, region_mask[3]])
    assert_close(by_text, exact[:, 5], 1e-5)
    assert_close(by_image, exact[3], 1e-5)


def test_texts_of_many_words_are_taken_a_few_at_a_time(monkeypatch):
    monkeypatch.setattr(api, "TEXTS_A_CHUNK", 4)
    monkeypatch.setattr(api, "WORDS_A_CHUNK", 12)
    assert api._texts_a_chunk([1, 1, 1, 2, 2, 4, 6, 6, 7, 20, 20]) == [4, 2, 2, 1, 1, 1]
    assert api._texts_a_chunk([5]) == [1]
    assert api._texts_a_chunk([]) == [0]
