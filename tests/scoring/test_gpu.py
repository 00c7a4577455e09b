"""How pairs are cut and rounded on a GPU, tried on the CPU, and the scores of a card where there is one."""

from __future__ import annotations

import pytest
import torch
from closeness import assert_close, assert_gradients_close
from random_items import random_mask, random_model

from han_retrieval.scoring import api, single_block
from han_retrieval.scoring.gpu import single_block as gpu_single_block

TIGHT = 1e-5  # of scores in [-1, 1]


@pytest.mark.parametrize("blocks", [0, 1])
def test_products_in_bfloat16_where_no_gradient_is_asked_for(blocks, monkeypatch):
    """CUDA alone multiplies bfloat16 into float32: here by rounding the factors."""
    multiplied = []

    def multiply(left, right, *, out_dtype):
        multiplied.append((left.dtype, right.dtype, out_dtype))
        return left.to(out_dtype) @ right.to(out_dtype)

    monkeypatch.setattr(torch, "mm", multiply)
    monkeypatch.setattr(api, "has_kernel", lambda *_: False)
    monkeypatch.setattr(api, "prefers_bfloat16", lambda device: True)
    monkeypatch.setattr(api, "_on_gpu", lambda tokens: True)
    monkeypatch.setattr(gpu_single_block, "_fits", lambda *_: False)
    torch.manual_seed(4)
    model, masks = random_model(joint_size=64, blocks=blocks), (random_mask(8, 7), torch.ones(20, 5, dtype=torch.bool))
    images, texts = (torch.nn.functional.normalize(torch.randn(*x.shape, 64), dim=-1) for x in masks)
    exact = model.score(images, masks[0], texts, masks[1], precision="bfloat16" if blocks else "float32")
    assert not multiplied  # a gradient of the weights is asked for
    with torch.no_grad():
        rounded = model.score(images, masks[0], texts, masks[1], precision="bfloat16")
    assert multiplied == [(torch.bfloat16, torch.bfloat16, torch.float32)] * (6 if blocks else 1)
    assert 0 < (exact - rounded).square().mean().sqrt() < 0.05 * exact.std()


def test_texts_of_about_one_length_are_scored_together(monkeypatch):
    torch.manual_seed(5)
    model = random_model(joint_size=8).double()
    lengths = torch.tensor([19, 1, 8, 3, 16, 9, 17, 8, 2, 12])
    mask = torch.arange(19) < lengths.unsqueeze(1)
    items = torch.randn(3, 4, 5).double(), random_mask(3, 4), torch.randint(1, 9, mask.shape), mask
    scores, gradients, widths = {}, {}, []
    prepare = single_block.prepare
    widths_of = api._widths
    assert torch.equal(widths_of(lengths, 3, on_gpu=False), lengths)
    assert torch.equal(widths_of(lengths, api.FEW_PAIRS, on_gpu=True), lengths)
    monkeypatch.setattr(api, "_widths", lambda lengths, images, **_: widths_of(lengths, images, on_gpu=True))
    monkeypatch.setattr(
        single_block,
        "prepare",
        lambda of, mask, **options: widths.append(mask.shape[1]) or prepare(of, mask, **options),
    )
    for backend in ("reference", "gram"):
        model.zero_grad()
        scores[backend] = model.similarity(*items, backend=backend)
        (scores[backend] * torch.linspace(-1, 1, 30, dtype=torch.float64).view(3, 10)).sum().backward()
        gradients[backend] = [p.grad.clone() for p in model.parameters()]
    assert sorted(widths) == [4, 8, 16, 24]  # the images', and three groups of texts
    assert_close(scores["gram"], scores["reference"], 1e-10)
    assert_gradients_close(gradients["gram"], gradients["reference"], 1e-10)


@pytest.mark.parametrize(("texts", "fits"), [(1 << 22, True), ((1 << 31) // (36 * 12) + 1, False)])
def test_more_products_than_32_bits_count_are_left_to_torch(texts, fits):
    images, words = (
        single_block.PreparedItems(
            None,  # type: ignore[arg-type]
            single_block.Tables(*[torch.zeros(()).expand(shape)] * 9),  # as large as they say, without the memory
            torch.zeros(side, side),
        )
        for shape, side in (((5, 36), 64), ((texts, 12), 16))
    )
    assert gpu_single_block._fits(images, words) is fits


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("texts", [30, 4000])
@torch.inference_mode()
def test_scores_on_a_card_are_those_of_the_formulas(texts):
    torch.manual_seed(6)
    model = random_model(joint_size=64).double()
    items = torch.randn(80, 36, 5), random_mask(80, 36), torch.randint(1, 9, (texts, 20)), random_mask(texts, 20)
    exact = model.similarity(items[0].double(), *items[1:], backend="reference")
    model, items = model.float().cuda(), tuple(x.cuda() for x in items)
    assert (model.similarity(*items).cpu() - exact).abs().max() < TIGHT
