"""Stored images or texts that queries of the other kind are scored against."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from han_retrieval.scoring.api import has_kernel, score_all_pairs
from han_retrieval.scoring.matching import Matching
from han_retrieval.scoring.projections import AttentionBlock
from han_retrieval.scoring.tokens import Tokens

if TYPE_CHECKING:
    from han_retrieval.scoring.cpu.stored import StoredItems


class Collection:
    """Images or texts that queries of the other kind are scored against.

    Args:
        tokens: (N, t, d) float32 tokens, as a model's encoder gives them, or such that are stored already.
        mask: (N, t) bool, at least one true an item.
        of: "images" or "texts".
        blocks: The rounds of attention, whose weights must stay as they are.
        matching: What makes a score.
        storage: How float32 tokens are kept, one of ``STORAGES``. Scores are exactly those of the rounded tokens.

    Raises:
        ValueError: ``of`` or ``storage`` is none of those.
    """

    def __init__(
        self,
        tokens: Tensor | Tokens,
        mask: Tensor,
        *,
        of: str,
        blocks: Sequence[AttentionBlock],
        matching: Matching,
        storage: str = "float16",
    ):
        if of not in ("images", "texts"):
            raise ValueError(f"of must be 'images' or 'texts'; got {of!r}")
        self.of, self.blocks, self.matching, self.mask = of, blocks, matching, mask
        kernel = has_kernel(tokens if isinstance(tokens, Tensor) else tokens.scale, blocks)
        if isinstance(tokens, Tensor):
            tokens = Tokens.store(tokens.detach(), storage)
        stored = Tokens(tokens.values.masked_fill(~mask.unsqueeze(2), 0), tokens.scale)
        self.joint_size = stored.values.shape[2]
        self._tokens: Tokens | None = None
        self._compiled: StoredItems | None = None
        if kernel and len(self) and len(blocks) == 1:
            with torch.no_grad():
                self._compiled = _stored_items(of, blocks[0]).build(
                    stored, mask, blocks[0], of=of, directions=matching.directions
                )
        else:
            self._tokens = stored

    def __len__(self) -> int:
        return len(self.mask)

    def __repr__(self) -> str:
        return f"Collection({len(self)} {self.of}, {self.bytes_an_item / 1024:.0f} KiB each)"

    @property
    def bytes_an_item(self) -> float:
        """Bytes of memory an item takes, the tables that are computed once included."""
        parts: Sequence[NDArray[np.generic] | Tensor]
        if self._compiled:
            parts = (self._compiled.tokens, self._compiled.scale, *self._compiled.tables)
        else:
            assert self._tokens is not None
            parts = (self._tokens.values, self._tokens.scale)
        return sum(x.nbytes for x in parts) / max(1, len(self))

    @torch.no_grad()
    def scores(self, query: Tensor) -> Tensor:
        """Scores of one sentence with all stored images, or of one photo with all stored texts.

        Args:
            query: (s, d) tokens as the model's encoder gives them, none of them padding.

        Returns:
            (N,) scores, in the order in which the items were given.

        Raises:
            ValueError: A query of another shape.
        """
        if query.ndim != 2 or not len(query) or query.shape[1] != self.joint_size:
            raise ValueError(f"a query must be (tokens, {self.joint_size}) without padding; got {tuple(query.shape)}")
        if self._compiled is None:
            assert self._tokens is not None
            mine = query.unsqueeze(0), torch.ones(1, len(query), dtype=torch.bool, device=query.device)
            its = self._tokens.load().to(query.dtype), self.mask
            images, texts = (its, mine) if self.of == "images" else (mine, its)
            return score_all_pairs(*images, *texts, blocks=self.blocks, matching=self.matching).flatten()
        found = self._compiled.matches(query, self.matching.temperature)
        every = self.mask.new_ones(len(query))
        region_mask, word_mask = (self.mask, every) if self.of == "images" else (every, self.mask)
        return self.matching.scores(found, region_mask=region_mask, word_mask=word_mask)


def _stored_items(of: str, block: AttentionBlock) -> type[StoredItems]:
    """The class that lays out a collection for its kernel."""
    from han_retrieval.scoring.cpu.stored import StoredItems
    from han_retrieval.scoring.cpu.stored_one_way import OneWayImages

    return OneWayImages if of == "images" and block.over == "one-way" else StoredItems
