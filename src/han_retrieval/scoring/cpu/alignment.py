"""No block on the CPU in float32: ``scoring.alignment``, tile by tile, with a compiled kernel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from han_retrieval.scoring.alignment import closed_tokens, sources, unit_tokens
from han_retrieval.scoring.cpu import alignment_kernel
from han_retrieval.scoring.cpu.alignment_kernel import make_scratch
from han_retrieval.scoring.cpu.lanes import LANES, Array
from han_retrieval.scoring.cpu.layout import Layout, by_item, side_by_side
from han_retrieval.scoring.cpu.tiles import Images, Texts, TileInputs, matches_of_all_pairs


def matches(
    images: Images,
    text_tokens: Tensor,
    word_mask: Tensor,
    *,
    directions: tuple[str, ...],
    temperature: float,
    attention: str,
    precision: str = "float32",
) -> dict[str, Tensor]:
    """Matches r of all pairs by direction, differentiable: (I, T, n) of words, (I, T, m) of regions, any at padding.

    Args:
        images: From ``prepare_images``.
        text_tokens: (T, n, d) float32 on the CPU.
        word_mask: (T, n) bool.
        directions: "words" (words attend to regions), "regions" (regions attend to words), or both.
        temperature: lambda.
        attention: "cosine" or "clipped".
        precision: Of the large products, see ``tiles.matches_of_all_pairs``.
    """
    layout = Layout.of(word_mask)
    texts = prepare_texts(text_tokens, word_mask, layout)
    found: dict[str, Tensor] = {}
    for direction in directions:
        kernel = _Alignment(temperature, clipped=attention == "clipped", directions=(direction,))
        found |= matches_of_all_pairs(kernel, images, texts, layout, precision=precision)
    return found


def prepare_images(tokens: Tensor, mask: Tensor) -> Images:
    """What is computed once for each image: tokens (I, m, d), mask (I, m)."""
    unit, of_sources = sources(tokens, mask)
    return Images((unit,), tuple(of_sources))


def prepare_texts(tokens: Tensor, mask: Tensor, layout: Layout) -> Texts:
    """What is computed once for each text: tokens (T, n, d), mask (T, n)."""
    unit, lengths = unit_tokens(layout.lay(tokens[mask], mask))
    closed = closed_tokens(layout.lay(mask[mask], mask), unit)
    grams = []
    for n, part in layout.runs():
        texts = by_item(unit[part], n)
        grams.append(side_by_side(texts @ texts.mT))
    unit, closed, lengths = (x.unflatten(0, (-1, LANES)) for x in (unit, closed, lengths))  # (C, LANES, ...)
    return Texts((unit,), (closed, lengths), (torch.cat(grams),))


@dataclass
class _Alignment:
    """The ``tiles.Kernel`` of sets without attention."""

    temperature: float
    clipped: bool
    directions: tuple[str, ...]

    def forward(self, inputs: TileInputs, matches: tuple[Array, ...]) -> None:
        alignment_kernel.forward(*self._arguments(inputs), *matches)

    def backward(self, inputs: TileInputs, d_matches: tuple[Array, ...], d_inputs: TileInputs) -> None:
        _, d_lengths, d_gram = self._sources(d_inputs)
        alignment_kernel.backward(*self._arguments(inputs), *d_matches, d_inputs.blocks[0], d_lengths, d_gram)

    def _arguments(self, inputs: TileInputs) -> tuple[Any, ...]:
        scratch = make_scratch(inputs.blocks[0].shape[1], int(inputs.lengths.max()))
        blocks = inputs.factors, inputs.blocks, inputs.whole
        return *blocks, *self._sources(inputs), inputs.lengths, self.temperature, self.clipped, scratch

    def _sources(self, inputs: TileInputs) -> tuple[Array, Array, Array]:
        if self.directions == ("words",):
            closed, lengths, gram = inputs.images
            return closed, lengths, gram
        closed, lengths, gram = inputs.texts
        return closed[np.newaxis], lengths[np.newaxis], gram
