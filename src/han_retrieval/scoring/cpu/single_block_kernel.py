"""One block, a tile of pairs at a time: the steps of ``pair_kernel``, forward."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from han_retrieval.scoring.cpu.attention_kernel import attend
from han_retrieval.scoring.cpu.compiling import cached_njit
from han_retrieval.scoring.cpu.lanes import Array
from han_retrieval.scoring.cpu.pair_kernel import (
    ImageTables,
    PairScratch,
    TextGrams,
    TextTables,
    copy_row,
    grams_of,
    image_of,
    part_of,
    text_of,
)
from han_retrieval.scoring.cpu.regions_to_words_kernel import match_regions
from han_retrieval.scoring.cpu.tile_kernel import IMAGES_AT_ONCE, Factors, fill, quarters
from han_retrieval.scoring.cpu.words_to_regions_kernel import match_words


@cached_njit
def forward(
    factors: Factors,
    blocks: tuple[Array, Array, Array],
    whole: bool,
    images: ImageTables,
    texts: TextTables,
    grams: TextGrams | None,
    lengths: NDArray[np.int64],
    temperature: float,
    scratch: PairScratch,
    of_words: Array | None,
    of_regions: Array | None,
) -> None:
    """Matches r of all pairs of a tile, compiled anew for what is None: nothing is spent on it.

    Args:
        factors: Of the blocks; of no words if these are filled.
        blocks: Room for products, see ``tile_kernel``: q_o.k_w (I, m, C, LANES); k_o.q_w (I, m, C, LANES);
            [u_o, c_o].[u_w, c_w] (I, 2 m, 2 C, LANES).
        whole: Whether they have room for all pairs.
        images: Of I images.
        texts: Of some groups of texts with C words together, LANES times over.
        grams: Of these texts, where regions attend to words.
        lengths: (groups,) words of the longest text of each group.
        temperature: lambda.
        scratch: From ``make_scratch``.
        of_words: (I, C, LANES), filled, or None if words do not attend to regions.
        of_regions: (I, groups, m, LANES), filled, or None if regions do not attend to words.
    """
    count, m, words = images.closed.shape[0], images.closed.shape[1], texts.closed.shape[0]
    first = first_square = 0
    for group in range(len(lengths)):
        n = lengths[group]
        w = part_of(scratch, m, n)
        text = text_of(texts, first, first_square, n)
        for start in range(0, count, IMAGES_AT_ONCE):
            stop = min(start + IMAGES_AT_ONCE, count)
            skipped, at = fill(blocks, factors, whole, (start, stop), (first, first + n), words)
            for z in range(start, stop):
                qk, kq, cross = blocks[0][z - skipped], blocks[1][z - skipped], blocks[2][z - skipped]
                image = image_of(images, z)
                uu, uc, cu, cc = quarters(cross[:, 2 * at : 2 * (at + n)])
                attend(w, qk[:, at : at + n], kq[:, at : at + n], uu, uc, cu, cc, image, text)
                if of_words is not None:
                    copy_row(match_words(w, image, temperature), of_words[z : z + 1, first : first + n])
                if of_regions is not None:
                    matched = match_regions(w, text, grams_of(grams, first_square, n), temperature)
                    copy_row(matched, of_regions[z : z + 1, group])
        first += n
        first_square += n * n
