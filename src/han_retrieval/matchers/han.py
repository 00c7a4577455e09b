"""HAN, the Heterogeneous Attention Network (Yu et al., SIGIR 2021), read beside its formulas.

Legend: B pairs, m regions, n words, s = m + n, D numbers a region feature, d the joint size, L blocks.

    o_i = l2norm(W_r x_i + b_r)                          image encoder      -> ImageEncoder
    w_i = l2norm((fwd_i + bwd_i) / 2)                    text encoder       -> TextEncoder
    A = softmax_j(beta q_i . k_j), over both sets        attention          -> HeterogeneousAttention
    h~_i = W_f (sum_j A_ij v_j) + b_f + q_i
    alpha_i = softmax_j(lambda cos(w^_i, o^_j))          alignment          -> align
    r_i = cos(w^_i, sum_j alpha_ij o^_j), S = mean r_i   matching           -> match, pool

What follows the attention is ``AligningMatcher``'s: alignment and matching of a pair, and scores of all pairs at once.
"""

from __future__ import annotations

import torch
from torch import Tensor

from han_retrieval.matchers.aligning import AligningMatcher
from han_retrieval.matchers.config import HANConfig
from han_retrieval.matchers.heterogeneous_attention import HeterogeneousAttention
from han_retrieval.text import Vocabulary


class HAN(AligningMatcher):
    """Encoders, L blocks of heterogeneous attention, alignment and matching.

    Args:
        config: Sizes and options.
        vocabulary: The words that ids stand for; needed by ``words`` alone.
    """

    config: HANConfig
    config_kind = HANConfig
    attention = "cosine"

    def __init__(self, config: HANConfig, *, vocabulary: Vocabulary | None = None):
        blocks = (
            HeterogeneousAttention(
                config.joint_size,
                temperature=config.attention_temperature,
                residual=config.residual,
                over=config.attention_over,
                start=config.attention_start,
                value_start=config.value_start,
            )
            for _ in range(config.blocks)
        )
        super().__init__(config, blocks=blocks, vocabulary=vocabulary)

    def attend(
        self, regions: Tensor, region_mask: Tensor, words: Tensor, word_mask: Tensor
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """The tokens h~ of both sets after L blocks, and A of each: (B, m, d), (B, n, d), L x (B, s, s)."""
        m = regions.shape[1]
        joint = torch.cat([regions, words], dim=1)  # H (B, s, d)
        mask = torch.cat([region_mask, word_mask], dim=1)  # (B, s)
        attention = []
        for block in self.blocks:
            joint, weights = block(joint, mask, regions=m)
            attention.append(weights)
        return joint[:, :m], joint[:, m:], attention
