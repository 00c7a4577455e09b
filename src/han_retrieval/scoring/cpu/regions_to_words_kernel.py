"""Regions attend to words: alignment and matching of the regions of LANES pairs, and their derivatives.

The length of what a region attends to follows from the Gram matrix of the words after attention,

    w^_j . w^_k = (b P + c)_j . (b P + c)_k + (H' F + F' V)_jk = (Z_jk + Z_kj) / 2,
    Z = b b' PP + b 2 Pc + cc + F' (H + V)

and ``alignment_kernel`` does the rest, with words as its sources.
"""

from __future__ import annotations

import numpy as np

from han_retrieval.scoring.cpu.alignment_kernel import AlignmentScratch, match, match_backward
from han_retrieval.scoring.cpu.compiling import njit
from han_retrieval.scoring.cpu.lanes import Array, load, splat, store, transposed
from han_retrieval.scoring.cpu.pair_kernel import (
    PairScratch,
    TextGrams,
    TextTables,
    attended_slots,
    clear,
    free_slots,
    gradient_slots,
    regions_to_words_slots,
)
from han_retrieval.scoring.cpu.products import product


@njit
def match_regions(scratch: PairScratch, text: TextTables, grams: TextGrams, temperature: float) -> Array:
    """Matches of the regions, after ``attend``: (1, m, LANES) at least."""
    its = attended_slots(scratch)
    F, H, V, S, o_norms, share_w, w_norms = its.F, its.H, its.V, its.S, its.o_norms, its.share_w, its.w_norms
    HV, X, gram, _, pair = regions_to_words_slots(scratch)
    m, n = S.shape[0], S.shape[1]
    half = splat(np.float32(0.5))
    for i in range(m):
        for j in range(n):
            store(load(H, i, j) + load(V, i, j), HV, i, j)
            store(load(S, i, j) / (load(w_norms, 0, j) * load(o_norms, i, 0)), X, i, j)

    # Z, then cosines among words.
    product(gram, transposed(F), HV)
    for j in range(n):
        b = load(share_w, 0, j)
        for k in range(n):
            z = b * (load(share_w, 0, k) * load(grams.pp, j, k) + load(grams.pc, j, k)) + load(grams.cc, j, k)
            store(load(gram, j, k) + z, gram, j, k)
    for j in range(n):
        for k in range(j + 1):
            z = half * (load(gram, j, k) + load(gram, k, j)) / (load(w_norms, 0, j) * load(w_norms, 0, k))
            store(z, gram, j, k)
            store(z, gram, k, j)

    match(transposed(X), text.closed, w_norms, gram, temperature, False, AlignmentScratch(pair, scratch.rows))
    return scratch.rows[0]


@njit
def match_regions_backward(scratch: PairScratch, grams: TextGrams, d_r: Array, d_grams: TextGrams) -> None:
    """Add to the gradients that ``gradient_slots`` have of what ``match_regions`` read, from those of its matches.

    Those of F and of H + V by way of Z are left to ``attend_backward``: d_gram is that of Z in the end.
    """
    its, d = attended_slots(scratch), gradient_slots(scratch)
    o_norms, share_w, w_norms = its.o_norms, its.share_w, its.w_norms
    dS, d_o_norms, d_share_w, d_w_norms = d.S, d.o_norms, d.share_w, d.w_norms
    _, X, gram, d_gram, pair = regions_to_words_slots(scratch)
    dX = free_slots(scratch)[0]
    m, n = X.shape[0], X.shape[1]
    two = splat(np.float32(2))
    clear(d_gram)
    match_backward(
        transposed(X), w_norms, False, AlignmentScratch(pair, scratch.rows), d_r, transposed(dX), d_w_norms, d_gram
    )

    for i in range(m):
        o_norm, d_o_norm = load(o_norms, i, 0), load(d_o_norms, i, 0)
        for j in range(n):
            w_norm, d_x = load(w_norms, 0, j), load(dX, i, j)
            pull = d_x * load(X, i, j)
            store(load(dS, i, j) + d_x / (w_norm * o_norm), dS, i, j)
            store(load(d_w_norms, 0, j) - pull / w_norm, d_w_norms, 0, j)
            d_o_norm = d_o_norm - pull / o_norm
        store(d_o_norm, d_o_norms, i, 0)

    # d_gram is symmetric, a sum over regions of delta_j delta_k.
    for j in range(n):
        b, w_norm = load(share_w, 0, j), load(w_norms, 0, j)
        d_b, d_w_norm = load(d_share_w, 0, j), load(d_w_norms, 0, j)
        for k in range(n):
            d_cosine, b_k = load(d_gram, j, k), load(share_w, 0, k)
            d_z = d_cosine / (w_norm * load(w_norms, 0, k))
            store(d_z, d_gram, j, k)
            store(load(d_grams.pp, j, k) + d_z * b * b_k, d_grams.pp, j, k)
            store(load(d_grams.pc, j, k) + d_z * b, d_grams.pc, j, k)
            store(load(d_grams.cc, j, k) + d_z, d_grams.cc, j, k)
            d_b = d_b + d_z * (two * b_k * load(grams.pp, j, k) + load(grams.pc, j, k))
            d_w_norm = d_w_norm - two * d_cosine * load(gram, j, k) / w_norm
        store(d_b, d_share_w, 0, j)
        store(d_w_norm, d_w_norms, 0, j)
