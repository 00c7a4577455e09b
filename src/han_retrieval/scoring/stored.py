"""One query against a stored collection: exact scores from raw tokens and what is computed once an item.

Every product of a pair is (a vector of the query) . (a raw token of the collection) plus a number of the query, for
example q_w . k_o = (W_k' q_w) . o + q_w . b_k. So a query projects its few tokens six ways once, the whole collection
is one matrix product with its raw tokens, and the kernel of ``single_block`` does the rest.

Legend: N items of t tokens; a query of s tokens; d the joint size. Items lie LANES to a group as in ``tiles``, C
tokens together over the groups, a group's tokens interleaved.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from han_retrieval.scoring.fused import image_tables, of_each, of_texts, text_tables
from han_retrieval.scoring.lanes import LANES, Array
from han_retrieval.scoring.layout import Layout, by_item, side_by_side
from han_retrieval.scoring.matching import Matching
from han_retrieval.scoring.pair_kernel import ImageTables, make_work
from han_retrieval.scoring.plan import has_kernel, score_all_pairs
from han_retrieval.scoring.products import multiply_stored
from han_retrieval.scoring.projections import AttentionBlock, Maps, Projections, maps, project
from han_retrieval.scoring.stored_kernel import against_images, against_texts
from han_retrieval.scoring.threads import share

ITEMS = {"images": "regions", "texts": "words"}  # what tokens of items are
STORAGES = ("float32", "float16", "bfloat16", "int8")
GROUPS_A_CHUNK = 4

# The six products of a pair, the region's vector first, in the order of ``against_images``.
PRODUCTS = (("q", "k"), ("k", "q"), ("u", "u"), ("u", "c"), ("c", "u"), ("c", "c"))


@dataclass(frozen=True)
class Tokens:
    """Tokens in few bytes; one scale a token for int8, which its largest number sets.

    Attributes:
        values: (..., d) in the storage's dtype.
        scale: (...) float32; 1 unless int8.
    """

    values: Tensor
    scale: Tensor

    @classmethod
    def store(cls, tokens: Tensor, storage: str) -> Tokens:
        """(..., d) float32 tokens, rounded to one of ``STORAGES``."""
        if storage not in STORAGES:
            raise ValueError(f"storage must be one of {', '.join(STORAGES)}; got {storage!r}")
        if storage == "int8":
            scale = tokens.abs().amax(-1).clamp_min(1e-12) / 127
            return cls((tokens / scale.unsqueeze(-1)).round().to(torch.int8), scale)
        return cls(tokens.to(getattr(torch, storage)), torch.ones(tokens.shape[:-1], device=tokens.device))

    def load(self) -> Tensor:
        """(..., d) float32."""
        return self.values.float() * self.scale.unsqueeze(-1)

    def to(self, device: torch.device | str) -> Tokens:
        """The same on another device."""
        return Tokens(self.values.to(device), self.scale.to(device))


class Collection:
    """Images or texts that queries of the other kind are scored against.

    Args:
        tokens: (N, t, d) float32 tokens, as a model's encoder gives them, or such that are stored already.
        mask: (N, t) bool, at least one true an item.
        of: "images" or "texts".
        blocks: The rounds of attention, whose weights must stay as they are.
        matching: What makes a score.
        storage: How float32 tokens are kept, one of ``STORAGES``. Scores are exactly those of the rounded tokens.

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
    ):
        if of not in ("images", "texts"):
            raise ValueError(f"of must be 'images' or 'texts'; got {of!r}")
        self.of, self.blocks, self.matching, self.mask = of, blocks, matching, mask
        kernel = has_kernel(tokens if isinstance(tokens, Tensor) else tokens.scale, blocks)
        if isinstance(tokens, Tensor):
            tokens = Tokens.store(tokens.detach(), storage)
        stored = Tokens(tokens.values.masked_fill(~mask.unsqueeze(2), 0), tokens.scale)
        self.joint_size = stored.values.shape[2]
        self._tokens = self._side = None
        if kernel and len(self) and len(blocks) == 1:
            with torch.no_grad():
                self._side = _Interleaved.build(stored, mask, blocks[0], of=of, gatherers=matching.each_gatherers)
        else:
            self._tokens = stored

    def __len__(self) -> int:
        return len(self.mask)

    def __repr__(self) -> str:
        return f"Collection({len(self)} {self.of}, {self.bytes_an_item / 1024:.0f} KiB each)"

    @property
    def bytes_an_item(self) -> float:
        """Bytes of memory an item takes, the tables that are computed once included."""
        parts: Sequence[NDArray[np.generic] | Tensor]
        if self._side:
            parts = (self._side.tokens, self._side.scale, *self._side.tables)
        else:
            assert self._tokens is not None
            parts = (self._tokens.values, self._tokens.scale)
        return sum(x.nbytes for x in parts) / max(1, len(self))

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
        if self._side is None:
            assert self._tokens is not None
            mine = query.unsqueeze(0), torch.ones(1, len(query), dtype=torch.bool, device=query.device)
            its = self._tokens.load().to(query.dtype), self.mask
            images, texts = (its, mine) if self.of == "images" else (mine, its)
            return score_all_pairs(*images, *texts, blocks=self.blocks, matching=self.matching).flatten()
        scores = []
        for gatherers, r in self._side.matches(query, self.matching.temperature).items():
            there = self.mask if gatherers == ITEMS[self.of] else torch.ones_like(r, dtype=torch.bool)
            scores.append(self.matching.pool(r, there))
        return torch.stack(scores).mean(0)


