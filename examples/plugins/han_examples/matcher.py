"""A matcher: each word takes its most similar region; the score is the mean of these cosines."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from han_retrieval.matchers import Matcher, MatcherConfig
from han_retrieval.text import Vocabulary, make_text_encoder


class BestRegionConfig(MatcherConfig):
    """What every matcher's configuration has, and one option."""

    matcher: Literal["best-region"] = "best-region"
    hidden_size: int = 64


class BestRegion(Matcher):
    """Region features through a small perceptron, words through the text encoder, then late interaction."""

    config_class = BestRegionConfig

    def __init__(self, config: BestRegionConfig, *, vocabulary: Vocabulary | None = None):
        super().__init__(config, vocabulary=vocabulary)
        sizes = config.region_size, config.hidden_size, config.joint_size
        self.image_encoder = nn.Sequential(nn.Linear(*sizes[:2]), nn.ReLU(), nn.Linear(*sizes[1:]))
        self.text_encoder = make_text_encoder(config.text_encoder, config)

    def encode_images(self, regions: Tensor, region_mask: Tensor) -> Tensor:
        """(I, m, D), (I, m) -> (I, m, d), zero at padding."""
        there = region_mask.unsqueeze(-1).to(self.device)
        return F.normalize(self.image_encoder(torch.where(there, regions.to(self.device), 0)), dim=-1) * there

    def score(self, image_tokens, region_mask, text_tokens, word_mask, *, backend="gram", precision="float32"):
        """(I, m, d), (I, m), (T, n, d), (T, n) -> (I, T)."""
        cosines = torch.einsum("imd,tnd->itnm", image_tokens, F.normalize(text_tokens, dim=-1))
        best = cosines.masked_fill(~region_mask[:, None, None].to(self.device), -torch.inf).amax(-1)  # (I, T, n)
        return (best * word_mask.to(self.device)).sum(-1) / word_mask.to(self.device).sum(-1)
