"""The alignment loss: words of a phrase gather from the regions that show it.

Legend: B matching pairs, n words, m regions.
"""

from __future__ import annotations

from torch import Tensor

# Below this share a word's loss no longer grows: its gradient would be all that a step follows.
_LEAST = 1e-6


def alignment_loss(alignment: Tensor, shown: Tensor) -> Tensor:
    """Mean over words whose thing is shown of -log(the share that the word gathers from regions that show it).

    Args:
        alignment: (B, n, m) alpha of matching pairs, rows summing to 1.
        shown: (B, n, m) bool, true where the region shows what the word's phrase speaks of; words without any such
            region, and padding, are all false and do not count.

    Returns:
        A scalar >= 0; 0 with gradient 0 when no word counts.

    Raises:
        ValueError: The shapes differ.
    """
    if alignment.shape != shown.shape:
        raise ValueError(f"alignment is {tuple(alignment.shape)} and shown {tuple(shown.shape)}; they must be the same")
    share = alignment.masked_fill(~shown, 0).sum(-1)[shown.any(-1)]  # (words that count,)
    return -share.clamp(min=_LEAST).log().sum() / max(len(share), 1)
