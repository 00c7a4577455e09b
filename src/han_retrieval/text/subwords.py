"""Sentences to the sub-words of a language model, a row of them for each word.

A row has ``ROW`` places. A place holds the id of a sub-word of the row's word, ``EMPTY``, or ``beside(id)``: a sub-word
that belongs to no word, such as a comma, which the language model reads where it stands and which is no part of the
word's token. So the language model reads every sentence as it was trained to, while there is one row, one mask entry
and one token a word. A word of more sub-words takes several rows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from han_retrieval.text.tokenizer import EncodedSentence
from han_retrieval.text.words import tokenize_in_place

if TYPE_CHECKING:
    from torch import Tensor

ROW = 8
"""Places of a row."""
EMPTY = -1
"""What an empty place holds."""
_BEFORE = 3  # sub-words before the first word, such as a quotation mark, that share its row; ones before are left out

# Scripts that put no space between words: Thai, Lao, Myanmar, Khmer, kana, Chinese characters.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)

Place = tuple[int, int]
"""Characters [start, end) of a text."""


Id = TypeVar("Id", int, "Tensor")


def beside(id_: Id) -> Id:
    """What a place holds for a sub-word that is part of no word; its own inverse."""
    return -2 - id_


class Subword(NamedTuple):
    """A sub-word of a text: its id, and the characters [start, end) that it stands for."""

    id: int
    start: int
    end: int


class TextSplitter:
    """A text to sub-words by a ``tokenizers.Tokenizer``; what looks like one of its special tokens is plain text."""

    def __init__(self, tokenizer: Any) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = True
        self.tokenizer = tokenizer

    def __call__(self, text: str) -> list[Subword]:
        """The sub-words of a text, in order."""
        found = self.tokenizer.encode(text, add_special_tokens=False)
        return [Subword(id_, start, end) for id_, (start, end) in zip(found.ids, found.offsets, strict=True)]


def start_and_end(tokenizer: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The ids that a ``tokenizers.Tokenizer`` without padding puts before and behind every sentence."""
    whole, plain = (tokenizer.encode("a", add_special_tokens=special).ids for special in (True, False))
    first = next(i for i in range(len(whole)) if whole[i : i + len(plain)] == plain)
    return tuple(whole[:first]), tuple(whole[first + len(plain) :])


@dataclass(frozen=True)
class SubwordTokenizer:
    """The words of ``tokenize``, each as rows of a language model's sub-words.

    In scripts without spaces between words, as Chinese, each sub-word is a word.

    Attributes:
        split: A text to its sub-words, in order, without those that begin and end every sentence.
        most: How many sub-words of a sentence the language model can read. Words behind them are left out.
        unknown: The id of what it does not know; None where it knows everything, letter by letter.
    """

    split: Callable[[str], Sequence[Subword]]
    most: int
    unknown: int | None = None

    def encode(self, sentence: str) -> EncodedSentence:
        """The rows of ids (n of ``ROW``) and words of a sentence; words that are cut off are in ``left_out``."""
        text, places = tokenize_in_place(sentence)
        subwords = self.split(text)
        places = [part for place in places for part in _parts(text, place, subwords)]
        lowered = text.lower()
        names = [lowered[start:end] for start, end in places]
        rows: list[list[int]] = []
        words: list[str] = []
        known: list[bool] = []
        spans: list[tuple[int, int]] = []
        read = 0
        for name, (before, own, after) in zip(names, _by_word(subwords, places), strict=True):
            new = _rows(before, own, after)
            read += sum(id_ != EMPTY for row in new for id_ in row)
            if read > self.most:
                return EncodedSentence(rows, tuple(words), tuple(known), tuple(spans), tuple(names[len(words) :]))
            if new:
                spans.append((len(rows), len(rows) + len(new)))
                known.append(self.unknown not in own)
            elif spans:  # within another word's sub-word, as the second of "don't" may be: it shares its row
                spans.append(spans[-1])
                known.append(known[-1])
            else:
                continue
            rows += new
            words.append(name)
        return EncodedSentence(rows, tuple(words), tuple(known), tuple(spans))


def _parts(text: str, place: Place, subwords: Sequence[Subword]) -> list[Place]:
    """A word as it is, or one of a script without spaces as its sub-words."""
    start, end = place
    if not _UNSPACED.search(text, start, end):
        return [place]
    parts: list[Place] = []
    for _, first, last in subwords:
        first, last = max(first, start), min(last, end)
        if parts and first < parts[-1][1]:  # of one character: its bytes, or its mark of a beginning
            parts[-1] = (parts[-1][0], max(parts[-1][1], last))
        elif first < last:
            parts.append((first, last))
    return parts or [place]


def _by_word(subwords: Sequence[Subword], places: Sequence[Place]) -> list[tuple[list[int], list[int], list[int]]]:
    """For each word the ids before it (of the first word alone), its own, and those behind it."""
    found: list[tuple[list[int], list[int], list[int]]] = [([], [], []) for _ in places]
    word = 0
    for id_, start, end in subwords:
        while word < len(places) and places[word][1] <= start:
            word += 1
        if word < len(places) and places[word][0] < end and start < end:
            found[word][1].append(id_)
        elif word:
            found[word - 1][2].append(id_)
        elif found:
            found[0][0].append(id_)
    return found


def _rows(before: list[int], own: list[int], after: list[int]) -> list[list[int]]:
    """The rows of a word, each with one of its own ids at least: what is beside it goes where there is room."""
    if not own:
        return []
    ids = [*map(beside, before[-_BEFORE:]), *own]
    room = -len(ids) % ROW
    ids += [*map(beside, after[:room])]
    ids += [EMPTY] * (-len(ids) % ROW)
    return [ids[first : first + ROW] for first in range(0, len(ids), ROW)]
