"""All pairs on the CPU, tile by tile: large matrix products, each consumed by a kernel while it is in cache.

Every thread works alone on tiles of images times texts. Its kernel multiplies a few images with one group of texts at a
time (``tile_kernel``) and works on the results. So no thread waits for another, and products are read soon after they
are written. For the backward pass they are kept if they fit into ``KEPT_ELEMENTS``, else computed again. In bfloat16 a
tile's products are computed all at once, by torch.

Legend: I images, T texts, m regions an image, d the joint size; C words of all groups of LANES texts, see ``layout``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from han_retrieval.scoring.cpu.lanes import LANES, Array, empty
from han_retrieval.scoring.cpu.layout import Layout
from han_retrieval.scoring.cpu.threads import share
from han_retrieval.scoring.cpu.tile_kernel import IMAGES_AT_ONCE, Factors

# Rows of a product's two factors in a tile. Fewer cost more calls, more take more memory: gradients, products that are
# kept and those in bfloat16 are as large as a tile.
IMAGE_ROWS, WORD_ROWS = 1152, 1408
KEPT_ELEMENTS = 1 << 27


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


class TileInputs(NamedTuple):
    """What a kernel reads of a tile, or its gradients: contiguous float32, as Numba compiles anew for other layouts.

    Attributes:
        factors: What the blocks are filled with; of no words if they are filled.
        blocks: (I, rows, C k, LANES) products, one for each pair of factors; or room for some, see ``tile_kernel``.
        whole: Whether the blocks have room for all pairs.
        images: Tables of the images.
        texts: Tables and then squares of the texts.
        lengths: (groups,) words of each group.
    """

    factors: Factors
    blocks: tuple[Array, ...]
    whole: bool
    images: tuple[Array, ...]
    texts: tuple[Array, ...]
    lengths: NDArray[np.int64]


class Kernel(Protocol):
    """What is done with the products of a tile."""

    @property
    def directions(self) -> tuple[str, ...]:
        """Those that it gives matches of: of "words" (I, C, LANES), of "regions" (I, groups, m, LANES)."""

    def forward(self, inputs: TileInputs, matches: tuple[Array, ...]) -> None:
        """Fill in the matches of each direction."""

    def backward(self, inputs: TileInputs, d_matches: tuple[Array, ...], d_inputs: TileInputs) -> None:
        """Fill in the gradients of the blocks, and add to those of the tables."""


def matches_of_all_pairs(
    kernel: Kernel, images: Images, texts: Texts, layout: Layout, *, precision: str = "float32"
) -> dict[str, Tensor]:
    """Matches of all pairs, differentiable in all that images and texts bring.

    Args:
        kernel: What is done with the products.
        images: I images.
        texts: T texts.
        layout: Where the texts' words are.
        precision: "bfloat16" rounds the products' factors and results, unless a gradient is asked for.

    Returns:
        By direction, (I, T, n) of words or (I, T, m) of regions.
    """
    inputs = (*images.factors, *images.tables, *texts.factors, *texts.tables, *texts.squares)
    counts = (len(images.factors), len(images.tables), len(texts.factors), len(texts.tables))
    found = _TiledMatches.apply(kernel, layout, counts, precision == "bfloat16", *inputs)
    return {
        direction: matches.flatten(1).index_select(1, layout.rows.flatten()).unflatten(1, layout.rows.shape)
        if direction == "words"
        else matches.movedim(3, 2).flatten(1, 2).index_select(1, layout.places)
        for direction, matches in zip(kernel.directions, found, strict=True)
    }


class _TiledMatches(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, kernel: Kernel, layout: Layout, counts: tuple[int, ...], in_half: bool, *inputs: Tensor
    ) -> tuple[Tensor, ...]:
        images, texts = _images_and_texts(inputs, counts)
        I, m = images.tables[0].shape[:2]
        shapes = {"words": (I, layout.words, LANES), "regions": (I, len(layout.lengths), m, LANES)}
        matches = [empty(shapes[direction]) for direction in kernel.directions]
        elements = sum(x.shape[1] * y.shape[1] for x, y in zip(images.factors, texts.factors, strict=True))
        with_gradient = any(ctx.needs_input_grad)
        keep = with_gradient and I * layout.words * elements <= KEPT_ELEMENTS
        in_half = in_half and not with_gradient
        kept: dict[tuple[int, int], list[Tensor]] = {}
        text_factors = tuple(x.bfloat16() if in_half else _interleave(x) for x in texts.factors)
        longest, whole = int(layout.lengths.max()), keep or in_half
        multiplied = None if in_half else text_factors

        def work(tiles: Iterator[_Tile]) -> None:
            blocks: list[Tensor] = []
            for tile in tiles:
                size = tile.size if whole else (IMAGES_AT_ONCE, longest)
                blocks = _room(size, images, texts, [] if keep else blocks)
                if in_half:
                    _multiply_in_bfloat16(blocks, tile.of_images(images).factors, tile.of_words(text_factors))
                r = tuple(empty(x.shape) for x in tile.of_matches(matches, kernel))
                inputs = _inputs_of(blocks, images, texts, tile, whole=whole, text_factors=multiplied)
                kernel.forward(inputs, r)
                for here, found in zip(tile.of_matches(matches, kernel), r, strict=True):
                    here[:] = found
                if keep:
                    kept[tile.images.start, tile.words.start] = blocks

        tiles = _tiles(images, texts, layout)
        few = len(tiles) < torch.get_num_threads()  # as of one photo and many captions
        share(work, [[tile] for part in tiles for tile in part] if few and not with_gradient else tiles)
        ctx.save_for_backward(*inputs)
        ctx.kernel, ctx.tiles, ctx.counts, ctx.kept, ctx.longest = kernel, tiles, counts, kept, longest
        return tuple(map(torch.from_numpy, matches))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *d_matches: Tensor) -> tuple[Tensor | None, ...]:
        kernel, kept = ctx.kernel, ctx.kept
        ctx.kept = {}  # a second pass computes them anew; they would stay as long as the loss does
        images, texts = _images_and_texts(ctx.saved_tensors, ctx.counts)
        d_images = Images(*(tuple(map(torch.zeros_like, part)) for part in images))
        text_factors = None if kept else tuple(map(_interleave, texts.factors))

        def work(tiles: Iterator[_Tile]) -> Texts:
            # A thread's own: images are shared out among threads, texts are not.
            mine = Texts(*(tuple(map(torch.zeros_like, part)) for part in texts))
            blocks: list[Tensor] = []
            d_blocks: list[Tensor] = []
            for tile in tiles:
                factors = tile.of_images(images).factors, tile.of_texts(texts).factors
                d_factors = tile.of_images(d_images).factors, tile.of_texts(mine).factors
                d_blocks = _room(tile.size, images, texts, d_blocks)
                if kept:
                    blocks = kept[tile.images.start, tile.words.start]
                else:
                    blocks = _room((IMAGES_AT_ONCE, ctx.longest), images, texts, blocks)
                d_r = _arrays([x.contiguous() for x in tile.of_matches(d_matches, kernel)])
                inputs = _inputs_of(blocks, images, texts, tile, whole=bool(kept), text_factors=text_factors)
                kernel.backward(inputs, d_r, _inputs_of(d_blocks, d_images, mine, tile))
                for d, left, right, d_left, d_right in zip(d_blocks, *factors, *d_factors, strict=True):
                    d = d.flatten(2).flatten(0, 1)
                    d_left.flatten(0, 1).addmm_(d, right.flatten(0, 1))
                    d_right.flatten(0, 1).addmm_(d.T, left.flatten(0, 1))
            return mine

        d_texts = share(work, ctx.tiles)  # those of what is kept, however many threads there are by now
        sums = [sum(parts[1:], start=parts[0]) for parts in zip(*(sum(x, start=()) for x in d_texts), strict=True)]
        return (None, None, None, None, *d_images.factors, *d_images.tables, *sums)


class _Tile(NamedTuple):
    """Some images with some groups of texts."""

    images: slice
    groups: slice
    words: slice  # of the C
    squares: slice
    lengths: NDArray[np.int64]

    @property
    def size(self) -> tuple[int, int]:
        """How many images and words it has."""
        return self.images.stop - self.images.start, self.words.stop - self.words.start

    def of_images(self, side: Images) -> Images:
        return Images(*(tuple(x[self.images] for x in part) for part in side))

    def of_texts(self, side: Texts) -> Texts:
        return Texts(
            tuple(x[self.words] for x in side.factors),
            tuple(x[self.words] for x in side.tables),
            tuple(x[self.squares] for x in side.squares),
        )

    def of_words(self, text_factors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Its part of each, (C, ...)."""
        return tuple(x[self.words] for x in text_factors)

    def of_matches(self, matches: Sequence[Any], kernel: Kernel) -> list[Any]:
        """Of each of the kernel's directions."""
        return [
            x[self.images, self.words if direction == "words" else self.groups]
            for direction, x in zip(kernel.directions, matches, strict=True)
        ]


