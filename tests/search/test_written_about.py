"""Queries for what is written about photos: in their path, title, caption, keywords or place."""

from __future__ import annotations

import unicodedata

import pytest
from PIL import Image
from served import client
from tiny_index import SENTENCE, make_model, make_photo, make_photos, update

from han_retrieval.cli.main import main
from han_retrieval.errors import QueryError
from han_retrieval.search import Index, Part, parse_query, rows
from han_retrieval.serve import SearchService

D = unicodedata.normalize("NFD", "Malmö/d.png")  # as a Mac writes it
TEXTS = {
    "trips/Lisbon/a.png": "the old tram",
    "b.png": "Anna's birthday\nLISBON",
    "c.png": "a tram\nGöteborg",
    D: None,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("written")
    for i, (name, text) in enumerate(TEXTS.items()):
        exif = Image.Exif()
        exif[0x0132] = f"2024:01:0{i + 1} 12:00:00"
        if text is not None:
            exif[0x010E] = text.encode()
        make_photo(folder / "photos" / name, i, exif=exif)
    update(folder / "photos", folder / "index", make_model(folder / "model"))
    return folder


@pytest.fixture(scope="module")
def index(folder):
    return Index.open(folder / "index")


def found(index, query, **options) -> set[str]:
    return {index.photos["path"][hit.row].as_py() for hit in index.search(query, **options)}


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ("text:lisbon", {"trips/Lisbon/a.png", "b.png"}),
        ("text:TRAM", {"trips/Lisbon/a.png", "c.png"}),
        ("text:lisbon text:tram", {"trips/Lisbon/a.png"}),
        ("-text:lisbon", {"c.png", D}),
        ("text:tram -text:lisbon", {"c.png"}),
        ('text:"old tram"', {"trips/Lisbon/a.png"}),
        ("text:anna's", {"b.png"}),
        ("text:“göteborg”", {"c.png"}),
        (unicodedata.normalize("NFD", "text:göteborg"), {"c.png"}),
        ("text:malmö", {D}),  # apart in the file's name
        ("text:%", set()),
        ("text:'", {"b.png"}),
        ("text:\\", set()),
    ],
)
def test_photos_about_which_it_is_written_are_found(index, written, wanted):
    assert found(index, f"{SENTENCE} {written}") == wanted
    assert found(index, f"{written} {SENTENCE}") == wanted
    assert found(index, f'"{SENTENCE}" {written} - "a cat"') == wanted
    assert found(index, written) == wanted


def test_a_condition_changes_no_score_and_joins_with_others(index):
    scores = {hit.id: hit.score for hit in index.search(SENTENCE)}
    assert all(hit.score == pytest.approx(scores[hit.id], abs=1e-6) for hit in index.search(f"{SENTENCE} text:tram"))
    assert found(index, f"{SENTENCE} text:tram", where="path = 'c.png' or path = 'd.png'") == {"c.png"}
    assert found(index, [Part(SENTENCE), Part(written="tram"), Part(written="lisbon", weight=-1.0)]) == {"c.png"}


def test_a_condition_alone_lists_the_newest_first(index):
    hits = index.search("text:tram")
    assert [index.photos["path"][hit.row].as_py() for hit in hits] == ["c.png", "trips/Lisbon/a.png"]
    assert [(hit.score, hit.probability, hit.match) for hit in hits] == [(None, None, None)] * 2
    assert len(index.search("text:tram", k=1)) == 1


@pytest.mark.parametrize(
    "query", ["a context:tram", "a text: tram", "a text:", '"a text:tram b"', "text", "a pretext:lisbon"]
)
def test_text_that_is_no_condition_is_a_sentence(query):
    assert all(not part.written for part in parse_query(query))


@pytest.mark.parametrize("query", ['a dog text:""', "a dog " + " ".join(f"text:{i}" for i in range(9))])
def test_conditions_that_cannot_be_used_are_refused(index, query):
    with pytest.raises(QueryError, match="text:"):
        index.search(query)
    with pytest.raises(QueryError, match="a condition or has a score, not both"):
        index.search([Part("a dog", written="tram")])


def test_the_command_line_says_what_no_photo_meets(folder, capsys):
    main(["search", str(folder / "index"), f"{SENTENCE} text:nonsense -text:a", "--where", "width > 1"])
    assert "no photo meets width > 1 and text:'nonsense' and -text:'a'" in capsys.readouterr().err
    main(["search", str(folder / "index"), "text:tram", "--paths"])
    assert capsys.readouterr().out.split("\n")[0].endswith("c.png")


def test_the_server_lists_and_describes_them(folder):
    with client(SearchService(folder / "index")) as web:
        alone = web.get("/api/search", params={"q": "text:tram"}).json()
        assert [hit["name"] for hit in alone["hits"]] == ["c.png", "trips/Lisbon/a.png"]
        assert alone["total"] == 2
        beside = web.get("/api/search", params={"q": f"{SENTENCE} -text:lisbon", "where": f"path <> '{D}'"}).json()
        assert ([hit["name"] for hit in beside["hits"]], beside["total"]) == (["c.png"], 1)
        photo = alone["hits"][0]["id"]
        assert web.get(f"/api/photos/{photo}").json()["text"] == "a tram Göteborg"
        evidence = web.get(f"/api/photos/{photo}/evidence", params={"q": f"{SENTENCE} text:tram"})
        assert evidence.status_code == 200
        assert len(evidence.json()["parts"]) == 1
        assert web.get(f"/api/photos/{photo}/evidence", params={"q": "text:tram"}).json()["parts"] == []


def update_of_before(photos, folder, monkeypatch, **options) -> None:
    """Make an index whose table has no columns of what files say."""
    made = rows.row_schema

    def without(*sizes):
        schema = made(*sizes)
        names = [name for name in schema.names if name not in (*rows._SAID.names, "said_checksum")]
        return rows.pa.schema([schema.field(name) for name in names])

    with monkeypatch.context() as patch:
        patch.setattr("han_retrieval.search.table.row_schema", without)
        update(photos, folder / "index", make_model(folder / "model"), **options)


@pytest.mark.filterwarnings("error")
def test_the_vector_index_of_a_table_of_before_stays_in_use(tmp_path, monkeypatch):
    photos = make_photos(tmp_path / "photos", 40)
    update_of_before(photos, tmp_path, monkeypatch, exact_up_to=10)
    monkeypatch.setattr("han_retrieval.search.vectors._FEW", 3)
    with Index.open(tmp_path / "index") as index:
        for query in (f"{SENTENCE} -text:tram", f"{SENTENCE} text:png"):
            assert len(index.search(query, k=5, candidates=5)) == 5
        assert index.vectors._in_memory is None


def test_an_index_of_before_has_no_texts_but_paths(tmp_path, monkeypatch):
    photos = make_photos(tmp_path / "photos", 3)
    update_of_before(photos, tmp_path, monkeypatch)
    make_photos(photos, 1, first=7)
    assert update(photos, tmp_path / "index").photos == 4
    with Index.open(tmp_path / "index") as index:
        assert found(index, "text:007") == {"007.png"}
        assert index.photos["text"].null_count == index.photos["latitude"].null_count == 4
    update(photos, tmp_path / "index", rebuild=True)
