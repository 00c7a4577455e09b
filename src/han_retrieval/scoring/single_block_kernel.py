"""The small part of ``single_block`` for one image and LANES texts at a time, all of it in cache: forward and backward.

The statements are those of ``single_block.word_matches``, in the same order and with the same names; what is added is
their derivatives, in reverse. Every number of a text stands for LANES texts of about the same length (see ``lanes``),
so a pair's matrices are lanes matrices (rows, columns, LANES), while an image's own matrices are shared by all of them.

Indices: i, l regions of m; j, k words of n. A word that a text does not have is *closed*: -1e30 is added to its logits.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from han_retrieval.scoring.lanes import (
    LANES,
    add_product,
    cached_njit,
    exp,
    keep_if_greater,
    lanes_sum,
    load,
    maximum,
    njit,
    product,
    splat,
    sqrt,
    store,
)

Array = NDArray[np.float32]

# What is compiled is kept by this file's time stamp alone: touch this file when ``lanes`` changes.

TINY = np.float32(1e-24)  # as in ``gram.positive_sqrt``


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

    pair: Array  # (PAIR_SLOTS, m, n, LANES)
    words: Array  # (WORD_SLOTS, n, n, LANES)


def make_work(m: int, n: int) -> Work:
    """Room for pairs of m regions and at most n words."""
    return Work(np.empty((27, m, n, LANES), np.float32), np.empty((12, n, n, LANES), np.float32))


@njit
def _view(matrix: Array) -> Array:
    """The same matrix in Numba's type for any layout, so that ``product`` is compiled for that one alone."""
    return matrix[:, : matrix.shape[1]]


@njit
def _image(images: ImageTables, i: int) -> ImageTables:
    return ImageTables(
        _view(images.closed[i : i + 1]), _view(images.lse[i : i + 1]), _view(images.inner[i]), _view(images.uu[i]),
        _view(images.cu[i]), _view(images.pp[i]), _view(images.pc[i]), _view(images.cc[i]),
    )  # fmt: skip


@njit
def _text(texts: TextTables, first: int, first_square: int, n: int) -> TextTables:
    row, square = (1, n, LANES), (n, n, LANES)
    words, squares = slice(first, first + n), slice(first_square, first_square + n * n)
    return TextTables(
        _view(texts.closed[words].reshape(row)), _view(texts.lse[words].reshape(row)),
        _view(texts.pp[words].reshape(row)), _view(texts.pc[words].reshape(row)), _view(texts.cc[words].reshape(row)),
        _view(texts.inner[squares].reshape(square)), _view(texts.uu[squares].reshape(square)),
        _view(texts.pu[squares].reshape(square)), _view(texts.cu[squares].reshape(square)),
    )  # fmt: skip


@njit
def _quarters(cross: Array) -> tuple[Array, Array, Array, Array]:
    """(2 m, n, 2 LANES) products of [u, c] with [u, c] to u.u, u.c, c.u and c.c, (m, n, LANES) each."""
    m = cross.shape[0] // 2
    return cross[:m, :, :LANES], cross[:m, :, LANES:], cross[m:, :, :LANES], cross[m:, :, LANES:]


@njit
def _turn(matrix: Array) -> Array:
    """The transposed matrix, plain or of lanes, as a view."""
    if matrix.ndim == 2:
        return matrix.T
    return matrix.transpose((1, 0, 2))


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
        text = _text(texts, first, first_square, n)
        words = slice(first, first + n)
        for z in range(qk.shape[0]):
            uu, uc, cu, cc = _quarters(cross[z, :, words])
            _match(w, qk[z, :, words], kq[z, :, words], uu, uc, cu, cc, _image(images, z), text, temperature)
            for j in range(n):
                store(load(w.words[0], 0, j), matches[z : z + 1, words], 0, j)
        first += n
        first_square += n * n


