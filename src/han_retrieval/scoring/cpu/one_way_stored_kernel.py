"""One sentence against stored images whose regions attend to regions alone, LANES images at a time.

The collection has raw tokens and tables, no u or o^. So a pair is scored in Gram space, by the statements of
``one_way.matches``, and what o^ = p + c is multiplied with follows from p = N u:

    o^.w^ = N V + b CP + CC + cu F
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from han_retrieval.scoring.cpu.alignment_kernel import AlignmentScratch, match
from han_retrieval.scoring.cpu.attention_kernel import mixture
from han_retrieval.scoring.cpu.compiling import cached_njit
from han_retrieval.scoring.cpu.lanes import LANES, TINY, Array, load, maximum, splat, sqrt, store, transposed
from han_retrieval.scoring.cpu.pair_kernel import (
    PairScratch,
    TextGrams,
    attended_slots,
    copy_row,
    part_of,
    plain_grams,
    view,
)
from han_retrieval.scoring.cpu.products import add_product
from han_retrieval.scoring.cpu.regions_to_words_kernel import match_regions


class StoredRegions(NamedTuple):
    """Tables of stored images, (C, LANES) and (sum of m^2, LANES)."""

    closed: Array
    lengths: Array  # |o^|
    inner: Array  # N: p = N u
    uu: Array
    cu: Array
    oo: Array  # of o^ at unit length


class QueryWords(NamedTuple):
    """Tables of one text, (1, n)."""

    closed: Array
    lse: Array
    pp: Array  # the diagonals P.P, 2 P.c, c.c
    pc: Array
    cc: Array


@cached_njit
def against_images(
    products: Array,
    images: StoredRegions,
    text: QueryWords,
    grams: TextGrams | None,
    lengths: NDArray[np.int64],
    temperature: float,
    scratch: PairScratch,
    of_words: Array | None,
    of_regions: Array | None,
) -> None:
    """Matches of one text with many images.

    Args:
        products: (5 n, C, LANES): k_o.q_w, u_o.P_w, u_o.c_w, c_o.P_w, c_o.c_w, n rows each.
        images: Of some groups of images with C regions together.
        text: The text's.
        grams: (n, n), where regions attend to words.
        lengths: (groups,) regions of each group.
        temperature: lambda.
        scratch: From ``make_scratch``.
        of_words: (groups, n, LANES), filled, or None if words do not attend to regions.
        of_regions: (1, C, LANES), filled, or None if regions do not attend to words.
    """
    n = text.closed.shape[1]
    plain = QueryWords(view(text.closed), view(text.lse), view(text.pp), view(text.pc), view(text.cc))
    tiny = splat(TINY)
    first = first_square = 0
    for g, m in enumerate(lengths):
        row, square = (1, m, LANES), (m, m, LANES)
        regions, squares = slice(first, first + m), slice(first_square, first_square + m * m)
        image = StoredRegions(
            view(images.closed[regions].reshape(row)), view(images.lengths[regions].reshape(row)),
            view(images.inner[squares].reshape(square)), view(images.uu[squares].reshape(square)),
            view(images.cu[squares].reshape(square)), view(images.oo[squares].reshape(square)),
        )  # fmt: skip
        w = part_of(scratch, m, n)
        its = attended_slots(w)
        F, H, V, S, X, share_w, w_norms, o_norms = (
            its.F,
            its.H,
            its.V,
            its.S,
            its.B,
            its.share_w,
            its.w_norms,
            its.o_norms,
        )
        p = transposed(products[:, regions])  # (m, 5 n, LANES)

        # Attention of words.
        mixture(transposed(p[:, :n]), plain.lse, image.closed, transposed(F), transposed(share_w))
        for i in range(m):
            store(load(image.lengths, 0, i), o_norms, i, 0)
            for j in range(n):
                b = load(share_w, 0, j)
                h = b * load(p, i, n + j) + load(p, i, 2 * n + j)
                store(h, H, i, j)
                store(h, V, i, j)
                store(b * load(p, i, 3 * n + j) + load(p, i, 4 * n + j), S, i, j)
        add_product(V, image.uu, F)
        add_product(S, image.inner, V)
        add_product(S, image.cu, F)
        for j in range(n):
            b = load(share_w, 0, j)
            square_of = (b * load(plain.pp, 0, j) + load(plain.pc, 0, j)) * b + load(plain.cc, 0, j)
            for i in range(m):
                square_of = square_of + load(F, i, j) * (load(H, i, j) + load(V, i, j))
            norm = sqrt(maximum(square_of, tiny))
            store(norm, w_norms, 0, j)
            for i in range(m):
                store(load(S, i, j) / (norm * load(o_norms, i, 0)), X, i, j)

        if of_words is not None:
            pair = w.pair[17:20]
            match(X, image.closed, image.lengths, image.oo, temperature, False, AlignmentScratch(pair, w.rows))
            copy_row(w.rows[0], of_words[g : g + 1])
        if of_regions is not None:
            copy_row(match_regions(w, plain, plain_grams(grams), temperature), of_regions[:, regions])
        first += m
        first_square += m * m
