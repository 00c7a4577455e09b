"""Items side by side: LANES texts (or images) a group, sorted by length, so that neighbours pad each other little.

A group has as many words as its longest text, C in all groups together, so C LANES rows hold all words of all texts.
Legend: T texts, n words (of the longest text, or of a group's).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from han_retrieval.scoring.cpu.lanes import LANES

GROUPS_A_RUN = 32


@dataclass(frozen=True)
class Layout:
    """Where the words of T texts are.

    Attributes:
        lengths: (groups,) words of the longest text of each group.
        rows: (T, n) int64, the row of each word among the C LANES; 0 where there is none.
        places: (T,) int64, the place of each text among the groups' LANES.
        counts: (T,) int64, the words of each text.
    """

    lengths: NDArray[np.int64]
    rows: Tensor
    places: Tensor
    counts: Tensor

    @classmethod
    def of(cls, word_mask: Tensor) -> Layout:
        """Sort texts by length and lay LANES of them side by side: (T, n) bool."""
        counts = word_mask.sum(1)
        order = counts.argsort(stable=True)
        groups = counts[order].split(LANES)
        lengths = torch.stack([group[-1] for group in groups])
        places = torch.empty_like(order)
        places[order] = torch.arange(len(order))
        first = lengths.cumsum(0) - lengths  # words before each group
        start = first[places // LANES] * LANES + places % LANES
        nth = (word_mask.cumsum(1) - 1).clamp_min(0)  # of a word among its text's words
        rows = start.unsqueeze(1) + nth * LANES
        return cls(lengths.numpy(), rows.masked_fill(~word_mask, 0), places, counts)

    @property
    def words(self) -> int:
        """C."""
        return int(self.lengths.sum())

    def lay(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """(valid tokens of all texts, ...) to their rows (C LANES, ...), zero where there is none."""
        rows = tokens.new_zeros(self.words * LANES, *tokens.shape[1:])
        return rows.index_copy(0, self.rows[mask], tokens)

    def runs(self) -> Iterator[tuple[int, slice]]:
        """Some groups of equal length at a time: their words a text n, and their rows among the C LANES."""
        first = 0
        for n, groups in zip(*np.unique(self.lengths, return_counts=True), strict=True):
            for start in range(0, groups, GROUPS_A_RUN):
                size = int(n) * min(GROUPS_A_RUN, int(groups) - start) * LANES
                yield int(n), slice(first, first + size)
                first += size


def by_item(rows: Tensor, n: int) -> Tensor:
    """Rows of groups of n words to texts: (groups n LANES, ...) -> (texts, n, ...)."""
    return rows.unflatten(0, (-1, n, LANES)).transpose(1, 2).flatten(0, 1)


def rows_of(items: Tensor) -> Tensor:
    """What ``by_item`` took apart: (texts, n, ...) -> (groups n LANES, ...)."""
    return items.unflatten(0, (-1, LANES)).transpose(1, 2).flatten(0, 2)


def side_by_side(table: Tensor) -> Tensor:
    """What texts have, LANES texts together: (texts, n) -> (groups n, LANES), (texts, n, n) -> (groups n n, LANES)."""
    return table.unflatten(0, (-1, LANES)).movedim(1, -1).flatten(0, -2)
