"""One query against a stored collection: exact scores from raw tokens and from tables computed once for each item.

Every product of a pair is a vector of the query times a raw token of the collection, plus a number of the query, for
example q_w . k_o = (W_k' q_w) . o + q_w . b_k. So a query projects its few tokens in six ways, one matrix product
multiplies them with all raw tokens of the collection, and the kernel of ``single_block`` does the rest.

Legend: N items of t tokens; a query of s tokens; d the joint size. Items lie LANES to a group as in ``tiles``, C
tokens together over the groups, a group's tokens interleaved.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from han_retrieval.scoring.cpu.lanes import LANES, Array
from han_retrieval.scoring.cpu.layout import Layout, by_item, side_by_side
from han_retrieval.scoring.cpu.pair_kernel import ImageTables, make_scratch
from han_retrieval.scoring.cpu.products import multiply_stored
from han_retrieval.scoring.cpu.single_block import image_tables, of_each, of_texts, text_tables
from han_retrieval.scoring.cpu.stored_kernel import against_images, against_texts
from han_retrieval.scoring.cpu.threads import share
from han_retrieval.scoring.matching import TOKENS_OF
from han_retrieval.scoring.projections import AttentionBlock, Maps, Projections, maps, over_of, project
from han_retrieval.scoring.tokens import Tokens

GROUPS_A_CHUNK = 4

# The six products of a pair, the region's vector first, in the order of ``against_images``.
PRODUCTS = (("q", "k"), ("k", "q"), ("u", "u"), ("u", "c"), ("c", "u"), ("c", "c"))


@dataclass(frozen=True)
class StoredItems:
    """A collection as the kernel reads it.

    Attributes:
        of: "images" or "texts".
        directions: "words", "regions" or both.
        maps, over: Of the block.
        layout: Where the items' tokens are.
        tokens: (C, d, LANES), float32, uint16 (float16's bits), int16 (bfloat16's) or int8.
        scale: (C, LANES).
        tables: ``ImageTables``, or ``TextTables`` and ``TextGrams`` where regions attend: (C, LANES) for a token's
            numbers, (sum of t^2, LANES) for matrices.
    """

    of: str
    directions: tuple[str, ...]
    maps: Maps
    over: str
    layout: Layout
    tokens: NDArray[np.generic]
    scale: NDArray[np.float32]
    tables: tuple[Array, ...]

    @classmethod
    def build(
        cls, stored: Tokens, mask: Tensor, block: AttentionBlock, *, of: str, directions: tuple[str, ...]
    ) -> StoredItems:
        """Lay out items (N, t, d) and compute what the kernel needs of them, some at a time."""
        layout = Layout.of(mask)
        rows = Tokens(layout.lay(stored.values[mask], mask), layout.lay(stored.scale[mask], mask))
        valid = layout.lay(mask[mask], mask)
        made = partial(image_tables, over=over_of(block.over, "images"))
        if of == "texts":
            made = partial(text_tables, over=over_of(block.over, "texts"), directions=directions)
        runs = []
        for t, part in layout.runs():
            there = by_item(valid[part], t)
            tokens = by_item(Tokens(rows.values[part], rows.scale[part]).load(), t)
            projections = project(block, tokens)
            if not there.all():
                projections = Projections(*(x * there.unsqueeze(2) for x in projections))
            runs.append([side_by_side(x) for x in made(projections, there)])
        values = rows.values.unflatten(0, (-1, LANES)).mT.contiguous()  # (C, d, LANES)
        if values.dtype in (torch.float16, torch.bfloat16):
            values = values.view(torch.uint16 if values.dtype == torch.float16 else torch.int16)
        scale = rows.scale.unflatten(0, (-1, LANES)).contiguous().numpy()
        tables = tuple(torch.cat(parts).numpy() for parts in zip(*runs, strict=True))
        return cls(of, directions, maps(block), block.over, layout, values.numpy(), scale, tables)

    def matches(self, query: Tensor, temperature: float) -> dict[str, Tensor]:
        """Matches r by direction: (N, s) of the query's tokens, (N, t) of the stored items', which are padded."""
        s, of_images = len(query), self.of == "images"
        projections = Projections(*(x(query) for x in self.maps))
        one, alone = Projections(*(x.unsqueeze(0) for x in projections)), torch.ones(1, s, dtype=torch.bool)
        if of_images:
            tables = tuple(
                x.flatten(0, -2)
                for x in text_tables(one, alone, over=over_of(self.over, "texts"), directions=self.directions)
            )
        else:
            tables = image_tables(one, alone, over=over_of(self.over, "images"))
        mine = tuple(x.contiguous().numpy() for x in tables)
        vectors, biases = self._fold(projections)
        of_items, of_query = (self.layout.words, LANES), (len(self.layout.lengths), s, LANES)
        found = {g: np.empty(of_items if g == TOKENS_OF[self.of] else of_query, np.float32) for g in self.directions}
        longest = int(self.layout.lengths.max())

        def work(chunks: Iterator[_Chunk]) -> None:
            scratch = make_scratch(*(longest, s) if of_images else (s, longest))
            for chunk in chunks:
                products = np.empty((len(vectors), chunk.words.stop - chunk.words.start, LANES), np.float32)
                multiply_stored(products, vectors, self.tokens[chunk.words], self.scale[chunk.words], biases)
                its = self._tables_of(chunk)
                images, texts = (its, mine) if of_images else (mine, its)
                against = against_images if of_images else against_texts
                matches = {
                    g: r[chunk.words][np.newaxis] if g == TOKENS_OF[self.of] else r[chunk.groups]
                    for g, r in found.items()
                }
                against(
                    products, ImageTables(*images), *of_texts(texts), chunk.lengths, temperature, scratch,
                    *of_each(matches),
                )  # fmt: skip

        share(work, [[chunk] for chunk in self._chunks()])
        places, rows = self.layout.places, self.layout.rows
        return {
            g: torch.from_numpy(r).flatten()[rows]
            if g == TOKENS_OF[self.of]
            else torch.from_numpy(r).transpose(1, 2).flatten(0, 1)[places]
            for g, r in found.items()
        }

    def _fold(self, query: Projections) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """A query's six sets of vectors to multiply raw tokens with, (6 s, d), and numbers to add, (6 s, 1).

        x . (W h + b) = (W' x) . h + x . b
        """
        vectors, biases = [], []
        for of_region, of_word in PRODUCTS:
            its, mine = (of_region, of_word) if self.of == "images" else (of_word, of_region)
            x, (weight, bias) = getattr(query, mine), getattr(self.maps, its)
            vectors.append(x if weight is None else x @ weight)
            biases.append(x @ bias)
        return torch.cat(vectors).numpy(), torch.cat(biases).unsqueeze(1).numpy()

    def _tables_of(self, chunk: _Chunk) -> tuple[Array, ...]:
        numbers = 2 if self.of == "images" else 5
        rows, squares = self.tables[:numbers], self.tables[numbers:]
        return *(x[chunk.words] for x in rows), *(x[chunk.squares] for x in squares)

    def _chunks(self) -> Iterator[_Chunk]:
        """A few groups at a time, so that their products stay in cache."""
        first = first_square = 0
        for start in range(0, len(self.layout.lengths), GROUPS_A_CHUNK):
            lengths = self.layout.lengths[start : start + GROUPS_A_CHUNK]
            last, last_square = first + int(lengths.sum()), first_square + int((lengths**2).sum())
            yield _Chunk(
                slice(start, start + len(lengths)), slice(first, last), slice(first_square, last_square), lengths
            )
            first, first_square = last, last_square


class _Chunk(NamedTuple):
    groups: slice
    words: slice  # of the C
    squares: slice
    lengths: NDArray[np.int64]
