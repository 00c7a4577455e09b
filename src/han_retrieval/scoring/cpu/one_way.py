"""One block, one way, on the CPU in float32: ``scoring.one_way``, tile by tile, with compiled kernels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from han_retrieval.scoring.alignment import closed_tokens
from han_retrieval.scoring.cpu import one_way_kernel
from han_retrieval.scoring.cpu.lanes import LANES, Array
from han_retrieval.scoring.cpu.layout import Layout, by_item, rows_of
from han_retrieval.scoring.cpu.one_way_kernel import RegionTables, WordTables, make_scratch
from han_retrieval.scoring.cpu.single_block import of_each, projections_of
from han_retrieval.scoring.cpu.tiles import Images, Texts, TileInputs, matches_of_all_pairs
from han_retrieval.scoring.one_way import attend_inside, attended_regions
from han_retrieval.scoring.projections import AttentionBlock, Projections, project


def matches(
    images: Images,
    text_tokens: Tensor,
    word_mask: Tensor,
    *,
    block: AttentionBlock,
    directions: tuple[str, ...],
    temperature: float,
    precision: str = "float32",
) -> dict[str, Tensor]:
    """Matches r of all pairs, as ``cpu.single_block.matches`` gives them."""
    layout = Layout.of(word_mask)
    texts = prepare_texts(block, text_tokens, word_mask, layout)
    return matches_of_all_pairs(_OneWay(temperature, directions), images, texts, layout, precision=precision)


def prepare_images(block: AttentionBlock, tokens: Tensor, mask: Tensor) -> Images:
    """What is computed once for each image: tokens (I, m, d), mask (I, m)."""
    its = attended_regions(projections_of(block, tokens, mask), mask)
    return Images((its.k,), (its.closed, its.lengths, its.oo, its.u, its.unit))


def prepare_texts(block: AttentionBlock, tokens: Tensor, mask: Tensor, layout: Layout) -> Texts:
    """What is computed once for each text: tokens (T, n, d), mask (T, n)."""
    flat = project(block, tokens[mask])  # (valid words, d), so that nothing is spent on padding
    projections = Projections(*(layout.lay(x, mask) for x in flat))
    closed = closed_tokens(layout.lay(mask[mask], mask), projections.q)
    lse, sums = [], []
    for n, part in layout.runs():
        inside = Projections(*(by_item(x[part], n) for x in projections))
        its_lse, _, P = attend_inside(inside, by_item(closed[part], n))
        lse.append(rows_of(its_lse))
        sums.append(rows_of(P))
    q, P, c, *rows = (
        x.unflatten(0, (-1, LANES)) for x in (projections.q, torch.cat(sums), projections.c, closed, torch.cat(lse))
    )
    return Texts((q,), (*rows, P.transpose(1, 2).contiguous(), c.transpose(1, 2).contiguous()), ())


@dataclass(frozen=True)
class _OneWay:
    """The ``tiles.Kernel`` of one block, one way."""

    temperature: float
    directions: tuple[str, ...]

    def forward(self, inputs: TileInputs, matches: tuple[Array, ...]) -> None:
        one_way_kernel.forward(*self._arguments(inputs), *self._of_each(matches))

    def backward(self, inputs: TileInputs, d_matches: tuple[Array, ...], d_inputs: TileInputs) -> None:
        one_way_kernel.backward(
            *self._arguments(inputs), *self._of_each(d_matches), *d_inputs.blocks, RegionTables(*d_inputs.images),
            WordTables(*d_inputs.texts),
        )  # fmt: skip

    def _of_each(self, matches: tuple[Array, ...]) -> tuple[Array | None, Array | None]:
        return of_each(dict(zip(self.directions, matches, strict=True)))

    def _arguments(self, inputs: TileInputs) -> tuple[Any, ...]:
        images = RegionTables(*inputs.images)
        scratch = make_scratch(images.u.shape[1], int(inputs.lengths.max()), images.u.shape[2])
        blocks, tables = (inputs.factors, inputs.blocks, inputs.whole), (images, WordTables(*inputs.texts))
        return *blocks, *tables, inputs.lengths, self.temperature, scratch
