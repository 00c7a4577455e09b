"""The alignment loss: words of a phrase learn to attend to the regions that show it.

Legend: B matching pairs, n words, m regions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from han_retrieval.ranks import ALONE, Ranks

# A word's loss stops growing below this weight: its gradient would outweigh that of all other words.
_LEAST = 1e-6


def alignment_loss(alignment: Tensor, shown: Tensor, *, ranks: Ranks = ALONE) -> Tensor:
    """Negative log-likelihood that a word attends to a region that shows it.

    With alpha_ij the weight of region j for word i, and P_i the regions that show word i,

        L = -1/N sum_i log(sum_{j in P_i} alpha_ij)    over the N words with at least one such region

    Requirements:
        A matcher that aligns words with regions (``AligningMatcher.alignment``), and boxes for phrases, such as those
        of Flickr30k Entities.

    Args:
        alignment: (B, n, m) alpha of matching pairs, rows summing to 1.
        shown: (B, n, m) bool, true where the region shows what the word's phrase names. Words without such a region,
            and padding, are all false and do not count.
        ranks: The processes that share the batch, each with pairs of its own; the result is that of all of them.

    Recommendations:
        Add it to the triplet loss with a small weight, such as 0.1; alone it teaches no ranking.

    Relations:
        The supervised attention of Liu et al. (AAAI 2017), for several correct regions a word.

    Example:
        >>> alpha = torch.tensor([[[0.5, 0.25, 0.25]]])
        >>> shown = torch.tensor([[[False, True, True]]])
        >>> alignment_loss(alpha, shown)  # -log(0.25 + 0.25)
        tensor(0.6931)

    Returns:
        A scalar >= 0; 0 with gradient 0 when no word counts.

    Raises:
        ValueError: The shapes differ.
    """
    if alignment.shape != shown.shape:
        raise ValueError(f"alignment is {tuple(alignment.shape)} and shown {tuple(shown.shape)}; they must be the same")
    share = alignment.masked_fill(~shown, 0).sum(-1)[shown.any(-1)]  # (words that count,)
    counted = ranks.total(torch.tensor(len(share), device=share.device))
    return -ranks.total(share.clamp(min=_LEAST).log().sum()) / counted.clamp(min=1)
