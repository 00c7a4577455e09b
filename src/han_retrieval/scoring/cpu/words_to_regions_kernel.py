"""Words attend to regions: alignment and matching of the words of LANES pairs, and their derivatives."""

from __future__ import annotations

import numpy as np

from han_retrieval.scoring.cpu.compiling import njit
from han_retrieval.scoring.cpu.lanes import (
    GONE,
    TINY,
    Array,
    exp,
    keep_if_greater,
    load,
    maximum,
    splat,
    sqrt,
    store,
    transposed,
)
from han_retrieval.scoring.cpu.pair_kernel import (
    ImageTables,
    PairScratch,
    attended_slots,
    free_slots,
    gradient_slots,
    words_to_regions_slots,
)
from han_retrieval.scoring.cpu.products import add_product, product


@njit
def match_words(scratch: PairScratch, image: ImageTables, temperature: float) -> Array:
    """Matches of the words, after ``attend``: (1, n, LANES) at least."""
    its = attended_slots(scratch)
    E, S, B, share_o, o_norms, w_norms = its.E, its.S, its.B, its.share_o, its.o_norms, its.w_norms
    alpha, deltas, pp_delta, pc_alpha, cc_alpha, gamma, R, squares, matched = words_to_regions_slots(scratch)
    m, n = S.shape[0], S.shape[1]
    one, tiny = splat(np.float32(1)), splat(TINY)

    # Alignment.
    factor, scales = splat(np.float32(temperature)), scratch.rows[0]
    for i in range(m):
        store(factor / load(o_norms, i, 0), scales, 0, i)
    for j in range(n):
        of_word = one / load(w_norms, 0, j)
        top = splat(np.float32(-1e30))
        for i in range(m):
            logit = load(S, i, j) * of_word * load(scales, 0, i) + load(image.closed, 0, i)
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
    product(gamma, transposed(alpha), E)
    product(R, transposed(alpha), B)
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
    return matched


@njit
def match_words_backward(
    scratch: PairScratch, image: ImageTables, temperature: float, d_r: Array, d_image: ImageTables
) -> None:
    """Fill in the gradients that ``gradient_slots`` have of what ``match_words`` read, from those of its matches."""
    its = attended_slots(scratch)
    E, S, B, share_o, o_norms, w_norms = its.E, its.S, its.B, its.share_o, its.o_norms, its.w_norms
    alpha, deltas, pp_delta, pc_alpha, cc_alpha, gamma, R, squares, matched = words_to_regions_slots(scratch)
    dE, dS, dB, d_share_o, d_o_norms, d_share_w, d_w_norms = gradient_slots(scratch)
    d_alpha, Y, scaled_deltas, scaled_alpha, _, _, dgamma, dR, _ = free_slots(scratch)
    m, n = S.shape[0], S.shape[1]
    zero, half, two, gone = splat(np.float32(0)), splat(np.float32(0.5)), splat(np.float32(2)), splat(GONE)

    # Matching.
    product(Y, image.pc.T, deltas)
    for i in range(m):
        store(zero, d_share_o, i, 0)
        store(zero, d_o_norms, i, 0)
    for j in range(n):
        store(zero, d_share_w, 0, j)
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
            store(d_square * delta, scaled_deltas, i, j)  # for the images' gradients below
            store(d_square * e, scaled_alpha, i, j)
    add_product(d_image.pp, scaled_deltas, transposed(deltas))
    add_product(d_image.pc, scaled_deltas, transposed(alpha))
    add_product(d_image.cc, scaled_alpha, transposed(alpha))
    add_product(d_alpha, B, transposed(dR))
    add_product(d_alpha, E, transposed(dgamma))
    product(dE, alpha, dgamma)
    product(dB, alpha, dR)

    # Alignment.
    factor = splat(np.float32(temperature))
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
            store(load(d_o_norms, i, 0) - d_s * s / o_norm, d_o_norms, i, 0)
        store(d_w_norm, d_w_norms, 0, j)
