"""What a request names is looked up among the index's photos, and never a path of the machine."""

from __future__ import annotations

import os
from urllib.parse import quote

import pytest
from served import SENTENCE, client, make_model, make_picture
from tiny_index import FakeDetector, update

from han_retrieval.serve import SearchService

pytestmark = pytest.mark.skipif(os.name == "nt", reason="these are no names there")

NAMES = ["a\\b.jpg", "C:\\trips\\c.jpg", "NUL.jpg", "aux/con.jpg", "x. /y.jpg"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("paths")
    for seed, name in enumerate(NAMES):
        make_picture(folder / "photos" / name, seed)
    update(folder / "photos", folder / "index", make_model(folder / "model"))
    return folder


@pytest.fixture
def web(folder):
    with client(SearchService(folder / "index", detector=FakeDetector())) as web:
        yield web


def test_photos_of_names_that_are_special_on_windows_are_served(web, folder):
    hits = web.get("/api/search", params={"q": SENTENCE}).json()["hits"]
    assert sorted(hit["name"] for hit in hits) == sorted(NAMES)
    for hit in hits:
        facts = web.get(f"/api/photos/{hit['id']}").json()
        assert facts["path"] == str(folder / "photos" / hit["name"])
        assert web.get(f"/thumbnails/{hit['id']}.jpg").headers["content-type"] == "image/jpeg"
    below = web.get("/api/search", params={"q": SENTENCE, "folder": "aux/"}).json()["hits"]
    assert [hit["name"] for hit in below] == ["aux/con.jpg"]


@pytest.mark.parametrize(
    "name",
    [
        *NAMES,
        *(
            "..\\..\\secret",
            "../../secret",
            "C:\\Windows\\win.ini",
            "\\\\server\\share\\a",
            "NUL",
            "CON",
            "COM1",
            "a:b",
        ),
    ],
)
def test_no_path_is_a_photo(web, name, folder):
    (folder / "secret.jpg").write_bytes(b"secret")
    for route in (f"/photos/{quote(name, safe='')}.jpg", f"/thumbnails/{quote(name, safe='')}.jpg"):
        answer = web.get(route)
        assert answer.status_code == 404
        assert answer.content != b"secret"
    assert web.get(f"/api/photos/{quote(name, safe='')}").status_code == 404
    assert web.get(f"/static/{quote(name, safe='')}").status_code == 404
