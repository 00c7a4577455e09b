"""The small part of ``single_block`` for one image and LANES texts at a time, all of it in cache.

The statements are those of ``single_block.word_matches``, in the same order and with the same names;
``single_block_gradient_kernel`` has their derivatives. Every number of a text stands for LANES texts of about one
length (see ``lanes``), so a pair's matrices are lanes matrices (rows, columns, LANES), while an image's own matrices
are shared by all of them.

Indices: i, l regions of m; j, k words of n. A word that a text does not have is *closed*: -1e30 is added to its logits.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from han_retrieval.scoring.compiling import cached_njit, njit
from han_retrieval.scoring.lanes import LANES, TINY, Array, exp, load, maximum, splat, sqrt, store, turn
from han_retrieval.scoring.products import add_product, product


class ImageTables(NamedTuple):
    """What images bring beside their cross blocks; see ``single_block.Tables``."""

    closed: Array  # (I, m): 0, or -1e30 where there is no region
    lse: Array  # (I, m)
    inner: Array  # (I, m, m), as all below
    uu: Array
    cu: Array
    pp: Array
    pc: Array  # 2 p.c
    cc: Array


class TextTables(NamedTuple):
    """What texts bring, LANES texts a group, words of all groups one after another (C in all)."""

    closed: Array  # (C, LANES): 0, or -1e30 where there is no word
    lse: Array  # (C, LANES), as the next three
    pp: Array  # the diagonals P.P, 2 P.c, c.c
    pc: Array
    cc: Array
    inner: Array  # (sum of n^2 over groups, LANES), as all below: a group's (n, n, LANES)
    uu: Array
    pu: Array
    cu: Array


class Work(NamedTuple):
    """Room for the matrices of one pair: of (m, n) and of (n, n) numbers."""

    pair: Array  # (slots, m, n, LANES)
    words: Array  # (slots, n, n, LANES)


def make_work(m: int, n: int) -> Work:
    """Room for pairs of m regions and at most n words."""
    return Work(np.empty((27, m, n, LANES), np.float32), np.empty((12, n, n, LANES), np.float32))


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
def quarters(cross: Array) -> tuple[Array, Array, Array, Array]:
    """(2 m, n, 2 LANES) products of [u, c] with [u, c] to u.u, u.c, c.u and c.c, (m, n, LANES) each."""
    m = cross.shape[0] // 2
    return cross[:m, :, :LANES], cross[:m, :, LANES:], cross[m:, :, :LANES], cross[m:, :, LANES:]


@njit
def pair_slots(work: Work) -> tuple[Array, ...]:
    """Where ``match`` leaves its (m, n) matrices and, in the first column of one, its (m, 1) numbers."""
    w = work.pair
    return (
        w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7], w[8], w[9], w[10], w[11], w[12], w[13], w[14], w[15], w[16],
    )  # fmt: skip


@njit
def word_slots(work: Work) -> tuple[Array, ...]:
    """Where ``match`` leaves its (n, n) matrices and, in the first row of one, its (1, n) numbers."""
    v = work.words
    return v[0], v[1], v[2], v[3], v[4], v[5], v[6]


@cached_njit
def forward(
    blocks: tuple[Array, Array, Array],
    images: ImageTables,
    texts: TextTables,
    lengths: NDArray[np.int64],
    temperature: float,
    work: Work,
    matches: Array,
) -> None:
    """Matches r of all pairs of a tile.

    Args:
        blocks: q_o.k_w (I, m, C, LANES); k_o.q_w (I, m, C, LANES); [u_o, c_o].[u_w, c_w] (I, 2 m, C, 2 LANES).
        images: Of I images.
        texts: Of some groups of texts with C words together, LANES times over.
        lengths: (groups,) words of the longest text of each group.
        temperature: lambda.
        work: From ``make_work``.
        matches: (I, C, LANES), filled.
    """
    qk, kq, cross = blocks
    first = first_square = 0
    for n in lengths:
        w = Work(work.pair[:, :, :n], work.words[:, :n, :n])
        text = text_of(texts, first, first_square, n)
        words = slice(first, first + n)
        for z in range(qk.shape[0]):
            uu, uc, cu, cc = quarters(cross[z, :, words])
            match(w, qk[z, :, words], kq[z, :, words], uu, uc, cu, cc, image_of(images, z), text, temperature)
            for j in range(n):
                store(load(w.words[0], 0, j), matches[z : z + 1, words], 0, j)
        first += n
        first_square += n * n


@njit
def mixture(logits: Array, lse: Array, closed: Array, weights: Array, shares: Array) -> None:
    """Row by row the soft-max over the other side's logits and the own side's, whose log-sum-exp is ``lse``.

    The other side's weights and the share that stays on the own side sum to 1.
    """
    rows, columns = logits.shape[0], logits.shape[1]
    for i in range(rows):
        own = load(lse, 0, i)
        top = own
        for k in range(columns):
            top = maximum(top, load(logits, i, k) + load(closed, 0, k))
        own = exp(own - top)
        total = own
        for k in range(columns):
            weight = exp(load(logits, i, k) + load(closed, 0, k) - top)
            total = total + weight
            store(weight, weights, i, k)
        scale = splat(np.float32(1)) / total
        store(own * scale, shares, i, 0)
        for k in range(columns):
            store(load(weights, i, k) * scale, weights, i, k)


@njit
def match(
    work: Work, qk: Array, kq: Array, uu: Array, uc: Array, cu: Array, cc: Array, image: ImageTables, text: TextTables,
    temperature: float,
) -> None:  # fmt: skip
    """Matches of the words of LANES pairs, left in ``work``: tables (m, n, LANES), closed and lse as rows."""
    m, n = qk.shape[0], qk.shape[1]
    E, F, PU, PC, H, V, S, NV, UP, B, alpha, deltas, pp_delta, pc_alpha, cc_alpha, share_o, o_norms = pair_slots(work)
    matched, W, gamma, R, share_w, w_norms, squares = word_slots(work)
    one, two, tiny = splat(np.float32(1)), splat(np.float32(2)), splat(TINY)

    # Attention: of region i to words E_ik and to its own image a_i; of word j to regions F_ij and to its own text b_j.
    mixture(qk, image.lse, text.closed, E, share_o)
    mixture(turn(kq), text.lse, image.closed, turn(F), turn(share_w))

    # Words: w^ = b P + c + F u_o against u_o (V) and u_w (W), and its length.
    product(PU, uu, turn(text.inner))
    product(PC, cu, turn(text.inner))
    for i in range(m):
        for j in range(n):
            h = load(share_w, 0, j) * load(PU, i, j) + load(uc, i, j)
            store(h, H, i, j)
            store(h, V, i, j)
    add_product(V, image.uu, F)
    product(W, turn(F), uu)
    for j in range(n):
        b = load(share_w, 0, j)
        square = (b * load(text.pp, 0, j) + load(text.pc, 0, j)) * b + load(text.cc, 0, j)
        for i in range(m):
            square = square + load(F, i, j) * (load(H, i, j) + load(V, i, j))
        store(sqrt(maximum(square, tiny)), w_norms, 0, j)
        for k in range(n):
            store(load(W, j, k) + b * load(text.pu, j, k) + load(text.cu, j, k), W, j, k)

    # S = w^ . o^
    for i in range(m):
        for j in range(n):
            store(load(share_w, 0, j) * load(PC, i, j) + load(cc, i, j), S, i, j)
    add_product(S, image.cu, F)
    add_product(S, E, turn(W))
    product(NV, image.inner, V)
    for i in range(m):
        for j in range(n):
            store(load(S, i, j) + load(share_o, i, 0) * load(NV, i, j), S, i, j)

    # Regions: o^ = a p + c + E u_w; B = u_w . (o^ + a p + c), and its length.
    product(UP, image.inner, uu)
    for i in range(m):
        for k in range(n):
            store(two * (load(share_o, i, 0) * load(UP, i, k) + load(cu, i, k)), B, i, k)
    add_product(B, E, text.uu)
    for i in range(m):
        a = load(share_o, i, 0)
        square = (a * load(image.pp, i, i) + load(image.pc, i, i)) * a + load(image.cc, i, i)
        for k in range(n):
            square = square + load(E, i, k) * load(B, i, k)
        store(sqrt(maximum(square, tiny)), o_norms, i, 0)

    # Alignment.
    factor = splat(np.float32(temperature))
    for j in range(n):
        of_word = factor / load(w_norms, 0, j)
        top = splat(np.float32(-1e30))
        for i in range(m):
            logit = load(S, i, j) * of_word / load(o_norms, i, 0) + load(image.closed, 0, i)
            top = maximum(top, logit)
            store(logit, alpha, i, j)
        total = splat(np.float32(0))
        for i in range(m):
            weight = exp(load(alpha, i, j) - top)
            total = total + weight
            store(weight, alpha, i, j)
        scale = one / total
        for i in range(m):
            weight = load(alpha, i, j) * scale
            store(weight, alpha, i, j)
            store(weight * load(share_o, i, 0), deltas, i, j)

    # Matching: o~ = delta p + e c + gamma u_w.
    product(pp_delta, image.pp, deltas)
    product(pc_alpha, image.pc, alpha)
    product(cc_alpha, image.cc, alpha)
    product(gamma, turn(alpha), E)
    product(R, turn(alpha), B)
    for j in range(n):
        square = splat(np.float32(0))
        along = splat(np.float32(0))
        for i in range(m):
            e, delta = load(alpha, i, j), load(deltas, i, j)
            square = square + delta * (load(pp_delta, i, j) + load(pc_alpha, i, j)) + e * load(cc_alpha, i, j)
            along = along + e * load(S, i, j)
        for k in range(n):
            square = square + load(gamma, j, k) * load(R, j, k)
        square = maximum(square, tiny)
        store(square, squares, 0, j)
        store(along / (load(w_norms, 0, j) * sqrt(square)), matched, 0, j)