@cached_njit
def against_images(
    products: Array,
    images: ImageTables,
    text: TextTables,
    lengths: NDArray[np.int64],
    temperature: float,
    work: Work,
    matches: Array,
) -> None:
    """Matches of one text's n words in many images, LANES images at a time.

    Args:
        products: (6 n, C, LANES): q_o.k_w, k_o.q_w, u_o.u_w, u_o.c_w, c_o.u_w, c_o.c_w, n rows each.
        images: Of some groups of images with C regions together: (C, LANES) and (sum of m^2, LANES).
        text: (1, n) and (n, n).
        lengths: (groups,) regions of each group.
        temperature: lambda.
        work: From ``make_work``.
        matches: (groups, n, LANES), filled.
    """
    n = text.closed.shape[1]
    plain = TextTables(
        _view(text.closed), _view(text.lse), _view(text.pp), _view(text.pc), _view(text.cc), _view(text.inner),
        _view(text.uu), _view(text.pu), _view(text.cu),
    )  # fmt: skip
    first = first_square = 0
    for g, m in enumerate(lengths):
        row, square = (1, m, LANES), (m, m, LANES)
        regions, squares = slice(first, first + m), slice(first_square, first_square + m * m)
        image = ImageTables(
            _view(images.closed[regions].reshape(row)), _view(images.lse[regions].reshape(row)),
            _view(images.inner[squares].reshape(square)), _view(images.uu[squares].reshape(square)),
            _view(images.cu[squares].reshape(square)), _view(images.pp[squares].reshape(square)),
            _view(images.pc[squares].reshape(square)), _view(images.cc[squares].reshape(square)),
        )  # fmt: skip
        w = Work(work.pair[:, :m, :n], work.words[:, :n, :n])
        p = _turn(products[:, regions])  # (m, 6 n, LANES)
        _match(
            w, p[:, :n], p[:, n : 2 * n], p[:, 2 * n : 3 * n], p[:, 3 * n : 4 * n], p[:, 4 * n : 5 * n], p[:, 5 * n :],
            image, plain, temperature,
        )  # fmt: skip
        for j in range(n):
            store(load(w.words[0], 0, j), matches[g : g + 1], 0, j)
        first += m
        first_square += m * m


@cached_njit
def against_texts(
    products: Array,
    image: ImageTables,
    texts: TextTables,
    lengths: NDArray[np.int64],
    temperature: float,
    work: Work,
    matches: Array,
) -> None:
    """Matches of the words of many texts in one image, LANES texts at a time.

    Args:
        products: (6 m, C, LANES), in the order of ``against_images``, m rows each.
        image: As in ``forward``, of one image.
        texts: As in ``forward``.
        lengths: (groups,) words of each group.
        temperature: lambda.
        work: From ``make_work``.
        matches: (1, C, LANES), filled.
    """
    m = image.closed.shape[1]
    first = first_square = 0
    for n in lengths:
        words = slice(first, first + n)
        w = Work(work.pair[:, :m, :n], work.words[:, :n, :n])
        p = products[:, words]
        _match(
            w, p[:m], p[m : 2 * m], p[2 * m : 3 * m], p[3 * m : 4 * m], p[4 * m : 5 * m], p[5 * m :],
            _image(image, 0), _text(texts, first, first_square, n), temperature,
        )  # fmt: skip
        for j in range(n):
            store(load(w.words[0], 0, j), matches[:, words], 0, j)
        first += n
        first_square += n * n


