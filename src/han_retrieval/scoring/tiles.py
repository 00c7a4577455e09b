"""All pairs on the CPU, tile by tile: large matrix products, each consumed by a kernel while it is in cache.

Every thread works alone on tiles of images times texts: a few matrix products on one core, then a kernel (see
``single_block_kernel``) on their results. So no thread waits for another, and no product of a pair leaves the cache.
For the backward pass the products are kept if they fit into ``KEPT_ELEMENTS``, else computed again.

Legend: I images, T texts, m regions an image, d the joint size. Texts sorted by length go LANES to a group; a group has
as many words as its longest text, C in all groups together, so C LANES rows hold all words of all texts.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from han_retrieval.scoring.lanes import LANES, multiply_all

# Rows of a product's two factors in one tile. Fewer are slower products, since MKL packs each factor anew; more fall
# out of a core's cache before the kernel reads them.
IMAGE_ROWS, WORD_ROWS = 1152, 1408
KEPT_ELEMENTS = 1 << 27
GROUPS_A_RUN = 32

Array = NDArray[np.float32]
T = TypeVar("T")
R = TypeVar("R")
Multiply = Callable[[list[Tensor], tuple[Tensor, ...], tuple[Tensor, ...]], None]


class Images(NamedTuple):
    """Attributes:
    factors: (I, rows, d) each; what is multiplied with the factor of the texts at the same place.
    tables: (I, ...) each; what else the kernel reads of an image.
    """

    factors: tuple[Tensor, ...]
    tables: tuple[Tensor, ...]


class Texts(NamedTuple):
    """Attributes:
    factors: (C, columns, d) each, columns a multiple of LANES.
    tables: (C, LANES) each.
    squares: (sum of n^2 over groups of n words, LANES) each.
    """

    factors: tuple[Tensor, ...]
    tables: tuple[Tensor, ...]
    squares: tuple[Tensor, ...]


class Kernel(Protocol):
    """What is done with the products of a tile, one (I, rows, C, columns) array for each pair of factors.

    All arrays are contiguous float32, since Numba compiles anew for every other layout.

    Attributes:
        by_word: Whether matches are of words, (I, C, LANES), or of regions, (I, groups, m, LANES).
    """

    by_word: bool

    def forward(
        self,
        blocks: Sequence[Array],
        images: Sequence[Array],
        texts: Sequence[Array],
        lengths: NDArray[np.int64],
        matches: Array,
    ) -> None:
        """Fill in the matches."""

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
        """Fill in the gradients of the blocks, and add to those of the tables."""  # fmt: skip


@dataclass(frozen=True)
class Layout:
    """Where the words of T texts are.

    Attributes:
        lengths: (groups,) words of the longest text of each group.
        rows: (T, n) int64, the row of each word among the C LANES; 0 where there is none.
        places: (T,) int64, the place of each text among the groups' LANES.
    """

    lengths: NDArray[np.int64]
    rows: Tensor
    places: Tensor

    @classmethod
    def of(cls, word_mask: Tensor) -> Layout:
        """Sort texts by length and lay LANES of them side by side: (T, n) bool."""
        counts = word_mask.sum(1)
        order = counts.argsort(stable=True)
        groups = counts[order].split(LANES)
        lengths = torch.stack([group[-1] for group in groups])
        places = torch.empty_like(order)
        places[order] = torch.arange(len(order))
        first = lengths.cumsum(0) - lengths  # words before each group
        start = first[places // LANES] * LANES + places % LANES
        nth = (word_mask.cumsum(1) - 1).clamp_min(0)  # of a word among its text's words
        rows = start.unsqueeze(1) + nth * LANES
        return cls(lengths.numpy(), rows.masked_fill(~word_mask, 0), places)

    @property
    def words(self) -> int:
        """C."""
        return int(self.lengths.sum())

    def lay(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """(valid tokens of all texts, ...) to their rows (C LANES, ...), zero where there is none."""
        rows = tokens.new_zeros(self.words * LANES, *tokens.shape[1:])
        return rows.index_copy(0, self.rows[mask], tokens)

    def runs(self) -> Iterator[tuple[int, slice]]:
        """Some groups of equal length at a time: their words a text n, and their rows among the C LANES."""
        first = 0
        for n, groups in zip(*np.unique(self.lengths, return_counts=True), strict=True):
            for start in range(0, groups, GROUPS_A_RUN):
                size = int(n) * min(GROUPS_A_RUN, int(groups) - start) * LANES
                yield int(n), slice(first, first + size)
                first += size


def by_text(rows: Tensor, n: int) -> Tensor:
    """Rows of groups of n words to texts: (groups n LANES, ...) -> (texts, n, ...)."""
    return rows.unflatten(0, (-1, n, LANES)).transpose(1, 2).flatten(0, 1)


def side_by_side(table: Tensor) -> Tensor:
    """What texts have, LANES texts together: (texts, n) -> (groups n, LANES), (texts, n, n) -> (groups n n, LANES)."""
    return table.unflatten(0, (-1, LANES)).movedim(1, -1).flatten(0, -2)


def matches_of_all_pairs(
    kernel: Kernel, images: Images, texts: Texts, layout: Layout, *, precision: str = "float32"
) -> Tensor:
    """Matches of all pairs, differentiable in all that images and texts bring.

    Args:
        kernel: What is done with the products.
        images: I images.
        texts: T texts.
        layout: Where the texts' words are.
        precision: "bfloat16" rounds the products' factors and results, unless a gradient is asked for.

    Returns:
        (I, T, n) of words, or (I, T, m) of regions, as the kernel has it.
    """
    inputs = (*images.factors, *images.tables, *texts.factors, *texts.tables, *texts.squares)
    counts = (len(images.factors), len(images.tables), len(texts.factors), len(texts.tables))
    multiply = _multiply_in_bfloat16 if precision == "bfloat16" else _multiply
    matches = _Matches.apply(kernel, layout, counts, multiply, *inputs)
    if kernel.by_word:
        return matches.flatten(1).index_select(1, layout.rows.flatten()).unflatten(1, layout.rows.shape)
    return matches.movedim(3, 2).flatten(1, 2).index_select(1, layout.places)


class _Matches(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, kernel: Kernel, layout: Layout, counts: tuple[int, ...], multiply: Multiply, *inputs: Tensor
    ) -> Tensor:
        images, texts = _sides(inputs, counts)
        I, m = images.tables[0].shape[:2]
        shape = (I, layout.words, LANES) if kernel.by_word else (I, len(layout.lengths), m, LANES)
        matches = np.empty(shape, np.float32)
        elements = sum(x.shape[1] * y.shape[1] for x, y in zip(images.factors, texts.factors, strict=True))
        keep = any(ctx.needs_input_grad) and I * layout.words * elements <= KEPT_ELEMENTS
        kept: dict[tuple[int, int], list[Tensor]] = {}
        if any(ctx.needs_input_grad):
            multiply = _multiply
        interleaved = texts._replace(factors=tuple(map(_interleave, texts.factors)))

        def work(tiles: Iterator[_Tile]) -> None:
            blocks: list[Tensor] = []
            for tile in tiles:
                blocks = _room(tile, images, texts, [] if keep else blocks)
                multiply(blocks, tile.of_images(images).factors, tile.of_texts(interleaved).factors)
                here = tile.images, tile.words if kernel.by_word else tile.groups
                r = np.empty(matches[here].shape, np.float32)
                kernel.forward(_arrays(blocks), *_tables(images, texts, tile), tile.lengths, r)
                matches[here] = r
                if keep:
                    kept[tile.images.start, tile.words.start] = blocks

        share(work, _tiles(images, texts, layout))
        ctx.save_for_backward(*inputs)
        ctx.kernel, ctx.layout, ctx.counts, ctx.kept = kernel, layout, counts, kept
        return torch.from_numpy(matches)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, d_matches: Tensor) -> tuple[Tensor | None, ...]:
        kernel, kept = ctx.kernel, ctx.kept
        images, texts = _sides(ctx.saved_tensors, ctx.counts)
        d_images = Images(*(tuple(map(torch.zeros_like, part)) for part in images))

        def work(tiles: Iterator[_Tile]) -> Texts:
            # A thread's own: images are shared out among threads, texts are not.
            mine = Texts(*(tuple(map(torch.zeros_like, part)) for part in texts))
            blocks: list[Tensor] = []
            d_blocks: list[Tensor] = []
            for tile in tiles:
                factors = tile.of_images(images).factors, tile.of_texts(texts).factors
                d_factors = tile.of_images(d_images).factors, tile.of_texts(mine).factors
                d_blocks = _room(tile, images, texts, d_blocks)
                if kept:
                    blocks = kept[tile.images.start, tile.words.start]
                else:
                    blocks = _room(tile, images, texts, blocks)
                    _multiply(blocks, factors[0], tuple(map(_interleave, factors[1])))
                d_r = d_matches[tile.images, tile.words if kernel.by_word else tile.groups].contiguous()
                kernel.backward(
                    _arrays(blocks), *_tables(images, texts, tile), tile.lengths, d_r.numpy(), _arrays(d_blocks),
                    *_tables(d_images, mine, tile),
                )  # fmt: skip
                for d, left, right, d_left, d_right in zip(d_blocks, *factors, *d_factors, strict=True):
                    d = d.flatten(2).flatten(0, 1)
                    d_left.flatten(0, 1).addmm_(d, right.flatten(0, 1))
                    d_right.flatten(0, 1).addmm_(d.T, left.flatten(0, 1))
            return mine

        d_texts = share(work, _tiles(images, texts, ctx.layout))
        sums = [sum(parts[1:], start=parts[0]) for parts in zip(*(sum(x, start=()) for x in d_texts), strict=True)]
        return (None, None, None, None, *d_images.factors, *d_images.tables, *sums)


class _Tile(NamedTuple):
    """Some images with some groups of texts."""

    images: slice
    groups: slice
    words: slice  # of the C
    squares: slice
    lengths: NDArray[np.int64]

    def of_images(self, side: Images) -> Images:
        return Images(*(tuple(x[self.images] for x in part) for part in side))

    def of_texts(self, side: Texts) -> Texts:
        return Texts(
            tuple(x[self.words] for x in side.factors),
            tuple(x[self.words] for x in side.tables),
            tuple(x[self.squares] for x in side.squares),
        )


def _tiles(images: Images, texts: Texts, layout: Layout) -> list[list[_Tile]]:
    """Tiles by slices of images, as many slices as keep all threads busy."""
    I, rows = images.factors[-1].shape[:2]
    columns = texts.factors[-1].shape[1]
    threads = torch.get_num_threads()
    slices = min(I, -(-I * rows // (IMAGE_ROWS * threads)) * threads)
    size = -(-I // slices)
    parts = [slice(start, min(start + size, I)) for start in range(0, I, size)]
    runs: list[tuple[slice, slice, slice, NDArray[np.int64]]] = []
    group = first = first_square = 0
    while group < len(layout.lengths):
        ends = layout.lengths[group:].cumsum() * columns
        stop = group + max(1, int((ends <= WORD_ROWS).sum()))
        lengths = layout.lengths[group:stop]
        last, last_square = first + int(lengths.sum()), first_square + int((lengths**2).sum())
        runs.append((slice(group, stop), slice(first, last), slice(first_square, last_square), lengths))
        group, first, first_square = stop, last, last_square
    return [[_Tile(part, *run) for run in runs] for part in parts]


def _room(tile: _Tile, images: Images, texts: Texts, last: list[Tensor]) -> list[Tensor]:
    """Memory for a tile's products (I, rows, C, columns), the last tile's if it has the same shape."""
    factors = zip(tile.of_images(images).factors, tile.of_texts(texts).factors, strict=True)
    shapes = [(*x.shape[:2], *y.shape[:2]) for x, y in factors]
    return last if [x.shape for x in last] == shapes else [torch.empty(shape) for shape in shapes]


def _interleave(factor: Tensor) -> Tensor:
    """(C, columns, d) -> (C, columns / LANES, d, LANES)."""
    return factor.unflatten(1, (-1, LANES)).transpose(2, 3).contiguous()


def _multiply(blocks: list[Tensor], lefts: tuple[Tensor, ...], rights: tuple[Tensor, ...]) -> None:
    """Fill the blocks with the products of images' factors and interleaved factors of texts."""
    for block, left, right in zip(blocks, lefts, rights, strict=True):
        out = block.flatten(2).unflatten(2, (-1, LANES))  # (I, rows, C columns / LANES, LANES)
        multiply_all(out.numpy(), left.numpy(), right.flatten(0, 1).numpy())


