"""What a query asks for."""

from __future__ import annotations

import pytest

from han_retrieval.errors import HANError
from han_retrieval.search import Part, parse_query
from han_retrieval.search.query import check_parts, loose_minus


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
        "dog.jpg is on the beach",
        "a dog + dog.jpg",
        "photograph: a dog",
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
    ("query", "parts"),
    [
        ("dog.jpg", [("dog.jpg", 1.0)]),
        ('"a dog" + photo.JPG - "a leash"', ["a dog", ("photo.JPG", 1.0), ("a leash", -1.0)]),
        ('"a dog"+photo.jpg-"a leash"', ["a dog", ("photo.jpg", 1.0), ("a leash", -1.0)]),
        ("2 * trips/2024/a-b.jpeg - 0.5*c.png", [("trips/2024/a-b.jpeg", 2.0), ("c.png", -0.5)]),
        ('photo:"my trip/a b.jpg" + "snow"', [("my trip/a b.jpg", 1.0), "snow"]),
        ('photo:00ff-"snow" + "dog"', [("00ff", 1.0), ("snow", -1.0), "dog"]),
        (" - 2.jpg + photo:“a−b”", [("2.jpg", -1.0), ("a−b", 1.0)]),
        (r'C:\Photos\a.jpg + "a dog"', [(r"C:\Photos\a.jpg", 1.0), "a dog"]),
        ('"dog.jpg"', ["dog.jpg"]),
    ],
)
def test_photos_are_parts(query, parts):
    photos = ("jpg", "JPG", "jpeg", "png", "00ff", "a−b")
    wanted = [(part, 1.0) if isinstance(part, str) else part for part in parts]
    found = [(part.photo or part.text, part.weight) for part in parse_query(query)]
    assert found == wanted
    for given, part in zip(parts, parse_query(query), strict=True):
        is_photo = not isinstance(given, str) and given[0].endswith(photos)
        assert (part.photo is not None) == is_photo
        assert not (is_photo and part.text)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ('"a dog', "breaks off at '\"a dog', where a closing quotation mark"),
        ('"a dog" "a leash"', "breaks off at '\"a leash\"'"),
        ('"a dog" -', "breaks off at '-'"),
        ('"a dog" - a leash', "breaks off at '- a leash'"),
        ('"a dog" * 2', "breaks off at '* 2'"),
        ('1.2.3 * "a dog"', "breaks off at '1.2.3"),
        ('"a dog" + my dog.jpg', "breaks off at '+ my dog.jpg', where + or - and a \"sentence\" or a photo should be"),
        ('"a dog" -', 'parts are written so: "a dog" + beach.jpg - 0.5 * "a leash"'),
        ('- "a dog"', "asks for nothing"),
        ("- dog.jpg", "asks for nothing"),
        ("-ball", "'-ball' only leaves out: say also what to find"),
        ("9999999 * dog.jpg", "the weight 1e+07 of a photo: a weight is 0"),
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


def test_conditions_are_counted_in_every_form():
    many = " ".join(f"text:a{i}" for i in range(9))
    for query in (many, f"a dog {many}", f'"a dog" - "a cat" {many}'):
        with pytest.raises(HANError, match=r"9 .*text:"):
            parse_query(query)
    with pytest.raises(HANError, match="the query is empty"):
        check_parts([])


def test_words_to_leave_out():
    assert parse_query("a dog -leash") == [Part("a dog"), Part("leash", -1.0)]
    assert parse_query('a dog -ball in snow −"red ball"') == [
        Part("a dog in snow"),
        Part("ball", -1),
        Part("red ball", -1),
    ]
    for whole in ("a t-shirt", "a dog - ball", "a dog -", "a dog -5-", "dog--ball", "the year -"):
        assert parse_query(whole) == [Part(whole)]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("a dog - ball", ("ball", "-ball")),
        ("a dog − red ball - cat", ("red ball", '-"red ball"')),
        ("a dog - “red ball” text:lisbon", ("red ball", '-"red ball"')),
        ("- ball", ("ball", "-ball")),
        ("a dog -ball", None),
        ("a dog -", None),
        ("5 - 3 dogs", None),
        ('"a dog" - "ball"', None),
        ("a dog-ball", None),
    ],
)
def test_a_minus_with_a_space_behind_it(query, found):
    assert loose_minus(query) == found
