"""The contract of matchers: what HAN and its peers share, and what a matcher from outside must have.

A matcher scores photos, given as sets of regions, against sentences. It is registered in the entry point group
``han_retrieval.matchers`` under the value of its configuration's field ``matcher``; ``han train --matcher NAME`` trains
it, and its saved folder works wherever a model is asked for. ``examples/plugins`` has a complete one.

Legend: I images, T texts, m regions, n words, D numbers a region feature, d the joint size.
"""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from han_retrieval import plugins
from han_retrieval.errors import ConfigError, ModelError, QueryError, first_line
from han_retrieval.matchers import saving
from han_retrieval.parsing import shown
from han_retrieval.text import EncodedSentence, Tokenizer, Vocabulary, WordTokenizer, pad_rows
from han_retrieval.text.language_model import same_language_model
from han_retrieval.text.tokenizer import check_length
from han_retrieval.weights import Unfilled

if TYPE_CHECKING:
    from han_retrieval.regions import RegionBatch


class MatcherConfig(BaseModel):
    """What every matcher's configuration has: frozen, unknown fields are refused.

    A matcher's own configuration is a subclass that fixes ``matcher`` and adds options.

    Attributes:
        matcher: The registered name.
        region_size: D, numbers per region feature. A training fills it in from the features.
        vocabulary_size: Word ids, the four special ones included. A training fills it in.
        word_size: Numbers per word embedding.
        joint_size: d, numbers per token in the space that regions and words share.
        text_encoder: The text encoder, by its registered name: "bigru", "gru", or a language model, "minilm",
            "hf:NAME" or "open_clip:NAME/PRETRAINED". The next four are of language models alone.
        text_backbone: Whether the language model is "frozen" or "trained" along; "layers" trains all of it but its
            embeddings of sub-words, which hold half of MiniLM's weights: saved models are smaller, and words that no
            training caption has stay where they were.
        text_layers: What its tokens come from: a learned "mix" of all its layers, or the "last" alone.
        text_head: What maps its tokens to d numbers: a Bi-"gru", or a "linear" map.
        text_encoder_fingerprint: The language model, with a hash of its files; filled in when the model is made.
        bos_eos: Whether <start> and <end> surround the words of a sentence.
        detector_fingerprint: The detector whose features it was trained on; None when unknown.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    # Former names of fields, for the message that refuses them; None for those that are gone.
    renamed: ClassVar[dict[str, str | None]] = {
        "boundary_words": "bos_eos",
        "box_geometry": None,
        "attention_start": None,
        "value_start": None,
    }

    matcher: str
    region_size: int = Field(default=0, ge=0)
    vocabulary_size: int = Field(default=0, ge=0)
    word_size: int = Field(default=300, gt=0)
    joint_size: int = Field(default=1024, gt=0)
    text_encoder: str = "bigru"
    text_backbone: Literal["frozen", "layers", "trained"] = "frozen"
    text_layers: Literal["mix", "last"] = "mix"
    text_head: Literal["gru", "linear"] = "gru"
    text_encoder_fingerprint: str | None = None
    bos_eos: bool = False
    detector_fingerprint: str | None = None

    @classmethod
    def resolve(cls, fields: Any) -> type[MatcherConfig]:
        """The class of the configuration that fields are of; fields that name no matcher are a HAN's.

        Raises:
            ConfigError: No matcher has that name, or what is registered under it is no matcher.
        """
        name = str(fields.get("matcher", "han")) if isinstance(fields, dict) else "han"
        return matcher_class(name).config_class


@dataclass(frozen=True)
class PairAlignment:
    """How the words of one sentence are aligned with the regions of one image; tensors on the CPU.

    Attributes:
        score: S.
        match: (n,) r, the cosine of each word and the regions that it is aligned with.
        alignment: (n, m) alpha, the weight of each region for each word; rows sum to 1.
        attention: (L, m + n, m + n) A of each block, regions first; rows sum to 1.
    """

    score: float
    match: Tensor
    alignment: Tensor
    attention: Tensor


class Matcher(nn.Module, ABC):
    """A model that scores images against texts: two encoders, and a score of what they give.

    A subclass sets ``config_class``, makes ``image_encoder`` and ``text_encoder`` (``make_text_encoder`` gives the one
    that the configuration names) and defines ``score``. It may define ``image_inputs``, ``encode_images``,
    ``encode_texts`` and ``explain`` anew. Its constructor takes ``(config, *, vocabulary=None)``.

    Args:
        config: Sizes and options.
        vocabulary: The words that ids stand for; without it the model takes ids alone, no sentences.

    Attributes:
        config_class: The class of its configuration.
        title, summary, tags: What a model card says of the matcher: a heading, what it does and after whom, and
            topics for a search.
        tokenizer: Sentences to ids; None without a vocabulary.

    Raises:
        ConfigError: ``region_size`` or ``vocabulary_size`` is not set.
        ModelError: The vocabulary is of another size than the configuration says.
    """

    config_class: ClassVar[type[MatcherConfig]]
    title: ClassVar[str] = "An image-text matcher"
    summary: ClassVar[str] = "Matches photos and sentences"
    tags: ClassVar[tuple[str, ...]] = ()

    image_encoder: nn.Module
    text_encoder: nn.Module

    def __init__(self, config: MatcherConfig, *, vocabulary: Vocabulary | None = None):
        super().__init__()
        for name in ("region_size", "vocabulary_size"):
            if not getattr(config, name):
                raise ConfigError(f"{name} is not set; a {config.matcher} needs to know it before it is made")
        if vocabulary is not None and len(vocabulary) != config.vocabulary_size:
            raise ModelError(
                f"the vocabulary has {len(vocabulary)} words and the configuration says vocabulary_size = "
                f"{config.vocabulary_size}: they belong to different models"
            )
        self.config = config
        self.vocabulary = vocabulary

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next((parameter.device for parameter in self.parameters()), torch.device("cpu"))

    @property
    def tokenizer(self) -> Tokenizer | None:
        """Sentences to ids: the text encoder's own, or words by the vocabulary; None where there is neither."""
        own: Tokenizer | None = getattr(self.text_encoder, "tokenizer", None)
        if own is None and self.vocabulary is not None:
            return WordTokenizer(self.vocabulary, self.config.bos_eos)
        return own

    def encode_sentence(self, sentence: str) -> EncodedSentence:
        """The ids and words of one sentence.

        Raises:
            ModelError: The model has no tokenizer, or one that gives a word no ids.
            QueryError: The sentence has no words, or more than ``MOST_WORDS``.
        """
        if self.tokenizer is None:
            raise ModelError("this model has no vocabulary.json, so it reads word ids only")
        encoded = self.tokenizer.encode(sentence)
        if not encoded.words and encoded.left_out:
            raise QueryError(f"the first word of {shown(sentence)} is longer than the text encoder can read")
        if not encoded.words:
            raise QueryError(f"no words in the sentence {sentence!r}")
        check_length((*encoded.words, *encoded.left_out), where=shown(sentence), kind=QueryError)
        if any(not 0 <= start < end <= len(encoded.ids) for start, end in encoded.spans):
            raise ModelError(f"the tokenizer of {self.config.text_encoder} gives a word of {sentence!r} no ids")
        return encoded

    def words(self, sentences: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Sentences to (T, n) int64 ids and their (T, n) bool mask, n the longest sentence's ids.

        Raises:
            ModelError: The model has no tokenizer.
            QueryError: A sentence has no words, or too many.
        """
        words, mask = pad_rows([torch.tensor(self.encode_sentence(sentence).ids) for sentence in sentences])
        return words.to(self.device), mask.to(self.device)

    def known_words(self, sentence: str) -> dict[str, bool]:
        """The sentence's words, each once and in order, and whether the model knows them.

        A word that no training caption had is unknown as well where the text encoder only ``guesses`` at it.

        Raises:
            ModelError: The model has no tokenizer.
            QueryError: The sentence has no words or too many, or its tokenizer knows none of them; one of sub-words
                knows every word.
        """
        encoded = self.encode_sentence(sentence)
        if not any(encoded.known):
            size = ""
            if isinstance(self.tokenizer, WordTokenizer):
                size = f": its vocabulary has {len(self.tokenizer.vocabulary):,} words"
            raise QueryError(f"the model knows none of the words in {sentence!r}{size}")
        known = encoded.known
        if self.vocabulary is not None and getattr(self.text_encoder, "guesses", False):
            known = tuple(word in self.vocabulary for word in encoded.words)
        found = dict(zip(encoded.words, known, strict=True))
        return found | {word: False for word in encoded.left_out if word not in found}

    def reads(self, sentence: str) -> bool:
        """Whether the model can read sentences and knows a word of this one."""
        return self.tokenizer is not None and any(self.tokenizer.encode(sentence).known)

    def image_inputs(self, batch: RegionBatch) -> tuple[Tensor, Tensor]:
        """What ``encode_images`` takes of photos that a store or a detector gave, and its mask.

        By default the regions, (I, m, D) and (I, m). A matcher that reads something else of a batch defines this anew.

        Raises:
            DataError: The batch does not have it.
        """
        return batch.features, batch.mask

    def encode_images(self, regions: Tensor, region_mask: Tensor) -> Tensor:
        """(I, m, D) features and (I, m) bool to (I, m, d) tokens, zero at padding; (I, 1, d) of a pooled matcher."""
        return self.image_encoder(regions.to(self.device), region_mask.to(self.device))  # type: ignore[no-any-return]

    def encode_texts(self, words: Tensor, word_mask: Tensor) -> Tensor:
        """(T, n) int64 ids and (T, n) bool to (T, n, d) tokens, zero at padding; (T, 1, d) of a pooled matcher.

        Where the text encoder has a row of ids for a word, as a language model does, ids are (T, n, s); one that is
        frozen takes its own tokens (T, n, F) in their place.
        """
        return self.text_encoder(words.to(self.device), word_mask.to(self.device))  # type: ignore[no-any-return]

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
        """Scores of all pairs of encoded items, differentiable; tokens and masks are on the model's device.

        Args:
            image_tokens: What ``encode_images`` gave for I images.
            region_mask: (I, m) bool, true where a region is.
            text_tokens: What ``encode_texts`` gave for T texts.
            word_mask: (T, n) bool, true where a word is.
            backend: "gram" (fast, the same to rounding) or "reference" (the plain forward of the formulas, d-wide, a
                caption at a time over all images). A matcher with one way to score takes both for it.
            precision: "bfloat16" to compute the large products of "gram" in it (one-way on the CPU: k.q alone), where
                the processor is faster in it and no gradient is asked for: scores move by some 1e-3.

        Returns:
            (I, T) scores; a pair's does not depend on the other pairs or on padding.

        Raises:
            ValueError: An unknown backend or precision, bfloat16 where the processor is not faster in it, shapes that
                do not fit together, or an item without any token.
        """

    def similarity(
        self, regions: Tensor, region_mask: Tensor, words: Tensor, word_mask: Tensor, *, backend: str = "gram"
    ) -> Tensor:
        """Scores of all pairs: (I, m, D), (I, m), (T, n) int64, (T, n) -> (I, T). See ``score``."""
        region_mask, word_mask = region_mask.to(self.device), word_mask.to(self.device)
        images, texts = self.encode_images(regions, region_mask), self.encode_texts(words, word_mask)
        return self.score(images, region_mask, texts, word_mask, backend=backend)

    def forward(self, regions: Tensor, region_mask: Tensor, words: Tensor, word_mask: Tensor) -> Tensor:
        """Scores of all pairs: (I, m, D), (I, m) bool, (T, n) int64, (T, n) bool -> (I, T), with gradients."""
        return self.similarity(regions, region_mask, words, word_mask)

    def explain(self, regions: Tensor, words: Tensor) -> PairAlignment:
        """The alignment of one pair: (m, D) features and (n,) int64 ids, none of them padding.

        Raises:
            ModelError: The matcher aligns no words with regions, as one that pools them.
        """
        raise ModelError(
            f"a {self.config.matcher} model aligns no words with regions, so it has no evidence by word and "
            "region; take a han, scan or maxsim model"
        )

    def alignments(self, regions: Tensor, sentences: Sequence[Tensor]) -> list[Tensor]:
        """The alignment of each of several sentences with one image: (m, D) features and (n,) ids each -> (n, m) each.

        Raises:
            ModelError: As ``explain``.
        """
        return [self.explain(regions, ids).alignment for ids in sentences]

    def named_config(self) -> MatcherConfig:
        """The configuration, with what finds the same language model again, where there is one."""
        encoder = self.text_encoder
        if not hasattr(encoder, "fingerprint"):
            return self.config
        name = getattr(encoder, "name", self.config.text_encoder)
        named = {"text_encoder": name, "text_encoder_fingerprint": encoder.fingerprint}
        return self.config.model_copy(update=named)

    def save_pretrained(self, folder: str | Path, *, card: str | None = None, half: bool = False) -> None:
        """Write config.json, model.safetensors, vocabulary.json, their checksums and, when given, the card, README.md.

        With ``half``, weights are rounded to float16: half the size, for what is sent to others.
        """
        saving.save_folder(Path(folder), self.named_config(), self.state_dict(), self.vocabulary, card=card, half=half)

    def push_to_hub(
        self,
        name: str,
        *,
        private: bool = False,
        message: str | None = None,
        card: str | None = None,
        **metadata: Any,
    ) -> str:
        """Upload the model to the Hugging Face Hub as ``user/name``; returns the commit's address.

        It takes the place of a model that is there. A backbone that was trained along is not among what is sent:
        ``han push FOLDER`` sends that, too.

        Args:
            name: ``user/name``.
            private: Whether a repository that is made is private.
            message: Of the commit.
            card: The README.md; a short one by default.
            metadata: Of the card: ``license``, ``language``, ``datasets``, ``results``.

        Raises:
            ModelError: The Hub refuses it, or cannot be reached, or the model there has a backbone that was trained.
        """
        from han_retrieval.matchers.sharing import push_folder

        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder, card=card)
            return push_folder(Path(folder), name, private=private, message=message, keeps_backbone=True, **metadata)

    @classmethod
    def from_pretrained(cls, folder: str | Path = saving.DEFAULT_MODEL) -> Self:
        """The model of a folder that ``save_pretrained`` wrote, in evaluation mode. No pickle is read.

        Args:
            folder: The model's; "default" is the HAN that ships.

        Raises:
            ModelError: A file is missing, damaged or not what it should be, or the folder is another matcher's.
        """
        folder = saving.model_folder(folder)
        config, state, vocabulary = saving.load_folder(folder, cls.config_class)
        model = cls._made_for_weights(folder, saving.with_language_model(folder, config), vocabulary)
        wanted, found = config.text_encoder_fingerprint, getattr(model.text_encoder, "fingerprint", None)
        if wanted is not None and not same_language_model(wanted, found):
            raise ModelError(
                f"{folder}: its text encoder {config.text_encoder} has changed since the model was trained (then "
                f"{wanted}, now {found}); get the former one back, or train anew"
            )
        saving.refuse_other_weights(folder, model.state_dict(), state)
        model.load_state_dict(state)
        return model.eval()

    @classmethod
    def _made_for_weights(cls, folder: Path, config: MatcherConfig, vocabulary: Vocabulary | None) -> Self:
        """A model whose weights are about to be loaded; without random ones first, where all its parts are ours."""
        try:
            encoder = plugins.find("text_encoders", config.text_encoder.partition(":")[0])
        except ConfigError as error:
            raise ModelError(f"{folder / saving.CONFIG}: {error}") from None
        if not (cls.__module__.startswith("han_retrieval.") and encoder.is_ours):
            return cls(config, vocabulary=vocabulary)
        try:
            with Unfilled():
                return cls(config, vocabulary=vocabulary)
        except (RuntimeError, TypeError, OverflowError) as error:  # of torch, which cannot have so much memory
            raise ModelError(
                f"{folder / saving.CONFIG}: a model of these sizes cannot be made ({first_line(error)})"
            ) from None


def matcher_class(name: str) -> type[Matcher]:
    """The registered matcher of this name.

    Raises:
        ConfigError: There is none, its package cannot be imported, or what is registered is no matcher.
    """
    found = plugins.load("matchers", name)
    if not (isinstance(found, type) and issubclass(found, Matcher)):
        raise ConfigError(f"the matcher {name!r} is registered as {found!r}, which is no subclass of Matcher")
    return found


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
