"""The Gram-space scores are those of the formulas, whatever the masks, the options and the chunks."""

from __future__ import annotations

import itertools
from functools import partial

import pytest
import torch
from closeness import assert_gradients_close, in_float64
from hypothesis import given, settings
from hypothesis import strategies as st

from han_retrieval.matchers import HAN, HANConfig
from han_retrieval.matchers.han import pool
from han_retrieval.scoring import Matching, score_all_pairs

MEAN = partial(pool, pooling="mean", temperature=1.0)


def random_model(*, dtype: torch.dtype = torch.float64, **options: object) -> HAN:
    model = HAN(HANConfig(region_size=11, vocabulary_size=40, word_size=8, joint_size=16, **options))
    for parameter in model.parameters():  # far from the start, so that attention is far from even
        torch.nn.init.normal_(parameter, std=0.4)
    return model.to(dtype).eval()


def random_items(images: int, texts: int, m: int, n: int, *, dtype: torch.dtype = torch.float64):
    region_mask = torch.rand(images, m) < 0.7
    region_mask[torch.arange(images), torch.randint(m, (images,))] = True
    word_mask = torch.rand(texts, n) < 0.7
    word_mask[torch.arange(texts), torch.randint(n, (texts,))] = True
    regions = torch.randn(images, m, 11, dtype=dtype)
    return regions, region_mask, torch.randint(1, 40, (texts, n)), word_mask


OPTIONS = list(itertools.product((0, 1, 2, 3), ("words", "regions", "both"), ("query", "token"), ("mean", "lse")))


