"""One block, one way, on the CPU in float32: ``scoring.one_way``, tile by tile, with compiled kernels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from han_retrieval.scoring.cpu import one_way_kernel
from han_retrieval.scoring.cpu.lanes import LANES, Array
from han_retrieval.scoring.cpu.layout import Layout, by_item, rows_of, side_by_side
from han_retrieval.scoring.cpu.one_way_kernel import RegionTables, WordTables
from han_retrieval.scoring.cpu.pair_kernel import TextGrams, make_scratch
from han_retrieval.scoring.cpu.single_block import of_each, projections_of
from han_retrieval.scoring.cpu.tiles import Images, Texts, TileInputs, matches_of_all_pairs
from han_retrieval.scoring.one_way import AttendingWords, attended_regions, attending_words
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
    texts = prepare_texts(block, text_tokens, word_mask, layout, directions=directions)
    return matches_of_all_pairs(_OneWay(temperature, directions), images, texts, layout, precision=precision)


def prepare_images(block: AttentionBlock, tokens: Tensor, mask: Tensor) -> Images:
    """What is computed once for each image: tokens (I, m, d), mask (I, m)."""
    its = attended_regions(projections_of(block, tokens, mask), mask)
    return Images((its.k, torch.cat([its.u, its.unit], dim=1)), (its.closed, its.lengths, its.uu, its.ou, its.oo))


def prepare_texts(
    block: AttentionBlock, tokens: Tensor, mask: Tensor, layout: Layout, *, directions: tuple[str, ...]
) -> Texts:
    """What is computed once for each text: tokens (T, n, d), mask (T, n)."""
    flat = project(block, tokens[mask])  # (valid words, d), so that nothing is spent on padding
    projections = Projections(*(layout.lay(x, mask) for x in flat))
    valid = layout.lay(mask[mask], mask)
    runs, sums = [], []
    for n, part in layout.runs():
        inside = Projections(*(by_item(x[part], n) for x in projections))
        words = attending_words(inside, by_item(valid[part], n))
        runs.append([side_by_side(x) for x in text_tables(words, directions)])
        sums.append(rows_of(words.P))
    all_tables = tuple(torch.cat(parts) for parts in zip(*runs, strict=True))
    q, P, c = (x.unflatten(0, (-1, LANES)) for x in (projections.q, torch.cat(sums), projections.c))  # (C, LANES, d)
    return Texts((q, torch.cat([P, c], dim=1)), all_tables[:5], all_tables[5:])


def text_tables(words: AttendingWords, directions: tuple[str, ...]) -> tuple[Tensor, ...]:
    """What the kernel reads of texts: (T, n) each, and where regions attend (T, n, n) each."""
    grams = words.pp, words.pc, words.cc
    diagonals = (gram.diagonal(dim1=1, dim2=2) for gram in grams)
    return words.closed, words.lse, *diagonals, *(grams if "regions" in directions else ())


def of_texts(tables: tuple[Array, ...]) -> tuple[WordTables, TextGrams | None]:
    """The tables that ``text_tables`` made, as kernels take them."""
    count = len(WordTables._fields)
    return WordTables(*tables[:count]), TextGrams(*tables[count:]) if len(tables) > count else None


@dataclass(frozen=True)
class _OneWay:
    """The ``tiles.Kernel`` of one block, one way."""

    temperature: float
    directions: tuple[str, ...]

    def forward(self, inputs: TileInputs, matches: tuple[Array, ...]) -> None:
        one_way_kernel.forward(*self._arguments(inputs), *self._of_each(matches))

    def backward(self, inputs: TileInputs, d_matches: tuple[Array, ...], d_inputs: TileInputs) -> None:
        one_way_kernel.backward(
            *self._arguments(inputs), *self._of_each(d_matches), d_inputs.blocks,
            RegionTables(*d_inputs.images), *of_texts(d_inputs.texts),
        )  # fmt: skip

    def _of_each(self, matches: tuple[Array, ...]) -> tuple[Array | None, Array | None]:
        return of_each(dict(zip(self.directions, matches, strict=True)))

    def _arguments(self, inputs: TileInputs) -> tuple[Any, ...]:
        scratch = make_scratch(inputs.blocks[0].shape[1], int(inputs.lengths.max()))
        return (
            inputs.blocks, RegionTables(*inputs.images), *of_texts(inputs.texts), inputs.lengths, self.temperature,
            scratch,
        )  # fmt: skip
