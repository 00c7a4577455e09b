"""Indexing lists of photos, patterns, and photos behind URLs."""

from __future__ import annotations

import functools
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from served import client
from tiny_index import SENTENCE, FakeDetector, make_model, make_photos, update

from han_retrieval.data.url_path import UrlPath
from han_retrieval.errors import HANError
from han_retrieval.search import Index
from han_retrieval.serve import SearchService


@pytest.fixture
def site(tmp_path):
    pytest.importorskip("aiohttp")

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def update_lists(roots, out, model=None, **options):
    detector = FakeDetector()
    return update([*roots], out, model, detector=detector, **options), detector.seen


def test_a_list_of_paths_is_indexed_and_followed(tmp_path):
    model, photos, out = make_model(tmp_path / "model"), make_photos(tmp_path / "photos", 5), tmp_path / "index"
    source = tmp_path / "list.txt"
    source.write_text("photos/000.png\nphotos/001.png\nphotos/gone.png\n")
    report, _ = update_lists([source], out, model)
    assert (report.added, report.unread) == (2, [(str(photos / "gone.png"), "no such photo")])
    with Index.open(out) as index:
        assert sorted(hit.path for hit in index.search(SENTENCE)) == [photos / "000.png", photos / "001.png"]

    source.write_text("photos/001.png\nphotos/002.png\nphotos/gone.png\n")
    (photos / "004.png").rename(photos / "gone.png")
    report, seen = update_lists([], out)
    assert (report.photos, report.added, report.removed, report.unread, seen) == (3, 2, 1, [], 2)
    source.unlink()
    with pytest.raises(HANError, match=r"list\.txt: no such folder"):
        update_lists([], out)


def test_a_pattern_is_indexed_and_followed(tmp_path):
    model, photos, out = make_model(tmp_path / "model"), make_photos(tmp_path / "photos", 4), tmp_path / "index"
    pattern = str(photos / "*[02].png")
    assert update_lists([pattern], out, model)[0].added == 2
    (photos / "000.png").unlink()
    make_photos(photos, 3, first=10)
    report, _ = update_lists([], out)
    assert (report.photos, report.added, report.removed) == (3, 2, 1)  # 002, 010, 012


def test_photos_behind_urls_are_read_once_and_dead_links_tried_again(tmp_path, site):
    model, photos, out = make_model(tmp_path / "model"), make_photos(tmp_path / "photos", 3), tmp_path / "index"
    (photos / "page.png").write_text("<html>")
    urls = [f"{site}/photos/{name}.png" for name in ("000", "001", "gone", "page")]
    source = tmp_path / "list.txt"
    source.write_text("\n".join(urls))
    report, seen = update_lists([source], out, model)
    assert (report.added, seen) == (2, 2)
    assert report.unread == [(urls[2], "no such photo")]
    assert report.broken == [(urls[3], "not an image that can be read")]

    (photos / "000.png").rename(photos / "gone.png")  # the photo is known, what is behind its first URL not asked for
    report, seen = update_lists([], out)
    assert (report.photos, report.added, report.moved, report.unread, seen) == (2, 0, 1, [], 0)
    assert [name for name, _ in report.broken] == [urls[3]]
    with Index.open(out) as index:
        found = {str(hit.path): [str(each) for each in hit.copies] for hit in index.search(SENTENCE)}
        assert found == {urls[0]: [urls[2]], urls[1]: []}
        assert index.named(urls[1]) is not None
        assert isinstance(index.files(0)[0], UrlPath)
    with client(SearchService(out)) as web:
        hits = {hit["name"]: hit["id"] for hit in web.get("/api/search", params={"q": SENTENCE}).json()["hits"]}
        details = web.get(f"/api/photos/{hits[urls[1]]}").json()
        assert (details["path"], details["folder"]) == (urls[1], f"{site}/photos/")
        assert web.get(f"/thumbnails/{hits[urls[1]]}.jpg").content[:2] == b"\xff\xd8"
        assert web.get(f"/originals/{hits[urls[1]]}").content == (photos / "001.png").read_bytes()
        assert web.get(f"/thumbnails/{hits[urls[0]]}.jpg").status_code == 422  # it is not there now

    source.write_text(urls[1])
    report, _ = update_lists([], out)
    assert (report.photos, report.removed, report.broken) == (1, 1, [])
