"""What the kernels of one block read of images and texts, and their scratch memory for a pair.

A pair is worked on in steps, each in a file of its own, with the names and statements of ``single_block``:
``attention_kernel`` to S and the lengths of all attended tokens, then ``words_to_regions_kernel`` or
``regions_to_words_kernel`` or both. Every number of a text stands for LANES texts of about one length (see ``lanes``),
so a pair's matrices are lanes matrices (rows, columns, LANES), while an image's own matrices are shared by all of them.
``single_block_kernel`` runs the steps for a tile, ``stored_kernel`` for one query and a collection.

Indices: i, l regions of m; j, k words of n. A word that a text does not have is *closed*: -1e30 is added to its logits.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from han_retrieval.scoring.cpu.compiling import njit
from han_retrieval.scoring.cpu.lanes import LANES, Array, empty, load, splat, store


class ImageTables(NamedTuple):
    """Tables of images, beside the products of pairs; see ``single_block.Tables``."""

    closed: Array  # (I, m): 0, or -1e30 where there is no region
    lse: Array  # (I, m)
    inner: Array  # (I, m, m), as all below
    uu: Array
    cu: Array
    pp: Array
    pc: Array  # 2 p.c
    cc: Array


class TextTables(NamedTuple):
    """Tables of texts, LANES texts a group, words of all groups one after another (C in all)."""

    closed: Array  # (C, LANES): 0, or -1e30 where there is no word
    lse: Array  # (C, LANES), as the next three
    pp: Array  # the diagonals P.P, 2 P.c, c.c
    pc: Array
    cc: Array
    inner: Array  # (sum of n^2 over groups, LANES), as all below: a group's (n, n, LANES)
    uu: Array
    pu: Array
    cu: Array


class TextGrams(NamedTuple):
    """Further tables of texts for regions that attend: all of P.P, 2 P.c and c.c, (sum of n^2 over groups, LANES)."""

    pp: Array
    pc: Array
    cc: Array


class PairScratch(NamedTuple):
    """Scratch memory for one pair; the slots below say what is where."""

    pair: Array  # (slots, m, n, LANES)
    words: Array  # (slots, n, n, LANES)
    rows: Array  # (slots, 1, m or n, LANES); every step writes over them


def make_scratch(m: int, n: int) -> PairScratch:
    """Scratch memory for pairs of m regions and at most n words."""
    return PairScratch(
        empty((33, m, n, LANES)),
        empty((14, n, n, LANES)),
        empty((5, 1, max(m, n), LANES)),
    )


@njit
def part_of(scratch: PairScratch, m: int, n: int) -> PairScratch:
    """The part of it for a pair of m regions and n words."""
    return PairScratch(scratch.pair[:, :m, :n], scratch.words[:, :n, :n], scratch.rows)


@njit
def view(matrix: Array) -> Array:
    """The same matrix in Numba's type for any layout, so that ``product`` is compiled for that one alone."""
    return matrix[:, : matrix.shape[1]]


@njit
def image_of(images: ImageTables, i: int) -> ImageTables:
    """One image's: (1, m) and (m, m)."""
    return ImageTables(
        view(images.closed[i : i + 1]), view(images.lse[i : i + 1]), view(images.inner[i]), view(images.uu[i]),
        view(images.cu[i]), view(images.pp[i]), view(images.pc[i]), view(images.cc[i]),
    )  # fmt: skip


@njit
def text_of(texts: TextTables, first: int, first_square: int, n: int) -> TextTables:
    """One group's of n words, from its first rows on: (1, n, LANES) and (n, n, LANES)."""
    row, square = (1, n, LANES), (n, n, LANES)
    words, squares = slice(first, first + n), slice(first_square, first_square + n * n)
    return TextTables(
        view(texts.closed[words].reshape(row)), view(texts.lse[words].reshape(row)),
        view(texts.pp[words].reshape(row)), view(texts.pc[words].reshape(row)), view(texts.cc[words].reshape(row)),
        view(texts.inner[squares].reshape(square)), view(texts.uu[squares].reshape(square)),
        view(texts.pu[squares].reshape(square)), view(texts.cu[squares].reshape(square)),
    )  # fmt: skip


