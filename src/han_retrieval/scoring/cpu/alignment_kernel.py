"""``alignment`` for one image and LANES texts at a time, all of it in cache: forward and backward.

The statements are those of ``alignment.matches`` with the same names; what is added is their derivatives, in reverse.
One thing is left out: the soft-max's denominator, since a cosine does not depend on the length of the attended vector.

The same code serves both directions. Regions as sources: their tables are plain matrices, shared by all lanes. Words as
sources: theirs are lanes matrices, and the block of cosines is read transposed.

Indices: i sources of s; j attending tokens of g.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from han_retrieval.scoring.alignment import ADDED, SLOPE
from han_retrieval.scoring.cpu.compiling import cached_njit, njit
from han_retrieval.scoring.cpu.lanes import (
    GONE,
    LANES,
    TINY,
    Array,
    add_to_row,
    empty,
    exp,
    keep_if_greater,
    load,
    maximum,
    splat,
    sqrt,
    store,
    transposed,
)
from han_retrieval.scoring.cpu.pair_kernel import copy_row
from han_retrieval.scoring.cpu.products import add_product, product
from han_retrieval.scoring.cpu.tile_kernel import IMAGES_AT_ONCE, Factors, fill


class AlignmentScratch(NamedTuple):
    """Scratch memory for one pair."""

    pair: Array  # (3, s, g, LANES)
    rows: Array  # (5, 1, s or g, LANES)


def make_scratch(m: int, n: int) -> AlignmentScratch:
    """Scratch memory for pairs of m regions and at most n words, in either direction."""
    most = max(m, n)
    return AlignmentScratch(empty((3, most, most, LANES)), empty((5, 1, most, LANES)))


@cached_njit
def forward(
    factors: Factors,
    blocks: tuple[Array],
    whole: bool,
    closed: Array,
    lengths: Array,
    gram: Array,
    words: NDArray[np.int64],
    temperature: float,
    clipped: bool,
    scratch: AlignmentScratch,
    matches: Array,
) -> None:
    """Matches r of all pairs of a tile.

    Args:
        factors: Of the block; of no words if it is filled.
        blocks: Room for products, see ``tile_kernel``: cosines (I, m, C, LANES), zeros where there is no attending
            token.
        whole: Whether it has room for all pairs.
        closed: Of regions (I, m), of words (1, C, LANES): 0, or -1e30 where there is no source.
        lengths: Of the sources, likewise.
        gram: Of regions (I, m, m), of words (sum of n^2 over groups, LANES): cosines among sources.
        words: (groups,) words of the longest text of each group.
        temperature: lambda.
        clipped: Whether attention is that of SCAN.
        scratch: From ``make_scratch``.
        matches: (I, C, LANES) of words, or (I, groups, m, LANES) of regions; filled.
    """
    count, total = matches.shape[0], words.sum()
    first = first_square = 0
    for group in range(len(words)):
        n = words[group]
        for start in range(0, count, IMAGES_AT_ONCE):
            stop = min(start + IMAGES_AT_ONCE, count)
            skipped, at = fill(blocks, factors, whole, (start, stop), (first, first + n), total)
            for z in range(start, stop):
                x = _cosines(blocks[0], closed, z - skipped, at, n)
                match(
                    x, _row(closed, z, first, n), _row(lengths, z, first, n), _square(gram, z, first_square, n),
                    temperature, clipped, scratch,
                )  # fmt: skip
                copy_row(scratch.rows[0], _matches(matches, z, group, first, n))
        first += n
        first_square += n * n


@njit
def match(
    x: Array, closed: Array, lengths: Array, gram: Array, temperature: float, clipped: bool, scratch: AlignmentScratch
) -> None:
    """Matches of one pair's attending tokens, left in ``scratch.rows[0]``, from cosines (s, g, LANES)."""
    s, g = x.shape[0], x.shape[1]
    delta, attended = scratch.pair[0, :s, :g], scratch.pair[1, :s, :g]
    r, squares, scales, norms = scratch.rows[0], scratch.rows[1], scratch.rows[2], scratch.rows[3]
    zero, tiny = splat(np.float32(0)), splat(TINY)

    # Logits are f(x), its norm taken into the scale, times the scale.
    for i in range(s):
        scale = splat(np.float32(temperature))
        if clipped:
            square = zero
            for j in range(g):
                y = _clip(load(x, i, j))
                square = square + y * y
            norm = sqrt(maximum(square, tiny))
            store(norm, norms, 0, i)
            scale = scale / (norm + splat(np.float32(ADDED)))
        store(scale, scales, 0, i)

    for j in range(g):
        top = splat(np.float32(-1e30))
        for i in range(s):
            y = load(x, i, j)
            if clipped:
                y = _clip(y)
            logit = y * load(scales, 0, i) + load(closed, 0, i)
            top = maximum(top, logit)
            store(logit, delta, i, j)
        for i in range(s):
            store(exp(load(delta, i, j) - top) * load(lengths, 0, i), delta, i, j)

    product(attended, gram, delta)
    for j in range(g):
        square, along = zero, zero
        for i in range(s):
            square = square + load(delta, i, j) * load(attended, i, j)
            along = along + load(delta, i, j) * load(x, i, j)
        square = maximum(square, tiny)
        store(square, squares, 0, j)
        store(along / sqrt(square), r, 0, j)


