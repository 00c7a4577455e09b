"""``one_way`` for one image and LANES texts at a time, all of it in cache: forward and backward.

The statements are those of ``one_way.matches`` with the same names; what is added is their derivatives, in reverse.
Attention of the words is here; alignment and matching are ``alignment_kernel``, for regions that attend with the Gram
matrix of ``regions_to_words_kernel``.

Lengths and products of words are F' (H + V) and what has no F, where H + V = 2 H + uu F and uu is symmetric. So their
derivative by F is 2 V, that by H is 2 F.

Indices: i regions of m; j words of n.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from han_retrieval.scoring.cpu.alignment_kernel import AlignmentScratch, match, match_backward
from han_retrieval.scoring.cpu.attention_gradient_kernel import mixture_backward
from han_retrieval.scoring.cpu.attention_kernel import mixture, quarters
from han_retrieval.scoring.cpu.compiling import cached_njit, njit
from han_retrieval.scoring.cpu.lanes import (
    GONE,
    LANES,
    TINY,
    Array,
    keep_if_greater,
    load,
    maximum,
    splat,
    sqrt,
    store,
    transposed,
)
from han_retrieval.scoring.cpu.pair_kernel import (
    PairScratch,
    TextGrams,
    attended_slots,
    clear,
    copy_row,
    free_slots,
    gradient_slots,
    grams_of,
    part_of,
    regions_to_words_slots,
    view,
    words_to_regions_slots,
)
from han_retrieval.scoring.cpu.products import add_product, product
from han_retrieval.scoring.cpu.regions_to_words_kernel import match_regions, match_regions_backward


class RegionTables(NamedTuple):
    """Tables of images; see ``one_way.AttendedRegions``."""

    closed: Array  # (I, m): 0, or -1e30 where there is no region
    lengths: Array  # (I, m)
    uu: Array  # (I, m, m), as all below
    ou: Array
    oo: Array


class WordTables(NamedTuple):
    """Tables of texts, (C, LANES) each: LANES texts a group, words of all groups one after another (C in all)."""

    closed: Array
    lse: Array
    pp: Array  # the diagonals P.P, 2 P.c, c.c
    pc: Array
    cc: Array


@njit
def image_of(images: RegionTables, i: int) -> RegionTables:
    """One image's: (1, m) and (m, m)."""
    return RegionTables(
        view(images.closed[i : i + 1]), view(images.lengths[i : i + 1]), view(images.uu[i]), view(images.ou[i]),
        view(images.oo[i]),
    )  # fmt: skip


@njit
def text_of(texts: WordTables, first: int, n: int) -> WordTables:
    """One group's of n words, from its first on: (1, n, LANES)."""
    row, words = (1, n, LANES), slice(first, first + n)
    return WordTables(
        view(texts.closed[words].reshape(row)), view(texts.lse[words].reshape(row)),
        view(texts.pp[words].reshape(row)), view(texts.pc[words].reshape(row)), view(texts.cc[words].reshape(row)),
    )  # fmt: skip


@cached_njit
def forward(
    blocks: tuple[Array, Array],
    images: RegionTables,
    texts: WordTables,
    grams: TextGrams | None,
    lengths: NDArray[np.int64],
    temperature: float,
    scratch: PairScratch,
    of_words: Array | None,
    of_regions: Array | None,
) -> None:
    """Matches r of all pairs of a tile, compiled anew for what is None: nothing is spent on it.

    Args:
        blocks: k_o.q_w (I, m, C, LANES); [u_o, o^].[P_w, c_w] (I, 2 m, C, 2 LANES).
        images: Of I images.
        texts: Of some groups of texts with C words together, LANES times over.
        grams: Of these texts, where regions attend to words.
        lengths: (groups,) words of the longest text of each group.
        temperature: lambda.
        scratch: From ``make_scratch``.
        of_words: (I, C, LANES), filled, or None if words do not attend to regions.
        of_regions: (I, groups, m, LANES), filled, or None if regions do not attend to words.
    """
    kq, cross = blocks
    m = kq.shape[1]
    first = first_square = 0
    for group in range(len(lengths)):
        n = lengths[group]
        w, text, words = part_of(scratch, m, n), text_of(texts, first, n), slice(first, first + n)
        for z in range(kq.shape[0]):
            image = image_of(images, z)
            up, uc, op, oc = quarters(cross[z, :, words])
            attend_words(w, kq[z, :, words], up, uc, op, oc, image, text)
            if of_words is not None:
                copy_row(match_words(w, image, temperature), of_words[z : z + 1, words])
            if of_regions is not None:
                matched = match_regions(w, text, grams_of(grams, first_square, n), temperature)
                copy_row(matched, of_regions[z : z + 1, group])
        first += n
        first_square += n * n


