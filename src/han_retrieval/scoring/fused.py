"""One block on the CPU in float32: ``single_block`` by way of ``tiles`` and ``single_block_kernel``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from han_retrieval.scoring import single_block_kernel
from han_retrieval.scoring.lanes import LANES
from han_retrieval.scoring.projections import AttentionBlock, Projections, project
from han_retrieval.scoring.single_block import tables
from han_retrieval.scoring.single_block_kernel import ImageTables, TextTables, make_work
from han_retrieval.scoring.tiles import Array, Images, Layout, Texts, matches_of_all_pairs


def word_matches(
    image_tokens: Tensor,
    region_mask: Tensor,
    text_tokens: Tensor,
    word_mask: Tensor,
    *,
    block: AttentionBlock,
    temperature: float,
) -> Tensor:
    """Matches r of every word of every pair, (I, T, n), differentiable; those of padding mean nothing.

    Args:
        image_tokens: (I, m, d) float32 on the CPU.
        region_mask: (I, m) bool.
        text_tokens: (T, n, d) float32.
        word_mask: (T, n) bool.
        block: Weights of the attention.
        temperature: lambda.
    """
    layout = Layout.of(word_mask)
    return matches_of_all_pairs(
        _SingleBlock(temperature),
        image_side(block, image_tokens, region_mask),
        text_side(block, text_tokens, word_mask, layout),
        layout,
    )


def image_side(block: AttentionBlock, tokens: Tensor, mask: Tensor) -> Images:
    """What images bring to all pairs: tokens (I, m, d), mask (I, m)."""
    there = mask.unsqueeze(2)
    projections = Projections(*(x * there for x in project(block, tokens.masked_fill(~there, 0))))
    q, k, u, c = projections
    inside = tables(projections, mask)
    return Images(
        (q, k, torch.cat([u, c], dim=1)),
        (inside.closed, inside.lse, inside.inner, inside.uu, inside.cu, inside.pp, inside.pc, inside.cc),
    )  # fmt: skip


def text_side(block: AttentionBlock, tokens: Tensor, mask: Tensor, layout: Layout) -> Texts:
    """What texts bring to all pairs: tokens (T, n, d), mask (T, n)."""
    flat = project(block, tokens[mask])  # (valid words, d), so that nothing is spent on padding
    size, place = layout.words * LANES, layout.rows[mask]
    q, k, u, c = (x.new_zeros(size, x.shape[1]).index_copy(0, place, x) for x in flat)
    valid = torch.zeros(size, dtype=torch.bool).index_fill(0, place, True)

    runs: list[list[Tensor]] = []
    for n, rows in layout.runs():

        def by_text(x: Tensor, n: int = n, rows: slice = rows) -> Tensor:
            """(rows, ...) -> (texts, n, ...)."""
            return x[rows].unflatten(0, (-1, n, LANES)).transpose(1, 2).flatten(0, 1)

        inside = tables(Projections(by_text(q), by_text(k), by_text(u), by_text(c)), by_text(valid))
        diagonals = (gram.diagonal(dim1=1, dim2=2) for gram in (inside.pp, inside.pc, inside.cc))
        of_words = (inside.closed, inside.lse, *diagonals, inside.inner, inside.uu, inside.pu, inside.cu)
        # (texts, n) -> (groups n, LANES) and (texts, n, n) -> (groups n n, LANES)
        runs.append([x.unflatten(0, (-1, LANES)).movedim(1, -1).flatten(0, -2) for x in of_words])
    all_tables = tuple(torch.cat(parts) for parts in zip(*runs, strict=True))
    q, k, u, c = (x.unflatten(0, (-1, LANES)) for x in (q, k, u, c))  # (C, LANES, d)
    return Texts((k, q, torch.cat([u, c], dim=1)), all_tables[:5], all_tables[5:])


@dataclass(frozen=True)
class _SingleBlock:
    """The ``tiles.Kernel`` of one block with words that gather."""

    temperature: float
    by_word = True

    def forward(
        self,
        blocks: Sequence[Array],
        images: Sequence[Array],
        texts: Sequence[Array],
        lengths: NDArray[np.int64],
        matches: Array,
    ) -> None:
        single_block_kernel.forward(
            tuple(blocks), ImageTables(*images), TextTables(*texts), lengths, self.temperature,
            make_work(blocks[0].shape[1], int(lengths.max())), matches,
        )  # fmt: skip

    def backward(
        self,
        blocks: Sequence[Array],
        images: Sequence[Array],
        texts: Sequence[Array],
        lengths: NDArray[np.int64],
        d_matches: Array,
        d_blocks: Sequence[Array],
        d_images: Sequence[Array],
        d_texts: Sequence[Array],
    ) -> None:
        single_block_kernel.backward(
            tuple(blocks), ImageTables(*images), TextTables(*texts), lengths, self.temperature,
            make_work(blocks[0].shape[1], int(lengths.max())), d_matches, tuple(d_blocks), ImageTables(*d_images),
            TextTables(*d_texts),
        )  # fmt: skip
