"""The greatest cosine of each word over the regions: the engine beside the formula."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from closeness import assert_gradients_close
from hypothesis import given, settings
from hypothesis import strategies as st

from han_retrieval.matchers.han import pool
from han_retrieval.scoring import STORAGES, Collection, Matching, Tokens, score_all_pairs

MATCHING = Matching(1.0, "words", partial(pool, pooling="mean", temperature=1.0), "max")


def random_tokens(items: int, tokens: int, d: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens of any length in float64, NaN where the mask has none."""
    mask = torch.rand(items, tokens) < 0.7
    mask[torch.arange(items), torch.randint(tokens, (items,))] = True
    return torch.randn(items, tokens, d, dtype=torch.float64).masked_fill(~mask.unsqueeze(2), torch.nan), mask


def plain(images, region_mask, texts, word_mask) -> torch.Tensor:
    """(I, T) scores, a pair at a time."""
    rows = []
    for image, there in zip(images, region_mask, strict=True):
        o = torch.nn.functional.normalize(image[there], dim=-1)
        words = (torch.nn.functional.normalize(x[w], dim=-1) for x, w in zip(texts, word_mask, strict=True))
        rows.append(torch.stack([(w @ o.T).amax(1).mean() for w in words]))
    return torch.stack(rows)


def in_float32(items):
    return tuple(x.float() if x.is_floating_point() else x for x in items)


@given(
    st.integers(1, 9), st.integers(1, 20), st.integers(1, 40), st.integers(1, 30), st.sampled_from([1, 500, None]),
    st.integers(0, 999),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
@torch.inference_mode()
def test_scores_are_those_of_the_formula_at_any_size(images, texts, m, n, chunk_elements, seed):
    torch.manual_seed(seed)
    items = (*random_tokens(images, m, 16), *random_tokens(texts, n, 16))
    exact = plain(*items)
    options = {"blocks": [], "matching": MATCHING, "chunk_elements": chunk_elements}
    assert (score_all_pairs(*items, **options) - exact).abs().max() < 1e-12
    assert (score_all_pairs(*in_float32(items), **options) - exact).abs().max() < 1e-5


def test_gradients_are_those_of_the_formula():
    torch.manual_seed(0)
    items = (*random_tokens(4, 7, 16), *random_tokens(9, 5, 16))
    weights = torch.randn(4, 9, dtype=torch.float64)

    def gradients(score, items):
        images, texts = items[0].clone().requires_grad_(), items[2].clone().requires_grad_()
        (score(images, items[1], texts, items[3]) * weights).sum().backward()
        return [images.grad, texts.grad]

    exact = gradients(plain, items)
    found = gradients(partial(score_all_pairs, blocks=[], matching=MATCHING), in_float32(items))
    assert_gradients_close(found, exact, 1e-4, names=["images", "texts"])
    for gradient, mask in zip(found, items[1::2], strict=True):
        assert not gradient[~mask].any()


@pytest.mark.parametrize("storage", STORAGES)
@torch.inference_mode()
def test_stored_collections_score_their_rounded_tokens(storage):
    torch.manual_seed(0)
    images, region_mask, texts, word_mask = in_float32((*random_tokens(11, 7, 16), *random_tokens(6, 5, 16)))
    images, texts = images.nan_to_num(), texts.nan_to_num()
    rounded = Tokens.store(images, storage).load()
    options = {"blocks": [], "matching": MATCHING, "storage": storage}
    stored = Collection(images, region_mask, of="images", **options)
    wanted = plain(rounded, region_mask, texts, word_mask)
    for t in range(6):
        assert (stored.scores(texts[t, word_mask[t]]) - wanted[:, t]).abs().max() < 1e-5
    stored = Collection(texts, word_mask, of="texts", **options)
    wanted = plain(images, region_mask, Tokens.store(texts, storage).load(), word_mask)
    for i in range(11):
        assert (stored.scores(images[i, region_mask[i]]) - wanted[i]).abs().max() < 1e-5


def test_regions_do_not_choose_words():
    items = in_float32((*random_tokens(2, 3, 4), *random_tokens(2, 3, 4)))
    with pytest.raises(ValueError, match="direction must be 'words'"):
        score_all_pairs(*items, blocks=[], matching=Matching(1.0, "both", MATCHING.pool, "max"))
