"""Sets without attention on the CPU in float32: ``alignment`` by way of ``tiles`` and ``alignment_kernel``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from han_retrieval.scoring import alignment_kernel
from han_retrieval.scoring.alignment import closed_tokens, sources, unit_tokens
from han_retrieval.scoring.alignment_kernel import make_work
from han_retrieval.scoring.lanes import LANES, Array
from han_retrieval.scoring.layout import Layout, by_item, side_by_side
from han_retrieval.scoring.tiles import Given, Images, Texts, matches_of_all_pairs


def matches(
    images: Images,
    text_tokens: Tensor,
    word_mask: Tensor,
    *,
    gatherers: str,
    temperature: float,
    attention: str,
    precision: str = "float32",
) -> Tensor:
    """Matches r of all pairs, differentiable: (I, T, n) of words, (I, T, m) of regions; of padding they mean nothing.

    Args:
        images: From ``image_side``.
        text_tokens: (T, n, d) float32 on the CPU.
        word_mask: (T, n) bool.
        gatherers: "words" or "regions".
        temperature: lambda.
        attention: "cosine" or "clipped".
        precision: Of the large products, see ``tiles.matches_of_all_pairs``.
    """
    layout = Layout.of(word_mask)
    kernel = _Alignment(temperature, clipped=attention == "clipped", gatherers=(gatherers,))
    texts = text_side(text_tokens, word_mask, layout)
    (found,) = matches_of_all_pairs(kernel, images, texts, layout, precision=precision)
    return found


def image_side(tokens: Tensor, mask: Tensor) -> Images:
    """What images bring to all pairs: tokens (I, m, d), mask (I, m)."""
    unit, of_sources = sources(tokens, mask)
    return Images((unit,), tuple(of_sources))


def text_side(tokens: Tensor, mask: Tensor, layout: Layout) -> Texts:
    """What texts bring to all pairs: tokens (T, n, d), mask (T, n)."""
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
    gatherers: tuple[str, ...]

    def forward(self, given: Given, matches: tuple[Array, ...]) -> None:
        alignment_kernel.forward(*self._arguments(given), *matches)

    def backward(self, given: Given, d_matches: tuple[Array, ...], d_given: Given) -> None:
        _, d_lengths, d_gram = self._sources(d_given)
        alignment_kernel.backward(*self._arguments(given), *d_matches, d_given.blocks[0], d_lengths, d_gram)

    def _arguments(self, given: Given) -> tuple[Any, ...]:
        (cosines,) = given.blocks
        work = make_work(cosines.shape[1], int(given.lengths.max()))
        return cosines, *self._sources(given), given.lengths, self.temperature, self.clipped, work

    def _sources(self, given: Given) -> tuple[Array, Array, Array]:
        if self.gatherers == ("words",):
            closed, lengths, gram = given.images
            return closed, lengths, gram
        closed, lengths, gram = given.texts
        return closed[np.newaxis], lengths[np.newaxis], gram