@cached_njit
def backward(
    factors: Factors,
    blocks: tuple[Array],
    whole: bool,
    closed: Array,
    lengths: Array,
    gram: Array,
    words: NDArray[np.int64],
    temperature: float,
    clipped: bool,
    scratch: AlignmentScratch,
    d_matches: Array,
    d_cosines: Array,
    d_lengths: Array,
    d_gram: Array,
) -> None:
    """Gradients of a tile, from those of its matches.

    ``d_cosines`` are filled; ``d_lengths`` and ``d_gram`` are added to. The forward is computed again in cache.
    """
    count, total = d_matches.shape[0], words.sum()
    first = first_square = 0
    for group in range(len(words)):
        n = words[group]
        for start in range(0, count, IMAGES_AT_ONCE):
            stop = min(start + IMAGES_AT_ONCE, count)
            skipped, at = fill(blocks, factors, whole, (start, stop), (first, first + n), total)
            for z in range(start, stop):
                x, of_lengths = _cosines(blocks[0], closed, z - skipped, at, n), _row(lengths, z, first, n)
                match(
                    x, _row(closed, z, first, n), of_lengths, _square(gram, z, first_square, n), temperature, clipped,
                    scratch,
                )  # fmt: skip
                match_backward(
                    x, of_lengths, clipped, scratch, _matches(d_matches, z, group, first, n),
                    _cosines(d_cosines, closed, z, first, n), _row(d_lengths, z, first, n),
                    _square(d_gram, z, first_square, n),
                )  # fmt: skip
        first += n
        first_square += n * n


@njit
def match_backward(
    x: Array,
    lengths: Array,
    clipped: bool,
    scratch: AlignmentScratch,
    d_r: Array,
    d_x: Array,
    d_lengths: Array,
    d_gram: Array,
) -> None:
    """Fill in the gradients of cosines and add to the others, from those of the matches that ``match`` left."""
    s, g = x.shape[0], x.shape[1]
    delta, attended, pulled = scratch.pair[0, :s, :g], scratch.pair[1, :s, :g], scratch.pair[2, :s, :g]
    r, squares, scales, norms, alongs = (
        scratch.rows[0],
        scratch.rows[1],
        scratch.rows[2],
        scratch.rows[3],
        scratch.rows[4],
    )
    zero, half, two = splat(np.float32(0)), splat(np.float32(0.5)), splat(np.float32(2))
    slope, rest, added = splat(np.float32(SLOPE)), splat(np.float32(1 - SLOPE)), splat(np.float32(ADDED))
    gone = splat(GONE)

    # Matching.
    for j in range(g):
        square, of_r = load(squares, 0, j), load(d_r, 0, j)
        store(of_r / sqrt(square), alongs, 0, j)
        store(keep_if_greater(zero - half * of_r * load(r, 0, j) / square, square, gone), squares, 0, j)

    for i in range(s):
        total, dot = zero, zero
        for j in range(g):
            weight, along, d_square = load(delta, i, j), load(alongs, 0, j), load(squares, 0, j)
            d_logit = weight * (along * load(x, i, j) + two * d_square * load(attended, i, j))
            store(along * weight, d_x, i, j)
            store(d_square * weight, pulled, i, j)
            store(d_logit, attended, i, j)
            total = total + d_logit
            if clipped:
                dot = dot + d_logit * _clip(load(x, i, j))
        add_to_row(total / load(lengths, 0, i), d_lengths, i)

        # Alignment.
        scale = load(scales, 0, i)
        if clipped:
            norm = load(norms, 0, i)
            pull = keep_if_greater(scale * dot / (norm * (norm + added)), norm * norm, gone)
            for j in range(g):
                d = scale * load(attended, i, j) - pull * _clip(load(x, i, j))
                store(load(d_x, i, j) + d * (keep_if_greater(rest, load(x, i, j), zero) + slope), d_x, i, j)
        else:
            for j in range(g):
                store(load(d_x, i, j) + scale * load(attended, i, j), d_x, i, j)
    add_product(d_gram, pulled, transposed(delta))


@njit
def _clip(x: Any) -> Any:
    return maximum(x, splat(np.float32(SLOPE)) * x)


@njit
def _cosines(cosines: Array, closed: Array, z: int, first: int, n: int) -> Array:
    """Those of image z with n words, sources by attending tokens."""
    if closed.ndim == 2:
        return cosines[z, :, first : first + n]
    return transposed(cosines[z, :, first : first + n])


@njit
def _row(table: Array, z: int, first: int, n: int) -> Array:
    """One number a source: (1, s) of image z, or (1, s, LANES) of n words."""
    if table.ndim == 2:
        return table[z : z + 1]
    return table[:, first : first + n]


@njit
def _square(gram: Array, z: int, first_square: int, n: int) -> Array:
    """(s, s) of image z, or (s, s, LANES) of n words."""
    if gram.ndim == 3:
        return gram[z]
    return gram[first_square : first_square + n * n].reshape((n, n, LANES))


@njit
def _matches(matches: Array, z: int, group: int, first: int, n: int) -> Array:
    """(1, g, LANES) of n words, or of image z with one group of texts."""
    if matches.ndim == 3:
        return matches[z : z + 1, first : first + n]
    return matches[z : z + 1, group]
