"""What a query asks for."""

from __future__ import annotations

import pytest

from han_retrieval.errors import HANError
from han_retrieval.search import Part, parse_query


@pytest.mark.parametrize(
    "sentence",
    [
        "two dogs in the snow",
        "a t-shirt - red",
        "a dog's tail",
        "'80s cars",
        'a sign that says "stop"',
        "2 dogs + 3 cats",
        "3 * 4 = 12",
        "- a dog",
        "",
        " ",
    ],
)
def test_a_plain_sentence_is_one_part_as_it_stands(sentence):
    assert parse_query(sentence) == [Part(sentence)]


@pytest.mark.parametrize(
    ("query", "parts"),
    [
        ('"a dog"', [("a dog", 1.0)]),
        ('"a dog" - "a leash"', [("a dog", 1.0), ("a leash", -1.0)]),
        ('2 * "red" + "car in snow"', [("red", 2.0), ("car in snow", 1.0)]),
        ('2*"red"+.5*"a well-fed dog\'s tail"-1.25*"x"', [("red", 2.0), ("a well-fed dog's tail", 0.5), ("x", -1.25)]),
        (' - "a leash" + "a dog" ', [("a leash", -1.0), ("a dog", 1.0)]),
        ("“a dog” − “a leash”", [("a dog", 1.0), ("a leash", -1.0)]),
        ('"a dog" - 0 * "a leash"', [("a dog", 1.0), ("a leash", -0.0)]),
    ],
)
def test_parts_have_their_signs_and_weights(query, parts):
    assert [(part.text, part.weight) for part in parse_query(query)] == parts


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ('"a dog', "breaks off at '\"a dog', where a closing quotation mark"),
        ('"a dog" "a leash"', "breaks off at '\"a leash\"'"),
        ('"a dog" -', "breaks off at '-'"),
        ('"a dog" - a leash', "breaks off at '- a leash'"),
        ('"a dog" * 2', "breaks off at '* 2'"),
        ('1.2.3 * "a dog"', "breaks off at '1.2.3"),
        ('- "a dog"', "asks for nothing"),
        ('0 * "a dog"', "asks for nothing"),
        (f'{"9" * 40} * "a dog"', "the weight 1e+40 of 'a dog': a weight is 0, or from 0.000001 to 1,000,000"),
        ('"a dog" - 0.0000001 * "a man"', "the weight 1e-07 of 'a man'"),
    ],
)
def test_what_is_wrong_is_one_line(query, message):
    with pytest.raises(HANError) as error:
        parse_query(query)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
