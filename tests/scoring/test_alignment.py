"""Sets without attention: SCAN's formulas as a plain loop, HAN's plain forward, and the kernel beside both."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from closeness import assert_close, assert_gradients_close, in_float64
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.nn.functional import leaky_relu, normalize

from han_retrieval.matchers import HAN, HANConfig
from han_retrieval.matchers.han import pool
from han_retrieval.scoring import Matching, score_all_pairs
from han_retrieval.scoring.cpu import tiles

ATTENTIONS = ["cosine", "clipped"]
DIRECTIONS = ["words", "regions", "both"]
GRADIENTS = 1e-4  # of their scale
MEAN = partial(pool, pooling="mean", temperature=1.0)


def random_tokens(items: int, tokens: int, d: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens of any length in float64, with garbage where the mask has none."""
    mask = torch.rand(items, tokens) < 0.7
    mask[torch.arange(items), torch.randint(tokens, (items,))] = True
    x = torch.randn(items, tokens, d, dtype=torch.float64) + 0.3  # positive and negative cosines, more of the former
    return x.masked_fill(~mask.unsqueeze(2), torch.nan), mask


def scan(image: torch.Tensor, text: torch.Tensor, *, direction: str, temperature: float, attention: str) -> float:
    """The score of one pair, (m, d) and (n, d) without padding, number by number after the formulas of SCAN."""
    g, s = (text, image) if direction == "words" else (image, text)
    weights = [[float(a @ b / (a.norm() * b.norm())) for b in g] for a in s]  # of sources, then of attending tokens
    if attention == "clipped":
        weights = [[x if x > 0 else 0.1 * x for x in row] for row in weights]
        weights = [[x / (sum(y * y for y in row) ** 0.5 + 1e-8) for x in row] for row in weights]
    matches = []
    for j, attending in enumerate(g):
        alpha = (temperature * torch.tensor([row[j] for row in weights], dtype=torch.float64)).softmax(0)
        attended = sum(float(share) * source for share, source in zip(alpha, s, strict=True))
        matches.append(float(attending @ attended / (attending.norm() * attended.norm())))
    return sum(matches) / len(matches)


def engine(items: tuple, *, direction: str, attention: str, temperature: float = 5.0) -> torch.Tensor:
    return score_all_pairs(*items, blocks=[], matching=Matching(temperature, direction, MEAN, attention))


def of_dtype(dtype: torch.dtype, items: tuple) -> tuple:
    return tuple(x.to(dtype) if x.is_floating_point() else x for x in items)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_scores_are_those_of_the_formulas(direction, attention):
    torch.manual_seed(0)
    items = (*random_tokens(4, 7, 8), *random_tokens(11, 5, 8))
    images = [tokens[mask] for tokens, mask in zip(*items[:2], strict=True)]
    texts = [tokens[mask] for tokens, mask in zip(*items[2:], strict=True)]
    of_each = []
    for each in ("words", "regions") if direction == "both" else (direction,):
        score = partial(scan, direction=each, temperature=5.0, attention=attention)
        of_each.append(torch.tensor([[score(image, text) for text in texts] for image in images], dtype=torch.float64))
    plain = torch.stack(of_each).mean(0)
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        scores = engine(of_dtype(dtype, items), direction=direction, attention=attention)
        assert (scores - plain).abs().max() < tolerance
    assert plain.std() > 1e-2


