"""What a phrase says of its region."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from han_retrieval.regions.bottom_up.names import Names, parse_phrase, singular


@pytest.mark.parametrize(
    ("phrase", "noun", "attributes"),
    [
        ("a man", "man", ()),
        ("Two young women", "woman", ("young",)),
        ("a large brown dog", "dog", ("large", "brown")),
        ("a group of small children", "child", ("small",)),
        ("a bottle of water", "bottle", ()),
        ("the edge of a body of water", "water", ()),
        ("a field of tall grass", "field", ()),
        ("her blue jeans", "jeans", ("blue",)),
        ("another", None, ()),
        ("his", None, ()),
        ("of", "of", ()),  # an annotator's slip: no crash
        ('" 7 "', None, ("7",)),
    ],
)
def test_said(phrase, noun, attributes):
    assert parse_phrase(phrase.split()) == (noun, attributes)


@pytest.mark.parametrize(
    ("plural", "one"),
    [
        ("dogs", "dog"), ("benches", "bench"), ("boxes", "box"), ("ladies", "lady"), ("people", "person"),
        ("grass", "grass"), ("glasses", "glasses"), ("bus", "bus"), ("ties", "tie"), ("dress", "dress"),
    ],
)  # fmt: skip
def test_singular(plural, one):
    assert singular(plural) == one


@given(st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=8))
def test_any_words_are_read_and_what_is_said_stands_in_them(words):
    noun, attributes = parse_phrase(words)
    lowered = [word.lower() for word in words]
    assert set(attributes) <= set(lowered)
    assert noun is None or any(singular(word) == noun for word in lowered)


def test_names_are_the_frequent_ones_and_a_word_is_not_both():
    phrases = [(["a", "black", "dog"], False)] * 3 + [(["a", "dog", "house"], False)] * 2
    phrases += [(["black"], False)] * 2 + [(["a", "cat"], False)]
    names = Names.count(phrases, noun_count=2, attribute_count=2)
    assert names.nouns == ("thing", "dog", "house")  # "black" is an attribute, "cat" is rare
    assert names.attributes == ("black",)  # "dog" is a noun
    assert Names.count(phrases, noun_count=2, attribute_count=2, most_nouns=2).nouns == ("thing", "dog")


def test_attributes_are_named_with_nouns_that_they_were_said_of_but_people_not_by_colour():
    phrases = [(["a", "young", "black", "dog"], False), (["a", "young", "black", "man"], True)] * 3
    phrases += [(["a", "red", "dog"], False), (["a", "red", "ball"], False), (["a", "red", "ball"], False)]
    names = Names.count(phrases, noun_count=1, attribute_count=1, pair_count=2)
    together = {
        noun: [names.attributes[place] for place in places]
        for noun, places in zip(names.nouns, names.together, strict=True)
    }
    assert together == {"thing": [], "dog": ["black", "young"], "man": ["young"], "ball": ["red"]}
