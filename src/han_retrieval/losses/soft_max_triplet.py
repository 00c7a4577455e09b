"""The soft-max triplet loss: a p-norm over the hinges of all negatives.

Legend: I images, each with one matching caption; S the (I, I) scores, of which a rank has k rows.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from han_retrieval.ranks import ALONE, Ranks


def soft_max_triplet_loss(
    scores: Tensor,
    *,
    margin: float,
    power: float,
    image_ids: Tensor | None = None,
    caption_image_ids: Tensor | None = None,
    matching: Tensor | None = None,
    ranks: Ranks = ALONE,
) -> Tensor:
    """Rank the matching caption of each image, and the matching image of each caption, above all others by a margin.

    With hinges h_ij = [S_ij - S_ii + mu]_+ over captions j of image i, and g_ij = [S_ij - S_jj + mu]_+ over images i of
    caption j, both without the matching pair,

        L = 1/I ( sum_i (sum_j h_ij^p)^(1/p) + sum_j (sum_i g_ij^p)^(1/p) )

    A negative weighs in the gradient as its hinge to the power p - 1: hard negatives count most, and no single one
    decides (Yu et al., SIGIR 2021).

    Requirements:
        The scores of all pairs of a batch of matching images and captions.

    Args:
        scores: (I, I) floats, I >= 1; row i and column i are a matching image and caption.
        margin: mu, in units of the score.
        power: p, from 1 to ``math.inf``.
        image_ids: (I,) ints, the image of each row; rows are different images when not given.
        caption_image_ids: (I,) ints, the image that each column's caption belongs to; ``image_ids`` when not given.
            A caption of the row's own image is never a negative.
        matching: (I, I) bool, true where a column's caption matches a row's image as well, such as a sentence that
            several images have; these pairs are no negatives either.
        ranks: The processes that share the batch. With several, ``scores`` and ``matching`` are (k, I), the rows that
            ``ranks.rows(I)`` gives this one; ids are those of the whole batch, and so is the result, on each of them.

    Recommendations:
        A margin of 0.2 for scores that are cosines; p from 4 to 8; batches of about 100 pairs, each of another image.
        Large p from the first step can make all scores equal: the loss then stays at 2 mu (I - 1)^(1/p).

    Relations:
        p = 1 is the sum of hinges (Frome et al., NeurIPS 2013); p = inf takes the hardest negative alone, as VSE++
        (Faghri et al., BMVC 2018) and SCAN do.

    Example:
        >>> scores = torch.tensor([[0.9, 0.8], [0.1, 0.7]])
        >>> soft_max_triplet_loss(scores, margin=0.2, power=math.inf)  # (0.1 + 0.3) / 2
        tensor(0.2000)

    Returns:
        A scalar, 0 when no negative violates the margin, NaN when a score that counts is NaN. Its gradient is finite
        for finite scores, and 0 in rows and columns without a violation.

    Raises:
        ValueError: The scores are not square (or not this rank's rows) or there are none, ids or ``matching`` have
            another shape, or the power is below 1.
    """
    count = scores.shape[-1] if scores.ndim == 2 else 0
    own = ranks.rows(count)
    if not count or len(scores) != own.stop - own.start:
        wanted = "(I, I)" if ranks.count == 1 else f"this rank's rows {own.start} to {own.stop} of (I, I)"
        raise ValueError(f"scores must be {wanted}, a matching caption a row, I >= 1; got {tuple(scores.shape)}")
    if not power >= 1:
        raise ValueError(f"power must be from 1 to inf; got {power}")
    rows = torch.arange(count, device=scores.device) if image_ids is None else image_ids
    columns = rows if caption_image_ids is None else caption_image_ids
    if rows.shape != (count,) or columns.shape != (count,):
        raise ValueError(f"ids must be ({count},); got {tuple(rows.shape)} and {tuple(columns.shape)}")

    places = torch.arange(count, device=scores.device)
    no_negative = (rows[own].unsqueeze(1) == columns) | (places[own].unsqueeze(1) == places)  # (k, I)
    if matching is not None:
        if matching.shape != scores.shape or matching.dtype != torch.bool:
            shape = tuple(scores.shape)
            raise ValueError(f"matching must be {shape} bool; got {tuple(matching.shape)} {matching.dtype}")
        no_negative |= matching
    positive = scores[:, own].diagonal()  # (k,)
    of_images = (scores - positive.unsqueeze(1) + margin).relu().masked_fill(no_negative, 0)
    of_captions = (scores - ranks.gather(positive, count) + margin).relu().masked_fill(no_negative, 0)
    of_rows = ranks.total(_norm(of_images, power, ALONE).sum())
    return (of_rows + _norm(of_captions.mT, power, ranks).sum()) / count


def _norm(hinges: Tensor, power: float, ranks: Ranks) -> Tensor:
    """The p-norm of each row of hinges >= 0, with gradient 0 where the row is all zero: (I, k) -> (I,).

    Each of the ``ranks`` has other columns of the same rows.
    """
    if power == 1:
        return ranks.total(hinges.sum(1))
    if math.isinf(power) and ranks.count == 1:
        return hinges.amax(1)
    # |h| = c |h / c| for any constant c: with the largest hinge as c no power overflows, whatever p.
    largest = ranks.largest(hinges.detach().amax(1, keepdim=True))
    if math.isinf(power):  # equal ones share the gradient, as in amax
        here = (hinges == largest) | hinges.isnan()
        return ranks.total((hinges * here).sum(1)) / ranks.total(here.sum(1)).clamp(min=1)
    violated = largest.squeeze(1) != 0  # NaN counts, so that it is not lost
    scale = torch.where(violated.unsqueeze(1), largest, 1)
    total = ranks.total((hinges / scale).pow(power).sum(1))
    norm = torch.where(violated, total, 1).pow(1 / power)  # the inner where keeps 0 ** (1 / p - 1) out of the gradient
    return torch.where(violated, scale.squeeze(1) * norm, 0)