@given(
    st.integers(1, 5), st.integers(1, 20), st.integers(1, 100), st.integers(1, 80), st.sampled_from(ATTENTIONS),
    st.sampled_from(DIRECTIONS), st.integers(0, 999),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
@torch.inference_mode()
def test_the_kernel_is_exact_at_any_size(images, texts, m, n, attention, direction, seed):
    torch.manual_seed(seed)
    items = (*random_tokens(images, m, 32), *random_tokens(texts, n, 32))
    # Where a row is nearly zero, as of one word at right angles to a region, rounding decides the sign of the quotient.
    assume(attention == "cosine" or shortest_row(*items) > 1e-5)
    exact = engine(items, direction=direction, attention=attention)
    scores = engine(of_dtype(torch.float32, items), direction=direction, attention=attention)
    assert (scores - exact).abs().max() < 1e-5


def shortest_row(
    images: torch.Tensor, region_mask: torch.Tensor, texts: torch.Tensor, word_mask: torch.Tensor
) -> float:
    """The least length of a row of clipped cosines, by which SCAN divides the row."""
    unit = [normalize(tokens, dim=2).nan_to_num() for tokens in (images, texts)]
    there = region_mask[:, None, :, None] & word_mask[None, :, None, :]
    clipped = leaky_relu(torch.einsum("imd,tnd->itmn", *unit), 0.1) * there
    return min(float(clipped.norm(dim=dim)[there.any(dim)].min()) for dim in (2, 3))


def gradients(items: tuple, weights: torch.Tensor, **options: str) -> list[torch.Tensor]:
    images, region_mask, texts, word_mask = items
    tokens = images.clone().requires_grad_(), texts.clone().requires_grad_()
    scores = engine((tokens[0], region_mask, tokens[1], word_mask), **options)
    (scores * weights.to(scores.dtype)).sum().backward()
    return [x.grad for x in tokens]


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize(("m", "n"), [(1, 1), (7, 5), (36, 12), (5, 30)])
def test_gradients_of_the_kernel_are_those_in_torch(direction, attention, m, n):
    torch.manual_seed(m)
    items = (*random_tokens(4, m, 16), *random_tokens(19, n, 16))
    weights = torch.randn(4, 19)
    options = {"direction": direction, "attention": attention}
    exact = gradients(items, weights, **options)
    got = gradients(of_dtype(torch.float32, items), weights, **options)
    assert_gradients_close(got, exact, GRADIENTS, names=["images", "texts"])
    for x, wanted, mask in zip(got, exact, items[1::2], strict=True):
        assert not x[~mask].any()
        assert not wanted[~mask].any()


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_gradients_in_torch_are_those_of_differences(direction, attention):
    torch.manual_seed(1)
    images, texts = torch.randn(2, 3, 4, dtype=torch.float64), torch.randn(3, 2, 4, dtype=torch.float64)
    region_mask = torch.tensor([[True, True, True], [True, False, True]])
    word_mask = torch.ones(3, 2, dtype=torch.bool)

    def scores(images: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
        return engine((images, region_mask, texts, word_mask), direction=direction, attention=attention)

    assert torch.autograd.gradcheck(scores, (images.requires_grad_(), texts.requires_grad_()))


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("rows", [60, 1152])
def test_tiles_and_memory_do_not_matter(rows, direction, attention, monkeypatch):
    torch.manual_seed(0)
    items = (*random_tokens(9, 13, 16), *random_tokens(40, 9, 16))
    weights = torch.randn(9, 40)
    options = {"direction": direction, "attention": attention}
    exact = gradients(items, weights, **options)
    monkeypatch.setattr(tiles, "KEPT_ELEMENTS", 0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)  # so that 1152 rows hold all nine images
    monkeypatch.setattr(tiles, "IMAGE_ROWS", rows)
    monkeypatch.setattr(tiles, "WORD_ROWS", 200)
    assert_gradients_close(gradients(of_dtype(torch.float32, items), weights, **options), exact, GRADIENTS)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-13)])
