"""``single_block_kernel`` for one query against a stored collection, LANES items of the collection at a time.

For one text and many images the sides change places: the images' tables are lanes matrices, the text's plain ones.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from han_retrieval.scoring.compiling import cached_njit
from han_retrieval.scoring.lanes import LANES, Array, load, store, turn
from han_retrieval.scoring.single_block_kernel import ImageTables, TextTables, Work, image_of, match, text_of, view


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
        w = Work(work.pair[:, :m, :n], work.words[:, :n, :n])
        p = turn(products[:, regions])  # (m, 6 n, LANES)
        match(
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
        match(
            w, p[:m], p[m : 2 * m], p[2 * m : 3 * m], p[3 * m : 4 * m], p[4 * m : 5 * m], p[5 * m :],
            image_of(image, 0), text_of(texts, first, first_square, n), temperature,
        )  # fmt: skip
        for j in range(n):
            store(load(w.words[0], 0, j), matches[:, words], 0, j)
        first += n
        first_square += n * n
