"""The large products of a tile, those of a few images with one group of texts at a time: the kernels read them at once.

At d = 256 one factor of the group stays in the L2 cache for all of these images, and so do the products until they are
read; at d = 1024 both stay there in part. (Each half of a sum's terms for all images in turn, so that the factor does,
was no faster.)
"""

from __future__ import annotations

from typing import NamedTuple

from han_retrieval.scoring.cpu.compiling import njit
from han_retrieval.scoring.cpu.lanes import Array, transposed
from han_retrieval.scoring.cpu.products import add_product, product

IMAGES_AT_ONCE = 4
TERMS_AT_ONCE = 512  # of each sum; at d = 1024, 256 took 2 % longer and 128 up to 10 %


class Factors(NamedTuple):
    """What is multiplied: each of the images' factors with the texts' at the same place.

    Attributes:
        images: (I, rows, d) each.
        texts: (C k, d, LANES) each, for C words, each with k LANES columns of a product; or of no words, where there is
            nothing to multiply. (None would have every kernel compiled twice.)
    """

    images: tuple[Array, ...]
    texts: tuple[Array, ...]


@njit
def fill(
    blocks: tuple[Array, ...],
    factors: Factors,
    whole: bool,
    images: tuple[int, int],
    words: tuple[int, int],
    total: int,
) -> tuple[int, int]:
    """Multiply some images with one group of texts, unless the blocks are filled; where these products are.

    Args:
        blocks: (images, rows, words k, LANES) each.
        factors: Of the tile; of no words if the blocks are filled.
        whole: Whether the blocks have room for all pairs of the tile, or for IMAGES_AT_ONCE images with one group.
        images: The first and the one behind the last, at most IMAGES_AT_ONCE.
        words: The group's first, and the one behind its last.
        total: C, the words of the tile.

    Returns:
        What to subtract from an image's number for its place in the blocks, and the place of the group's first word.
    """
    skipped = 0 if whole else images[0]
    at = words[0] if whole else 0
    if len(factors.texts[0]):
        for x in range(len(blocks)):
            k = factors.texts[x].shape[0] // total
            right = transposed(factors.texts[x][k * words[0] : k * words[1]])
            columns = slice(k * at, k * (at + words[1] - words[0]))
            for z in range(images[0], images[1]):
                out, left = blocks[x][z - skipped, :, columns], factors.images[x][z]
                product(out, left[:, :TERMS_AT_ONCE], right[:TERMS_AT_ONCE])
                for y in range(TERMS_AT_ONCE, len(right), TERMS_AT_ONCE):
                    add_product(out, left[:, y : y + TERMS_AT_ONCE], right[y : y + TERMS_AT_ONCE])
    return skipped, at


@njit
def quarters(cross: Array) -> tuple[Array, Array, Array, Array]:
    """(2 m, 2 n, LANES) products of [u, c] with each word's [u, c] to u.u, u.c, c.u and c.c, (m, n, LANES) each."""
    m = cross.shape[0] // 2
    return cross[:m, ::2], cross[:m, 1::2], cross[m:, ::2], cross[m:, 1::2]
