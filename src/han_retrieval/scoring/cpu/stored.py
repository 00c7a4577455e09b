"""One query against a stored collection: exact scores from raw tokens and from tables computed once for each item.

Every product of a pair is a vector of the query times a raw token of the collection, plus a number of the query, for
example q_w . k_o = (W_k' q_w) . o + q_w . b_k. So a query projects its few tokens in six ways, one matrix product
multiplies them with all raw tokens of the collection, and the kernel of ``single_block`` does the rest.

Legend: N items of t tokens; a query of s tokens; d the joint size. Items lie LANES to a group as in ``tiles``, C
tokens together over the groups, a group's tokens interleaved.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from han_retrieval.scoring.cpu.lanes import LANES, Array, empty, zeros
from han_retrieval.scoring.cpu.layout import Layout, by_item, side_by_side
from han_retrieval.scoring.cpu.pair_kernel import ImageTables, make_scratch
from han_retrieval.scoring.cpu.products import multiply_stored
from han_retrieval.scoring.cpu.single_block import image_tables, of_each, of_texts, text_tables
from han_retrieval.scoring.cpu.stored_kernel import against_images, against_texts
from han_retrieval.scoring.cpu.threads import share
from han_retrieval.scoring.matching import TOKENS_OF
from han_retrieval.scoring.projections import AttentionBlock, Maps, Projections, maps, over_of, project
from han_retrieval.scoring.single_block import CLOSED
from han_retrieval.scoring.tokens import Tokens

GROUPS_A_CHUNK = 4

NUMBERS = {"images": 2, "texts": 5}
"""How many tables have a number a token; the others have one for each two tokens of an item."""


class StoredItem(NamedTuple):
    """One item of a collection, by itself, without padding.

    Attributes:
        tokens: (t, d), as the collection stores them.
        numbers: (numbers a token, t) float32, the scale first, then ``closed``.
        matrices: (matrices an item, t, t) float32.
    """

    tokens: NDArray[np.generic]
    numbers: Array
    matrices: Array

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return sum(x.nbytes for x in self)


def _as_kernels_read(values: Tensor) -> NDArray[np.generic]:
    """Tokens as an array; NumPy has no bfloat16, and kernels take the bits of either half."""
    if values.dtype in (torch.float16, torch.bfloat16):
        values = values.view(torch.uint16 if values.dtype == torch.float16 else torch.int16)
    return values.numpy()


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
        runs = []
        for t, part in layout.runs():
            there = by_item(valid[part], t)
            tokens = by_item(Tokens(rows.values[part], rows.scale[part]).load(), t)
            projections = project(block, tokens)
            if not there.all():
                projections = Projections(*(x * there.unsqueeze(2) for x in projections))
            its = cls._tables(block, projections, there, of=of, directions=directions)
            runs.append([side_by_side(x) for x in its])
        values = _as_kernels_read(rows.values.unflatten(0, (-1, LANES)).mT.contiguous())  # (C, d, LANES)
        scale = rows.scale.unflatten(0, (-1, LANES)).contiguous().numpy()
        tables = tuple(torch.cat(parts).numpy() for parts in zip(*runs, strict=True))
        return cls(of, directions, maps(block), block.over, layout, values, scale, tables)

    @classmethod
    def prepare(
        cls, stored: Tokens, mask: Tensor, block: AttentionBlock, *, of: str, directions: tuple[str, ...]
    ) -> list[StoredItem]:
        """What is computed once for each of items (N, t, d) with mask (N, t), item by item."""
        there = mask.unsqueeze(2)
        projections = project(block, stored.load())
        if not mask.all():
            projections = Projections(*(x * there for x in projections))
        made = cls._tables(block, projections, mask, of=of, directions=directions)
        numbers = torch.stack([stored.scale, *made[: NUMBERS[of]]], dim=1)  # (N, numbers, t)
        matrices = torch.stack(made[NUMBERS[of] :], dim=1)  # (N, matrices, t, t)
        values = _as_kernels_read(stored.values)
        found = []
        for own, *parts in zip(mask.numpy(), values, numbers.numpy(), matrices.numpy(), strict=True):
            tokens, its, squares = parts
            if own.all():
                found.append(StoredItem(tokens.copy(), its.copy(), squares.copy()))  # so that the others can go
            else:
                found.append(StoredItem(tokens[own], its[:, own], squares[:, own][:, :, own]))
        return found

    @classmethod
    def join(
        cls, items: Sequence[StoredItem], block: AttentionBlock, *, of: str, directions: tuple[str, ...]
    ) -> StoredItems:
        """What ``build`` makes, of items that ``prepare`` gave for this block and these directions."""
        counts = np.array([len(item.tokens) for item in items])
        layout = Layout.of(torch.from_numpy(np.arange(counts.max()) < counts[:, np.newaxis]))
        one = items[0]
        tokens = zeros((layout.words, one.tokens.shape[1], LANES), one.tokens.dtype)
        numbers = zeros((len(one.numbers), layout.words, LANES))
        numbers[1], numbers[2] = CLOSED, 1  # of padding: closed, and a length that can be divided by
        matrices = zeros((len(one.matrices), int((layout.lengths**2).sum()), LANES))
        first = np.cumsum(layout.lengths) - layout.lengths
        first_square = np.cumsum(layout.lengths**2) - layout.lengths**2
        for item, count, place in zip(items, counts.tolist(), layout.places.tolist(), strict=True):
            group, lane = divmod(place, LANES)
            t, at, square = int(layout.lengths[group]), int(first[group]), int(first_square[group])
            tokens[at : at + count, :, lane] = item.tokens
            numbers[:, at : at + count, lane] = item.numbers
            its = matrices[:, square : square + t * t].reshape(len(matrices), t, t, LANES)
            its[:, :count, :count, lane] = item.matrices
        tables = *numbers[1:], *matrices
        return cls(of, directions, maps(block), block.over, layout, tokens, numbers[0], tables)

    def matches(self, query: Tensor, temperature: float) -> dict[str, Tensor]:
        """Matches r by direction: (N, s) of the query's tokens, (N, t) of the stored items', which are padded."""
        s, of_images = len(query), self.of == "images"
        tables, products = self._query(query)
        mine = tuple(x.contiguous().numpy() for x in tables)
        vectors, biases = self._fold(products)
        of_items, of_query = (self.layout.words, LANES), (len(self.layout.lengths), s, LANES)
        found = {g: empty(of_items if g == TOKENS_OF[self.of] else of_query) for g in self.directions}
        longest = int(self.layout.lengths.max())

        def work(chunks: Iterator[_Chunk]) -> None:
            scratch = make_scratch(*(longest, s) if of_images else (s, longest))
            for chunk in chunks:
                of_pairs = empty((len(vectors), chunk.words.stop - chunk.words.start, LANES))
                multiply_stored(of_pairs, vectors, self.tokens[chunk.words], self.scale[chunk.words], biases)
                matches = {
                    g: r[chunk.words][np.newaxis] if g == TOKENS_OF[self.of] else r[chunk.groups]
                    for g, r in found.items()
                }
                its, r = self._tables_of(chunk), of_each(matches)
                self._against(of_pairs, its, mine, chunk.lengths, temperature, scratch, *r)

        share(work, [[chunk] for chunk in self._chunks()])
        places, rows = self.layout.places, self.layout.rows
        return {
            g: torch.from_numpy(r).flatten()[rows]
            if g == TOKENS_OF[self.of]
            else torch.from_numpy(r).transpose(1, 2).flatten(0, 1)[places]
            for g, r in found.items()
        }

    @classmethod
    def _tables(
        cls, block: AttentionBlock, projections: Projections, there: Tensor, /, *, of: str, directions: tuple[str, ...]
    ) -> tuple[Tensor, ...]:
        """What the kernel reads of some items: projections (z, t, d) and mask (z, t) to (z, t) and (z, t, t) each."""
        over = over_of(block.over, of)
        if of == "images":
            return image_tables(projections, there, over=over)
        return text_tables(projections, there, over=over, directions=directions)

    def _query(self, query: Tensor) -> tuple[tuple[Tensor, ...], list[tuple[Tensor, str]]]:
        """A query's tables, and the (s, d) vectors that are multiplied with a projection of the stored tokens, named.

        The six products of a pair, in the order of ``against_images``.
        """
        mine = Projections(*(x(query) for x in self.maps))
        one, alone = Projections(*(x.unsqueeze(0) for x in mine)), torch.ones(1, len(query), dtype=torch.bool)
        q, k, u, c = mine
        if self.of == "images":
            over = over_of(self.over, "texts")
            tables = tuple(x.flatten(0, -2) for x in text_tables(one, alone, over=over, directions=self.directions))
            return tables, [(k, "q"), (q, "k"), (u, "u"), (c, "u"), (u, "c"), (c, "c")]
        over = over_of(self.over, "images")
        return image_tables(one, alone, over=over), [(q, "k"), (k, "q"), (u, "u"), (u, "c"), (c, "u"), (c, "c")]

    def _against(self, products: Array, its: tuple[Array, ...], mine: tuple[Array, ...], *rest: Any) -> None:
        """Run the kernel on some groups of items."""
        if self.of == "images":
            against_images(products, ImageTables(*its), *of_texts(mine), *rest)
        else:
            against_texts(products, ImageTables(*mine), *of_texts(its), *rest)

    def _fold(self, products: list[tuple[Tensor, str]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Vectors to multiply raw tokens with, (s, d) each, together, and numbers to add, (s, 1) each.

        x . (W h + b) = (W' x) . h + x . b
        """
        vectors, biases = [], []
        for x, projection in products:
            weight, bias = getattr(self.maps, projection)
            vectors.append(x if weight is None else x @ weight)
            biases.append(x @ bias)
        return torch.cat(vectors).numpy(), torch.cat(biases).unsqueeze(1).numpy()

    def _tables_of(self, chunk: _Chunk) -> tuple[Array, ...]:
        numbers = NUMBERS[self.of]
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