def _multiply_in_bfloat16(blocks: list[Tensor], lefts: tuple[Tensor, ...], rights: tuple[Tensor, ...]) -> None:
    """The same by the processor's own bfloat16 products, which add up in float32 and round the sums."""
    for block, left, right in zip(blocks, lefts, rights, strict=True):
        rows = right.transpose(2, 3).flatten(0, 2)  # (C columns, d)
        product = left.flatten(0, 1).bfloat16() @ rows.bfloat16().mT
        block.flatten(2).flatten(0, 1).copy_(product)


def _arrays(tensors: Sequence[Tensor]) -> tuple[Array, ...]:
    return tuple(x.numpy() for x in tensors)


def _tables(images: Images, texts: Texts, tile: _Tile) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    _, tables, squares = tile.of_texts(texts)
    return _arrays(tile.of_images(images).tables), _arrays(tables + squares)


def _sides(inputs: Sequence[Tensor], counts: tuple[int, ...]) -> tuple[Images, Texts]:
    left = iter([x.detach().contiguous() for x in inputs])
    a, b, c, d = (tuple(next(left) for _ in range(count)) for count in counts)
    return Images(a, b), Texts(c, d, tuple(left))


def share(work: Callable[[Iterator[T]], R], parts: Sequence[Sequence[T]]) -> list[R]:
    """Let every thread work on its share of the parts: what each gave, always in the same order.

    Who works on what does not depend on who is faster, so that sums come out the same to the last bit.
    """
    threads = torch.get_num_threads()
    stopped = threading.Event()

    def mine(first: int) -> Iterator[T]:
        for part in parts[first::threads]:
            for one in part:
                if stopped.is_set():
                    return
                yield one

    def run(first: int) -> R:
        torch.set_num_threads(1)  # of this thread's products
        with torch.no_grad():
            return work(mine(first))

    try:
        running = [_executor(threads).submit(run, first) for first in range(min(threads, len(parts)))]
        return [one.result() for one in running]
    finally:
        stopped.set()  # after an error or an interrupt nothing further is begun
        torch.set_num_threads(threads)  # MKL counts its threads for the whole process


@cache
def _executor(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="scoring")
