"""Visual-semantic embeddings: a photo and a sentence are one vector each, their score is the cosine.

VSE++ (Faghri et al., BMVC 2018), its image embedding being the mean of projected regions:

    o_i = W_r x_i + b_r,  v = l2norm(mean_i o_i)         ImageProjection, mean
    w_i = GRU(word_1 .. word_i),  c = l2norm(w_n)        GRU, last
    S = v . c

VSE-infinity (Chen et al., CVPR 2021), with a pooling operator that is learned for each side, and in the image encoder
the perceptron that the authors' code has for region features:

    o_i = W_r x_i + b_r + MLP(x_i),   v = l2norm(GPO_o({o_i}))
    w_i = (fwd_i + bwd_i) / 2,        c = l2norm(GPO_w({w_i}))
    S = v . c

Both papers train with the hardest negative (power = inf of the loss here), the second with some regions and words left
out at each step. Legend: I images, T texts, m regions, n words, d the joint size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from han_retrieval.matchers.base import Matcher, MatcherConfig, check_items
from han_retrieval.matchers.gpo import GPO, last, mean
from han_retrieval.scoring import PRECISIONS
from han_retrieval.scoring.alignment import unit_tokens
from han_retrieval.text import Vocabulary, make_text_encoder

Pooling = Callable[[Tensor, Tensor], Tensor]


class VSEConfig(MatcherConfig):
    """The configuration of a VSE++; its text encoder reads forwards alone."""

    matcher: Literal["vse++"] = "vse++"
    text_encoder: str = "gru"


class VSEInfinityConfig(MatcherConfig):
    """The configuration of a VSE-infinity; the defaults are the authors'.

    Attributes:
        position_size: Numbers that the pooling operators encode a position with, and their GRU's state has.
        pooling_temperature: What the logits of the weights of positions are divided by.
    """

    matcher: Literal["vse-infinity"] = "vse-infinity"
    position_size: int = Field(default=32, gt=0, multiple_of=2)
    pooling_temperature: float = Field(default=0.1, gt=0, allow_inf_nan=False)


class ImageProjection(nn.Module):
    """Region features to tokens that are not normalised: W_r x_i + b_r, or that and a perceptron.

    Args:
        region_size: D.
        joint_size: d.
        perceptron: Whether a perceptron of two layers is added, d / 2 wide and normalised over the regions of a batch
            while training, as the code of VSE-infinity has it.
    """

    def __init__(self, region_size: int, joint_size: int, *, perceptron: bool = False):
        super().__init__()
        self.projection = nn.Linear(region_size, joint_size)
        nn.init.xavier_uniform_(self.projection.weight)
        nn.init.zeros_(self.projection.bias)
        self.perceptron: nn.Module | None = None
        if perceptron:
            hidden = max(1, joint_size // 2)
            self.perceptron = nn.Sequential(
                nn.Linear(region_size, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, joint_size)
            )

    def forward(self, regions: Tensor, region_mask: Tensor) -> Tensor:
        """(I, m, D) features and (I, m) bool, true where a region is, to (I, m, d) tokens; zero at padding."""
        there = region_mask.unsqueeze(-1)
        regions = torch.where(there, regions, 0)
        tokens = self.projection(regions)  # (I, m, d)
        if self.perceptron is not None:
            added = torch.zeros_like(tokens)
            added[region_mask] = self.perceptron(regions[region_mask])  # padding is no part of a batch's statistics
            tokens = tokens + added
        return torch.where(there, tokens, 0)


def score_vectors(
    images: Tensor, texts: Tensor, masks: tuple[Tensor, Tensor], *, size: int, backend: str, precision: str
) -> Tensor:
    """The products (I, T) of a vector an image (I, 1, ``size``) and a vector a text (T, 1, ``size``).

    Backend and precision are those of ``Matcher.score``; one small product is the same for all of them.

    Raises:
        ValueError: An unknown backend or precision, or shapes that do not fit the masks of regions and words.
    """
    if backend not in ("gram", "reference"):
        raise ValueError(f"backend must be 'gram' or 'reference'; got {backend!r}")
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}; got {precision!r}")
    for kind, tokens, mask in zip(("image", "text"), (images, texts), masks, strict=True):
        check_items(kind, tokens, mask, (len(mask), 1, size))
    return images[:, 0] @ texts[:, 0].mT


class PooledMatcher(Matcher):
    """A matcher whose images and texts are one token each, of unit length.

    A subclass makes the encoders and the two poolings, each (B, t, d) tokens and their (B, t) mask to (B, d).

    Args:
        config: Sizes and options.
        vocabulary: The words that ids stand for; without it the model takes ids alone, no sentences.
    """

    tags = ("joint-embedding",)
    image_pooling: Pooling
    text_pooling: Pooling

    def encode_images(self, regions: Tensor, region_mask: Tensor) -> Tensor:
        """(I, m, D) features and (I, m) bool to (I, 1, d), a vector v of unit length an image."""
        tokens = super().encode_images(regions, region_mask)  # (I, m, d)
        return unit_tokens(self.image_pooling(tokens, region_mask.to(self.device)))[0].unsqueeze(1)

    def encode_texts(self, words: Tensor, word_mask: Tensor) -> Tensor:
        """(T, n) int64 ids and (T, n) bool to (T, 1, d), a vector c of unit length a text."""
        tokens = super().encode_texts(words, word_mask)  # (T, n, d)
        return F.normalize(self.text_pooling(tokens, word_mask.to(self.device)), dim=-1).unsqueeze(1)

    def score(
        self,
        image_tokens: Tensor,
        region_mask: Tensor,
        text_tokens: Tensor,
        word_mask: Tensor,
        *,
        backend: str = "gram",
        precision: str = "float32",
    ) -> Tensor:
        """S of all pairs from (I, 1, d) and (T, 1, d): one small product, the same for either backend and precision.

        See ``Matcher.score``.
        """
        masks, size = (region_mask, word_mask), self.config.joint_size
        return score_vectors(image_tokens, text_tokens, masks, size=size, backend=backend, precision=precision)


class VSE(PooledMatcher):
    """VSE++: the mean of the regions and the last state of a GRU over the words."""

    config_class = VSEConfig
    title = "A visual-semantic embedding"
    summary = (
        "Matches photos and sentences by a vector each: mean regions, and a GRU's last state (VSE++, Faghri et al., "
        "BMVC 2018)"
    )

    def __init__(self, config: VSEConfig, *, vocabulary: Vocabulary | None = None):
        super().__init__(config, vocabulary=vocabulary)
        self.image_encoder = ImageProjection(config.region_size, config.joint_size)
        self.text_encoder = make_text_encoder(config.text_encoder, config)
        self.image_pooling, self.text_pooling = mean, last


class VSEInfinity(PooledMatcher):
    """VSE-infinity: learned pooling operators over regions and over the states of a Bi-GRU."""

    config_class = VSEInfinityConfig
    title = "A visual-semantic embedding with learned pooling"
    summary = (
        "Matches photos and sentences by a vector each, pooled by learned operators (VSE-infinity, Chen et al., CVPR "
        "2021)"
    )

    def __init__(self, config: VSEInfinityConfig, *, vocabulary: Vocabulary | None = None):
        super().__init__(config, vocabulary=vocabulary)
        self.image_encoder = ImageProjection(config.region_size, config.joint_size, perceptron=True)
        self.text_encoder = make_text_encoder(config.text_encoder, config)
        self.image_pooling, self.text_pooling = (
            GPO(config.position_size, temperature=config.pooling_temperature) for _ in range(2)
        )
