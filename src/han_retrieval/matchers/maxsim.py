"""MaxSim, the late interaction of ColBERT (Khattab and Zaharia, SIGIR 2020), between the regions and words of a pair:

    o_i = l2norm(W_r x_i + b_r)                          image encoder
    w_j = l2norm of the text encoder's token             text encoder
    r_j = max_i cos(w_j, o_i)                            alignment: a word's region is the one most like it
    S   = mean of r_j

ColBERT and ColPali (Faysse et al., ICLR 2025) take the sum of r_j. The mean orders photos in the same way, and makes
the scores of long and short sentences comparable, which the loss and captions for a photo need.

With ``shared_space``, regions and words are compared as the towers give them, and nothing is trained:

    o_i = l2norm(x_i),  w_j = l2norm(frozen token j)

Legend: I images, T texts, B pairs, m regions, n words, D numbers a region feature, d the joint size.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from han_retrieval.errors import ConfigError
from han_retrieval.matchers.aligning import AligningMatcher
from han_retrieval.matchers.base import MatcherConfig
from han_retrieval.matchers.han import ImageEncoder, match, pool
from han_retrieval.matchers.pooled import make_untrained_text_encoder, refuse_unrelated
from han_retrieval.scoring import Matching
from han_retrieval.text import Vocabulary, make_text_encoder


class MaxSimConfig(MatcherConfig):
    """The configuration of a MaxSim.

    Attributes:
        shared_space: Whether regions and words are compared as two towers of one model give them, without parameters;
            the joint size is then that of the region features.
    """

    matcher: Literal["maxsim"] = "maxsim"
    shared_space: bool = False


_mean = partial(pool, pooling="mean", temperature=1.0)


class _SameSpace(nn.Module):
    """Region features to tokens: o_i = l2norm(x_i)."""

    def forward(self, regions: Tensor, region_mask: Tensor) -> Tensor:
        """(I, m, D) features and (I, m) bool to (I, m, D) tokens of unit length; zero at padding."""
        there = region_mask.unsqueeze(-1)
        return torch.where(there, F.normalize(torch.where(there, regions, 0), dim=-1), 0)


class MaxSim(AligningMatcher):
    """Encoders, and for each word the greatest cosine over the regions.

    Args:
        config: Sizes and options.
        vocabulary: The words that ids stand for; without it the model takes ids alone, no sentences.

    Raises:
        ConfigError: With ``shared_space``, the text encoder has no frozen tokens, they have another size than the
            region features, or they share no space.
    """

    config: MaxSimConfig
    config_class = MaxSimConfig
    title = "A late interaction matcher"
    summary = "Matches photos and sentences by the region most like each word (late interaction, as in ColBERT)"
    tags = ("late-interaction", "visual-grounding")
    attention = "max"
    learns_alignment = False
    match, pool = staticmethod(match), staticmethod(pool)

    def __init__(self, config: MaxSimConfig, *, vocabulary: Vocabulary | None = None):
        if config.shared_space:
            config = config.model_copy(update={"joint_size": config.region_size or config.joint_size})
        super().__init__(config, vocabulary=vocabulary)
        self.image_encoder: nn.Module
        if not config.shared_space:
            self.image_encoder = ImageEncoder(config.region_size, config.joint_size)
            self.text_encoder = make_text_encoder(config.text_encoder, config)
            return
        refuse_unrelated(config.detector_fingerprint, config.text_encoder, mend="leave shared_space out")
        self.image_encoder = _SameSpace()
        self.text_encoder = make_untrained_text_encoder(config, gives="frozen_tokens")
        size = self.text_encoder.frozen_size
        if size != config.region_size:
            raise ConfigError(
                f"shared_space: the tokens of {config.text_encoder} have {size} numbers and the region features "
                f"{config.region_size}, so they share no space; take the two towers of one model, or leave "
                "shared_space out to learn two maps"
            )

    def encode_texts(self, words: Tensor, word_mask: Tensor) -> Tensor:
        """(T, n) ids, or what else the encoder takes, and (T, n) bool to (T, n, d) of unit length; 0 at padding."""
        if not self.config.shared_space:
            return F.normalize(super().encode_texts(words, word_mask), dim=-1)
        tokens = words.to(self.device)
        if not tokens.is_floating_point():  # frozen tokens may have been computed before
            tokens = self.text_encoder.frozen_tokens(tokens, word_mask.to(self.device))  # type: ignore[operator]
        return torch.where(word_mask.to(self.device).unsqueeze(-1), F.normalize(tokens.float(), dim=-1), 0)

    def align(self, queries: Tensor, keys: Tensor, key_mask: Tensor) -> Tensor:
        """alpha of B pairs, 1 at the key that is most like the query: (B, q, d), (B, k, d), (B, k) -> (B, q, k)."""
        cosines = F.normalize(queries, dim=-1) @ F.normalize(keys, dim=-1).mT
        best = cosines.masked_fill(~key_mask.unsqueeze(1), -torch.inf).argmax(-1)
        return F.one_hot(best, keys.shape[1]).to(keys.dtype)

    def score_text(self, image_tokens: Tensor, region_mask: Tensor, text_tokens: Tensor) -> Tensor:
        """S of one text with all images, by the formulas: (I, m, d), (I, m), (n, d) without padding -> (I,)."""
        words = text_tokens.expand(len(image_tokens), -1, -1)  # (I, n, d)
        r = match(words, image_tokens, self.align(words, image_tokens, region_mask))  # (I, n)
        return _mean(r, torch.ones_like(r, dtype=torch.bool))

    @property
    def _matching(self) -> Matching:
        return Matching(1.0, "words", _mean, self.attention)