@njit
def _match(
    work: Work, qk: Array, kq: Array, uu: Array, uc: Array, cu: Array, cc: Array, image: ImageTables, text: TextTables,
    temperature: float,
) -> None:  # fmt: skip
    m, n = qk.shape[0], qk.shape[1]
    w, v = work.pair, work.words
    E, F, PU, PC, H, V, S, NV = w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7]
    UP, B, alpha, deltas, pp_delta, pc_alpha, cc_alpha = w[8], w[9], w[10], w[11], w[12], w[13], w[14]
    share_o, o_norms = w[15], w[16]
    matched, W, gamma, R, share_w, w_norms, squares = v[0], v[1], v[2], v[3], v[4], v[5], v[6]
    one, two, tiny = splat(np.float32(1)), splat(np.float32(2)), splat(TINY)

    # Attention: of region i to words E_ik and to its own image a_i; of word j to regions F_ij and to its own text b_j.
    for i in range(m):
        own = load(image.lse, 0, i)
        top = own
        for k in range(n):
            top = maximum(top, load(qk, i, k) + load(text.closed, 0, k))
        own = exp(own - top)
        total = own
        for k in range(n):
            weight = exp(load(qk, i, k) + load(text.closed, 0, k) - top)
            total = total + weight
            store(weight, E, i, k)
        scale = one / total
        store(own * scale, share_o, i, 0)
        for k in range(n):
            store(load(E, i, k) * scale, E, i, k)
    for j in range(n):
        own = load(text.lse, 0, j)
        top = own
        for i in range(m):
            top = maximum(top, load(kq, i, j) + load(image.closed, 0, i))
        own = exp(own - top)
        total = own
        for i in range(m):
            weight = exp(load(kq, i, j) + load(image.closed, 0, i) - top)
            total = total + weight
            store(weight, F, i, j)
        scale = one / total
        store(own * scale, share_w, 0, j)
        for i in range(m):
            store(load(F, i, j) * scale, F, i, j)

    # Words: w^ = b P + c + F u_o against u_o (V) and u_w (W), and its length.
    product(PU, uu, _turn(text.inner))
    product(PC, cu, _turn(text.inner))
    for i in range(m):
        for j in range(n):
            h = load(share_w, 0, j) * load(PU, i, j) + load(uc, i, j)
            store(h, H, i, j)
            store(h, V, i, j)
    add_product(V, image.uu, F)
    product(W, _turn(F), uu)
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
    add_product(S, E, _turn(W))
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
    product(gamma, _turn(alpha), E)
    product(R, _turn(alpha), B)
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


@cached_njit
def backward(
    blocks: tuple[Array, Array, Array],
    images: ImageTables,
    texts: TextTables,
    lengths: NDArray[np.int64],
    temperature: float,
    work: Work,
    d_matches: Array,
    d_blocks: tuple[Array, Array, Array],
    d_images: ImageTables,
    d_texts: TextTables,
) -> None:
    """Gradients of a tile, from those of its matches (I, C, LANES).

    ``d_blocks`` are filled; ``d_images`` and ``d_texts`` are added to. The forward is computed again in cache.
    """
    qk, kq, cross = blocks
    d_qk, d_kq, d_cross = d_blocks
    first = first_square = 0
    for n in lengths:
        w = Work(work.pair[:, :, :n], work.words[:, :n, :n])
        text, d_text = _text(texts, first, first_square, n), _text(d_texts, first, first_square, n)
        words = slice(first, first + n)
        for z in range(qk.shape[0]):
            uu, uc, cu, cc = _quarters(cross[z, :, words])
            _match(w, qk[z, :, words], kq[z, :, words], uu, uc, cu, cc, _image(images, z), text, temperature)
            _match_backward(
                w, uu, cu, _image(images, z), text, temperature, d_matches[z : z + 1, words], d_qk[z, :, words],
                d_kq[z, :, words], *_quarters(d_cross[z, :, words]), _image(d_images, z), d_text,
            )  # fmt: skip
        first += n
        first_square += n * n


