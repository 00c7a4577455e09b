"""SCAN, stacked cross attention (Lee et al., ECCV 2018), read beside its formulas.

Words gather from regions ("text-to-image"), or the other way round ("image-to-text"); g gathers, s is gathered from:

    x_ij = cos(s_i, g_j)
    x'_ij = [x_ij]_+ / sqrt(sum_j [x_ij]_+^2)            over all gatherers of the pair
    alpha_j = softmax_i(lambda x'_ij)                    alignment          -> align
    r_j = cos(g_j, sum_i alpha_ij s_i)                   matching           -> match
    S = mean r_j (AVG), or log(sum_j exp(t r_j)) / t (LSE)                  -> pool

[x]_+ is 0 below 0 in the paper; the authors' code, and this, take 0.1 x there. Encoders are those of ``HAN``.
"""

from __future__ import annotations

from han_retrieval.matchers.aligning import AligningMatcher
from han_retrieval.matchers.config import SCANConfig
from han_retrieval.text import Vocabulary


class SCAN(AligningMatcher):
    """Encoders, alignment over clipped and normalised cosines, and matching.

    Args:
        config: Sizes and options.
        vocabulary: The words that ids stand for; needed by ``words`` alone.
    """

    config: SCANConfig
    config_kind = SCANConfig
    attention = "clipped"

    def __init__(self, config: SCANConfig, *, vocabulary: Vocabulary | None = None):
        super().__init__(config, vocabulary=vocabulary)
