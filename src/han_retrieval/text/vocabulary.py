"""The words that a model knows, and their ids."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from han_retrieval.errors import ModelError
from han_retrieval.files import write_whole
from han_retrieval.parsing import read_settings, shown
from han_retrieval.text.words import tokenize

PAD, START, END, UNK = 0, 1, 2, 3
SPECIAL_WORDS = ("<pad>", "<start>", "<end>", "<unk>")
VERSION = 1


@dataclass(frozen=True)
class Vocabulary:
    """The words that a model knows; a word's id is its position.

    Ids 0 to 3 are ``<pad>``, ``<start>``, ``<end>`` and ``<unk>``, as in SCAN (Lee et al., ECCV 2018).

    Attributes:
        words: Every word with the four special ones first, each once.
    """

    words: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.words[: len(SPECIAL_WORDS)] != SPECIAL_WORDS:
            raise ModelError(f"a vocabulary starts with {', '.join(SPECIAL_WORDS)}; this one with {self.words[:4]}")
        if len(self._ids) != len(self.words):
            word, times = Counter(self.words).most_common(1)[0]
            raise ModelError(f"the vocabulary has the word {word!r} {times} times; each word may occur once")

    @classmethod
    def from_sentences(cls, sentences: Iterable[str], *, min_count: int = 1) -> Vocabulary:
        """The words that occur at least ``min_count`` times in the sentences (those of training, no others).

        The most frequent word comes first, equally frequent ones in alphabetical order, so that the ids do not depend
        on the order of the sentences.
        """
        counts = Counter(word for sentence in sentences for word in tokenize(sentence))
        kept = sorted((word for word, count in counts.items() if count >= min_count), key=lambda w: (-counts[w], w))
        return cls(SPECIAL_WORDS + tuple(kept))

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {word: id_ for id_, word in enumerate(self.words)}

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: object) -> bool:
        return word in self._ids

    def __repr__(self) -> str:
        return f"Vocabulary({len(self)} words)"

    def id(self, word: str) -> int:
        """The id of a word; that of ``<unk>`` for an unknown one."""
        return self._ids.get(word, UNK)

    def save(self, path: str | Path) -> None:
        """Write the vocabulary as JSON; a reader finds the old file or the new one, never half of one."""
        write_whole(Path(path), self.to_json())

    def to_json(self) -> str:
        """What ``save`` writes."""
        return json.dumps({"version": VERSION, "words": self.words}, ensure_ascii=False, indent=0) + "\n"

    @classmethod
    def load(cls, path: str | Path) -> Vocabulary:
        """Read a vocabulary that ``save`` wrote, or SCAN's JSON (``word2idx``, ``idx2word``, ``idx``).

        Raises:
            ModelError: The file is missing, is no JSON, has another version, lacks a field, or holds a word twice.
        """
        content = read_settings(Path(path), kind=ModelError)
        try:
            return cls(_words_of(content))
        except ModelError as error:
            raise ModelError(f"{path}: {error}") from None


def _words_of(content: Any) -> tuple[str, ...]:
    if not isinstance(content, dict) or not content.keys() & {"words", "word2idx"}:
        raise ModelError("not a vocabulary: expected an object with the field 'words', or 'word2idx' as SCAN writes it")
    if "word2idx" in content:
        return _words_of_scan(content["word2idx"])
    if content.get("version") != VERSION:
        raise ModelError(f"vocabulary version {shown(content.get('version'))}; this program reads version {VERSION}")
    words = content["words"]
    if not isinstance(words, list) or not all(isinstance(word, str) and word for word in words):
        raise ModelError("the field 'words' must be a list of words")
    return tuple(words)


def _words_of_scan(ids: Any) -> tuple[str, ...]:
    if not isinstance(ids, dict) or not all(type(id_) is int for id_ in ids.values()):
        raise ModelError("the field 'word2idx' must give each word its number")
    if sorted(ids.values()) != list(range(len(ids))):
        raise ModelError(f"the numbers of 'word2idx' must be 0 to {len(ids) - 1}, each once")
    return tuple(sorted(ids, key=ids.__getitem__))
