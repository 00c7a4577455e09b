"""Words that no training caption had: how much of a sentence they are, what follows, and which known ones are alike.

Search, captions, evidence and the server take from here which sentences a model knows well enough.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from han_retrieval.errors import ModelError
from han_retrieval.matchers.saving import CARD
from han_retrieval.parsing import SETTINGS_BYTES, read_text
from han_retrieval.text.function_words import FUNCTION_WORDS
from han_retrieval.text.vocabulary import SPECIAL_WORDS, Vocabulary

if TYPE_CHECKING:
    from han_retrieval.matchers import Matcher


class KnowsWords(Protocol):
    """A model, or what else can tell the words that it knows."""

    @property
    def vocabulary(self) -> Vocabulary | None: ...  # noqa: D102

    def known_words(self, sentence: str) -> dict[str, bool]: ...  # noqa: D102


MOST_UNKNOWN = 0.5
"""The greatest share of a sentence that may be unknown words for its photos to count as matches.

Of the captions of Flickr8k's dev photos, 0.3 % have more; of 1,000 made-up sentences in six other languages, all.
"""
MUCH_UNKNOWN = 1 / 3
"""The greatest share of a sentence that may be unknown words for its scores to have a probability.

"an astronaut on the moon" has more where "astronaut" is unknown. So have 2.7 % of the captions of Flickr8k's dev
photos, which find their photo among the first ten for 52 % (up to a half unknown). Captions of which less is unknown do
so for 71 %, those of known words for 79 %.
"""
_ALIKE = 0.8  # of difflib's ratio: one letter more or less in "running"
_MOST_SLIPS = 5  # in a sentence; comparing a word with thousands takes milliseconds
_SHORT = 3  # letters of a word that is spelt like too many others
_TOLD = re.compile(r"^(knows|language):[ \t]*([^\s\[{|>&*!].{0,199})$", re.MULTILINE)  # in a card's metadata


def unknown_share(known: Mapping[str, bool], vocabulary: Vocabulary) -> float:
    """How much of a sentence is words that the model does not know, from 0 to 1.

    A word weighs the logarithm of its rank among the training's words, by how often they occur, so that "the" weighs
    little; unknown words weigh as the rarest one. Unknown words that name nothing, such as "the", do not count beside a
    known one that does: some models learned from captions without them.

    Args:
        known: The words of the sentence, and whether the model knows them; see ``Matcher.known_words``.
        vocabulary: The model's words, the most frequent ones first.
    """
    if any(there and word not in FUNCTION_WORDS for word, there in known.items()):
        known = {word: there for word, there in known.items() if there or word not in FUNCTION_WORDS}
    ranks = {word: max(2, vocabulary.id(word) - len(SPECIAL_WORDS) + 2) for word, there in known.items() if there}
    weights = {word: math.log(ranks.get(word, max(2, len(vocabulary)))) for word in known}
    return sum(weights[word] for word, there in known.items() if not there) / sum(weights.values())


def spelt_alike(unknown: Iterable[str], vocabulary: Vocabulary | None) -> dict[str, str]:
    """For each unknown word of a sentence the known one that is spelt most like it, such as "running" for "runing".

    Empty where one of them has none, or there are many: a sentence in another language has no slips of the pen.
    """
    words = vocabulary.words[len(SPECIAL_WORDS) :] if vocabulary else ()
    found: dict[str, str] = {}
    for word in unknown:
        near = [other for other in words if abs(len(other) - len(word)) <= 1]  # which "self" is not for "selfie"
        alike = difflib.get_close_matches(word, near, n=1, cutoff=_ALIKE) if len(word) > _SHORT else []
        if not alike or len(found) == _MOST_SLIPS:
            return {}
        found[word] = alike[0]
    return found


def is_mostly_unknown(model: KnowsWords, sentence: str) -> bool:
    """Whether more than half of a sentence is words that the model does not know, as of one in another language."""
    return share_unknown_to(model, sentence) > MOST_UNKNOWN


def share_unknown_to(model: KnowsWords, sentence: str) -> float:
    """How much of a sentence, of which a model knows a word, is words that it does not know; see ``unknown_share``."""
    return 0.0 if model.vocabulary is None else unknown_share(model.known_words(sentence), model.vocabulary)


def reads_whole(model: KnowsWords, sentence: str) -> bool:
    """Whether a model knows every word of a sentence that names something: all but "the", "of" and the like.

    Where it does not, a score rests on a guess at the word, or on the other words alone.
    """
    return all(there or word in FUNCTION_WORDS for word, there in model.known_words(sentence).items())


def reads_most(model: Matcher, sentence: str) -> bool:
    """Whether a model knows a word of a sentence, and at least half of it; others are refused, or left out."""
    return model.reads(sentence) and not is_mostly_unknown(model, sentence)


def what_is_known(folder: Path) -> str:
    """Which words the model of a folder knows, to follow "the model knows", by the metadata atop its card.

    That is what stands under ``knows``; of a card without it, the words of the training captions, with their
    ``language`` where the card names it.
    """
    try:
        card = read_text(folder / CARD, kind=ModelError, most=SETTINGS_BYTES)
    except ModelError:  # a model needs no card
        card = ""
    _, _, rest = card.partition("---\n") if card.startswith("---\n") else ("", "", "")
    told = {name: value.strip(" \t\"'") for name, value in _TOLD.findall(rest.partition("\n---")[0])}
    language = f" (language: {told['language']})" if told.get("language") else ""
    return told.get("knows") or f"the words of its training captions{language}"


def some_sentence(model: Matcher) -> str | None:
    """A sentence of which a model knows a word, to try it out; None where none is found."""
    words = () if model.vocabulary is None else model.vocabulary.words
    return next(filter(model.reads, (*words[:-10:-1], "a photo")), None)
