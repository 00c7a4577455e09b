"""Matchers that align words with regions: fast scores of all pairs, stored collections, the alignment of one pair.

HAN, SCAN and MaxSim say which of the scoring engine's formulas are theirs. Other matchers are scored by their own, one
text after another.

Legend: I images, T texts, B pairs, m regions, n words, d the joint size, L blocks.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from han_retrieval.matchers.base import Matcher, MatcherConfig, PairAlignment, check_items
from han_retrieval.scoring import Collection, Matching, Tokens, score_all_pairs
from han_retrieval.text import pad_rows

_FORMULAS = frozenset({"attend", "align", "match", "score_text"})
_UNREAD = Matching(1.0, "words", lambda matches, _: matches.mean(-1))  # where a matcher's own formulas score


class AlignmentConfig(MatcherConfig):
    """The options that HAN and SCAN share.

    Attributes:
        alignment_temperature: lambda, the factor on the alignment's logits before the soft-max.
        alignment: What is aligned: the "words", each with the regions (the paper's direction), the "regions", each with
            the words, or "both", whose score is the mean of the two.
        pooling: How the matches r_i become one score: their mean, or log-sum-exp at ``lse_temperature``.
        lse_temperature: Factor on r_i inside the log-sum-exp.
    """

    alignment_temperature: float = Field(default=9.0, gt=0, allow_inf_nan=False)
    alignment: Literal["words", "regions", "both"] = "words"
    pooling: Literal["mean", "lse"] = "mean"
    lse_temperature: float = Field(default=6.0, gt=0, allow_inf_nan=False)


class AligningMatcher(Matcher):
    """A matcher whose score comes from the alignment of words with regions.

    A subclass defines ``align``, ``match``, ``pool`` and ``score_text``, and ``attend`` where its sets attend to each
    other first. All scores come from ``score_text``, text after text, unless the class says by ``attention`` that the
    engine knows its formulas.

    Args:
        config: Sizes and options.
        vocabulary: The words that ids stand for; without it the model takes ids alone, no sentences.

    Attributes:
        blocks: L blocks of heterogeneous attention; none by default.
        attention: How the engine makes logits of the alignment from cosines: "cosine" as they are (HAN), or "clipped"
            (SCAN); "max" (MaxSim) aligns a word with one region. None where the engine does not know the formulas, as
            in any class that defines one of them and no ``attention``.
        learns_alignment: Whether ``alignment`` has a gradient, for the alignment loss.
    """

    attention: ClassVar[str | None] = None
    learns_alignment: ClassVar[bool] = True
    blocks: nn.ModuleList

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "attention" not in vars(cls) and not _FORMULAS.isdisjoint(vars(cls)):
            cls.attention = None  # that of a parent is of other formulas

    def attend(
        self, regions: Tensor, region_mask: Tensor, words: Tensor, word_mask: Tensor
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Final tokens of B pairs, and A of each block: (B, m, d), (B, n, d), L x (B, s, s).

        Without attention, the tokens as they are.
        """
        return regions, words, []

    @abstractmethod
    def align(self, queries: Tensor, keys: Tensor, key_mask: Tensor) -> Tensor:
        """alpha of B pairs: (B, q, d), (B, k, d), (B, k) -> (B, q, k); rows sum to 1 over valid keys."""

    @staticmethod
    @abstractmethod
    def match(queries: Tensor, keys: Tensor, alpha: Tensor) -> Tensor:
        """r of B pairs: (B, q, d), (B, k, d), (B, q, k) -> (B, q)."""

    @staticmethod
    @abstractmethod
    def pool(matches: Tensor, mask: Tensor, *, pooling: str, temperature: float) -> Tensor:
        """S of pairs from r: (..., q), (..., q) -> (...)."""

    @abstractmethod
    def score_text(self, image_tokens: Tensor, region_mask: Tensor, text_tokens: Tensor) -> Tensor:
        """S of one text with all images, by the formulas: (I, m, d), (I, m), (n, d) without padding -> (I,)."""

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
        if torch.is_autocast_enabled(self.device.type):  # which encodes some in half the bits; the engine does not
            whole = torch.promote_types(torch.promote_types(image_tokens.dtype, text_tokens.dtype), torch.float32)
            image_tokens, text_tokens = image_tokens.to(whole), text_tokens.to(whole)
        if backend not in ("gram", "reference"):
            raise ValueError(f"backend must be 'gram' or 'reference'; got {backend!r}")
        if backend == "reference" or self.attention is None:
            images = image_tokens.masked_fill(~region_mask.unsqueeze(2), 0)
            columns = [
                self.score_text(images, region_mask, tokens[mask])
                for tokens, mask in zip(text_tokens, word_mask, strict=True)
            ]
            return torch.stack(columns, dim=1) if columns else image_tokens.new_zeros(len(region_mask), 0)
        return score_all_pairs(
            image_tokens,
            region_mask,
            text_tokens,
            word_mask,
            blocks=self._blocks,  # type: ignore[arg-type]
            matching=self._matching,
            precision=precision,
        )

    def store_images(
        self, image_tokens: Tensor | Tokens, region_mask: Tensor, *, storage: str = "float16", wait: bool = True
    ) -> Collection:
        """Encoded images, ready to be scored against one sentence after another.

        Args:
            image_tokens: (I, m, d), as ``encode_images`` gives them, or tokens that are stored already.
            region_mask: (I, m) bool, true where a region is.
            storage: How tokens are kept that are not stored yet: "float32", "float16", "bfloat16" or "int8".
            wait: Whether to wait for kernels that are not loaded or compiled yet; else plain torch scores meanwhile.

        Returns:
            A collection whose ``scores`` takes a sentence's (n, d) tokens without padding and gives (I,) scores. The
            weights of this model's attention must not change while it is in use.

        Raises:
            ValueError: Shapes that do not fit together, an item without any token, or an unknown storage.
        """
        region_mask = region_mask.to(self.device)
        self._check("image", image_tokens, region_mask)
        return self._store(image_tokens, region_mask, "images", storage, wait=wait)

    def store_texts(self, text_tokens: Tensor | Tokens, word_mask: Tensor, *, storage: str = "float16") -> Collection:
        """Encoded texts (T, n, d), (T, n), ready to be scored against one image's (m, d) tokens after another's.

        As ``store_images``, with (T,) scores.
        """
        word_mask = word_mask.to(self.device)
        self._check("text", text_tokens, word_mask)
        return self._store(text_tokens, word_mask, "texts", storage)

    def alignment(self, image_tokens: Tensor, region_mask: Tensor, text_tokens: Tensor, word_mask: Tensor) -> Tensor:
        """alpha of B matching pairs: (B, m, d), (B, m), (B, n, d), (B, n) -> (B, n, m), differentiable.

        It is the words' alignment with the regions, also in a model that is scored by the regions'.
        """
        region_mask, word_mask = region_mask.to(self.device), word_mask.to(self.device)
        regions, words, _ = self.attend(image_tokens, region_mask, text_tokens, word_mask)
        return self.align(words, regions, region_mask)

    def compare_images(self, query: Tensor, image_tokens: Tensor | Tokens, region_mask: Tensor) -> Tensor:
        """How alike images are to one image, by their regions.

        Each region of the query is aligned with the regions of the other image; the score is the mean cosine of the
        two. The sets do not attend to each other first: that is learned for words and regions.

        Args:
            query: (s, d), the tokens of one image without padding.
            image_tokens: (I, m, d), those of others; they may be stored.
            region_mask: (I, m) bool.

        Returns:
            (I,) scores, at most 1.
        """
        region_mask = region_mask.to(self.device)
        self._check("image", image_tokens, region_mask)
        mean = partial(self.pool, pooling="mean", temperature=1.0)
        if self.attention is None:
            tokens = image_tokens if isinstance(image_tokens, Tensor) else image_tokens.load()
            images = tokens.to(self.device).masked_fill(~region_mask.unsqueeze(2), 0)
            queries = query.to(images).expand(len(images), -1, -1)  # (I, s, d)
            r = self.match(queries, images, self.align(queries, images, region_mask))  # (I, s)
            return mean(r, torch.ones_like(r, dtype=torch.bool))
        matching = replace(self._matching, direction="words", pool=mean)
        photos = Collection(
            image_tokens, region_mask, of="images", blocks=(), matching=matching, storage="float32", wait=False
        )
        return photos.scores(query.to(self.device))

    @torch.no_grad()
    def explain(self, regions: Tensor, words: Tensor) -> PairAlignment:
        """The alignment of one pair: (m, D) features and (n,) int64 ids, none of them padding.

        It is the words' alignment with the regions, also in a model that is scored by the regions'.
        """
        there = torch.ones(1, len(regions), dtype=torch.bool, device=self.device)
        return self.explain_tokens(self.encode_images(regions.unsqueeze(0), there)[0], words)

    @torch.no_grad()
    def explain_tokens(self, image_tokens: Tensor, words: Tensor) -> PairAlignment:
        """As ``explain``, for an image that is encoded already: (m, d) tokens without padding and (n,) int64 ids."""
        images = image_tokens.to(self.device).unsqueeze(0)
        region_mask = torch.ones(images.shape[:2], dtype=torch.bool, device=self.device)
        word_mask = torch.ones(1, len(words), dtype=torch.bool, device=self.device)
        texts = self.encode_texts(words.unsqueeze(0), word_mask)
        regions, attended, attention = self.attend(images, region_mask, texts, word_mask)
        alpha = self.align(attended, regions, region_mask)
        s = len(image_tokens) + len(words)
        return PairAlignment(
            score=float(self.score_text(images, region_mask, texts[0])),
            match=self.match(attended, regions, alpha)[0].cpu(),
            alignment=alpha[0].cpu(),
            attention=torch.cat([torch.zeros(0, s, s), *(a.cpu() for a in attention)]),
        )

    @torch.no_grad()
    def alignments(self, regions: Tensor, sentences: Sequence[Tensor]) -> list[Tensor]:
        """The alignment of each of several sentences with one image, all at once; see ``Matcher.alignments``."""
        if not sentences:
            return []
        words, word_mask = pad_rows(sentences)
        region_mask = torch.ones(len(words), len(regions), dtype=torch.bool)
        images = self.encode_images(regions.unsqueeze(0), region_mask[:1]).expand(len(words), -1, -1)
        alpha = self.alignment(images, region_mask, self.encode_texts(words, word_mask), word_mask).cpu()
        return [rows[: len(ids)] for rows, ids in zip(alpha, sentences, strict=True)]

    def _store(self, tokens: Tensor | Tokens, mask: Tensor, of: str, storage: str, *, wait: bool = True) -> Collection:
        if self.attention is None:
            return Collection(tokens, mask, of=of, blocks=(), matching=_UNREAD, storage=storage, score=self.score)
        return Collection(
            tokens, mask, of=of, blocks=self._blocks, matching=self._matching, storage=storage, wait=wait  # type: ignore[arg-type]
        )  # fmt: skip

    @property
    def _blocks(self) -> list[nn.Module]:
        return list(getattr(self, "blocks", ()))

    @property
    def _matching(self) -> Matching:
        config = self.config
        if self.attention is None or not isinstance(config, AlignmentConfig):  # unless a subclass defines this anew
            raise TypeError(
                f"{type(self).__name__}: the engine scores classes with an attention, whose configuration is an "
                "AlignmentConfig"
            )
        pool = partial(self.pool, pooling=config.pooling, temperature=config.lse_temperature)
        return Matching(config.alignment_temperature, config.alignment, pool, self.attention)

    def _check(self, kind: str, tokens: Tensor | Tokens, mask: Tensor) -> None:
        check_items(
            kind, tokens if isinstance(tokens, Tensor) else tokens.values, mask, (*mask.shape, self.config.joint_size)
        )
