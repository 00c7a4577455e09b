"""Attention of one image with LANES texts: its weights, and dot products and lengths of the tokens after it."""

from __future__ import annotations

import numpy as np

from han_retrieval.scoring.cpu.compiling import njit
from han_retrieval.scoring.cpu.lanes import TINY, Array, exp, load, maximum, splat, sqrt, store, transposed
from han_retrieval.scoring.cpu.pair_kernel import ImageTables, PairScratch, TextTables, attended_slots
from han_retrieval.scoring.cpu.products import add_product, product


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
def attend(
    scratch: PairScratch,
    qk: Array,
    kq: Array,
    uu: Array,
    uc: Array,
    cu: Array,
    cc: Array,
    image: ImageTables,
    text: TextTables,
) -> None:
    """Attention weights, S = o^ . w^ and the lengths of all attended tokens, left in ``attended_slots``.

    Products are (m, n, LANES), those of ``single_block.Products``; closed and lse of the tables are rows.
    """
    m, n = qk.shape[0], qk.shape[1]
    E, F, H, V, S, B, PU, PC, NV, UP, share_o, o_norms, W, share_w, w_norms = attended_slots(scratch)
    two, tiny = splat(np.float32(2)), splat(TINY)

    # Attention: of region i to words E_ik and to its own image a_i; of word j to regions F_ij and to its own text b_j.
    mixture(qk, image.lse, text.closed, E, share_o)
    mixture(transposed(kq), text.lse, image.closed, transposed(F), transposed(share_w))

    # Words: w^ = b P + c + F u_o against u_o (V) and u_w (W), and its length.
    product(PU, uu, transposed(text.inner))
    product(PC, cu, transposed(text.inner))
    for i in range(m):
        for j in range(n):
            h = load(share_w, 0, j) * load(PU, i, j) + load(uc, i, j)
            store(h, H, i, j)
            store(h, V, i, j)
    add_product(V, image.uu, F)
    product(W, transposed(F), uu)
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
    add_product(S, E, transposed(W))
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
