"""The soft-max triplet loss: a p-norm over the hinges of all negatives.

Legend: I images, one column a matching caption each, (I, I) scores.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def soft_max_triplet_loss(
    scores: Tensor,
    *,
    margin: float,
    power: float,
    image_ids: Tensor | None = None,
    caption_image_ids: Tensor | None = None,
) -> Tensor:
    """Sum over images and over captions of the p-norm of [S_ij - S_pos + margin]_+ over negatives, divided by I.

    Between its two ends, p = 1 (the sum of hinges) and p = inf (the hardest negative), a negative weighs in the
    gradient as its hinge to the power p - 1: hard negatives lead, and no single one decides (Yu et al., SIGIR 2021).

    Args:
        scores: (I, I) floats, I >= 1; row i and column i are a matching image and caption.
        margin: mu, in units of the score.
        power: p, from 1 to ``math.inf``.
        image_ids: (I,) ints, the image of each row; rows are different images when not given.
        caption_image_ids: (I,) ints, the image that each column's caption belongs to; ``image_ids`` when not given.
            A caption of the row's own image is never a negative.

    Returns:
        A scalar, 0 when no negative violates the margin, NaN when a score that counts is NaN. Its gradient is finite
        for finite scores, and 0 in rows and columns without a violation.

    Raises:
        ValueError: The scores are not square or there are none, ids have another length, or the power is below 1.
    """
    if scores.ndim != 2 or scores.shape[0] != scores.shape[1] or not len(scores):
        raise ValueError(f"scores must be (I, I), a matching caption a row, I >= 1; got {tuple(scores.shape)}")
    count = len(scores)
    if not power >= 1:
        raise ValueError(f"power must be from 1 to inf; got {power}")
    rows = torch.arange(count, device=scores.device) if image_ids is None else image_ids
    columns = rows if caption_image_ids is None else caption_image_ids
    if rows.shape != (count,) or columns.shape != (count,):
        raise ValueError(f"ids must be ({count},); got {tuple(rows.shape)} and {tuple(columns.shape)}")

    same_image = (rows.unsqueeze(1) == columns.unsqueeze(0)) | torch.eye(count, dtype=torch.bool, device=scores.device)
    positive = scores.diagonal()
    of_images = (scores - positive.unsqueeze(1) + margin).relu().masked_fill(same_image, 0)
    of_captions = (scores - positive.unsqueeze(0) + margin).relu().masked_fill(same_image, 0)
    return (_norm(of_images, power).sum() + _norm(of_captions.mT, power).sum()) / count


def _norm(hinges: Tensor, power: float) -> Tensor:
    """The p-norm of each row of (I, I) hinges >= 0, with gradient 0 where the row is all zero."""
    if power == 1:
        return hinges.sum(1)
    if math.isinf(power):
        return hinges.amax(1)
    # |h| = c |h / c| for any constant c: with the largest hinge as c no power overflows, whatever p.
    largest = hinges.detach().amax(1, keepdim=True)
    violated = largest.squeeze(1) != 0  # NaN counts, so that it is not lost
    scale = torch.where(violated.unsqueeze(1), largest, 1)
    total = (hinges / scale).pow(power).sum(1)
    norm = torch.where(violated, total, 1).pow(1 / power)  # the inner where keeps 0 ** (1 / p - 1) out of the gradient
    return torch.where(violated, scale.squeeze(1) * norm, 0)
