"""Colours by which words and their regions are told apart."""

from __future__ import annotations

import numpy as np

from han_retrieval.evidence.pair import PairEvidence

PALETTE = ("#ff7043", "#29a3ff", "#ffd028", "#2ecc71", "#c86bfa", "#1fd0d0", "#ff7fb4", "#b6dd2a")
NEUTRAL = "#b0b4ba"
_FAINTEST = 0.1  # of what the most looked-at region gave; a region that gave less is not shown


def region_colours(*evidence: PairEvidence, most: int = 6) -> dict[int, str]:
    """Colours of the regions that words looked at most, at most ``most`` of them, in the order of their words.

    The words are those of one sentence, or of several about the same photo.

    A region counts by what its words gathered from it, each word by how well it was matched, so that words that found
    nothing do not draw boxes around it.
    """
    alignment = np.concatenate([each.alignment for each in evidence])
    match = np.concatenate([each.match for each in evidence])
    looked_at = alignment.argmax(1)
    gathered = np.zeros(alignment.shape[1])
    for word, region in enumerate(looked_at):
        gathered[region] += alignment[word, region] * max(float(match[word]), 1e-6)
    best = np.argsort(-gathered, kind="stable")[: min(most, len(PALETTE))]
    shown = {int(region) for region in best if gathered[region] >= _FAINTEST * gathered[best[0]]}
    in_order = dict.fromkeys(int(region) for region in looked_at if int(region) in shown)
    return dict(zip(in_order, PALETTE, strict=False))


def rgb(colour: str) -> tuple[int, int, int]:
    """ "#rrggbb" to numbers."""
    red, green, blue = bytes.fromhex(colour[1:])
    return red, green, blue


def mixed(colour: str, ground: str, share: float) -> tuple[int, int, int]:
    """``share`` of the colour on the ground."""
    red, green, blue = (round(share * a + (1 - share) * b) for a, b in zip(rgb(colour), rgb(ground), strict=True))
    return red, green, blue


def ink_on(ground: tuple[int, int, int]) -> tuple[int, int, int]:
    """Black or white, whichever is read more easily on the ground."""
    red, green, blue = ground
    return (20, 22, 26) if 0.299 * red + 0.587 * green + 0.114 * blue > 128 else (255, 255, 255)
