"""The large products of a tile, those of a few images with one group of texts at a time: the kernels read them at once.

So they are still in the second cache when they are read, and the group's own factors stay there from image to image.
"""

from __future__ import annotations

from typing import NamedTuple

from han_retrieval.scoring.cpu.compiling import njit
from han_retrieval.scoring.cpu.lanes import Array, transposed
from han_retrieval.scoring.cpu.products import add_product, product

IMAGES_AT_ONCE = 4
COUNT = 512  # of the sums' terms at once, so that three columns of a group's factor stay in the first cache


class Factors(NamedTuple):
    """What is multiplied: each of the images' factors with the texts' at the same place.

    Attributes:
        images: (I, rows, d) each.
        texts: (C k, d, LANES) each, for C words, each with k LANES columns of a product.
    """

    images: tuple[Array, ...]
    texts: tuple[Array, ...]


@njit
def are_whole(blocks: tuple[Array, ...], images: int, words: int) -> bool:
    """Whether blocks have room for all pairs of a tile, or for IMAGES_AT_ONCE images with one group of texts."""
    return blocks[0].shape[0] >= images and blocks[0].shape[2] == words


@njit
def multiply(
    blocks: tuple[Array, ...],
    factors: Factors,
    start: int,
    stop: int,
    first: int,
    n: int,
    words: int,
    skipped: int,
    at: int,
) -> None:
    """Products of the images from start to stop with one group, blocks[z - skipped, :, k at : k (at + n)].

    Args:
        blocks: (images, rows, words k, LANES) each, filled.
        factors: Of the tile.
        start, stop: The images.
        first, n: Where the group's words start, and how many they are.
        words: C, of the tile.
        skipped, at: Where in the blocks the products belong.
    """
    for x in range(len(blocks)):
        k = factors.texts[x].shape[0] // words
        right = transposed(factors.texts[x][k * first : k * (first + n)])
        for z in range(start, stop):
            out, left = blocks[x][z - skipped, :, k * at : k * (at + n)], factors.images[x][z]
            product(out, left[:, :COUNT], right[:COUNT])
            for y in range(COUNT, len(right), COUNT):
                add_product(out, left[:, y : y + COUNT], right[y : y + COUNT])


@njit
def quarters(cross: Array) -> tuple[Array, Array, Array, Array]:
    """(2 m, 2 n, LANES) products of [u, c] with each word's [u, c] to u.u, u.c, c.u and c.c, (m, n, LANES) each."""
    m = cross.shape[0] // 2
    return cross[:m, ::2], cross[:m, 1::2], cross[m:, ::2], cross[m:, 1::2]