@njit
def grams_of(grams: TextGrams, first_square: int, n: int) -> TextGrams:
    """One group's of n words, (n, n, LANES)."""
    square, squares = (n, n, LANES), slice(first_square, first_square + n * n)
    return TextGrams(
        view(grams.pp[squares].reshape(square)), view(grams.pc[squares].reshape(square)),
        view(grams.cc[squares].reshape(square)),
    )  # fmt: skip


@njit
def plain_grams(grams: TextGrams) -> TextGrams:
    """Those of one text alone, (n, n)."""
    return TextGrams(view(grams.pp), view(grams.pc), view(grams.cc))


@njit
def copy_row(row: Array, out: Array) -> None:
    """As many numbers of a row as ``out`` (1, count, LANES) takes."""
    for j in range(out.shape[1]):
        store(load(row, 0, j), out, 0, j)


@njit
def clear(matrix: Array) -> None:
    """Zeros all over a lanes matrix."""
    for i in range(matrix.shape[0]):
        for j in range(matrix.shape[1]):
            store(splat(np.float32(0)), matrix, i, j)


# Slots: of (m, n) or (n, n) numbers. Numbers of words or of regions lie in the first row or column of one.


class Attended(NamedTuple):
    """What ``attention_kernel.attend`` leaves."""

    E: Array  # region i's attention to word k
    F: Array  # word j's attention to region i
    H: Array  # u_i . (b P + c)_j
    V: Array  # u_i . w^_j
    S: Array  # o^_i . w^_j
    B: Array  # u_k . (o^ + a p + c)_i
    PU: Array
    PC: Array
    NV: Array
    UP: Array
    share_o: Array  # a, a column
    o_norms: Array  # a column
    W: Array  # (n, n): w^_j . u_k
    share_w: Array  # b, a row
    w_norms: Array  # a row


@njit
def attended_slots(scratch: PairScratch) -> Attended:
    """Where it is."""
    w, v = scratch.pair, scratch.words
    return Attended(w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7], w[8], w[9], w[10], w[11], v[0], v[1], v[2])


class Gradients(NamedTuple):
    """What alignment and matching hand to ``attention_gradient_kernel``: gradients, named as in ``Attended``."""

    E: Array
    S: Array
    B: Array
    share_o: Array
    o_norms: Array
    share_w: Array
    w_norms: Array


@njit
def gradient_slots(scratch: PairScratch) -> Gradients:
    """Where they are."""
    w, v = scratch.pair, scratch.words
    return Gradients(w[12], w[13], w[14], w[15], w[16], v[3], v[4])


@njit
def clear_gradients(scratch: PairScratch) -> None:
    """Zeros for all of them."""
    d = gradient_slots(scratch)
    clear(d.E)
    clear(d.S)
    clear(d.B)
    clear(d.share_o[:, :1])
    clear(d.o_norms[:, :1])
    clear(d.share_w[:1])
    clear(d.w_norms[:1])


@njit
def words_to_regions_slots(scratch: PairScratch) -> tuple[Array, ...]:
    """alpha, deltas, pp_delta, pc_alpha, cc_alpha, gamma, R, squares, matched: what ``match_words`` leaves."""
    w, v = scratch.pair, scratch.words
    return w[17], w[18], w[19], w[20], w[21], v[5], v[6], v[7], v[8]


@njit
def regions_to_words_slots(scratch: PairScratch) -> tuple[Array, ...]:
    """HV, X, gram, d_gram and ``AlignmentScratch.pair`` (3, n, m, LANES): what ``match_regions`` leaves."""
    w, v = scratch.pair, scratch.words
    return w[22], w[23], v[9], v[10], w[24:27].transpose((0, 2, 1, 3))


@njit
def free_slots(scratch: PairScratch) -> tuple[Array, ...]:
    """Six of (m, n) and three of (n, n) that no step leaves anything in."""
    w, v = scratch.pair, scratch.words
    return w[27], w[28], w[29], w[30], w[31], w[32], v[11], v[12], v[13]
