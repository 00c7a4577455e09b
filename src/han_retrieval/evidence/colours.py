"""A colour for each region that is drawn, and for its words."""

from __future__ import annotations

import numpy as np

from han_retrieval.evidence.evidence import Evidence

PALETTE = ("#ff7043", "#29a3ff", "#ffd028", "#2ecc71", "#c86bfa", "#1fd0d0", "#ff7fb4", "#b6dd2a")
NEUTRAL = "#b0b4ba"
_LEAST_SHARE = 0.03  # of the greatest region's sum; regions with less are not drawn


def region_colours(*evidence: Evidence, regions: int = 6) -> dict[int, str]:
    """Choose the regions to draw, at most ``regions`` of them, and a colour for each, in the order of their words.

    The evidence is of one sentence, of several sentences and the same photo, or of none. Regions are ranked by the
    alignment weights of their words, each multiplied by the word's match: words that match nothing do not draw boxes.
    Nor do words that the model does not know, and function words, such as "the", unless there are no others.
    """
    if not evidence:
        return {}
    known = np.concatenate([each.known for each in evidence])
    counts = known & ~np.concatenate([each.function_words for each in evidence])
    counts = counts if counts.any() else known
    if not counts.any():
        return {}
    alignment = np.concatenate([each.alignment for each in evidence])
    match = np.concatenate([each.match for each in evidence])
    word_regions = alignment.argmax(1)
    sums = np.zeros(alignment.shape[1])
    for word, region in enumerate(word_regions):
        sums[region] += counts[word] * alignment[word, region] * max(float(match[word]), 1e-6)
    best = np.argsort(-sums, kind="stable")[: min(regions, len(PALETTE))]
    drawn = {int(region) for region in best if sums[region] >= _LEAST_SHARE * sums[best[0]]}
    in_order = dict.fromkeys(int(region) for region in word_regions if int(region) in drawn)
    return dict(zip(in_order, PALETTE, strict=False))


def rgb(colour: str) -> tuple[int, int, int]:
    """Red, green and blue of "#rrggbb", 0 to 255."""
    red, green, blue = bytes.fromhex(colour[1:])
    return red, green, blue


def mixed(colour: str, ground: str, share: float) -> tuple[int, int, int]:
    """The colour laid over the ground with opacity ``share``, 0 to 1."""
    red, green, blue = (round(share * a + (1 - share) * b) for a, b in zip(rgb(colour), rgb(ground), strict=True))
    return red, green, blue


def ink_on(ground: tuple[int, int, int]) -> tuple[int, int, int]:
    """Black or white, whichever has more contrast with the ground."""
    red, green, blue = ground
    return (20, 22, 26) if 0.299 * red + 0.587 * green + 0.114 * blue > 128 else (255, 255, 255)
