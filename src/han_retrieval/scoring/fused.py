"""One block on the CPU in float32: ``single_block`` by way of ``tiles`` and ``single_block_kernel``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from han_retrieval.scoring import single_block_gradient_kernel, single_block_kernel
from han_retrieval.scoring.lanes import LANES, Array
from han_retrieval.scoring.layout import Layout, by_item, side_by_side
from han_retrieval.scoring.pair_kernel import ImageTables, TextGrams, TextTables, make_work
from han_retrieval.scoring.projections import AttentionBlock, Projections, project
from han_retrieval.scoring.single_block import tables
from han_retrieval.scoring.tiles import Given, Images, Texts, matches_of_all_pairs


def matches(
    images: Images,
    text_tokens: Tensor,
    word_mask: Tensor,
    *,
    block: AttentionBlock,
    gatherers: tuple[str, ...],
    temperature: float,
    precision: str = "float32",
) -> list[Tensor]:
    """Matches r of all pairs, differentiable; those of padding mean nothing.

    Args:
        images: From ``image_side``.
        text_tokens: (T, n, d) float32 on the CPU.
        word_mask: (T, n) bool.
        block: Weights of the attention.
        gatherers: "words", "regions" or both.
        temperature: lambda.
        precision: Of the large products, see ``tiles.matches_of_all_pairs``.

    Returns:
        For each of the gatherers, (I, T, n) of words or (I, T, m) of regions.
    """
    layout = Layout.of(word_mask)
    texts = text_side(block, text_tokens, word_mask, layout, gatherers=gatherers)
    return matches_of_all_pairs(_SingleBlock(temperature, gatherers), images, texts, layout, precision=precision)


def image_side(block: AttentionBlock, tokens: Tensor, mask: Tensor) -> Images:
    """What images bring to all pairs: tokens (I, m, d), mask (I, m)."""
    there = mask.unsqueeze(2)
    projections = Projections(*(x * there for x in project(block, tokens.masked_fill(~there, 0))))
    q, k, u, c = projections
    return Images((q, k, torch.cat([u, c], dim=1)), image_tables(projections, mask, over=block.over))


def text_side(
    block: AttentionBlock, tokens: Tensor, mask: Tensor, layout: Layout, *, gatherers: tuple[str, ...]
) -> Texts:
    """What texts bring to all pairs: tokens (T, n, d), mask (T, n)."""
    flat = project(block, tokens[mask])  # (valid words, d), so that nothing is spent on padding
    projections = Projections(*(layout.lay(x, mask) for x in flat))
    valid = layout.lay(mask[mask], mask)
    runs = []
    for n, part in layout.runs():
        inside = Projections(*(by_item(x[part], n) for x in projections))
        found = text_tables(inside, by_item(valid[part], n), over=block.over, gatherers=gatherers)
        runs.append([side_by_side(x) for x in found])
    all_tables = tuple(torch.cat(parts) for parts in zip(*runs, strict=True))
    q, k, u, c = (x.unflatten(0, (-1, LANES)) for x in projections)  # (C, LANES, d)
    return Texts((k, q, torch.cat([u, c], dim=1)), all_tables[:5], all_tables[5:])


def image_tables(projections: Projections, mask: Tensor, *, over: str) -> tuple[Tensor, ...]:
    """What the kernel reads of images: projections (I, m, d) and mask (I, m) to (I, m) and (I, m, m) each."""
    inside = tables(projections, mask, over=over)
    return inside.closed, inside.lse, inside.inner, inside.uu, inside.cu, inside.pp, inside.pc, inside.cc


def text_tables(projections: Projections, mask: Tensor, *, over: str, gatherers: tuple[str, ...]) -> tuple[Tensor, ...]:
    """What the kernel reads of texts: projections (T, n, d) and mask (T, n) to (T, n) and (T, n, n) each."""
    inside = tables(projections, mask, over=over)
    grams = inside.pp, inside.pc, inside.cc
    diagonals = (gram.diagonal(dim1=1, dim2=2) for gram in grams)
    squares = inside.inner, inside.uu, inside.pu, inside.cu
    return inside.closed, inside.lse, *diagonals, *squares, *(grams if "regions" in gatherers else ())


def of_texts(tables: Sequence[Array]) -> tuple[TextTables, TextGrams | None]:
    """The tables that ``text_tables`` made, as kernels take them."""
    count = len(TextTables._fields)
    return TextTables(*tables[:count]), TextGrams(*tables[count:]) if len(tables) > count else None


def of_each(matches: Mapping[str, Array]) -> tuple[Array | None, Array | None]:
    """Matches of words and of regions, as kernels take them."""
    return matches.get("words"), matches.get("regions")


@dataclass(frozen=True)
class _SingleBlock:
    """The ``tiles.Kernel`` of one block."""

    temperature: float
    gatherers: tuple[str, ...]

    def forward(self, given: Given, matches: tuple[Array, ...]) -> None:
        single_block_kernel.forward(*self._arguments(given), *self._of_each(matches))

    def backward(self, given: Given, d_matches: tuple[Array, ...], d_given: Given) -> None:
        single_block_gradient_kernel.backward(
            *self._arguments(given), *self._of_each(d_matches), d_given.blocks,
            ImageTables(*d_given.images), *of_texts(d_given.texts),
        )  # fmt: skip

    def _of_each(self, matches: tuple[Array, ...]) -> tuple[Array | None, Array | None]:
        return of_each(dict(zip(self.gatherers, matches, strict=True)))

    def _arguments(self, given: Given) -> tuple[Any, ...]:
        work = make_work(given.blocks[0].shape[1], int(given.lengths.max()))
        return (
            given.blocks, ImageTables(*given.images), *of_texts(given.texts), given.lengths, self.temperature, work,
        )  # fmt: skip
