"""Matchers that align words and regions: scores of all pairs, stored collections, evidence.

Legend: I images, T texts, m regions, n words, d the joint size.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from han_retrieval.matchers.alignment import align, match, pool
from han_retrieval.matchers.config import AlignmentConfig
from han_retrieval.matchers.image_encoder import ImageEncoder
from han_retrieval.matchers.matcher import Evidence, Matcher, check_items
from han_retrieval.matchers.text_encoder import TextEncoder
from han_retrieval.scoring import Collection, Matching, Tokens, score_all_pairs
from han_retrieval.text import Vocabulary


class AligningMatcher(Matcher):
    """Encoders, rounds of attention or none, alignment and matching.

    Args:
        config: Sizes and options.
        blocks: The rounds of attention.
        vocabulary: The words that ids stand for; needed by ``words`` alone.
    """

    config: AlignmentConfig
    attention: ClassVar[str]  # how cosines become logits of the alignment: "cosine" or "clipped"

    def __init__(
        self, config: AlignmentConfig, *, blocks: Iterable[nn.Module] = (), vocabulary: Vocabulary | None = None
    ):
        super().__init__(
            config,
            ImageEncoder(config.input_size, config.joint_size),
            TextEncoder(config.vocabulary_size, config.word_size, config.joint_size),
            vocabulary=vocabulary,
        )
        self.blocks = nn.ModuleList(blocks)
        self._pool = partial(pool, pooling=config.pooling, temperature=config.lse_temperature)

    def attend(
        self, regions: Tensor, region_mask: Tensor, words: Tensor, word_mask: Tensor
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Tokens of B pairs as they are aligned, and A of each round: (B, m, d), (B, n, d), L x (B, s, s).

        Without attention, the tokens as they are.
        """
        return regions, words, []

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
        """Scores of all pairs from (I, m, d) and (T, n, d) tokens; see ``Matcher.score``."""
        region_mask, word_mask = region_mask.to(self.device), word_mask.to(self.device)
        self._check("image", image_tokens, region_mask)
        self._check("text", text_tokens, word_mask)
        if backend == "reference":
            images = image_tokens.masked_fill(~region_mask.unsqueeze(2), 0)
            columns = [
                self._forward_pairs(images, region_mask, tokens[mask])
                for tokens, mask in zip(text_tokens, word_mask, strict=True)
            ]
            return torch.stack(columns, dim=1) if columns else image_tokens.new_zeros(len(region_mask), 0)
        if backend != "gram":
            raise ValueError(f"backend must be 'gram' or 'reference'; got {backend!r}")
        return score_all_pairs(
            image_tokens,
            region_mask,
            text_tokens,
            word_mask,
            blocks=list(self.blocks),  # type: ignore[arg-type]
            matching=self._matching,
            precision=precision,
        )

    def store_images(
        self, image_tokens: Tensor | Tokens, region_mask: Tensor, *, storage: str = "float16"
    ) -> Collection:
        """Encoded images made ready for ``scores`` of one sentence after another.

        Args:
            image_tokens: (I, m, d), as ``encode_images`` gives them, or such that are stored already.
            region_mask: (I, m) bool, true where a region is.
            storage: How tokens are kept that are not: "float32", "float16", "bfloat16" or "int8".

        Returns:
            A collection whose ``scores`` takes a sentence's (n, d) tokens without padding and gives (I,) scores. The
            weights of this model's attention must stay as they are meanwhile.

        Raises:
            ValueError: Shapes that do not fit together, an item without any token, or an unknown storage.
        """
        region_mask = region_mask.to(self.device)
        self._check("image", image_tokens, region_mask)
        return self._store(image_tokens, region_mask, "images", storage)

    def store_texts(self, text_tokens: Tensor | Tokens, word_mask: Tensor, *, storage: str = "float16") -> Collection:
        """Encoded texts (T, n, d), (T, n), made ready for ``scores`` of one photo's (m, d) tokens after another's.

        As ``store_images``, with (T,) scores.
        """
        word_mask = word_mask.to(self.device)
        self._check("text", text_tokens, word_mask)
        return self._store(text_tokens, word_mask, "texts", storage)

    def alignment(self, image_tokens: Tensor, region_mask: Tensor, text_tokens: Tensor, word_mask: Tensor) -> Tensor:
        """alpha of B matching pairs: (B, m, d), (B, m), (B, n, d), (B, n) -> (B, n, m), differentiable.

        What each word gathers from the regions, also in a model that is scored by the regions' gathering.
        """
        region_mask, word_mask = region_mask.to(self.device), word_mask.to(self.device)
        regions, words, _ = self.attend(image_tokens, region_mask, text_tokens, word_mask)
        return self._align(words, regions, region_mask)

    def compare_images(self, query: Tensor, image_tokens: Tensor, region_mask: Tensor) -> Tensor:
        """How like one image others are, by their regions: the alignment and matching of the score, from set to set.

        Each region of the query gathers its picture from the regions of the other image; the score is the mean cosine
        of the two. The sets do not attend to each other first: that is learned for words and regions.

        Args:
            query: (s, d), the tokens of one image without padding.
            image_tokens: (I, m, d), those of others.
            region_mask: (I, m) bool.

        Returns:
            (I,) scores, at most 1.
        """
        region_mask = region_mask.to(self.device)
        self._check("image", image_tokens, region_mask)
        mean = partial(pool, pooling="mean", temperature=1.0)
        matching = Matching(self.config.alignment_temperature, "words", mean, self.attention)
        photos = Collection(image_tokens, region_mask, of="images", blocks=(), matching=matching, storage="float32")
        return photos.scores(query.to(self.device))

    def _store(self, tokens: Tensor | Tokens, mask: Tensor, of: str, storage: str) -> Collection:
        blocks = list(self.blocks)
        return Collection(tokens, mask, of=of, blocks=blocks, matching=self._matching, storage=storage)  # type: ignore[arg-type]

    @property
    def _matching(self) -> Matching:
        return Matching(self.config.alignment_temperature, self.config.alignment, self._pool, self.attention)

    def _check(self, kind: str, tokens: Tensor | Tokens, mask: Tensor) -> None:
        check_items(
            kind, tokens if isinstance(tokens, Tensor) else tokens.values, mask, (*mask.shape, self.config.joint_size)
        )

    def _align(self, gatherers: Tensor, sources: Tensor, source_mask: Tensor) -> Tensor:
        temperature = self.config.alignment_temperature
        return align(gatherers, sources, source_mask, temperature=temperature, attention=self.attention)

    def _forward_pairs(self, image_tokens: Tensor, region_mask: Tensor, text_tokens: Tensor) -> Tensor:
        """The formulas as they stand, one text (n, d) without padding with all images (I, m, d), (I, m): -> (I,)."""
        texts = text_tokens.expand(len(image_tokens), -1, -1)  # (I, n, d)
        word_mask = torch.ones_like(texts[..., 0], dtype=torch.bool)
        regions, words, _ = self.attend(image_tokens, region_mask, texts, word_mask)
        scores = []
        if self.config.alignment in ("words", "both"):
            alpha = self._align(words, regions, region_mask)
            scores.append(self._pool(match(words, regions, alpha), word_mask))
        if self.config.alignment in ("regions", "both"):
            alpha = self._align(regions, words, word_mask)
            scores.append(self._pool(match(regions, words, alpha), region_mask))
        return torch.stack(scores).mean(0)

    @torch.no_grad()
    def explain(self, regions: Tensor, words: Tensor) -> Evidence:
        """The evidence for one pair: (m, D) features and (n,) int64 ids, none of them padding.

        The evidence is the words' gathering, also in a model that is scored by the regions'.
        """
        there = torch.ones(1, len(regions), dtype=torch.bool, device=self.device)
        return self.explain_tokens(self.encode_images(regions.unsqueeze(0), there)[0], words)

    @torch.no_grad()
    def explain_tokens(self, image_tokens: Tensor, words: Tensor) -> Evidence:
        """As ``explain``, for an image that is encoded already: (m, d) tokens without padding and (n,) int64 ids."""
        images = image_tokens.to(self.device).unsqueeze(0)
        region_mask = torch.ones(images.shape[:2], dtype=torch.bool, device=self.device)
        word_mask = torch.ones(1, len(words), dtype=torch.bool, device=self.device)
        texts = self.encode_texts(words.unsqueeze(0), word_mask)
        attended_regions, attended_words, attention = self.attend(images, region_mask, texts, word_mask)
        alpha = self._align(attended_words, attended_regions, region_mask)
        s = len(image_tokens) + len(words)
        return Evidence(
            score=float(self._forward_pairs(images, region_mask, texts[0])),
            match=match(attended_words, attended_regions, alpha)[0].cpu(),
            alignment=alpha[0].cpu(),
            attention=torch.cat([torch.zeros(0, s, s), *(a.cpu() for a in attention)]),
        )
