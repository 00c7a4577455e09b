"""What every matcher has: two encoders, a vocabulary, a folder on disk.

Legend: I images, T texts, m regions, n words, D numbers a region feature, d the joint size.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from han_retrieval.errors import HANError
from han_retrieval.matchers.config import MatcherConfig
from han_retrieval.matchers.image_encoder import ImageEncoder
from han_retrieval.matchers.saving import (
    DEFAULT_MODEL,
    load_folder,
    model_folder,
    refuse_other_weights,
    save_folder,
)
from han_retrieval.matchers.text_encoder import TextEncoder
from han_retrieval.text import Vocabulary, tokenize


@dataclass(frozen=True)
class Evidence:
    """Why one image and one sentence got their score; tensors on the CPU.

    Attributes:
        score: S.
        match: (n,) r_j, how well each word's own picture of the image fits it.
        alignment: (n, m) alpha, how much each word gathered from each region; rows sum to 1.
        attention: (L, m + n, m + n) A of each block, regions first; rows sum to 1.
    """

    score: float
    match: Tensor
    alignment: Tensor
    attention: Tensor


class Matcher(nn.Module, ABC):
    """Photos and sentences to tokens, and tokens to scores of all pairs.

    Args:
        config: Sizes and options.
        image_encoder: Regions to tokens.
        text_encoder: Words to tokens.
        vocabulary: The words that ids stand for; needed by ``words`` alone.
    """

    config_kind: ClassVar[type[MatcherConfig]]

    def __init__(
        self,
        config: MatcherConfig,
        image_encoder: ImageEncoder,
        text_encoder: TextEncoder,
        *,
        vocabulary: Vocabulary | None,
    ):
        super().__init__()
        if vocabulary is not None and len(vocabulary) != config.vocabulary_size:
            raise HANError(
                f"the vocabulary has {len(vocabulary)} words and the configuration says vocabulary_size = "
                f"{config.vocabulary_size}: they belong to different models"
            )
        self.config = config
        self.vocabulary = vocabulary
        self.image_encoder = image_encoder
        self.text_encoder = text_encoder

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.image_encoder.projection.weight.device

    def words(self, sentences: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Sentences to (T, n) int64 ids and their (T, n) bool mask, n the longest sentence's words.

        Raises:
            HANError: The model has no vocabulary, or a sentence has no words.
        """
        if self.vocabulary is None:
            raise HANError("this model has no vocabulary.json, so it reads word ids only")
        encoded = [self.vocabulary.encode(s, boundaries=self.config.boundary_words) for s in sentences]
        for sentence, ids in zip(sentences, encoded, strict=True):
            if len(ids) <= 2 * self.config.boundary_words:
                raise HANError(f"no words in the sentence {sentence!r}")
        length = max((len(ids) for ids in encoded), default=0)
        words = torch.zeros(len(encoded), length, dtype=torch.int64)
        for row, ids in zip(words, encoded, strict=True):
            row[: len(ids)] = torch.tensor(ids)
        lengths = torch.tensor([len(ids) for ids in encoded])
        mask = torch.arange(length).unsqueeze(0) < lengths.unsqueeze(1)
        return words.to(self.device), mask.to(self.device)

    def known_words(self, sentence: str) -> dict[str, bool]:
        """The sentence's words, each once and in order, and whether the vocabulary has them.

        Raises:
            HANError: The model has no vocabulary, or the sentence no word that is in it.
        """
        self.words([sentence])
        assert self.vocabulary is not None  # or words() had refused
        known = {word: word in self.vocabulary for word in tokenize(sentence)}
        if not any(known.values()):
            raise HANError(
                f"the model knows none of the words in {sentence!r}: its vocabulary has {len(self.vocabulary):,} words"
            )
        return known

    def reads(self, sentence: str) -> bool:
        """Whether there is a vocabulary that has a word of the sentence."""
        return self.vocabulary is not None and any(word in self.vocabulary for word in tokenize(sentence))

    def encode_images(self, regions: Tensor, region_mask: Tensor) -> Tensor:
        """(I, m, D) features and (I, m) bool to (I, m, d) tokens, zero at padding; (I, 1, d) of a pooled matcher."""
        return self.image_encoder(regions.to(self.device), region_mask.to(self.device))  # type: ignore[no-any-return]

    def encode_texts(self, words: Tensor, word_mask: Tensor) -> Tensor:
        """(T, n) int64 ids and (T, n) bool to (T, n, d) tokens, zero at padding; (T, 1, d) of a pooled matcher."""
        return self.text_encoder(words.to(self.device), word_mask.to(self.device))  # type: ignore[no-any-return]

    def similarity(
        self, regions: Tensor, region_mask: Tensor, words: Tensor, word_mask: Tensor, *, backend: str = "gram"
    ) -> Tensor:
        """Scores of all pairs: (I, m, D), (I, m), (T, n) int64, (T, n) -> (I, T). See ``score``."""
        return self.score(
            self.encode_images(regions, region_mask),
            region_mask,
            self.encode_texts(words, word_mask),
            word_mask,
            backend=backend,
        )

    @abstractmethod
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
        """Scores of all pairs of encoded items, differentiable.

        Args:
            image_tokens: What ``encode_images`` gave for I images.
            region_mask: (I, m) bool, true where a region is.
            text_tokens: What ``encode_texts`` gave for T texts.
            word_mask: (T, n) bool, true where a word is.
            backend: "gram" (fast, the same to rounding) or "reference" (the plain forward of the formulas, d-wide, a
                caption at a time over all images).
            precision: "bfloat16" to compute the large products of "gram" in it, where the processor can and no gradient
                is asked for: scores move by some 1e-3.

        Returns:
            (I, T) scores; a pair's does not depend on the other pairs or on padding.

        Raises:
            ValueError: An unknown backend or precision, bfloat16 where the processor has none, shapes that do not fit
                together, or an item without any token.
        """

    @abstractmethod
    def explain(self, regions: Tensor, words: Tensor) -> Evidence:
        """The evidence for one pair: (m, D) features and (n,) int64 ids, none of them padding.

        Raises:
            HANError: The matcher has none.
        """

    def save_pretrained(self, folder: str | Path, *, card: str | None = None, half: bool = False) -> None:
        """Write config.json, model.safetensors, vocabulary.json and, when given, the card as README.md.

        With ``half``, weights are rounded to float16: half the size, for what is sent to others.
        """
        save_folder(Path(folder), self.config, self.state_dict(), self.vocabulary, card=card, half=half)

    @classmethod
    def from_pretrained(cls, folder: str | Path = DEFAULT_MODEL) -> Self:
        """The model of a folder that ``save_pretrained`` wrote, in evaluation mode. No pickle is read.

        Args:
            folder: The model's; "default" is the HAN that ships.

        Raises:
            HANError: A file is missing or not what it should be, or the folder is another matcher's.
        """
        folder = model_folder(folder)
        config, state, vocabulary = load_folder(folder, cls.config_kind)
        model = cls(config, vocabulary=vocabulary)  # type: ignore[call-arg]
        refuse_other_weights(folder, model.state_dict(), state)
        model.load_state_dict(state)
        return model.eval()


def check_items(kind: str, tokens: Tensor, mask: Tensor, shape: tuple[int, ...]) -> None:
    """See that tokens have the shape that their mask asks for, and each item a token.

    Raises:
        ValueError: They have not, or the mask is none.
    """
    if mask.ndim != 2 or tokens.shape != shape:
        raise ValueError(
            f"{kind} tokens must be {shape} and their mask (items, tokens); "
            f"got {tuple(tokens.shape)} and {tuple(mask.shape)}"
        )
    if mask.dtype != torch.bool:
        raise ValueError(f"the {kind} mask must be bool; got {mask.dtype}")
    empty = (~mask.any(1)).nonzero()
    if len(empty):
        raise ValueError(f"{kind} {int(empty[0])} has no token: its mask is all false")