@njit
def _match_backward(
    work: Work, uu: Array, cu: Array, image: ImageTables, text: TextTables, temperature: float, d_r: Array,
    d_qk: Array, d_kq: Array, d_uu: Array, d_uc: Array, d_cu: Array, d_cc: Array, d_image: ImageTables,
    d_text: TextTables,
) -> None:  # fmt: skip
    m, n = uu.shape[0], uu.shape[1]
    w, v = work.pair, work.words
    E, F, PU, PC, H, V, S, NV = w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7]
    UP, B, alpha, deltas, pp_delta, pc_alpha, cc_alpha = w[8], w[9], w[10], w[11], w[12], w[13], w[14]
    share_o, o_norms = w[15], w[16]
    matched, W, gamma, R, share_w, w_norms, squares = v[0], v[1], v[2], v[3], v[4], v[5], v[6]
    dE, dF, dS, dV, d_alpha, dB, dPU, dPC, Y = w[17], w[18], w[19], w[20], w[21], w[22], w[23], w[24], w[25]
    d_share_o = w[26]
    dW, dgamma, dR, d_share_w, d_w_norms = v[7], v[8], v[9], v[10], v[11]
    zero, half, two = splat(np.float32(0)), splat(np.float32(0.5)), splat(np.float32(2))
    tiny = splat(np.float32(1.5e-24))  # a square that was cut off at TINY has no gradient

    # Matching.
    product(Y, image.pc.T, deltas)
    for i in range(m):
        store(zero, d_share_o, i, 0)
    for j in range(n):
        g, r, square, w_norm = load(d_r, 0, j), load(matched, 0, j), load(squares, 0, j), load(w_norms, 0, j)
        along = g / (w_norm * sqrt(square))
        d_square = keep_if_greater(zero - half * g * r / square, square, tiny)
        store(zero - g * r / w_norm, d_w_norms, 0, j)
        for k in range(n):
            store(d_square * load(R, j, k), dgamma, j, k)
            store(d_square * load(gamma, j, k), dR, j, k)
        for i in range(m):
            e, delta = load(alpha, i, j), load(deltas, i, j)
            d_delta = d_square * (two * load(pp_delta, i, j) + load(pc_alpha, i, j))
            d_e = d_square * (load(Y, i, j) + two * load(cc_alpha, i, j))
            store(along * load(S, i, j) + d_e + d_delta * load(share_o, i, 0), d_alpha, i, j)
            store(along * e, dS, i, j)
            store(load(d_share_o, i, 0) + d_delta * e, d_share_o, i, 0)
            store(d_square * delta, dPU, i, j)  # scaled copies for the images' gradients below
            store(d_square * e, dPC, i, j)
    add_product(d_image.pp, dPU, _turn(deltas))
    add_product(d_image.pc, dPU, _turn(alpha))
    add_product(d_image.cc, dPC, _turn(alpha))
    add_product(d_alpha, B, _turn(dR))
    add_product(d_alpha, E, _turn(dgamma))
    product(dE, alpha, dgamma)
    product(dB, alpha, dR)

    # Alignment; of o_norm only the sum over words is needed, which goes on to its square.
    factor = splat(np.float32(temperature))
    for i in range(m):
        store(zero, Y, i, 0)
    for j in range(n):
        dot = zero
        for i in range(m):
            dot = dot + load(alpha, i, j) * load(d_alpha, i, j)
        w_norm = load(w_norms, 0, j)
        d_w_norm = load(d_w_norms, 0, j)
        for i in range(m):
            o_norm, s = load(o_norms, i, 0), load(S, i, j)
            d_s = factor * load(alpha, i, j) * (load(d_alpha, i, j) - dot) / (w_norm * o_norm)
            store(load(dS, i, j) + d_s, dS, i, j)
            d_w_norm = d_w_norm - d_s * s / w_norm
            store(load(Y, i, 0) - d_s * s / o_norm, Y, i, 0)
        store(keep_if_greater(half * d_w_norm / w_norm, w_norm * w_norm, tiny), d_w_norms, 0, j)  # of its square now

    # Regions.
    for i in range(m):
        a, o_norm = load(share_o, i, 0), load(o_norms, i, 0)
        d_square = keep_if_greater(half * load(Y, i, 0) / o_norm, o_norm * o_norm, tiny)
        d_a = load(d_share_o, i, 0) + d_square * (two * a * load(image.pp, i, i) + load(image.pc, i, i))
        store(d_a, d_share_o, i, 0)
        d_image.pp[i, i] += lanes_sum(d_square * a * a)
        d_image.pc[i, i] += lanes_sum(d_square * a)
        d_image.cc[i, i] += lanes_sum(d_square)
        for k in range(n):
            store(load(dE, i, k) + d_square * load(B, i, k), dE, i, k)
            store(load(dB, i, k) + d_square * load(E, i, k), dB, i, k)
    add_product(dE, dB, _turn(text.uu))
    add_product(d_text.uu, _turn(E), dB)
    for i in range(m):
        d_a = load(d_share_o, i, 0)
        for k in range(n):
            d = two * load(dB, i, k)
            store(d, d_cu, i, k)
            d_a = d_a + d * load(UP, i, k)
            store(d * load(share_o, i, 0), Y, i, k)
        store(d_a, d_share_o, i, 0)
    product(d_uu, image.inner.T, Y)
    add_product(d_image.inner, Y, _turn(uu))

    # S.
    for j in range(n):
        store(zero, d_share_w, 0, j)
    for i in range(m):
        d_a = load(d_share_o, i, 0)
        for j in range(n):
            d = load(dS, i, j)
            store(d, d_cc, i, j)
            store(d * load(share_w, 0, j), dPC, i, j)
            store(d * load(share_o, i, 0), Y, i, j)
            d_a = d_a + d * load(NV, i, j)
            store(load(d_share_w, 0, j) + d * load(PC, i, j), d_share_w, 0, j)
        store(d_a, d_share_o, i, 0)
    product(dV, image.inner.T, Y)
    add_product(d_image.inner, Y, _turn(V))
    product(dF, image.cu.T, dS)
    add_product(d_image.cu, dS, _turn(F))
    add_product(dE, dS, W)
    product(dW, _turn(dS), E)

    # Words.
    for j in range(n):
        b, d_square = load(share_w, 0, j), load(d_w_norms, 0, j)
        d_b = load(d_share_w, 0, j) + d_square * (two * b * load(text.pp, 0, j) + load(text.pc, 0, j))
        store(load(d_text.pp, 0, j) + d_square * b * b, d_text.pp, 0, j)
        store(load(d_text.pc, 0, j) + d_square * b, d_text.pc, 0, j)
        store(load(d_text.cc, 0, j) + d_square, d_text.cc, 0, j)
        for i in range(m):
            f = load(F, i, j)
            d_v = load(dV, i, j) + d_square * f
            d_h = d_v + d_square * f
            store(d_v, dV, i, j)
            store(load(dF, i, j) + d_square * (load(H, i, j) + load(V, i, j)), dF, i, j)
            store(d_h, d_uc, i, j)
            store(d_h * b, dPU, i, j)
            d_b = d_b + d_h * load(PU, i, j)
        for k in range(n):
            d = load(dW, j, k)
            d_b = d_b + d * load(text.pu, j, k)
            store(load(d_text.pu, j, k) + b * d, d_text.pu, j, k)
            store(load(d_text.cu, j, k) + d, d_text.cu, j, k)
        store(d_b, d_share_w, 0, j)
    add_product(dF, image.uu.T, dV)
    add_product(d_image.uu, dV, _turn(F))
    add_product(dF, uu, _turn(dW))
    add_product(d_uu, F, dW)
    add_product(d_uu, dPU, text.inner)
    add_product(d_cu, dPC, text.inner)
    add_product(d_text.inner, _turn(dPU), uu)
    add_product(d_text.inner, _turn(dPC), cu)

    # Attention.
    for i in range(m):
        a, d_a = load(share_o, i, 0), load(d_share_o, i, 0)
        dot = a * d_a
        for k in range(n):
            dot = dot + load(E, i, k) * load(dE, i, k)
        for k in range(n):
            store(load(E, i, k) * (load(dE, i, k) - dot), d_qk, i, k)
        d_image.lse[0, i] += lanes_sum(a * (d_a - dot))
    for j in range(n):
        b, d_b = load(share_w, 0, j), load(d_share_w, 0, j)
        dot = b * d_b
        for i in range(m):
            dot = dot + load(F, i, j) * load(dF, i, j)
        for i in range(m):
            store(load(F, i, j) * (load(dF, i, j) - dot), d_kq, i, j)
        store(load(d_text.lse, 0, j) + b * (d_b - dot), d_text.lse, 0, j)
