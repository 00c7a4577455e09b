"""Sentences to the ids that a text encoder takes, and which of these ids belong to which word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from han_retrieval.errors import DataError, HANError, ModelError
from han_retrieval.text.vocabulary import END, START, UNK, Vocabulary
from han_retrieval.text.words import tokenize

if TYPE_CHECKING:
    from torch import Tensor

MOST_WORDS = 500
"""Of a sentence, and of all sentences of a query together."""

Ids = list[int] | list[list[int]]


class EncodedSentence(NamedTuple):
    """One sentence as a text encoder takes it.

    Attributes:
        ids: n ids, or n rows of ids where a tokenizer gives several for a word.
        words: The sentence's words, in order.
        known: For each word whether the tokenizer knows it.
        spans: For each word its ids: ``ids[start:end]``. Ids in no span (start and end of a sentence) are no words.
        left_out: The words at the end of a sentence that is too long for the text encoder.
    """

    ids: Ids
    words: tuple[str, ...]
    known: tuple[bool, ...]
    spans: tuple[tuple[int, int], ...]
    left_out: tuple[str, ...] = ()

    def per_word(self, rows: Tensor) -> Tensor:
        """Rows of ids (n, ...) as rows of words (w, ...): the mean over each word's ids."""
        import torch

        if not self.spans:
            return rows[:0]
        return torch.stack([rows[start:end].mean(0) for start, end in self.spans])


def check_words(encoded: EncodedSentence, words: Sequence[str]) -> None:
    """Check that a tokenizer finds the words in a sentence by which annotations count; it may leave out the last ones.

    Raises:
        ModelError: It finds others.
    """
    found = [word.lower() for word in encoded.words]
    if found != list(words[: len(found)]):
        raise ModelError(
            f"the tokenizer of this text encoder finds the words {' | '.join(found)} where phrases are annotated by "
            f"{' | '.join(words)}: to be used with phrases it must take the words of han_retrieval.text.tokenize"
        )


def check_length(words: Sequence[str], *, where: str, kind: type[HANError] = DataError) -> None:
    """Check that a sentence has at most ``MOST_WORDS`` words; time and memory grow with their square.

    Raises:
        HANError: It has more, of the class ``kind``.
    """
    if len(words) > MOST_WORDS:
        raise kind(f"{where}: {len(words):,} words; a sentence may have {MOST_WORDS}")


def pad_rows(items: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """T items of (n, ...) rows, such as the ids of sentences, as (T, n, ...), zero at padding, and the mask (T, n)."""
    import torch
    from torch import nn

    if not items:
        return torch.zeros(0, 0, dtype=torch.int64), torch.zeros(0, 0, dtype=torch.bool)
    padded = nn.utils.rnn.pad_sequence(list(items), batch_first=True)
    return padded, torch.arange(padded.shape[1]) < torch.tensor([len(each) for each in items]).unsqueeze(1)


class Tokenizer(Protocol):
    """Sentences to ids. A text encoder that has one of its own carries it as its attribute ``tokenizer``."""

    def encode(self, sentence: str) -> EncodedSentence:
        """The ids and words of a sentence.

        Each word has at least one id: words of which nothing is left, as where a long sentence is cut off, are left
        out. A sentence without words has empty ``words``, whatever its ids are. To learn from and to ground annotated
        phrases, words must be those of ``tokenize``.
        """
        ...


@dataclass(frozen=True)
class WordTokenizer:
    """One id a word, by a vocabulary; the tokenizer of the recurrent text encoders.

    Attributes:
        vocabulary: The words that have an id; others are ``<unk>``.
        bos_eos: Whether ids begin with ``<start>`` and end with ``<end>``.

    Example:
        >>> tokenizer = WordTokenizer(Vocabulary.from_sentences(["a red ball"]), bos_eos=True)
        >>> tokenizer.encode("a red car").ids
        [1, 4, 6, 3, 2]
    """

    vocabulary: Vocabulary
    bos_eos: bool = False

    def encode(self, sentence: str) -> EncodedSentence:
        """The ids and words of a sentence."""
        words = tuple(tokenize(sentence))
        ids = [self.vocabulary.id(word) for word in words]
        first = int(self.bos_eos)
        spans = tuple((first + i, first + i + 1) for i in range(len(words)))
        known = tuple(id_ != UNK for id_ in ids)
        return EncodedSentence([START, *ids, END] if self.bos_eos else ids, words, known, spans)
