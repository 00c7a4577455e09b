"""The derivatives of ``attention_kernel``, in reverse, for one image and LANES texts at a time.

``d_x`` is the gradient of x. Indices: i, l regions of m; j, k words of n.
"""

from __future__ import annotations

import numpy as np

from han_retrieval.scoring.cpu.compiling import njit
from han_retrieval.scoring.cpu.lanes import (
    GONE,
    Array,
    add_to_row,
    keep_if_greater,
    lanes_sum,
    load,
    splat,
    store,
    transposed,
)
from han_retrieval.scoring.cpu.pair_kernel import (
    ImageTables,
    PairScratch,
    TextGrams,
    TextTables,
    attended_slots,
    free_slots,
    gradient_slots,
    regions_to_words_slots,
)
from han_retrieval.scoring.cpu.products import add_product, product


@njit
def attend_backward(
    scratch: PairScratch, uu: Array, cu: Array, image: ImageTables, text: TextTables, d_grams: TextGrams | None,
    d_qk: Array, d_kq: Array, d_uu: Array, d_uc: Array, d_cu: Array, d_cc: Array,
    d_image: ImageTables, d_text: TextTables,
) -> None:  # fmt: skip
    """Fill in the gradients of products and add to those of tables, from what is in ``gradient_slots``.

    ``d_grams`` is None unless regions attend to words. If they do, what H + V and F get by way of Z is added here.
    """
    m, n = uu.shape[0], uu.shape[1]
    E, F, H, V, _, B, PU, PC, NV, UP, share_o, o_norms, W, share_w, w_norms = attended_slots(scratch)
    dE, dS, dB, d_share_o, d_o_norms, d_share_w, d_w_norms = gradient_slots(scratch)
    dF, dV, dPU, dPC, Y, dHV, dW, _, _ = free_slots(scratch)
    half, two, gone = splat(np.float32(0.5)), splat(np.float32(2)), splat(GONE)

    # Regions.
    for i in range(m):
        a, o_norm = load(share_o, i, 0), load(o_norms, i, 0)
        d_square = keep_if_greater(half * load(d_o_norms, i, 0) / o_norm, o_norm * o_norm, gone)
        d_a = load(d_share_o, i, 0) + d_square * (two * a * load(image.pp, i, i) + load(image.pc, i, i))
        store(d_a, d_share_o, i, 0)
        d_image.pp[i, i] += lanes_sum(d_square * a * a)
        d_image.pc[i, i] += lanes_sum(d_square * a)
        d_image.cc[i, i] += lanes_sum(d_square)
        for k in range(n):
            store(load(dE, i, k) + d_square * load(B, i, k), dE, i, k)
            store(load(dB, i, k) + d_square * load(E, i, k), dB, i, k)
    add_product(dE, dB, transposed(text.uu))
    add_product(d_text.uu, transposed(E), dB)
    for i in range(m):
        d_a = load(d_share_o, i, 0)
        for k in range(n):
            d = two * load(dB, i, k)
            store(d, d_cu, i, k)
            d_a = d_a + d * load(UP, i, k)
            store(d * load(share_o, i, 0), Y, i, k)
        store(d_a, d_share_o, i, 0)
    product(d_uu, image.inner.T, Y)
    add_product(d_image.inner, Y, transposed(uu))

    # S.
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
    add_product(d_image.inner, Y, transposed(V))
    product(dF, image.cu.T, dS)
    add_product(d_image.cu, dS, transposed(F))
    add_product(dE, dS, W)
    product(dW, transposed(dS), E)

    # Words.
    if d_grams is not None:
        HV, _, _, d_z, _ = regions_to_words_slots(scratch)
        add_product(dF, HV, d_z)
        product(dHV, F, d_z)
    for j in range(n):
        b, w_norm = load(share_w, 0, j), load(w_norms, 0, j)
        d_square = keep_if_greater(half * load(d_w_norms, 0, j) / w_norm, w_norm * w_norm, gone)
        d_b = load(d_share_w, 0, j) + d_square * (two * b * load(text.pp, 0, j) + load(text.pc, 0, j))
        store(load(d_text.pp, 0, j) + d_square * b * b, d_text.pp, 0, j)
        store(load(d_text.pc, 0, j) + d_square * b, d_text.pc, 0, j)
        store(load(d_text.cc, 0, j) + d_square, d_text.cc, 0, j)
        for i in range(m):
            f = load(F, i, j)
            pulled = d_square * f
            if d_grams is not None:
                pulled = pulled + load(dHV, i, j)
            d_v = load(dV, i, j) + pulled
            d_h = d_v + pulled
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
    add_product(d_image.uu, dV, transposed(F))
    add_product(dF, uu, transposed(dW))
    add_product(d_uu, F, dW)
    add_product(d_uu, dPU, text.inner)
    add_product(d_cu, dPC, text.inner)
    add_product(d_text.inner, transposed(dPU), uu)
    add_product(d_text.inner, transposed(dPC), cu)

    # Attention.
    mixture_backward(E, dE, share_o, d_share_o, d_qk, d_image.lse)
    mixture_backward(
        transposed(F), transposed(dF), transposed(share_w), transposed(d_share_w), transposed(d_kq), d_text.lse
    )


@njit
def mixture_backward(
    weights: Array, d_weights: Array, shares: Array, d_shares: Array, d_logits: Array, d_lse: Array
) -> None:
    """The derivatives of ``mixture``: ``d_logits`` are filled, ``d_lse`` is added to."""
    rows, columns = weights.shape[0], weights.shape[1]
    for i in range(rows):
        share, d_share = load(shares, i, 0), load(d_shares, i, 0)
        dot = share * d_share
        for k in range(columns):
            dot = dot + load(weights, i, k) * load(d_weights, i, k)
        for k in range(columns):
            store(load(weights, i, k) * (load(d_weights, i, k) - dot), d_logits, i, k)
        add_to_row(share * (d_share - dot), d_lse, i)
