"""Words that the model does not know: how much of a sentence they are, and what a search then says."""

from __future__ import annotations

import pytest
from tiny_index import make_model

from han_retrieval.matchers import load_matcher
from han_retrieval.matchers.saving import model_folder
from han_retrieval.search.unknown import reads_most, reads_whole, spelt_alike, unknown_share, what_is_known
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


def test_a_sentence_is_known_whole_or_for_the_most_part(tmp_path):
    model = load_matcher(make_model(tmp_path / "model"))  # knows: a, red, blue, dog, cat
    assert reads_whole(model, "the red dog of a cat")  # "the" and "of" name nothing
    assert not reads_whole(model, "a red dog and a blue zebra")
    assert reads_most(model, "a red dog and a blue zebra")
    for sentence in ("a zebra", "zebra", "..."):
        assert not reads_most(model, sentence)


@pytest.mark.parametrize(
    ("card", "known"),
    [
        (None, "the words of its training captions"),
        ("# A model\n\nlanguage: of no metadata\n", "the words of its training captions"),
        ("---\ntags: [x]\nlanguage: de\n---\n\nknows: nothing\n", "the words of its training captions (language: de)"),
        ("---\nlanguage:\n- de\n- en\n---\n", "the words of its training captions"),
        ('---\nlanguage: de\nknows: "German words for birds"\n---\n', "German words for birds"),
        (f"---\nknows: {'x' * 1000}\n---\n", "the words of its training captions"),
    ],
)
def test_a_card_says_what_its_model_knows(tmp_path, card, known):
    if card is not None:
        (tmp_path / "README.md").write_text(card)
    assert what_is_known(tmp_path) == known


def test_the_model_that_ships_says_what_it_knows():
    assert what_is_known(model_folder("default")) == "English words for everyday scenes"