@pytest.mark.parametrize(("blocks", "alignment", "residual", "pooling"), OPTIONS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@torch.inference_mode()
def test_gram_space_is_exact(blocks, alignment, residual, pooling, dtype, tolerance):
    # Three blocks of random weights can make a pair whose score no float32 has to 1e-5, in whatever order it adds up:
    # inputs are those of which the plain forward has it to a tenth of the tolerance.
    for seed in range(blocks, blocks + 20):
        torch.manual_seed(seed)
        model = random_model(dtype=dtype, blocks=blocks, alignment=alignment, residual=residual, pooling=pooling)
        items = random_items(5, 7, 9, 6, dtype=dtype)
        exact = in_float64(model).similarity(items[0].double(), *items[1:], backend="reference")
        if (model.similarity(*items, backend="reference") - exact).abs().max() < tolerance / 10:
            break
    else:
        pytest.fail("the plain forward is exact for none of the inputs")
    assert (model.similarity(*items, backend="gram") - exact).abs().max() < tolerance
    assert exact.std() > 1e-3  # the comparison is of scores that differ


@pytest.mark.parametrize(("blocks", "over"), [(b, over) for b in (1, 2) for over in ("own", "other", "one-way")])
@pytest.mark.parametrize("alignment", ["words", "both"])
@torch.inference_mode()
def test_attention_over_one_set_alone_is_exact(blocks, over, alignment):
    torch.manual_seed(blocks)
    items = random_items(5, 7, 9, 6)
    model = random_model(blocks=blocks, attention_over=over, alignment=alignment)
    plain = model.similarity(*items, backend="reference")
    assert (model.similarity(*items) - plain).abs().max() < 1e-10
    whole = HAN(model.config.model_copy(update={"attention_over": "both"})).double().eval()
    whole.load_state_dict(model.state_dict())
    assert (whole.similarity(*items) - plain).abs().max() > 1e-3  # it is another model


@given(
    st.integers(1, 4), st.integers(1, 5), st.integers(1, 40), st.integers(1, 30), st.integers(0, 2), st.integers(0, 99)
)
@settings(max_examples=40, deadline=None)
@torch.inference_mode()
def test_any_sizes_and_masks(images, texts, m, n, blocks, seed):
    torch.manual_seed(seed)
    model = random_model(blocks=blocks)
    items = random_items(images, texts, m, n)
    assert (model.similarity(*items) - model.similarity(*items, backend="reference")).abs().max() < 1e-10


@pytest.mark.parametrize("blocks", [1, 2])
@pytest.mark.parametrize("residual", ["query", "token"])
def test_gradients_are_those_of_the_formulas(blocks, residual):
    torch.manual_seed(0)
    model = random_model(blocks=blocks, residual=residual)
    items = random_items(4, 6, 7, 5)
    weights = torch.randn(4, 6, dtype=torch.float64)
    gradients = {}
    for backend in ("reference", "gram"):
        model.zero_grad()
        (model.similarity(*items, backend=backend) * weights).sum().backward()
        gradients[backend] = [p.grad.clone() for p in model.parameters()]
    names = [name for name, _ in model.named_parameters()]
    assert_gradients_close(gradients["gram"], gradients["reference"], 1e-10, names=names)


@pytest.mark.parametrize("blocks", [1, 2])
@torch.inference_mode()
def test_chunks_do_not_change_scores(blocks):
    torch.manual_seed(1)
    model = random_model(blocks=blocks)
    regions, region_mask, words, word_mask = random_items(6, 9, 5, 8)
    images, texts = model.encode_images(regions, region_mask), model.encode_texts(words, word_mask)

    def scores(chunk_elements: int) -> torch.Tensor:
        matching = Matching(9.0, "words", lambda r, mask: torch.where(mask, r, 0).sum(-1) / mask.sum(-1))
        return score_all_pairs(
            images, region_mask, texts, word_mask, blocks=list(model.blocks), matching=matching,
            chunk_elements=chunk_elements,
        )  # fmt: skip

    whole = scores(1 << 30)
    for chunk_elements in (1, 100, 1000, 5000):
        assert (scores(chunk_elements) - whole).abs().max() < 1e-12


@pytest.mark.parametrize("backend", ["gram", "reference"])
@torch.inference_mode()
def test_a_pair_does_not_see_its_batch(backend):
    torch.manual_seed(2)
    model = random_model()
    regions, region_mask, words, word_mask = random_items(6, 8, 7, 9)
    together = model.similarity(regions, region_mask, words, word_mask, backend=backend)

    i, t = 3, 5
    alone = model.similarity(
        regions[i : i + 1, region_mask[i]],
        torch.ones(1, int(region_mask[i].sum()), dtype=torch.bool),
        words[t : t + 1, word_mask[t]],
        torch.ones(1, int(word_mask[t].sum()), dtype=torch.bool),
        backend=backend,
    )
    assert abs(float(alone - together[i, t])) < 1e-12

    order = torch.randperm(7)
    shuffled = model.similarity(regions[:, order], region_mask[:, order], words, word_mask, backend=backend)
    assert (shuffled - together).abs().max() < 1e-12

    texts = torch.randperm(8)
    reordered = model.similarity(regions, region_mask, words[texts], word_mask[texts], backend=backend)
    assert (reordered - together[:, texts]).abs().max() < 1e-12


@pytest.mark.parametrize("backend", ["gram", "reference"])
def test_padding_reaches_neither_scores_nor_gradients(backend):
    torch.manual_seed(3)
    model = random_model()
    regions, region_mask, words, word_mask = random_items(4, 4, 6, 6)
    gradients = []
    for garbage, unknown in ((0.0, 0), (float("nan"), 7)):
        model.zero_grad()
        filled = regions.masked_fill(~region_mask.unsqueeze(-1), garbage)
        scores = model.similarity(
            filled, region_mask, words.masked_fill(~word_mask, unknown), word_mask, backend=backend
        )
        scores.sum().backward()
        gradients.append([scores.detach(), *(p.grad.clone() for p in model.parameters())])
    for clean, padded in zip(*gradients, strict=True):
        assert torch.equal(clean, padded)


@pytest.mark.parametrize("backend", ["gram", "reference"])
@pytest.mark.parametrize("blocks", [0, 1, 2])
@torch.inference_mode()
def test_padding_of_tokens_does_not_reach_scores(blocks, backend):
    torch.manual_seed(3)
    model = random_model(blocks=blocks)
    regions, region_mask, words, word_mask = random_items(4, 5, 6, 6)
    images, texts = model.encode_images(regions, region_mask), model.encode_texts(words, word_mask)
    scores = model.score(images, region_mask, texts, word_mask, backend=backend)
    images[~region_mask], texts[~word_mask] = torch.nan, torch.nan
    assert torch.equal(model.score(images, region_mask, texts, word_mask, backend=backend), scores)


@pytest.mark.parametrize("alignment", ["words", "both"])
def test_scores_stay_finite_at_extremes(alignment):
    model = random_model(
        dtype=torch.float32, alignment=alignment, attention_temperature=1000.0, alignment_temperature=1000.0
    )
    regions, region_mask, words, word_mask = random_items(3, 4, 5, 6, dtype=torch.float32)
    regions[0] = regions[0, :1]  # all regions the same
    regions[1] *= 1e4
    regions[2] = 0
    scores = model.similarity(regions, region_mask, words, word_mask)
    scores.sum().backward()
    assert scores.isfinite().all()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    assert scores.abs().max() <= 1 + 1e-5


def test_bad_shapes_are_named():
    model = random_model()
    regions, region_mask, words, word_mask = random_items(2, 2, 3, 3)
    empty = region_mask.clone()
    empty[1] = False
    with pytest.raises(ValueError, match="image 1 has no token"):
        model.similarity(regions, empty, words, word_mask)
    with pytest.raises(ValueError, match="backend must be"):
        model.similarity(regions[:1], region_mask[:1], words, word_mask, backend="fast")
    with pytest.raises(ValueError, match=r"text tokens must be .* got \(2, 3, 4\)"):
        model.score(torch.zeros(1, 3, 16), region_mask[:1], torch.zeros(2, 3, 4), word_mask)


def of_dtypes(images: torch.dtype, texts: torch.dtype, *, blocks: int = 1, direction: str = "words") -> torch.Tensor:
    torch.manual_seed(5)
    model = random_model(dtype=texts, blocks=blocks)
    masks = torch.ones(2, 3, dtype=torch.bool), torch.ones(4, 2, dtype=torch.bool)
    tokens = [torch.nn.functional.normalize(torch.randn(*mask.shape, 16), dim=-1) for mask in masks]
    return score_all_pairs(
        tokens[0].to(images), masks[0], tokens[1].to(texts), masks[1], blocks=list(model.blocks),
        matching=Matching(9.0, direction, MEAN),
    )  # fmt: skip


@pytest.mark.parametrize("blocks", [0, 1, 2])
@torch.inference_mode()
def test_dtypes_and_direction_that_are_none(blocks):
    for images, texts in itertools.permutations([torch.float32, torch.float64], 2):
        with pytest.raises(ValueError, match=f"both the same; got {images} and {texts}"):
            of_dtypes(images, texts, blocks=blocks)
    with pytest.raises(ValueError, match=r"float32, float64 or bfloat16.*got torch\.float16"):
        of_dtypes(torch.float16, torch.float16, blocks=blocks)
    with pytest.raises(ValueError, match="direction must be one of words, regions, both; got 'pairs'"):
        of_dtypes(torch.float32, torch.float32, blocks=blocks, direction="pairs")


@pytest.mark.parametrize("blocks", [0, 1, 2])
@torch.inference_mode()
def test_bfloat16_tokens_and_autocast(blocks):
    exact = of_dtypes(torch.float32, torch.float32, blocks=blocks)
    assert (of_dtypes(torch.bfloat16, torch.bfloat16, blocks=blocks).float() - exact).abs().max() < 0.05
    with torch.autocast("cpu"):
        assert torch.equal(of_dtypes(torch.float32, torch.float32, blocks=blocks), exact)


@pytest.mark.parametrize("backend", ["gram", "reference"])
@torch.inference_mode()
def test_no_images_or_texts_give_no_scores(backend):
    model = random_model()
    regions, region_mask, words, word_mask = random_items(2, 3, 4, 5)
    assert model.similarity(regions[:0], region_mask[:0], words, word_mask, backend=backend).shape == (0, 3)
    assert model.similarity(regions, region_mask, words[:0], word_mask[:0], backend=backend).shape == (2, 0)
