"""The command line of a search: a minus at its beginning, quotation marks that were forgotten, the wrong order."""

from __future__ import annotations

from functools import partial

import pytest
from commands import run_han
from tiny_index import FakeDetector, make_model, make_photos


@pytest.fixture
def han(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("han_retrieval.search.maker.detector_for", lambda fingerprint, **_: FakeDetector(fingerprint))
    make_model(tmp_path / "model")
    make_photos(tmp_path / "photos", 4)
    han = partial(run_han, capsys)
    assert han("index", "photos", "--out", "my index", "--model", "model")[0] == 0
    return han


def test_a_query_begins_with_a_minus(han):
    wanted = han("search", "my index", "a red dog -cat", "-k", 2)
    assert wanted[0] == 0
    for words in (
        ("my index", "-cat a red dog", "-k", 2),
        ("my index", "-k", 2, "-cat a red dog"),
        ("my index", "-k2", "--", "-cat a red dog"),
        ("-k", 2, "--where", "width > 1", "my index", "−cat a red dog"),
        ("my index", '- "cat" + "a red dog"', "-k2"),
    ):
        assert han("search", *words)[:2] == wanted[:2]
    code, out, _ = han("search", "my index", "-text:photo-1", "--paths")
    assert code == 0
    assert "photo-1" not in out
    assert "'-dog' only leaves out" in han("search", "my index", "-dog")[2]
    assert "'-kitten' only leaves out" in han("search", "my index", "-kitten")[2]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("a dog", "--candidats", 3), "No such option '--candidats'. Did you mean '--candidates'?"),
        (("a dog", "-json"), "no such option: -json, did you mean --json? a query that begins with a minus stands"),
        (("-x",), "no such option: -x; a query that begins with a minus stands behind -- at the end"),
        (("a dog", "-k"), "the option -k needs a value"),
        ((), "Missing argument 'QUERY'."),
        (("a", "dog", "-k", 3), "put the query in quotation marks: han search 'my index' 'a dog' -k 3"),
        (("a dog", "-leash"), "put the query in quotation marks: han search 'my index' 'a dog -leash'"),
        (("a dog", "-", "cat"), "put the query in quotation marks: han search 'my index' '\"a dog\" - \"cat\"'"),
        (
            ("2", "*", "red", "+", "a car"),
            "put the query in quotation marks: han search 'my index' '2 * \"red\" + \"a car\"'",
        ),
        (("a dog", "-red ball"), "put the query in quotation marks: han search 'my index' 'a dog -\"red ball\"'"),
        (("a.jpg", "+", "dog"), "put the query in quotation marks: han search 'my index' 'a.jpg + \"dog\"'"),
    ],
)
def test_what_is_wrong_names_what_is_right(han, words, message):
    code, out, err = han("search", "my index", *words)
    assert (code, out) == (2, "")
    assert err.startswith(f"han: error: {message}")
    assert err.count("\n") == 1


def test_the_index_comes_first(han):
    right = "han search 'my index' 'a dog' --json"
    assert han("search", "a dog", "my index", "--json") == (2, "", f"han: error: the index comes first: {right}\n")
    err = han("search", "--json", "a", "dog", "my index")[2]
    assert err == f"han: error: put the query in quotation marks: {right}\n"


def test_suggested_commands_can_be_pasted(han, tmp_path):
    code, _, err = han("search", "no index", "a dog")
    assert code == 2
    assert f"`han index PHOTOS --out '{tmp_path / 'no index'}'` makes one" in err


def test_a_minus_with_a_space_behind_it_is_noted(han):
    note = "note: a minus with a space behind it leaves nothing out; to leave out 'cat', write -cat\n"
    for query in ("a dog - cat", "- cat"):
        code, _, err = han("search", "my index", query)
        assert code == 0
        assert note in err
    assert "minus" not in han("search", "my index", "a dog -cat")[2]
