"""Words that the model does not know: how much of a sentence they are, and what a search then says."""

from __future__ import annotations

import pytest

from han_retrieval.search.unknown import spelt_alike, unknown_share
from han_retrieval.text import Vocabulary, tokenize

# "a" is by far the most frequent word, and "quagga" of the rarest.
SENTENCES = ["a dog runs on a beach", "a dog on a running man", "a man in a hat", "a quagga"]
VOCABULARY = Vocabulary.from_sentences(SENTENCES)


def share(sentence: str) -> float:
    return unknown_share({word: word in VOCABULARY for word in tokenize(sentence)}, VOCABULARY)


def test_the_share_counts_rare_words_more():
    assert share("a dog on a beach") == 0
    assert share("ein Hund am Strand") == 1
    assert 0 < share("a zebra") < 1
    assert share("a zebra") > 0.5 > share("a dog runs with a man in a zebra hat")
    # As many words, the known one frequent or rare.
    assert share("a zebra") > share("quagga zebra") == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(
    ("words", "alike"),
    [
        (["runing"], {"runing": "running"}),
        (["runing", "baech"], {"runing": "running", "baech": "beach"}),
        (["selfie"], {}),
        (["dgo"], {}),
        (["runing", "hund", "schnee"], {}),  # no slip of the pen
        (["quaga", "quagg", "qagga", "quaggas", "quagaa", "quugga"], {}),  # nor are six of them
        ([], {}),
    ],
)
def test_known_words_that_are_spelt_alike(words, alike):
    assert spelt_alike(words, VOCABULARY) == alike
    assert spelt_alike(words, None) == {}


def test_a_vocabulary_of_one_word():
    one = Vocabulary.from_sentences(["dog"])
    assert unknown_share({"dog": True}, one) == 0
    assert unknown_share({"cat": False}, one) == 1
    assert spelt_alike(["dogs"], one) == {"dogs": "dog"}
