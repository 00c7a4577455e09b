"""``one_way`` for one image and LANES texts at a time, all of it in cache: forward and backward.

An image's side is its own here, so it is cheaper to write the attended words down than to multiply what they are made
of: with u and o^ of an image, three products of m n d a pair, k_o.q_w, F' u and o^.w^, and one small one, in place of
the five of Gram space. Alignment and matching are those of ``alignment_kernel``, with regions or words as sources.

d-wide matrices are worked on DEPTH numbers at a time, so that they stay in cache.

Indices: i regions of m; j, k words of n.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from han_retrieval.scoring.cpu.alignment_kernel import AlignmentScratch, match, match_backward
from han_retrieval.scoring.cpu.attention_gradient_kernel import mixture_backward
from han_retrieval.scoring.cpu.attention_kernel import mixture
from han_retrieval.scoring.cpu.compiling import cached_njit, njit
from han_retrieval.scoring.cpu.lanes import (
    GONE,
    LANES,
    TINY,
    Array,
    empty,
    keep_if_greater,
    load,
    maximum,
    splat,
    sqrt,
    store,
    transposed,
)
from han_retrieval.scoring.cpu.pair_kernel import clear, copy_row, view
from han_retrieval.scoring.cpu.products import add_product, product
from han_retrieval.scoring.cpu.tile_kernel import IMAGES_AT_ONCE, Factors, fill

DEPTH = 256


class RegionTables(NamedTuple):
    """What is known of images; see ``one_way.AttendedRegions``."""

    closed: Array  # (I, m): 0, or -1e30 where there is no region
    lengths: Array  # (I, m)
    oo: Array  # (I, m, m)
    u: Array  # (I, m, d)
    unit: Array  # (I, m, d)


class WordTables(NamedTuple):
    """What is known of texts: LANES texts a group, words of all groups one after another (C in all)."""

    closed: Array  # (C, LANES): 0, or -1e30 where there is no word
    lse: Array  # (C, LANES)
    P: Array  # (C, d, LANES)
    c: Array  # (C, d, LANES)


class Scratch(NamedTuple):
    """Scratch memory for one pair."""

    pair: Array  # (8, m, n, LANES): F, S, X, then AlignmentScratch.pair, dS, d_x
    words: Array  # (2, n, n, LANES): cosines among words, their gradient
    rows: Array  # (9, 1, m or n, LANES): AlignmentScratch.rows, then b, |w^|, and the gradients of both
    attended: Array  # (n, d, LANES): w^
    d_attended: Array  # (n, DEPTH, LANES)


def make_scratch(m: int, n: int, d: int) -> Scratch:
    """Scratch memory for pairs of m regions and at most n words."""
    return Scratch(
        empty((8, m, n, LANES)),
        empty((2, n, n, LANES)),
        empty((9, 1, max(m, n), LANES)),
        empty((n, d, LANES)),
        empty((n, min(d, DEPTH), LANES)),
    )


@njit
def part_of(scratch: Scratch, n: int) -> Scratch:
    """The part of it for a pair of n words."""
    return Scratch(
        scratch.pair[:, :, :n], scratch.words[:, :n, :n], scratch.rows, scratch.attended[:n], scratch.d_attended[:n]
    )


@njit
def image_of(images: RegionTables, i: int) -> RegionTables:
    """One image's: (1, m), (m, m) and (m, d)."""
    return RegionTables(
        view(images.closed[i : i + 1]), view(images.lengths[i : i + 1]), view(images.oo[i]), view(images.u[i]),
        view(images.unit[i]),
    )  # fmt: skip


@njit
def text_of(texts: WordTables, first: int, n: int) -> WordTables:
    """One group's of n words, from its first on: (1, n, LANES) and (n, d, LANES)."""
    row, words = (1, n, LANES), slice(first, first + n)
    return WordTables(
        view(texts.closed[words].reshape(row)), view(texts.lse[words].reshape(row)), texts.P[words], texts.c[words]
    )


@cached_njit
def forward(
    factors: Factors,
    blocks: tuple[Array],
    whole: bool,
    images: RegionTables,
    texts: WordTables,
    lengths: NDArray[np.int64],
    temperature: float,
    scratch: Scratch,
    of_words: Array | None,
    of_regions: Array | None,
) -> None:
    """Matches r of all pairs of a tile, compiled anew for what is None: nothing is spent on it.

    Args:
        factors: Of the block; of no words if it is filled.
        blocks: Room for products, see ``tile_kernel``: k_o.q_w (I, m, C, LANES).
        whole: Whether it has room for all pairs.
        images: Of I images.
        texts: Of some groups of texts with C words together, LANES times over.
        lengths: (groups,) words of the longest text of each group.
        temperature: lambda.
        scratch: From ``make_scratch``.
        of_words: (I, C, LANES), filled, or None if words do not attend to regions.
        of_regions: (I, groups, m, LANES), filled, or None if regions do not attend to words.
    """
    count, words = images.closed.shape[0], texts.closed.shape[0]
    first = 0
    for group in range(len(lengths)):
        n = lengths[group]
        w, text = part_of(scratch, n), text_of(texts, first, n)
        for start in range(0, count, IMAGES_AT_ONCE):
            stop = min(start + IMAGES_AT_ONCE, count)
            skipped, at = fill(blocks, factors, whole, (start, stop), (first, first + n), words)
            for z in range(start, stop):
                image = image_of(images, z)
                attend_words(w, blocks[0][z - skipped, :, at : at + n], image, text)
                if of_words is not None:
                    match_words(w, image, temperature)
                    copy_row(w.rows[0], of_words[z : z + 1, first : first + n])
                if of_regions is not None:
                    match_regions(w, text, temperature)
                    copy_row(w.rows[0], of_regions[z : z + 1, group])
        first += n


