"""The derivatives of ``single_block_kernel``, in reverse, for one image and LANES texts at a time.

``d_x`` is the gradient of x. Indices: i, l regions of m; j, k words of n.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from han_retrieval.scoring.compiling import cached_njit, njit
from han_retrieval.scoring.lanes import (
    GONE,
    Array,
    add_to_row,
    keep_if_greater,
    lanes_sum,
    load,
    splat,
    sqrt,
    store,
    turn,
)
from han_retrieval.scoring.products import add_product, product
from han_retrieval.scoring.single_block_kernel import (
    ImageTables,
    TextTables,
    Work,
    image_of,
    match,
    pair_slots,
    quarters,
    text_of,
    word_slots,
)


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
        text, d_text = text_of(texts, first, first_square, n), text_of(d_texts, first, first_square, n)
        words = slice(first, first + n)
        for z in range(qk.shape[0]):
            uu, uc, cu, cc = quarters(cross[z, :, words])
            match(w, qk[z, :, words], kq[z, :, words], uu, uc, cu, cc, image_of(images, z), text, temperature)
            _match_backward(
                w, uu, cu, image_of(images, z), text, temperature, d_matches[z : z + 1, words], d_qk[z, :, words],
                d_kq[z, :, words], *quarters(d_cross[z, :, words]), image_of(d_images, z), d_text,
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
    E, F, PU, PC, H, V, S, NV, UP, B, alpha, deltas, pp_delta, pc_alpha, cc_alpha, share_o, o_norms = pair_slots(work)
    matched, W, gamma, R, share_w, w_norms, squares = word_slots(work)
    w, v = work.pair, work.words  # the slots that ``match`` leaves free
    dE, dF, dS, dV, d_alpha, dB, dPU, dPC, Y = w[17], w[18], w[19], w[20], w[21], w[22], w[23], w[24], w[25]
    d_share_o = w[26]
    dW, dgamma, dR, d_share_w, d_w_norms = v[7], v[8], v[9], v[10], v[11]
    zero, half, two = splat(np.float32(0)), splat(np.float32(0.5)), splat(np.float32(2))
    gone = splat(GONE)

    # Matching.
    product(Y, image.pc.T, deltas)
    for i in range(m):
        store(zero, d_share_o, i, 0)
    for j in range(n):
        g, r, square, w_norm = load(d_r, 0, j), load(matched, 0, j), load(squares, 0, j), load(w_norms, 0, j)
        along = g / (w_norm * sqrt(square))
        d_square = keep_if_greater(zero - half * g * r / square, square, gone)
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
    add_product(d_image.pp, dPU, turn(deltas))
    add_product(d_image.pc, dPU, turn(alpha))
    add_product(d_image.cc, dPC, turn(alpha))
    add_product(d_alpha, B, turn(dR))
    add_product(d_alpha, E, turn(dgamma))
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
        store(keep_if_greater(half * d_w_norm / w_norm, w_norm * w_norm, gone), d_w_norms, 0, j)  # of its square now

    # Regions.
    for i in range(m):
        a, o_norm = load(share_o, i, 0), load(o_norms, i, 0)
        d_square = keep_if_greater(half * load(Y, i, 0) / o_norm, o_norm * o_norm, gone)
        d_a = load(d_share_o, i, 0) + d_square * (two * a * load(image.pp, i, i) + load(image.pc, i, i))
        store(d_a, d_share_o, i, 0)
        d_image.pp[i, i] += lanes_sum(d_square * a * a)
        d_image.pc[i, i] += lanes_sum(d_square * a)
        d_image.cc[i, i] += lanes_sum(d_square)
        for k in range(n):
            store(load(dE, i, k) + d_square * load(B, i, k), dE, i, k)
            store(load(dB, i, k) + d_square * load(E, i, k), dB, i, k)
    add_product(dE, dB, turn(text.uu))
    add_product(d_text.uu, turn(E), dB)
    for i in range(m):
        d_a = load(d_share_o, i, 0)
        for k in range(n):
            d = two * load(dB, i, k)
            store(d, d_cu, i, k)
            d_a = d_a + d * load(UP, i, k)
            store(d * load(share_o, i, 0), Y, i, k)
        store(d_a, d_share_o, i, 0)
    product(d_uu, image.inner.T, Y)
    add_product(d_image.inner, Y, turn(uu))

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
    add_product(d_image.inner, Y, turn(V))
    product(dF, image.cu.T, dS)
    add_product(d_image.cu, dS, turn(F))
    add_product(dE, dS, W)
    product(dW, turn(dS), E)

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
    add_product(d_image.uu, dV, turn(F))
    add_product(dF, uu, turn(dW))
    add_product(d_uu, F, dW)
    add_product(d_uu, dPU, text.inner)
    add_product(d_cu, dPC, text.inner)
    add_product(d_text.inner, turn(dPU), uu)
    add_product(d_text.inner, turn(dPC), cu)

    # Attention.
    _mixture_backward(E, dE, share_o, d_share_o, d_qk, d_image.lse)
    _mixture_backward(turn(F), turn(dF), turn(share_w), turn(d_share_w), turn(d_kq), d_text.lse)


@njit
def _mixture_backward(
    weights: Array, d_weights: Array, shares: Array, d_shares: Array, d_logits: Array, d_lse: Array
) -> None:
    rows, columns = weights.shape[0], weights.shape[1]
    for i in range(rows):
        share, d_share = load(shares, i, 0), load(d_shares, i, 0)
        dot = share * d_share
        for k in range(columns):
            dot = dot + load(weights, i, k) * load(d_weights, i, k)
        for k in range(columns):
            store(load(weights, i, k) * (load(d_weights, i, k) - dot), d_logits, i, k)
        add_to_row(share * (d_share - dot), d_lse, i)