@njit
def attend_words(
    scratch: PairScratch, kq: Array, up: Array, uc: Array, op: Array, oc: Array, image: RegionTables, text: WordTables
) -> None:
    """Attention weights of the words, S = |w^| cos(o^, w^) and |w^|, left in ``attended_slots``.

    Products are (m, n, LANES); tables are rows and (m, m). Lengths of regions are left as 1.
    """
    m, n = kq.shape[0], kq.shape[1]
    its = attended_slots(scratch)
    F, H, V, S, share_w, w_norms = its.F, its.H, its.V, its.S, its.share_w, its.w_norms
    tiny = splat(TINY)
    mixture(transposed(kq), text.lse, image.closed, transposed(F), transposed(share_w))
    for i in range(m):
        store(splat(np.float32(1)), its.o_norms, i, 0)
        for j in range(n):
            b = load(share_w, 0, j)
            h = b * load(up, i, j) + load(uc, i, j)
            store(h, H, i, j)
            store(h, V, i, j)
            store(b * load(op, i, j) + load(oc, i, j), S, i, j)
    add_product(V, image.uu, F)
    add_product(S, image.ou, F)
    for j in range(n):
        b = load(share_w, 0, j)
        square = (b * load(text.pp, 0, j) + load(text.pc, 0, j)) * b + load(text.cc, 0, j)
        for i in range(m):
            square = square + load(F, i, j) * (load(H, i, j) + load(V, i, j))
        store(sqrt(maximum(square, tiny)), w_norms, 0, j)


@njit
def match_words(scratch: PairScratch, image: RegionTables, temperature: float) -> Array:
    """Matches of the words, after ``attend_words``: (1, n, LANES) at least."""
    its = attended_slots(scratch)
    S, w_norms = its.S, its.w_norms
    X, pair = _words_slots(scratch)
    for j in range(S.shape[1]):
        scale = splat(np.float32(1)) / load(w_norms, 0, j)
        for i in range(S.shape[0]):
            store(load(S, i, j) * scale, X, i, j)
    match(X, image.closed, image.lengths, image.oo, temperature, False, AlignmentScratch(pair, scratch.rows))
    return scratch.rows[0]


@cached_njit
def backward(
    blocks: tuple[Array, Array],
    images: RegionTables,
    texts: WordTables,
    grams: TextGrams | None,
    lengths: NDArray[np.int64],
    temperature: float,
    scratch: PairScratch,
    d_of_words: Array | None,
    d_of_regions: Array | None,
    d_blocks: tuple[Array, Array],
    d_images: RegionTables,
    d_texts: WordTables,
    d_grams: TextGrams | None,
) -> None:
    """Gradients of a tile, from those of its matches; see ``forward``.

    ``d_blocks`` are filled; ``d_images``, ``d_texts`` and ``d_grams`` are added to. The forward is computed again in
    cache.
    """
    kq, cross = blocks
    d_kq, d_cross = d_blocks
    m = kq.shape[1]
    first = first_square = 0
    for group in range(len(lengths)):
        n = lengths[group]
        w, words = part_of(scratch, m, n), slice(first, first + n)
        text, d_text = text_of(texts, first, n), text_of(d_texts, first, n)
        for z in range(kq.shape[0]):
            image, d_image = image_of(images, z), image_of(d_images, z)
            up, uc, op, oc = quarters(cross[z, :, words])
            attend_words(w, kq[z, :, words], up, uc, op, oc, image, text)
            _clear_gradients(w)
            if d_of_words is not None:
                match_words(w, image, temperature)
                _match_words_backward(w, image, d_of_words[z : z + 1, words], d_image)
            if d_of_regions is not None:
                its, d_its = grams_of(grams, first_square, n), grams_of(d_grams, first_square, n)
                match_regions(w, text, its, temperature)
                match_regions_backward(w, its, d_of_regions[z : z + 1, group], d_its)
            _attend_words_backward(
                w, up, op, image, text, d_grams, d_kq[z, :, words], *quarters(d_cross[z, :, words]), d_image, d_text
            )
        first += n
        first_square += n * n


