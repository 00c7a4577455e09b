"""Lists of photos: text and Parquet files of paths and URLs, patterns, and what is behind a URL."""

from __future__ import annotations

import functools
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fake_detector import FakeDetector, make_photos

from han_retrieval.data import read_dataset, urls
from han_retrieval.data.manifest import ADAPTER
from han_retrieval.data.parquet import ADAPTER as PARQUET
from han_retrieval.errors import DataError
from han_retrieval.regions import RegionStore, extract


def write_list(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines))
    return path


def test_a_text_file_lists_paths_beside_it_and_urls_of_files(tmp_path):
    photos = make_photos(tmp_path / "photos", 3).photos
    source = write_list(
        tmp_path / "list.txt", "# photos", "photos/photo 0.png", "", str(photos[1].path), photos[2].path.as_uri(),
        "photos/photo 0.png", "photos/gone.jpg",
    )  # fmt: skip
    assert ADAPTER.recognises(source)
    found = ADAPTER.read(source)
    assert [each.id for each in found.photos] == [
        "photos/photo 0.png", str(photos[1].path), photos[2].path.as_uri(), "photos/gone.jpg",
    ]  # fmt: skip
    assert [each.path for each in found.photos][:3] == [each.path for each in photos]
    assert found.skipped == {"listed twice": 1}
    report = extract(found, FakeDetector(), tmp_path / "out")
    assert (report.done, report.skipped) == (3, [(str(tmp_path / "photos/gone.jpg"), "no such photo")])


@pytest.mark.parametrize("column", ["url", "PATH", "file_name"])
def test_a_parquet_file_lists_them_in_a_column(tmp_path, column):
    make_photos(tmp_path / "photos", 2)
    names = ["photos/photo 0.png", None, "photos/photo 1.png"]
    pq.write_table(pa.table({"size": [1, 2, 3], column: names}), tmp_path / "list.parquet")
    assert ADAPTER.recognises(tmp_path / "list.parquet")
    assert not PARQUET.recognises(tmp_path / "list.parquet")
    found = ADAPTER.read(tmp_path / "list.parquet")
    assert [each.id for each in found.photos] == ["photos/photo 0.png", "photos/photo 1.png"]
    assert found.skipped == {"row without a path": 1}


def test_a_parquet_file_may_have_captions_too(tmp_path):
    make_photos(tmp_path / "photos", 2)
    names = ["photos/photo 0.png", "photos/photo 1.png", "photos/photo 0.png"]
    pq.write_table(pa.table({"url": names, "caption": ["a dog", " ", "two dogs"]}), tmp_path / "list.parquet")
    found = read_dataset(tmp_path / "list.parquet", format="manifest")
    assert [each.captions for each in found.photos] == [("a dog", "two dogs"), ()]
    assert not found.skipped


@pytest.mark.parametrize("line", ["1000.jpg#0\tA dog.", "a dog in the snow", ""])
def test_other_text_files_are_no_lists(tmp_path, line):
    assert not ADAPTER.recognises(write_list(tmp_path / "some.txt", line))


def test_a_pattern_gives_the_photos_of_the_folder_under_the_same_ids(tmp_path):
    make_photos(tmp_path / "photos" / "a", 3)
    make_photos(tmp_path / "photos" / "b", 2)
    (tmp_path / "photos" / "notes.txt").touch()
    folder = read_dataset(tmp_path / "photos")
    found = read_dataset(str(tmp_path / "photos" / "**" / "*"))
    assert {(each.id, each.path) for each in found.photos} == {(each.id, each.path) for each in folder.photos}
    some = read_dataset(tmp_path / "photos" / "*" / "*1.png")
    assert [each.id for each in some.photos] == ["a/photo 1.png", "b/photo 1.png"]
    with pytest.raises(DataError, match=r"\*\.gif: no photo there"):
        read_dataset(tmp_path / "*.gif")


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A web server of a folder; files called busy.png are there at the third try."""
    pytest.importorskip("fsspec")
    pytest.importorskip("aiohttp")
    monkeypatch.setattr(urls, "_WAITS", (0.01, 0.02))
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            asked.append(self.path)
            if self.path.endswith("busy.png") and asked.count(self.path) < 3:
                self.send_error(503)
            elif self.path.endswith("secret.png"):
                self.send_error(403)
            else:
                super().do_GET()

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


def test_urls_are_read_dead_ones_are_skipped_and_tried_again_and_busy_servers_asked_again(tmp_path, site):
    address, asked = site
    photos = make_photos(tmp_path, 2).photos
    photos[0].path.rename(tmp_path / "a.png")
    photos[1].path.rename(tmp_path / "busy.png")
    (tmp_path / "page.png").write_text("<html>")
    names = [f"{address}/{name}.png" for name in ("a", "busy", "gone", "secret", "page")]
    listed = read_dataset(write_list(tmp_path / "list.txt", *names), format="manifest")
    report = extract(listed, FakeDetector(), tmp_path / "out")
    assert report.done == 2
    assert report.skipped == [
        (names[2], "no such photo"),
        (names[3], "cannot be read (the server answers 403)"),
        (names[4], "not an image that can be read"),
    ]
    assert [asked.count(f"/{name}.png") for name in ("a", "busy", "gone", "secret")] == [1, 3, 1, 1]
    store = RegionStore.open(tmp_path / "out")
    assert store.ids == names[:2]
    (tmp_path / "a.png").rename(tmp_path / "gone.png")
    again = extract(listed, FakeDetector(), tmp_path / "out")
    assert (again.done, again.already_there, len(again.skipped)) == (1, 2, 2)


def test_a_list_may_be_behind_a_url_itself(tmp_path, site):
    address, _ = site
    make_photos(tmp_path, 1)
    write_list(tmp_path / "list.txt", "photo%200.png")
    (photo,) = read_dataset(f"{address}/list.txt").photos
    assert photo.id == "photo%200.png"
    assert str(photo.packed) == f"{address}/photo%200.png"
    with pytest.raises(DataError, match=r"none\.txt: no such"):
        read_dataset(f"{address}/none.txt")


def test_a_folder_or_a_pattern_behind_a_url_gives_its_photos():
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    for name in ("photos/a/1.jpg", "photos/2.PNG", "photos/notes.txt"):
        memory.pipe(f"/shelf/{name}", b"x")
    found = read_dataset("memory://shelf/photos")
    assert [(each.id, str(each.packed)) for each in found.photos] == [
        ("2.PNG", "memory:///shelf/photos/2.PNG"), ("a/1.jpg", "memory:///shelf/photos/a/1.jpg"),
    ]  # fmt: skip
    assert found.photos[0].packed.read().content == b"x"
    assert [each.id for each in read_dataset("memory://shelf/photos/*/*.jpg").photos] == ["a/1.jpg"]
    with pytest.raises(DataError, match="no photo there"):
        read_dataset("memory://shelf/none")


def test_unknown_kinds_of_urls_are_named():
    pytest.importorskip("fsspec")
    with pytest.raises(DataError, match="nowhere://a/b: cannot be read"):
        read_dataset("nowhere://a/b")