def test_a_pair_does_not_see_its_batch_or_its_padding(direction, attention, dtype, tolerance):
    torch.manual_seed(2)
    items = of_dtype(dtype, (*random_tokens(6, 7, 8), *random_tokens(9, 6, 8)))
    images, region_mask, texts, word_mask = items
    together = engine(items, direction=direction, attention=attention)
    i, t = 3, 5
    image, text = images[i : i + 1, region_mask[i]], texts[t : t + 1, word_mask[t]]
    masks = [torch.ones_like(tokens[..., 0], dtype=torch.bool) for tokens in (image, text)]
    alone = engine((image, masks[0], text, masks[1]), direction=direction, attention=attention)
    assert abs(float(alone - together[i, t])) < tolerance


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-10)])
def test_padding_never_wins_a_soft_max_of_negative_cosines(direction, attention, dtype, tolerance):
    torch.manual_seed(4)
    images, texts = torch.rand(3, 5, 8, dtype=dtype), -torch.rand(10, 4, 8, dtype=dtype)
    masks = [torch.ones(3, 5, dtype=torch.bool), torch.ones(10, 4, dtype=torch.bool)]
    options = {"direction": direction, "attention": attention, "temperature": 1000.0}
    plain = engine((images, masks[0], texts, masks[1]), **options)
    images, texts = (torch.cat([x, torch.full_like(x, torch.nan)], dim=1) for x in (images, texts))
    masks = [torch.cat([mask, ~mask], dim=1) for mask in masks]
    assert (engine((images, masks[0], texts, masks[1]), **options) - plain).abs().max() < tolerance
    texts = torch.cat([texts, torch.rand(1, 8, 8, dtype=dtype)])  # a longer one, to share a group with others
    masks[1] = torch.cat([masks[1], torch.ones(1, 8, dtype=torch.bool)])
    assert (engine((images, masks[0], texts, masks[1]), **options)[:, :-1] - plain).abs().max() < tolerance


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_scores_and_gradients_stay_finite_at_extremes(direction, attention):
    torch.manual_seed(0)
    images, region_mask, texts, word_mask = of_dtype(torch.float32, (*random_tokens(3, 5, 8), *random_tokens(4, 6, 8)))
    images[0], region_mask[0] = torch.randn(8), True  # all regions the same
    images[1] *= 1e4
    images[2] = 0
    texts[1] = -texts[0]
    images.requires_grad_()
    texts.requires_grad_()
    scores = engine((images, region_mask, texts, word_mask), direction=direction, attention=attention, temperature=1e3)
    scores.sum().backward()
    assert scores.isfinite().all()
    assert scores.abs().max() <= 1 + 1e-5
    assert images.grad.isfinite().all()
    assert texts.grad.isfinite().all()


@pytest.mark.parametrize("alignment", DIRECTIONS)
@pytest.mark.parametrize("pooling", ["mean", "lse"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_han_without_blocks_is_its_plain_forward(alignment, pooling, dtype, tolerance):
    torch.manual_seed(0)
    sizes = {"region_size": 11, "vocabulary_size": 40, "word_size": 8, "joint_size": 16, "blocks": 0}
    model = HAN(HANConfig(**sizes, alignment=alignment, pooling=pooling))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    model.to(dtype)
    region_mask, word_mask = random_tokens(5, 9, 1)[1], random_tokens(7, 6, 1)[1]
    items = torch.randn(5, 9, 11, dtype=dtype), region_mask, torch.randint(1, 40, (7, 6)), word_mask
    weights = torch.randn(5, 7, dtype=dtype)

    def scores_and_gradients(model, regions, **backend) -> tuple[torch.Tensor, list[torch.Tensor]]:
        model.zero_grad()
        scores = model.similarity(regions, *items[1:], **backend)
        (scores * weights.to(scores.dtype)).sum().backward()
        return scores.detach(), [p.grad for p in model.parameters()]

    exact, exact_gradients = scores_and_gradients(in_float64(model), items[0].double(), backend="reference")
    for backend in ("gram", "reference"):
        scores, gradients = scores_and_gradients(model, items[0], backend=backend)
        assert_close(scores, exact, tolerance)
        assert_gradients_close(gradients, exact_gradients, 10 * tolerance)
    assert exact.std() > 1e-3


def test_clipped_attention_is_for_no_blocks():
    items = (*random_tokens(2, 3, 4), *random_tokens(2, 3, 4))
    block = HAN(HANConfig(region_size=2, vocabulary_size=5, word_size=2, joint_size=4)).blocks[0]
    with pytest.raises(ValueError, match="without blocks, 'clipped' or 'max'; got 'clipped'"):
        score_all_pairs(*items, blocks=[block], matching=Matching(1.0, "words", MEAN, "clipped"))
    with pytest.raises(ValueError, match="got 'clip'"):
        engine(items, direction="words", attention="clip")