@njit
def _words_slots(scratch: PairScratch) -> tuple[Array, Array]:
    """X and ``AlignmentScratch.pair``: what ``match_words`` leaves."""
    return words_to_regions_slots(scratch)[0], scratch.pair[18:21]


@njit
def _clear_gradients(scratch: PairScratch) -> None:
    d = gradient_slots(scratch)
    clear(d.S)
    clear(d.o_norms[:, :1])
    clear(d.share_w[:1])
    clear(d.w_norms[:1])


@njit
def _match_words_backward(scratch: PairScratch, image: RegionTables, d_r: Array, d_image: RegionTables) -> None:
    """Add to the gradients of S and |w^| that ``gradient_slots`` have, from those of the words' matches."""
    w_norms, d = attended_slots(scratch).w_norms, gradient_slots(scratch)
    X, pair = _words_slots(scratch)
    dX = free_slots(scratch)[0]
    m, n = X.shape[0], X.shape[1]
    match_backward(X, image.lengths, False, AlignmentScratch(pair, scratch.rows), d_r, dX, d_image.lengths, d_image.oo)
    for j in range(n):
        scale, d_w_norm = splat(np.float32(1)) / load(w_norms, 0, j), load(d.w_norms, 0, j)
        for i in range(m):
            d_s = load(dX, i, j) * scale
            store(load(d.S, i, j) + d_s, d.S, i, j)
            d_w_norm = d_w_norm - d_s * load(X, i, j)
        store(d_w_norm, d.w_norms, 0, j)


@njit
def _attend_words_backward(
    scratch: PairScratch, up: Array, op: Array, image: RegionTables, text: WordTables, d_grams: TextGrams | None,
    d_kq: Array, d_up: Array, d_uc: Array, d_op: Array, d_oc: Array, d_image: RegionTables, d_text: WordTables,
) -> None:  # fmt: skip
    """Fill in the gradients of products and add to those of tables, from what is in ``gradient_slots``.

    ``d_grams`` is None unless regions attend to words. If they do, what F and H get by way of Z is added here.
    """
    its, d = attended_slots(scratch), gradient_slots(scratch)
    F, V, share_w, w_norms = its.F, its.V, its.share_w, its.w_norms
    dS, d_share_w, d_w_norms = d.S, d.share_w, d.w_norms
    dF, pulled = free_slots(scratch)[:2]
    m, n = F.shape[0], F.shape[1]
    half, two, gone = splat(np.float32(0.5)), splat(np.float32(2)), splat(GONE)

    if d_grams is not None:
        d_z = regions_to_words_slots(scratch)[3]
        product(dF, V, d_z)
        product(pulled, F, d_z)
    else:
        clear(dF)
        clear(pulled)
    for j in range(n):
        b, w_norm = load(share_w, 0, j), load(w_norms, 0, j)
        d_square = keep_if_greater(half * load(d_w_norms, 0, j) / w_norm, w_norm * w_norm, gone)
        d_b = load(d_share_w, 0, j) + d_square * (two * b * load(text.pp, 0, j) + load(text.pc, 0, j))
        store(load(d_text.pp, 0, j) + d_square * b * b, d_text.pp, 0, j)
        store(load(d_text.pc, 0, j) + d_square * b, d_text.pc, 0, j)
        store(load(d_text.cc, 0, j) + d_square, d_text.cc, 0, j)
        for i in range(m):
            store(two * (load(dF, i, j) + d_square * load(V, i, j)), dF, i, j)
            pull = load(pulled, i, j) + d_square * load(F, i, j)
            d_h, d_s = two * pull, load(dS, i, j)
            store(pull, pulled, i, j)
            store(d_h * b, d_up, i, j)
            store(d_h, d_uc, i, j)
            store(d_s * b, d_op, i, j)
            store(d_s, d_oc, i, j)
            d_b = d_b + d_h * load(up, i, j) + d_s * load(op, i, j)
        store(d_b, d_share_w, 0, j)
    add_product(dF, image.ou.T, dS)
    add_product(d_image.uu, pulled, transposed(F))
    add_product(d_image.ou, dS, transposed(F))
    mixture_backward(
        transposed(F), transposed(dF), transposed(share_w), transposed(d_share_w), transposed(d_kq), d_text.lse
    )
