"""The loss between its two ends, and that its gradient is always a number."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from han_retrieval.losses import soft_max_triplet_loss


def oracle(scores: torch.Tensor, *, margin: float, power: float, image_ids=None, caption_image_ids=None) -> float:
    """The formula, pair by pair."""
    count = len(scores)
    rows = list(range(count)) if image_ids is None else image_ids.tolist()
    columns = rows if caption_image_ids is None else caption_image_ids.tolist()
    total = 0.0
    for anchor in range(count):
        for kind in ("image", "caption"):
            hinges = []
            for other in range(count):
                i, j = (anchor, other) if kind == "image" else (other, anchor)
                if other != anchor and rows[i] != columns[j]:
                    hinges.append(max(0.0, float(scores[i, j] - scores[anchor, anchor]) + margin))
            if hinges:
                total += max(hinges) if math.isinf(power) else sum(h**power for h in hinges) ** (1 / power)
    return total / count


@given(st.integers(1, 7), st.sampled_from([1, 1.5, 2, 4, 16, math.inf]), st.integers(0, 999), st.booleans())
@settings(max_examples=60, deadline=None)
def test_is_the_formula(count, power, seed, repeated):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(count, count, dtype=torch.float64, generator=generator) * 2 - 1
    ids = torch.randint(0, 3, (count,), generator=generator) if repeated else None
    value = soft_max_triplet_loss(scores, margin=0.2, power=power, image_ids=ids)
    assert float(value) == pytest.approx(oracle(scores, margin=0.2, power=power, image_ids=ids), abs=1e-12)


def test_ends_are_exact():
    scores = torch.randn(9, 9)
    hinges_rows = (scores - scores.diagonal()[:, None] + 0.2).relu().fill_diagonal_(0)
    hinges_columns = (scores - scores.diagonal()[None, :] + 0.2).relu().fill_diagonal_(0)
    sum_of_hinges = (hinges_rows.sum(1).sum() + hinges_columns.sum(0).sum()) / 9
    hardest = (hinges_rows.amax(1).sum() + hinges_columns.amax(0).sum()) / 9
    assert torch.equal(soft_max_triplet_loss(scores, margin=0.2, power=1), sum_of_hinges)
    assert torch.equal(soft_max_triplet_loss(scores, margin=0.2, power=math.inf), hardest)
    assert torch.allclose(soft_max_triplet_loss(scores, margin=0.2, power=1e6), hardest, rtol=1e-4)


def test_other_captions_of_an_image_are_no_negatives():
    scores = torch.tensor([[0.5, 0.9, 0.1], [0.9, 0.5, 0.1], [0.1, 0.1, 0.9]])
    assert float(soft_max_triplet_loss(scores, margin=0.2, power=2)) > 0.5
    same = soft_max_triplet_loss(scores, margin=0.2, power=2, image_ids=torch.tensor([7, 7, 8]))
    assert float(same) == 0
    crossed = soft_max_triplet_loss(
        scores, margin=0.2, power=2, image_ids=torch.tensor([7, 7, 8]), caption_image_ids=torch.tensor([7, 5, 8])
    )
    assert float(crossed) > 0  # the second caption now belongs to another image than its row's


def test_pairs_that_match_as_well_are_no_negatives():
    scores = torch.tensor([[0.5, 0.9, 0.1], [0.4, 0.9, 0.1], [0.1, 0.1, 0.9]])
    matching = torch.eye(3, dtype=torch.bool)
    matching[0, 1] = True  # the first image has the second caption, too
    assert float(soft_max_triplet_loss(scores, margin=0.2, power=2)) > 0.1
    assert float(soft_max_triplet_loss(scores, margin=0.2, power=2, matching=matching)) < 0.04
    # What is left: the second image is within the margin of the first for its caption.
    expected = (0.4 - 0.5 + 0.2) / 3
    assert float(soft_max_triplet_loss(scores, margin=0.2, power=2, matching=matching)) == pytest.approx(expected)
    for wrong in (matching[:2], matching.float()):
        with pytest.raises(ValueError, match="matching"):
            soft_max_triplet_loss(scores, margin=0.2, power=2, matching=wrong)


@pytest.mark.parametrize("power", [1, 1.0001, 2, 50, 1e4, 1e8, math.inf])
@pytest.mark.parametrize(
    "scores",
    [
        torch.zeros(5, 5),
        torch.eye(5) * 10,  # no violation
        torch.eye(5) * -10,  # every pair violates
        torch.full((5, 5), 0.3).fill_diagonal_(0.5),  # hinges of zero, up to rounding
        torch.diag_embed(torch.tensor([9.0, -9.0, 0.0, 9.0, 0.0])),
        torch.randn(5, 5, generator=torch.Generator().manual_seed(0)) * 1e4,
        torch.zeros(1, 1),
    ],
    ids=["equal", "none", "all", "edge", "some", "huge", "alone"],
)
def test_gradients_are_finite(scores, power):
    scores = scores.clone().requires_grad_()
    loss = soft_max_triplet_loss(scores, margin=0.2, power=power)
    loss.backward()
    assert loss.isfinite()
    assert scores.grad.isfinite().all()


@pytest.mark.parametrize("power", [1, 1.5, 4, 1e4, math.inf])
@pytest.mark.parametrize("place", [(0, 0), (2, 1)])
def test_nan_is_not_lost(place, power):
    scores = torch.eye(4)
    scores[place] = math.nan
    assert soft_max_triplet_loss(scores, margin=0.2, power=power).isnan()


def test_rows_without_violation_have_no_gradient():
    scores = (torch.eye(4) * 5).requires_grad_()
    soft_max_triplet_loss(scores, margin=0.2, power=4).backward()
    assert torch.equal(scores.grad, torch.zeros(4, 4))


def test_a_negative_weighs_as_its_hinge_to_the_power_minus_one():
    # Captions 1 and 2 fit their own images so well that only image 0's row has hinges: 0.3 and 0.1.
    scores = torch.tensor([[0.5, 0.6, 0.4], [-1, 5, -1], [-1, -1, 5]], dtype=torch.float64, requires_grad=True)
    soft_max_triplet_loss(scores, margin=0.2, power=3).backward()
    assert float(scores.grad[0, 1] / scores.grad[0, 2]) == pytest.approx((0.3 / 0.1) ** 2)


def test_gradient_is_the_slope():
    scores = torch.randn(5, 5, dtype=torch.float64, requires_grad=True)
    for power in (1.0, 2.5, 8.0):
        assert torch.autograd.gradcheck(
            lambda s, p=power: soft_max_triplet_loss(s, margin=0.2, power=p), scores, eps=1e-7, atol=1e-5
        )


def test_bad_arguments_are_named():
    for shape in ((3, 4), (3, 3, 3), (0, 0), ()):
        for power in (1, 2):
            with pytest.raises(ValueError, match=r"\(I, I\).*I >= 1"):
                soft_max_triplet_loss(torch.zeros(shape), margin=0.2, power=power)
    with pytest.raises(ValueError, match="power"):
        soft_max_triplet_loss(torch.zeros(3, 3), margin=0.2, power=0.5)
    with pytest.raises(ValueError, match="ids"):
        soft_max_triplet_loss(torch.zeros(3, 3), margin=0.2, power=2, image_ids=torch.arange(2))
