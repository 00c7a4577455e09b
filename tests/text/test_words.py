from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from han_retrieval.text import tokenize
from han_retrieval.text.words import tokenize_in_place

# Letters with the signs that the tokenizer treats in its own way, so that hypothesis meets them often.
SENTENCES = st.one_of(st.text(), st.text("abnst'’-.,0123 \u0301\u0327éİßΣ👍_\n", max_size=30))


@settings(deadline=None)
@given(SENTENCES)
def test_words_are_lower_case_without_space_and_never_empty(sentence: str) -> None:
    for word in tokenize(sentence):
        assert word
        assert word == word.lower()
        assert not any(character.isspace() for character in word)
        assert any(character.isalnum() for character in word)


@settings(deadline=None)
@given(SENTENCES)
def test_tokenizing_the_joined_words_changes_nothing(sentence: str) -> None:
    words = tokenize(sentence)
    assert tokenize(" ".join(words)) == words


@settings(deadline=None)
@given(SENTENCES)
def test_case_does_not_matter_in_ascii(sentence: str) -> None:
    sentence = sentence.encode("ascii", "ignore").decode()
    assert tokenize(sentence) == tokenize(sentence.upper())


@settings(deadline=None)
@given(st.lists(SENTENCES))
def test_sentences_apart_or_joined_by_a_space_give_the_same_words(sentences: list[str]) -> None:
    apart = [word for sentence in sentences for word in tokenize(sentence)]
    assert tokenize(" | ".join(sentences)) == apart


@pytest.mark.parametrize(
    ("sentence", "words"),
    [
        ("A dog runs .", "a dog runs"),
        ("A man's hat", "a man 's hat"),
        ("A man 's hat", "a man 's hat"),
        ("the man’s hat", "the man 's hat"),
        ("the dogs' toys", "the dogs toys"),
        ("the dogs ' toys", "the dogs toys"),
        ("He isn't here, they can't", "he is n't here they ca n't"),
        ("He is n't here , they ca n't", "he is n't here they ca n't"),
        ("should-n't", "should n't"),
        ("they're I'm we've she'll he'd", "they 're i 'm we 've she 'll he 'd"),
        ("o'clock rock'n'roll", "o'clock rock'n'roll"),
        ("'slide 'stop", "slide stop"),
        ("a T-shirt, tri-colored -- well-", "a t-shirt tri-colored well"),
        ("non\u2011stop", "non-stop"),
        ("3.5 m of 1,000 in 1, 2.", "3.5 m of 1,000 in 1 2"),
        ("at&t a_b #1 50%", "at t a b 1 50"),
        ("dog👍🏽cat 1\ufe0f\u20e3 ❤️", "dog cat 1"),
        ("Straße ÉCOLE", "straße école"),
        ("cafe\u0301", "caf\u00e9"),
        ("हिन्दी में लिखा", "हिन्दी में लिखा"),
        ("小さな犬", "小さな犬"),
        ("", ""),
        (" \t\n . ' - ' ", ""),
        ("a dog \ud83d, caf\udce9", "a dog caf"),  # halves of characters
    ],
)
def test_words(sentence: str, words: str) -> None:
    assert tokenize(sentence) == words.split()


@pytest.mark.parametrize(
    "sentence",
    [
        "Two men’s Hats, isn't it?",
        "İstanbul'da BİR köpek",
        "Ｆull-width ８",
        "é e\u0301 É",
        "ﬁne ΣΑΣ",
        "a dog \ud83d x",
    ],
)
def test_words_in_place_are_those_of_tokenize(sentence):
    text, places = tokenize_in_place(sentence)
    assert [text.lower()[start:end] for start, end in places] == tokenize(sentence)
