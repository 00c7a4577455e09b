"""The derivatives of ``single_block_kernel``: the steps of ``pair_kernel`` forward, then in reverse."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from han_retrieval.scoring.cpu.attention_gradient_kernel import attend_backward
from han_retrieval.scoring.cpu.attention_kernel import attend
from han_retrieval.scoring.cpu.compiling import cached_njit
from han_retrieval.scoring.cpu.lanes import Array
from han_retrieval.scoring.cpu.pair_kernel import (
    ImageTables,
    PairScratch,
    TextGrams,
    TextTables,
    clear_gradients,
    grams_of,
    image_of,
    part_of,
    text_of,
)
from han_retrieval.scoring.cpu.regions_to_words_kernel import match_regions, match_regions_backward
from han_retrieval.scoring.cpu.tile_kernel import IMAGES_AT_ONCE, Factors, fill, quarters
from han_retrieval.scoring.cpu.words_to_regions_kernel import match_words, match_words_backward


@cached_njit
def backward(
    factors: Factors,
    blocks: tuple[Array, Array, Array],
    whole: bool,
    images: ImageTables,
    texts: TextTables,
    grams: TextGrams | None,
    lengths: NDArray[np.int64],
    temperature: float,
    scratch: PairScratch,
    d_of_words: Array | None,
    d_of_regions: Array | None,
    d_blocks: tuple[Array, Array, Array],
    d_images: ImageTables,
    d_texts: TextTables,
    d_grams: TextGrams | None,
) -> None:
    """Gradients of a tile, from those of its matches; see ``forward``.

    ``d_blocks`` are filled; ``d_images``, ``d_texts`` and ``d_grams`` are added to. The forward is computed again in
    cache.
    """
    d_qk, d_kq, d_cross = d_blocks
    count, m, words = images.closed.shape[0], images.closed.shape[1], texts.closed.shape[0]
    first = first_square = 0
    for group in range(len(lengths)):
        n = lengths[group]
        w = part_of(scratch, m, n)
        text, d_text = text_of(texts, first, first_square, n), text_of(d_texts, first, first_square, n)
        here = slice(first, first + n)
        for start in range(0, count, IMAGES_AT_ONCE):
            stop = min(start + IMAGES_AT_ONCE, count)
            skipped, at = fill(blocks, factors, whole, (start, stop), (first, first + n), words)
            for z in range(start, stop):
                qk, kq, cross = blocks[0][z - skipped], blocks[1][z - skipped], blocks[2][z - skipped]
                image, d_image = image_of(images, z), image_of(d_images, z)
                uu, uc, cu, cc = quarters(cross[:, 2 * at : 2 * (at + n)])
                attend(w, qk[:, at : at + n], kq[:, at : at + n], uu, uc, cu, cc, image, text)
                if d_of_words is not None:
                    match_words(w, image, temperature)
                    match_words_backward(w, image, temperature, d_of_words[z : z + 1, here], d_image)
                else:
                    clear_gradients(w)
                if d_of_regions is not None:
                    its, d_its = grams_of(grams, first_square, n), grams_of(d_grams, first_square, n)
                    match_regions(w, text, its, temperature)
                    match_regions_backward(w, its, d_of_regions[z : z + 1, group], d_its)
                attend_backward(
                    w, uu, cu, image, text, d_grams, d_qk[z, :, here], d_kq[z, :, here],
                    *quarters(d_cross[z, :, 2 * first : 2 * (first + n)]), d_image, d_text,
                )  # fmt: skip
        first += n
        first_square += n * n