@njit
def attend_words(scratch: Scratch, kq: Array, image: RegionTables, text: WordTables) -> None:
    """Attention weights F of the words, w^ = b P + c + F' u, its lengths, and X = cos(o^, w^)."""
    F, S, X, share, norms = _attended(scratch)
    m, n, d = kq.shape[0], kq.shape[1], image.u.shape[1]
    tiny = splat(TINY)
    mixture(transposed(kq), text.lse, image.closed, transposed(F), transposed(share))
    clear(S)
    clear(norms[:, :n])
    for start in range(0, d, DEPTH):
        some = slice(start, min(start + DEPTH, d))
        w, P, c = scratch.attended[:, some], text.P[:, some], text.c[:, some]
        for j in range(n):
            b = load(share, 0, j)
            for x in range(w.shape[1]):
                store(b * load(P, j, x) + load(c, j, x), w, j, x)
        add_product(transposed(w), image.u[:, some].T, F)
        for j in range(n):
            square = load(norms, 0, j)
            for x in range(w.shape[1]):
                square = square + load(w, j, x) * load(w, j, x)
            store(square, norms, 0, j)
        add_product(S, image.unit[:, some], transposed(w))
    for j in range(n):
        norm = sqrt(maximum(load(norms, 0, j), tiny))
        store(norm, norms, 0, j)
        scale = splat(np.float32(1)) / norm
        for i in range(m):
            store(load(S, i, j) * scale, X, i, j)


@njit
def match_words(scratch: Scratch, image: RegionTables, temperature: float) -> None:
    """Matches of the words, after ``attend_words``, left in the first row."""
    X = scratch.pair[2]
    match(X, image.closed, image.lengths, image.oo, temperature, False, _alignment_of_words(scratch))


@njit
def match_regions(scratch: Scratch, text: WordTables, temperature: float) -> None:
    """Matches of the regions, after ``attend_words``, left in the first row."""
    _, _, X, _, norms = _attended(scratch)
    w, cosines = scratch.attended, scratch.words[0]
    n = w.shape[0]
    product(cosines, w, transposed(w))
    for j in range(n):
        for k in range(n):
            store(load(cosines, j, k) / (load(norms, 0, j) * load(norms, 0, k)), cosines, j, k)
    match(transposed(X), text.closed, norms, cosines, temperature, False, _alignment_of_regions(scratch))


@njit
def _attended(scratch: Scratch) -> tuple[Array, Array, Array, Array, Array]:
    """F, S = o^.w^ and X = cos(o^, w^) of (m, n, LANES); b and |w^|, rows."""
    return scratch.pair[0], scratch.pair[1], scratch.pair[2], scratch.rows[5], scratch.rows[6]


@njit
def _alignment_of_words(scratch: Scratch) -> AlignmentScratch:
    return AlignmentScratch(scratch.pair[3:6], scratch.rows)


@njit
def _alignment_of_regions(scratch: Scratch) -> AlignmentScratch:
    return AlignmentScratch(scratch.pair[3:6].transpose((0, 2, 1, 3)), scratch.rows)


@cached_njit
def backward(
    factors: Factors,
    blocks: tuple[Array],
    whole: bool,
    images: RegionTables,
    texts: WordTables,
    lengths: NDArray[np.int64],
    temperature: float,
    scratch: Scratch,
    d_of_words: Array | None,
    d_of_regions: Array | None,
    d_kq: Array,
    d_images: RegionTables,
    d_texts: WordTables,
) -> None:
    """Gradients of a tile, from those of its matches; see ``forward``.

    ``d_kq`` is filled; ``d_images`` and ``d_texts`` are added to. The forward is computed again in cache.
    """
    count, words = images.closed.shape[0], texts.closed.shape[0]
    first = 0
    for group in range(len(lengths)):
        n = lengths[group]
        here = slice(first, first + n)
        w = part_of(scratch, n)
        text, d_text = text_of(texts, first, n), text_of(d_texts, first, n)
        dS, d_x, _, d_norms = _gradients(w)
        for start in range(0, count, IMAGES_AT_ONCE):
            stop = min(start + IMAGES_AT_ONCE, count)
            skipped, at = fill(blocks, factors, whole, (start, stop), (first, first + n), words)
            for z in range(start, stop):
                image, d_image = image_of(images, z), image_of(d_images, z)
                attend_words(w, blocks[0][z - skipped, :, at : at + n], image, text)
                clear(dS)
                clear(d_norms[:, :n])
                if d_of_words is not None:
                    match_words(w, image, temperature)
                    match_backward(
                        w.pair[2], image.lengths, False, _alignment_of_words(w), d_of_words[z : z + 1, here], d_x,
                        d_image.lengths, d_image.oo,
                    )  # fmt: skip
                    _add_cosines(w)
                if d_of_regions is not None:
                    match_regions(w, text, temperature)
                    clear(w.words[1])
                    d_r = d_of_regions[z : z + 1, group]
                    match_backward(
                        transposed(w.pair[2]), w.rows[6], False, _alignment_of_regions(w), d_r, transposed(d_x),
                        d_norms, w.words[1],
                    )  # fmt: skip
                    _add_cosines(w)
                    _of_dot_products(w)
                _attend_words_backward(w, image, text, d_of_regions is not None, d_kq[z, :, here], d_image, d_text)
        first += n


