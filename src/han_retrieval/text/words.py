"""Split sentences into words by one regular expression."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import cache

# Typographic apostrophes and hyphens are written in ASCII, so that "man’s" and "man's" are the same words. Halves of
# characters, as of a cut emoji, are none: language models refuse them.
_FOLDED = str.maketrans(
    dict.fromkeys("\u2018\u2019\u02bc\uff07\u0060\u00b4", "'")
    | dict.fromkeys("\u2010\u2011", "-")
    | dict.fromkeys(map(chr, range(0xD800, 0xE000)), "\ufffd")
)


def tokenize(sentence: str) -> list[str]:
    """The words of a sentence, lower-cased, in order; punctuation, symbols and emoji are dropped.

    A word is a run of Unicode letters, digits and their combining marks. Within it stand
    hyphens and apostrophes between letters or digits ("t-shirt", "o'clock"), and full stops and commas between digits
    ("3.5", "1,000"). The English endings 's, 'd, 'm, 're, 've, 'll and n't are words of their own, as in the Penn
    Treebank, so "a man's hat" and the Flickr captions' "a man 's hat" are both ``a man 's hat``, and "isn't" is
    ``is n't``. The text is brought to Unicode's composed form (NFC) first. Joining the words by spaces and tokenizing
    again gives the same words.
    """
    text = sentence.translate(_FOLDED)
    if text.isascii():
        return _ASCII_WORD.findall(text.lower())
    return _unicode_word().findall(unicodedata.normalize("NFC", text.lower()))


def owners_of(sentences: Iterable[str], owners: Iterable[int]) -> list[frozenset[int]]:
    """For each sentence the owners of all that are the same, word by word, such as the photos that have a caption.

    Args:
        sentences: The sentences.
        owners: The owner of each.

    Example:
        >>> owners_of(["A dog.", "a cat", "a dog"], [0, 0, 1])
        [frozenset({0, 1}), frozenset({0}), frozenset({0, 1})]
    """
    words = [tuple(tokenize(sentence)) for sentence in sentences]
    found: dict[tuple[str, ...], set[int]] = {}
    for sentence, owner in zip(words, owners, strict=True):
        found.setdefault(sentence, set()).add(owner)
    frozen = {sentence: frozenset(each) for sentence, each in found.items()}
    return [frozen[sentence] for sentence in words]


def tokenize_in_place(sentence: str) -> tuple[str, list[tuple[int, int]]]:
    """The text in which ``tokenize`` finds the words of a sentence, and where: the words are ``text[start:end]``.

    The text keeps upper case, punctuation and all else that a language model may read; its lower-cased words are those
    of ``tokenize``. Where lower-casing moves characters, as it does a Turkish dotted I, the text is lower-cased.
    """
    folded = sentence.translate(_FOLDED)
    lowered = unicodedata.normalize("NFC", folded.lower())
    cased = unicodedata.normalize("NFC", folded)
    pattern = _ASCII_WORD if folded.isascii() else _unicode_word()
    same = cased.lower() == lowered and len(cased) == len(lowered)
    return cased if same else lowered, [match.span() for match in pattern.finditer(lowered)]


def tokenize_each(tokens: Iterable[str]) -> tuple[list[str], list[int]]:
    """The words of tokens that others made, each tokenized by itself, and the place of each token's first word.

    The places end with the number of words, so that token i has the words from ``starts[i]`` to ``starts[i + 1]``.
    """
    words: list[str] = []
    starts = [0]
    for token in tokens:
        words += tokenize(token)
        starts.append(len(words))
    return words, starts


def _word_pattern(marks: str) -> re.Pattern[str]:
    letter = r"[^\W_]"  # a letter or a digit
    part = rf"(?:[^\W_]|[{marks}])" if marks else letter
    ending = rf"'(?:s|d|m|re|ve|ll)(?!{part})"
    negation = rf"n't(?!{part})"
    run = rf"(?!{negation}){letter}(?:(?!{negation}){part})*"
    inside = rf"(?:(?!{ending})['-]|(?<=\d)[.,](?=\d))"
    return re.compile(rf"{ending}|{negation}|{run}(?:{inside}{run})*")


_ASCII_WORD = _word_pattern("")


@cache
def _unicode_word() -> re.Pattern[str]:
    # Marks are not in \w: without them "हिन्दी" would fall apart. U+FE00..FE0F only choose how an emoji looks.
    codes = (code for code in range(0x300, 0x20000) if not 0xFE00 <= code <= 0xFE0F)
    return _word_pattern("".join(chr(code) for code in codes if unicodedata.category(chr(code)) in ("Mn", "Mc")))
