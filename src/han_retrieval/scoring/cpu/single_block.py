"""One block on the CPU in float32: ``scoring.single_block``, tile by tile, with compiled kernels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from han_retrieval.scoring.cpu import single_block_gradient_kernel, single_block_kernel
from han_retrieval.scoring.cpu.lanes import LANES, Array
from han_retrieval.scoring.cpu.layout import Layout, by_item, side_by_side
from han_retrieval.scoring.cpu.pair_kernel import ImageTables, TextGrams, TextTables, make_scratch
from han_retrieval.scoring.cpu.tiles import Images, Texts, TileInputs, matches_of_all_pairs
from han_retrieval.scoring.projections import AttentionBlock, Projections, project
from han_retrieval.scoring.single_block import tables


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
    """Matches r of all pairs, differentiable; those of padding mean nothing.

    Args:
        images: From ``prepare_images``.
        text_tokens: (T, n, d) float32 on the CPU.
        word_mask: (T, n) bool.
        block: Weights of the attention.
        directions: "words" (words attend to regions), "regions" (regions attend to words), or both.
        temperature: lambda.
        precision: Of the large products, see ``tiles.matches_of_all_pairs``.

    Returns:
        By direction, (I, T, n) of words or (I, T, m) of regions.
    """
    layout = Layout.of(word_mask)
    texts = prepare_texts(block, text_tokens, word_mask, layout, directions=directions)
    return matches_of_all_pairs(_SingleBlock(temperature, directions), images, texts, layout, precision=precision)


def prepare_images(block: AttentionBlock, tokens: Tensor, mask: Tensor) -> Images:
    """What is computed once for each image: tokens (I, m, d), mask (I, m)."""
    projections = projections_of(block, tokens, mask)
    q, k, u, c = projections
    return Images((q, k, torch.cat([u, c], dim=1)), image_tables(projections, mask, over=block.over))


def projections_of(block: AttentionBlock, tokens: Tensor, mask: Tensor) -> Projections:
    """Those of images, zeros where no region is: tokens (I, m, d), mask (I, m)."""
    there = mask.unsqueeze(2)
    return Projections(*(x * there for x in project(block, tokens.masked_fill(~there, 0))))


def prepare_texts(
    block: AttentionBlock, tokens: Tensor, mask: Tensor, layout: Layout, *, directions: tuple[str, ...]
) -> Texts:
    """What is computed once for each text: tokens (T, n, d), mask (T, n)."""
    flat = project(block, tokens[mask])  # (valid words, d), so that nothing is spent on padding
    projections = Projections(*(layout.lay(x, mask) for x in flat))
    valid = layout.lay(mask[mask], mask)
    runs = []
    for n, part in layout.runs():
        inside = Projections(*(by_item(x[part], n) for x in projections))
        found = text_tables(inside, by_item(valid[part], n), over=block.over, directions=directions)
        runs.append([side_by_side(x) for x in found])
    all_tables = tuple(torch.cat(parts) for parts in zip(*runs, strict=True))
    q, k, u, c = (x.unflatten(0, (-1, LANES)) for x in projections)  # (C, LANES, d)
    return Texts((k, q, torch.cat([u, c], dim=1)), all_tables[:5], all_tables[5:])


def image_tables(projections: Projections, mask: Tensor, *, over: str) -> tuple[Tensor, ...]:
    """What the kernel reads of images: projections (I, m, d) and mask (I, m) to (I, m) and (I, m, m) each."""
    inside = tables(projections, mask, over=over)
    return inside.closed, inside.lse, inside.inner, inside.uu, inside.cu, inside.pp, inside.pc, inside.cc


def text_tables(
    projections: Projections, mask: Tensor, *, over: str, directions: tuple[str, ...]
) -> tuple[Tensor, ...]:
    """What the kernel reads of texts: projections (T, n, d) and mask (T, n) to (T, n) and (T, n, n) each."""
    inside = tables(projections, mask, over=over)
    grams = inside.pp, inside.pc, inside.cc
    diagonals = (gram.diagonal(dim1=1, dim2=2) for gram in grams)
    squares = inside.inner, inside.uu, inside.pu, inside.cu
    return inside.closed, inside.lse, *diagonals, *squares, *(grams if "regions" in directions else ())


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
    directions: tuple[str, ...]

    def forward(self, inputs: TileInputs, matches: tuple[Array, ...]) -> None:
        single_block_kernel.forward(*self._arguments(inputs), *self._of_each(matches))

    def backward(self, inputs: TileInputs, d_matches: tuple[Array, ...], d_inputs: TileInputs) -> None:
        single_block_gradient_kernel.backward(
            *self._arguments(inputs), *self._of_each(d_matches), d_inputs.blocks,
            ImageTables(*d_inputs.images), *of_texts(d_inputs.texts),
        )  # fmt: skip

    def _of_each(self, matches: tuple[Array, ...]) -> tuple[Array | None, Array | None]:
        return of_each(dict(zip(self.directions, matches, strict=True)))

    def _arguments(self, inputs: TileInputs) -> tuple[Any, ...]:
        scratch = make_scratch(inputs.blocks[0].shape[1], int(inputs.lengths.max()))
        images, texts = ImageTables(*inputs.images), of_texts(inputs.texts)
        return inputs.factors, inputs.blocks, inputs.whole, images, *texts, inputs.lengths, self.temperature, scratch
