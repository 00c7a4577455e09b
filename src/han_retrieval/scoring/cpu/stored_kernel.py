"""``single_block_kernel`` for one query against a stored collection, LANES items of the collection at a time.

For one text and many images the sides change places: the images' tables are lanes matrices, the text's plain ones.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from han_retrieval.scoring.cpu.attention_kernel import attend
from han_retrieval.scoring.cpu.compiling import cached_njit
from han_retrieval.scoring.cpu.lanes import LANES, Array, transposed
from han_retrieval.scoring.cpu.pair_kernel import (
    ImageTables,
    PairScratch,
    TextGrams,
    TextTables,
    copy_row,
    grams_of,
    image_of,
    part_of,
    plain_grams,
    text_of,
    view,
)
from han_retrieval.scoring.cpu.regions_to_words_kernel import match_regions
from han_retrieval.scoring.cpu.words_to_regions_kernel import match_words


@cached_njit
def against_images(
    products: Array,
    images: ImageTables,
    text: TextTables,
    grams: TextGrams | None,
    lengths: NDArray[np.int64],
    temperature: float,
    scratch: PairScratch,
    of_words: Array | None,
    of_regions: Array | None,
) -> None:
    """Matches of one text with many images, LANES images at a time.

    Args:
        products: (6 n, C, LANES): q_o.k_w, k_o.q_w, u_o.u_w, u_o.c_w, c_o.u_w, c_o.c_w, n rows each.
        images: Of some groups of images with C regions together: (C, LANES) and (sum of m^2, LANES).
        text: (1, n) and (n, n).
        grams: (n, n), where regions attend to words.
        lengths: (groups,) regions of each group.
        temperature: lambda.
        scratch: From ``make_scratch``.
        of_words: (groups, n, LANES), filled, or None if words do not attend to regions.
        of_regions: (1, C, LANES), filled, or None if regions do not attend to words.
    """
    n = text.closed.shape[1]
    plain = TextTables(
        view(text.closed), view(text.lse), view(text.pp), view(text.pc), view(text.cc), view(text.inner),
        view(text.uu), view(text.pu), view(text.cu),
    )  # fmt: skip
    first = first_square = 0
    for g, m in enumerate(lengths):
        row, square = (1, m, LANES), (m, m, LANES)
        regions, squares = slice(first, first + m), slice(first_square, first_square + m * m)
        image = ImageTables(
            view(images.closed[regions].reshape(row)), view(images.lse[regions].reshape(row)),
            view(images.inner[squares].reshape(square)), view(images.uu[squares].reshape(square)),
            view(images.cu[squares].reshape(square)), view(images.pp[squares].reshape(square)),
            view(images.pc[squares].reshape(square)), view(images.cc[squares].reshape(square)),
        )  # fmt: skip
        w = part_of(scratch, m, n)
        p = transposed(products[:, regions])  # (m, 6 n, LANES)
        attend(
            w, p[:, :n], p[:, n : 2 * n], p[:, 2 * n : 3 * n], p[:, 3 * n : 4 * n], p[:, 4 * n : 5 * n], p[:, 5 * n :],
            image, plain,
        )  # fmt: skip
        if of_words is not None:
            copy_row(match_words(w, image, temperature), of_words[g : g + 1])
        if of_regions is not None:
            copy_row(match_regions(w, plain, plain_grams(grams), temperature), of_regions[:, regions])
        first += m
        first_square += m * m


@cached_njit
def against_texts(
    products: Array,
    image: ImageTables,
    texts: TextTables,
    grams: TextGrams | None,
    lengths: NDArray[np.int64],
    temperature: float,
    scratch: PairScratch,
    of_words: Array | None,
    of_regions: Array | None,
) -> None:
    """Matches of many texts with one image, LANES texts at a time.

    Args:
        products: (6 m, C, LANES), in the order of ``against_images``, m rows each.
        image: As in ``forward``, of one image.
        texts: As in ``forward``.
        grams: As in ``forward``.
        lengths: (groups,) words of each group.
        temperature: lambda.
        scratch: From ``make_scratch``.
        of_words: (1, C, LANES), filled, or None if words do not attend to regions.
        of_regions: (groups, m, LANES), filled, or None if regions do not attend to words.
    """
    m = image.closed.shape[1]
    first = first_square = 0
    one = image_of(image, 0)
    for g, n in enumerate(lengths):
        words = slice(first, first + n)
        w = part_of(scratch, m, n)
        p, text = products[:, words], text_of(texts, first, first_square, n)
        attend(w, p[:m], p[m : 2 * m], p[2 * m : 3 * m], p[3 * m : 4 * m], p[4 * m : 5 * m], p[5 * m :], one, text)
        if of_words is not None:
            copy_row(match_words(w, one, temperature), of_words[:, words])
        if of_regions is not None:
            its = grams_of(grams, first_square, n)
            copy_row(match_regions(w, text, its, temperature), of_regions[g : g + 1])
        first += n
        first_square += n * n