def _tiles(images: Images, texts: Texts, layout: Layout) -> list[list[_Tile]]:
    """Tiles by slices of images, as many slices as keep all threads busy where there are so many images."""
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


def _room(size: tuple[int, int], images: Images, texts: Texts, last: list[Tensor]) -> list[Tensor]:
    """Memory for products of so many images and words, (images, rows, words k, LANES): the last if it has that size."""
    shapes = [
        (size[0], x.shape[1], size[1] * y.shape[1] // LANES, LANES)
        for x, y in zip(images.factors, texts.factors, strict=True)
    ]
    return last if [x.shape for x in last] == shapes else [torch.empty(shape) for shape in shapes]


def _interleave(factor: Tensor) -> Tensor:
    """(C, columns, d) -> (C, columns / LANES, d, LANES)."""
    return factor.unflatten(1, (-1, LANES)).transpose(2, 3).contiguous()


def _multiply_in_bfloat16(blocks: list[Tensor], lefts: tuple[Tensor, ...], rights: tuple[Tensor, ...]) -> None:
    """Fill the blocks by the processor's own bfloat16 products, which add up in float32 and round the sums."""
    for block, left, right in zip(blocks, lefts, rights, strict=True):
        product = left.flatten(0, 1).bfloat16() @ right.flatten(0, 1).mT
        block.flatten(2).flatten(0, 1).copy_(product)


def _inputs_of(
    blocks: list[Tensor],
    images: Images,
    texts: Texts,
    tile: _Tile,
    *,
    whole: bool = True,
    text_factors: tuple[Tensor, ...] | None = None,
) -> TileInputs:
    """Of a tile; ``text_factors`` are interleaved, and None if the blocks are filled."""
    its, (_, tables, squares) = tile.of_images(images), tile.of_texts(texts)
    if text_factors is None:
        of_words = tuple(empty((0, 1, LANES)) for _ in blocks)
    else:
        of_words = _arrays([x.flatten(0, 1) for x in tile.of_words(text_factors)])
    factors = Factors(_arrays(its.factors), of_words)
    return TileInputs(factors, _arrays(blocks), whole, _arrays(its.tables), _arrays(tables + squares), tile.lengths)


def _arrays(tensors: Sequence[Tensor]) -> tuple[Array, ...]:
    return tuple(x.numpy() for x in tensors)


def _images_and_texts(inputs: Sequence[Tensor], counts: tuple[int, ...]) -> tuple[Images, Texts]:
    left = iter([x.detach().contiguous() for x in inputs])
    a, b, c, d = (tuple(next(left) for _ in range(count)) for count in counts)
    return Images(a, b), Texts(c, d, tuple(left))
