"""Gram matrices of several blocks are those of the d-wide tokens, group by group, with their gradients."""

from __future__ import annotations

import pytest
import torch
from closeness import assert_gradients_close

from han_retrieval.matchers.han import HeterogeneousAttention
from han_retrieval.scoring.gram import group_items, joint_grams, matches_from_gram, project_terms

I, M, D = 3, 5, 12
GROUPS = [(2, 1), (4, 3), (1, 6)]  # texts, words


def random_blocks(count: int, residual: str, over: str) -> list[HeterogeneousAttention]:
    blocks = [HeterogeneousAttention(D, temperature=2.0, residual=residual, over=over).double() for _ in range(count)]
    for block in blocks:
        for parameter in block.parameters():
            torch.nn.init.normal_(parameter, std=0.4)
    return blocks


def random_tokens():
    images = torch.randn(I, M, D, dtype=torch.float64)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 0, 1, 1, 0], [0, 0, 1, 0, 0]], dtype=torch.bool)
    return images, mask, [torch.randn(T, n, D, dtype=torch.float64) for T, n in GROUPS]


def wide_gram(images, mask, texts, blocks):
    """The Gram matrix of the final d-wide tokens, (T, I, s, s), one text after another."""
    grams = []
    for text in texts:
        joint = torch.cat([images, text.expand(len(images), -1, -1)], dim=1)
        for block in blocks:
            joint, _ = block(joint, torch.cat([mask, mask.new_ones(len(images), len(text))], dim=1), regions=M)
        grams.append(joint @ joint.mT)
    return torch.stack(grams)


def joint_gram(images, mask, text, blocks):
    """Of one group of texts alone."""
    o, w = (group_items(project_terms(x.flatten(0, 1), blocks), [x.shape[:2]]) for x in (images, text))
    return next(joint_grams(o, mask, w, over=[block.over for block in blocks]))


@pytest.mark.parametrize("blocks", [0, 1, 2, 3])
@pytest.mark.parametrize("residual", ["query", "token"])
@pytest.mark.parametrize("over", ["both", "own", "other"])
def test_every_group_has_the_gram_matrix_of_its_wide_tokens(blocks, residual, over):
    torch.manual_seed(blocks)
    blocks = random_blocks(blocks, residual, over)
    images, mask, texts = random_tokens()
    o = group_items(project_terms(images.flatten(0, 1), blocks), [(I, M)])
    w = group_items(project_terms(torch.cat([x.flatten(0, 1) for x in texts]), blocks), GROUPS)
    for gram, text in zip(joint_grams(o, mask, w, over=[over] * len(blocks)), texts, strict=True):
        wide = wide_gram(images, mask, text, blocks)
        scale = wide.abs().max()
        assert (gram - wide).abs().max() < 1e-12 * scale
        assert (joint_gram(images, mask, text, blocks) - wide).abs().max() < 1e-12 * scale
        with torch.inference_mode():
            assert (joint_gram(images, mask, text, blocks) - wide).abs().max() < 1e-12 * scale


@pytest.mark.parametrize("blocks", [1, 2, 3])
@pytest.mark.parametrize("residual", ["query", "token"])
@pytest.mark.parametrize("direction", ["words", "regions"])
@pytest.mark.parametrize("over", ["both", "own", "other", "one-way"])
def test_gradients_reach_tokens_and_weights_of_every_block(blocks, residual, direction, over):
    torch.manual_seed(blocks)
    blocks = random_blocks(blocks, residual, over)
    images, mask, texts = random_tokens()
    leaves = [images.requires_grad_(), *(x.requires_grad_() for x in texts)]
    leaves += [p for block in blocks for p in block.parameters()]

    def gradients(grams):
        total = 0
        for gram in grams:
            r = matches_from_gram(gram, mask, temperature=3.0, direction=direction)
            of = mask if direction == "regions" else torch.ones_like(r, dtype=torch.bool)
            total = total + (torch.where(of, r, 0) * torch.linspace(-1, 2, r.numel()).view_as(r)).sum()
        return torch.autograd.grad(total, leaves)

    o = group_items(project_terms(images.flatten(0, 1), blocks), [(I, M)])
    w = group_items(project_terms(torch.cat([x.flatten(0, 1) for x in texts]), blocks), GROUPS)
    wide = gradients(wide_gram(images, mask, text, blocks) for text in texts)
    assert_gradients_close(gradients(joint_grams(o, mask, w, over=[over] * len(blocks))), wide, 1e-10)
    assert all(x.abs().max() > 1e-3 for x in wide[: 1 + len(texts)])  # there is something to compare