@dataclass(frozen=True)
class _Interleaved:
    """A collection as the kernel reads it.

    Attributes:
        of: "images" or "texts".
        gatherers: "words", "regions" or both.
        maps, over: Of the block.
        layout: Where the items' tokens are.
        tokens: (C, d, LANES), float32, uint16 (float16's bits), int16 (bfloat16's) or int8.
        scale: (C, LANES).
        tables: ``ImageTables``, or ``TextTables`` and ``TextGrams`` where regions gather: (C, LANES) for a token's
            numbers, (sum of t^2, LANES) for matrices.
    """

    of: str
    gatherers: tuple[str, ...]
    maps: Maps
    over: str
    layout: Layout
    tokens: NDArray[np.generic]
    scale: NDArray[np.float32]
    tables: tuple[Array, ...]

    @classmethod
    def build(
        cls, stored: Tokens, mask: Tensor, block: AttentionBlock, *, of: str, gatherers: tuple[str, ...]
    ) -> _Interleaved:
        """Lay out items (N, t, d) and compute what the kernel needs of them, some at a time."""
        layout = Layout.of(mask)
        rows = Tokens(layout.lay(stored.values[mask], mask), layout.lay(stored.scale[mask], mask))
        valid = layout.lay(mask[mask], mask)
        made = partial(image_tables, over=block.over)
        if of == "texts":
            made = partial(text_tables, over=block.over, gatherers=gatherers)
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
        return cls(of, gatherers, maps(block), block.over, layout, values.numpy(), scale, tables)

    def matches(self, query: Tensor, temperature: float) -> dict[str, Tensor]:
        """Matches r by gatherers: (N, s) of the query's tokens, (N, t) of the stored items', which are padded."""
        s, of_images = len(query), self.of == "images"
        projections = Projections(*(x(query) for x in self.maps))
        one, alone = Projections(*(x.unsqueeze(0) for x in projections)), torch.ones(1, s, dtype=torch.bool)
        if of_images:
            tables = tuple(x.flatten(0, -2) for x in text_tables(one, alone, over=self.over, gatherers=self.gatherers))
        else:
            tables = image_tables(one, alone, over=self.over)
        mine = tuple(x.contiguous().numpy() for x in tables)
        vectors, biases = self._fold(projections)
        of_items, of_query = (self.layout.words, LANES), (len(self.layout.lengths), s, LANES)
        found = {g: np.empty(of_items if g == ITEMS[self.of] else of_query, np.float32) for g in self.gatherers}
        longest = int(self.layout.lengths.max())

        def work(chunks: Iterator[_Chunk]) -> None:
            room = make_work(*(longest, s) if of_images else (s, longest))
            for chunk in chunks:
                products = np.empty((len(vectors), chunk.words.stop - chunk.words.start, LANES), np.float32)
                multiply_stored(products, vectors, self.tokens[chunk.words], self.scale[chunk.words], biases)
                its = self._tables_of(chunk)
                images, texts = (its, mine) if of_images else (mine, its)
                against = against_images if of_images else against_texts
                matches = {
                    g: r[chunk.words][np.newaxis] if g == ITEMS[self.of] else r[chunk.groups] for g, r in found.items()
                }
                against(
                    products, ImageTables(*images), *of_texts(texts), chunk.lengths, temperature, room,
                    *of_each(matches),
                )  # fmt: skip

        share(work, [[chunk] for chunk in self._chunks()])
        places, rows = self.layout.places, self.layout.rows
        return {
            g: torch.from_numpy(r).flatten()[rows]
            if g == ITEMS[self.of]
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
