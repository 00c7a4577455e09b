"""Stored images or texts that queries of the other kind are scored against."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from han_retrieval.scoring.api import could_have_kernel, has_kernel, score_all_pairs
from han_retrieval.scoring.kernels import Use, are_ready
from han_retrieval.scoring.matching import Matching
from han_retrieval.scoring.projections import AttentionBlock
from han_retrieval.scoring.tokens import Tokens

if TYPE_CHECKING:
    from han_retrieval.scoring.cpu.stored import StoredItem, StoredItems


def _exactly() -> torch.autocast:
    """Kernels read float32, whatever is cast around them."""
    return torch.autocast("cpu", enabled=False)


class Collection:
    """Images or texts that queries of the other kind are scored against.

    Args:
        tokens: (N, t, d) float32 tokens, as a model's encoder gives them, or such that are stored already.
        mask: (N, t) bool, at least one true an item.
        of: "images" or "texts".
        blocks: The blocks of attention, whose weights must stay as they are.
        matching: What makes a score.
        storage: How float32 tokens are kept, one of ``STORAGES``. Scores are exactly those of the rounded tokens.
        wait: Whether to wait for the kernels where they are not loaded or compiled yet; else plain torch scores.
        score: What scores pairs in place of the engine, from images (I, m, d), their mask, texts (T, n, d) and their
            mask to (I, T); ``blocks`` and ``matching`` are not read then.

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
        wait: bool = True,
        score: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor] | None = None,
    ):
        if of not in ("images", "texts"):
            raise ValueError(f"of must be 'images' or 'texts'; got {of!r}")
        self.of, self.blocks, self.matching, self.mask, self._score = of, blocks, matching, mask, score
        like = tokens if isinstance(tokens, Tensor) else tokens.scale
        if isinstance(tokens, Tensor):
            tokens = Tokens.store(tokens.detach(), storage)
        self._kernels = (
            score is None
            and could_have_kernel(like, blocks)
            and matching.attention != "max"
            and (wait or self._ready(tokens))
        )
        kernel = self._kernels and has_kernel(like, blocks)
        stored = Tokens(tokens.values.masked_fill(~mask.unsqueeze(2), 0), tokens.scale)
        self.joint_size = stored.values.shape[2]
        self._tokens: Tokens | None = stored
        self._compiled: StoredItems | None = None
        self._one_block = kernel and len(self) > 0 and len(blocks) == 1
        if wait:
            self._build()

    def __len__(self) -> int:
        return len(self.mask)

    def __repr__(self) -> str:
        return f"Collection({len(self)} {self.of})"

    @property
    def bytes_an_item(self) -> float:
        """Bytes of memory an item takes, the tables that are computed once included."""
        parts: Sequence[NDArray[np.generic] | Tensor]
        if compiled := self._build():
            parts = (compiled.tokens, compiled.scale, *compiled.tables)
        else:
            assert self._tokens is not None
            parts = (self._tokens.values, self._tokens.scale)
        return sum(x.nbytes for x in parts) / max(1, len(self))

    @torch.no_grad()
    def split(self) -> list[StoredItem] | None:
        """What is computed once for each item, for ``join``; None where no kernel scores them, or once laid out."""
        if not self._one_block:
            return None
        assert self._tokens is not None
        with _exactly():
            return self._layout.prepare(self._tokens, self.mask, self.blocks[0], **self._kind)

    @torch.no_grad()
    def join(self, items: Sequence[StoredItem]) -> Collection:
        """A collection of items, at least one, that ``split`` of this one gave or of others like it."""
        joined = copy(self)
        joined._compiled = self._layout.join(items, self.blocks[0], **self._kind)
        joined._tokens, joined._one_block = None, False
        counts = joined._compiled.layout.counts
        joined.mask = torch.arange(int(counts.max())) < counts.unsqueeze(1)
        return joined

    def _build(self) -> StoredItems | None:
        """The items as kernels read them, laid out at the first use; None where no kernel scores them."""
        if self._one_block and self._compiled is None:
            assert self._tokens is not None
            with torch.no_grad(), _exactly():
                self._compiled = self._layout.build(self._tokens, self.mask, self.blocks[0], **self._kind)
            self._tokens, self._one_block = None, False
        return self._compiled

    @property
    def _layout(self) -> type[StoredItems]:
        """The class that lays out items for their kernel."""
        from han_retrieval.scoring.cpu.stored import StoredItems
        from han_retrieval.scoring.cpu.stored_one_way import OneWayImages

        return OneWayImages if self.of == "images" and self.blocks[0].over == "one-way" else StoredItems

    @property
    def _kind(self) -> dict[str, Any]:
        return {"of": self.of, "directions": self.matching.directions}

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
        compiled = self._build()
        if compiled is None:
            assert self._tokens is not None
            mine = query.unsqueeze(0), torch.ones(1, len(query), dtype=torch.bool, device=query.device)
            its = self._tokens.load().to(query.dtype), self.mask
            images, texts = (its, mine) if self.of == "images" else (mine, its)
            if self._score is not None:
                return self._score(*images, *texts).flatten()
            scores = score_all_pairs(*images, *texts, blocks=self.blocks, matching=self.matching, kernels=self._kernels)
            return scores.flatten()
        with _exactly():
            found = compiled.matches(query.float(), self.matching.temperature)
        every = self.mask.new_ones(len(query))
        region_mask, word_mask = (self.mask, every) if self.of == "images" else (every, self.mask)
        return self.matching.scores(found, region_mask=region_mask, word_mask=word_mask)

    def _ready(self, tokens: Tokens) -> bool:
        """Whether the kernels are loaded; if not, they will be."""
        storage = str(tokens.values.dtype).removeprefix("torch.")
        # Blocks of the other kinds differ in their tables alone.
        over = "" if not self.blocks else "one-way" if self.blocks[0].over == "one-way" else "both"
        return are_ready(Use(self.of, storage, self.matching.direction, self.matching.attention, over))
