"""Regions that attend to regions alone: what holds of such a model, and the engine's own way for it."""

from __future__ import annotations

import pytest
import torch
from closeness import assert_gradients_close, in_float64
from hypothesis import given, settings
from hypothesis import strategies as st

from han_retrieval.matchers import HAN, HANConfig
from han_retrieval.scoring import api
from han_retrieval.scoring.cpu import lanes, tiles

ALIGNMENTS = ["words", "regions", "both"]
TIGHT = 1e-5  # of scores in [-1, 1]; the rounding of float32 leaves some 1e-7
GRADIENTS = 1e-4  # of their scale


def random_model(*, joint_size: int = 32, **options: object) -> HAN:
    sizes = {"region_size": 11, "vocabulary_size": 40, "word_size": 8, "joint_size": joint_size}
    model = HAN(HANConfig(**sizes, attention_over="one-way", **options))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3 if joint_size < 100 else 0.1)
    return model.eval()


def random_items(images: int, texts: int, m: int, n: int):
    region_mask, word_mask = torch.rand(images, m) < 0.7, torch.rand(texts, n) < 0.7
    region_mask[torch.arange(images), torch.randint(m, (images,))] = True
    word_mask[torch.arange(texts), torch.randint(n, (texts,))] = True
    return torch.randn(images, m, 11), region_mask, torch.randint(1, 40, (texts, n)), word_mask


def exact_scores(model: HAN, items: tuple) -> torch.Tensor:
    """Those of the plain forward in float64."""
    return in_float64(model).similarity(items[0].double(), *items[1:], backend="reference")


def gradients(model: HAN, items: tuple, weights: torch.Tensor, backend: str) -> list[torch.Tensor]:
    model.zero_grad()
    (model.similarity(*items, backend=backend) * weights.to(items[0].dtype)).sum().backward()
    return [p.grad.clone() for p in model.parameters()]


def assert_exact_gradients(model: HAN, items: tuple) -> None:
    weights = torch.randn(len(items[0]), len(items[2]))
    of_float64 = (items[0].double(), *items[1:])
    exact = gradients(in_float64(model), of_float64, weights, "reference")
    assert_gradients_close(gradients(model, items, weights, "gram"), exact, GRADIENTS)


@pytest.mark.parametrize("blocks", [1, 2])
@torch.no_grad()
def test_a_photos_tokens_are_the_same_for_every_sentence(blocks):
    torch.manual_seed(0)
    model = random_model(blocks=blocks)
    regions, region_mask, words, word_mask = random_items(6, 6, 5, 4)
    images, texts = model.encode_images(regions, region_mask), model.encode_texts(words, word_mask)
    attended, words_attended, attention = model.attend(images, region_mask, texts, word_mask)
    for block in attention:
        assert not block[:, :5, 5:].any()  # regions to words
        assert block[:, 5:, :5].sum() > 0
    other = model.attend(images, region_mask, texts.flip(0), word_mask.flip(0))
    assert (other[0] - attended).abs().max() < 1e-6
    assert (other[1].flip(0) - words_attended).abs().max() > 1e-3


@given(
    st.integers(1, 5), st.integers(1, 20), st.integers(1, 100), st.integers(1, 80), st.sampled_from(["query", "token"]),
    st.sampled_from(ALIGNMENTS), st.integers(0, 999),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
@torch.inference_mode()
def test_one_way_scores_are_those_of_the_formulas(images, texts, m, n, residual, alignment, seed):
    torch.manual_seed(seed)
    model = random_model(residual=residual, alignment=alignment)
    items = random_items(images, texts, m, n)
    exact = exact_scores(model, items)
    assert (model.similarity(*items) - exact).abs().max() < TIGHT
    assert (in_float64(model).similarity(items[0].double(), *items[1:]) - exact).abs().max() < 1e-10


@pytest.mark.parametrize("alignment", ALIGNMENTS)
@pytest.mark.parametrize("residual", ["query", "token"])
@pytest.mark.parametrize(("m", "n"), [(1, 1), (7, 5), (36, 12), (5, 30)])
def test_one_way_gradients_are_those_of_the_formulas(residual, m, n, alignment):
    torch.manual_seed(m)
    assert_exact_gradients(random_model(residual=residual, alignment=alignment), random_items(4, 19, m, n))


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_more_numbers_a_token_than_the_kernel_takes_at_once(alignment):
    torch.manual_seed(0)
    model, items = random_model(alignment=alignment, joint_size=530), random_items(3, 17, 9, 5)
    with torch.no_grad():
        assert (model.similarity(*items) - exact_scores(model, items)).abs().max() < TIGHT
    assert_exact_gradients(model, items)


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_one_way_gradients_of_plain_torch(alignment):
    torch.manual_seed(0)
    model = random_model(alignment=alignment, joint_size=4).double()
    region_mask, word_mask = torch.tensor([[1, 1, 0], [1, 1, 1]]).bool(), torch.tensor([[1, 0], [1, 1]]).bool()
    tokens = [torch.randn(*mask.shape, 4, dtype=torch.float64, requires_grad=True) for mask in (region_mask, word_mask)]

    def scores(images, texts):
        return model.score(images, region_mask, texts, word_mask)

    assert torch.autograd.gradcheck(scores, tokens)


@pytest.mark.parametrize("alignment", ALIGNMENTS)
@pytest.mark.parametrize("rows", [60, 1152])
@pytest.mark.parametrize("kept", [0, 1 << 27])
def test_one_way_tiles_and_memory_do_not_matter(rows, kept, alignment, monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(tiles, "KEPT_ELEMENTS", kept)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)  # so that 1152 rows hold all nine images
    monkeypatch.setattr(tiles, "IMAGE_ROWS", rows)
    monkeypatch.setattr(tiles, "WORD_ROWS", 100)
    assert_exact_gradients(random_model(alignment=alignment), random_items(9, 40, 13, 9))


@pytest.mark.parametrize("alignment", ALIGNMENTS)
@torch.inference_mode()
def test_one_way_without_numba_and_in_bfloat16(alignment, monkeypatch):
    torch.manual_seed(0)
    model, items = random_model(joint_size=256, alignment=alignment), random_items(8, 20, 12, 9)
    exact = exact_scores(model, items)
    tokens = model.encode_images(*items[:2]), items[1], model.encode_texts(*items[2:]), items[3]
    monkeypatch.setattr(api, "prefers_bfloat16", lambda device: True)
    rounded = model.score(*tokens, precision="bfloat16")
    assert 0 < (exact - rounded).square().mean().sqrt() < 0.02 * exact.std()
    monkeypatch.setattr(api, "has_kernel", lambda *_: False)
    assert (model.score(*tokens) - exact).abs().max() < TIGHT


@torch.inference_mode()
def test_a_stored_photo_takes_fewer_tables_one_way():
    torch.manual_seed(0)
    one_way, sizes = random_model(), (21, 36)
    both = HAN(one_way.config.model_copy(update={"attention_over": "both"})).eval()
    mask = torch.ones(sizes, dtype=torch.bool)
    tokens = torch.nn.functional.normalize(torch.randn(*sizes, 32), dim=-1)
    fewer, more = (model.store_images(tokens, mask).bytes_an_item for model in (one_way, both))
    photos = -(-21 // lanes.LANES) * lanes.LANES  # that there is room for
    assert more - fewer == pytest.approx(2 * 36 * 36 * 4 * photos / 21, rel=0.01)  # two float32 tables of 36 x 36
