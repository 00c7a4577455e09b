"""The alignment loss is what its formula says, and counts the words it should."""

from __future__ import annotations

import math

import pytest
import torch

from han_retrieval.losses import alignment_loss

ALPHA = torch.tensor([[[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]], [[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]]])  # (B, n, m)


def shown_of(*places: tuple[int, int, int]) -> torch.Tensor:
    shown = torch.zeros(ALPHA.shape, dtype=torch.bool)
    for place in places:
        shown[place] = True
    return shown


def test_is_the_mean_over_words_that_count():
    shown = shown_of((0, 0, 1), (0, 0, 2), (1, 1, 1))
    assert float(alignment_loss(ALPHA, shown)) == pytest.approx(-math.log(0.5))
    shown = shown_of((0, 0, 0), (0, 1, 0))
    assert float(alignment_loss(ALPHA, shown)) == pytest.approx(-(math.log(0.5) + math.log(0.1)) / 2)


def test_is_zero_when_all_is_gathered_from_the_right_regions():
    assert float(alignment_loss(ALPHA, shown_of((1, 0, 0)))) == 0


def test_descends_towards_the_shown_regions():
    logits = torch.zeros(1, 1, 4, requires_grad=True)
    shown = torch.tensor([[[True, False, True, False]]])
    alignment_loss(logits.softmax(-1), shown).backward()
    assert (logits.grad[0, 0, [0, 2]] < 0).all()
    assert (logits.grad[0, 0, [1, 3]] > 0).all()


def test_without_a_word_that_counts_it_is_zero_and_so_is_its_gradient():
    logits = torch.zeros(2, 2, 3, requires_grad=True)
    loss = alignment_loss(logits.softmax(-1), shown_of())
    loss.backward()
    assert float(loss.detach()) == 0
    assert (logits.grad == 0).all()


def test_stays_finite_when_nothing_is_gathered_there():
    alpha = ALPHA.clone().requires_grad_()
    loss = alignment_loss(alpha, shown_of((1, 0, 1)))
    loss.backward()
    assert math.isfinite(float(loss.detach()))
    assert alpha.grad.isfinite().all()


def test_refuses_other_shapes():
    with pytest.raises(ValueError, match="same"):
        alignment_loss(ALPHA, torch.ones(2, 2, 4, dtype=torch.bool))