@njit
def _gradients(scratch: Scratch) -> tuple[Array, Array, Array, Array]:
    """Those of S, of X, of b and of |w^|."""
    return scratch.pair[6], scratch.pair[7], scratch.rows[7], scratch.rows[8]


@njit
def _add_cosines(scratch: Scratch) -> None:
    """Add to the gradients of S and of |w^| from those of X."""
    _, _, X, _, norms = _attended(scratch)
    dS, d_x, _, d_norms = _gradients(scratch)
    for j in range(X.shape[1]):
        scale, d_norm = splat(np.float32(1)) / load(norms, 0, j), load(d_norms, 0, j)
        for i in range(X.shape[0]):
            d = load(d_x, i, j) * scale
            store(load(dS, i, j) + d, dS, i, j)
            d_norm = d_norm - d * load(X, i, j)
        store(d_norm, d_norms, 0, j)


@njit
def _of_dot_products(scratch: Scratch) -> None:
    """The gradient of w^.w^ from that of the cosines among words, in place, and what |w^| gets from it.

    It is symmetric, a sum over regions of delta_j delta_k.
    """
    norms, d_norms = scratch.rows[6], scratch.rows[8]
    cosines, d_cosines = scratch.words[0], scratch.words[1]
    n = cosines.shape[0]
    for j in range(n):
        norm, d_norm = load(norms, 0, j), load(d_norms, 0, j)
        for k in range(n):
            d = load(d_cosines, j, k)
            d_norm = d_norm - splat(np.float32(2)) * d * load(cosines, j, k) / norm
            store(d / (norm * load(norms, 0, k)), d_cosines, j, k)
        store(d_norm, d_norms, 0, j)


@njit
def _attend_words_backward(
    scratch: Scratch, image: RegionTables, text: WordTables, of_regions: bool, d_kq: Array, d_image: RegionTables,
    d_text: WordTables,
) -> None:  # fmt: skip
    """Fill in ``d_kq`` and add to the gradients of tables, from those of S and |w^|, and of w^.w^ if regions attend."""
    F, dF, _, share, norms = _attended(scratch)  # S is not read any more
    dS, _, d_share, d_norms = _gradients(scratch)
    n, d = scratch.attended.shape[0], scratch.attended.shape[1]
    zero, two, gone = splat(np.float32(0)), splat(np.float32(2)), splat(GONE)
    clear(dF)
    for j in range(n):
        norm = load(norms, 0, j)
        store(keep_if_greater(load(d_norms, 0, j) / norm, norm * norm, gone), d_norms, 0, j)  # times w^
        store(zero, d_share, 0, j)
    for start in range(0, d, DEPTH):
        some = slice(start, min(start + DEPTH, d))
        w, P, dP, dc = scratch.attended[:, some], text.P[:, some], d_text.P[:, some], d_text.c[:, some]
        dw = scratch.d_attended[:, : w.shape[1]]
        if of_regions:
            product(dw, scratch.words[1], w)
        for j in range(n):
            scale = load(d_norms, 0, j)
            for x in range(w.shape[1]):
                of_norm = scale * load(w, j, x)
                if of_regions:
                    of_norm = of_norm + two * load(dw, j, x)
                store(of_norm, dw, j, x)
        add_product(transposed(dw), image.unit[:, some].T, dS)
        for j in range(n):
            b, d_b = load(share, 0, j), load(d_share, 0, j)
            for x in range(w.shape[1]):
                of_w = load(dw, j, x)
                store(load(dc, j, x) + of_w, dc, j, x)
                store(load(dP, j, x) + b * of_w, dP, j, x)
                d_b = d_b + of_w * load(P, j, x)
            store(d_b, d_share, 0, j)
        add_product(dF, image.u[:, some], transposed(dw))
        add_product(d_image.unit[:, some], dS, w)
        add_product(d_image.u[:, some], F, dw)
    mixture_backward(
        transposed(F), transposed(dF), transposed(share), transposed(d_share), transposed(d_kq), d_text.lse
    )
