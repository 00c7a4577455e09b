"""An index in object storage, of photos there, is the one that a folder would hold; servers of it are stateless."""

from __future__ import annotations

import json
import time

import pytest
from commands import run_han
from object_server import copy_folder
from served import client, make_picture
from tiny_index import SENTENCE, FakeDetector, change_photos, make_model, make_photos, update

from han_retrieval.errors import StoreError
from han_retrieval.evidence import evidence_from_index
from han_retrieval.objects import ObjectPath, to_path
from han_retrieval.regions import extract
from han_retrieval.search import Index
from han_retrieval.search import tables as tables_module
from han_retrieval.search.damage import check_index, repair_index
from han_retrieval.search.vectors import OnDisk
from han_retrieval.serve import SearchService
from han_retrieval.serve import service as service_module
from han_retrieval.storage.locks import WriterLock


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("model") / "model")


def send(folder, url: str) -> str:
    """Make a place in object storage hold what a folder does."""
    top = to_path(url)
    for file in list(top.walk_files()):
        if not (folder / file.relative_to(top)).exists():
            file.unlink()
    copy_folder(folder, url)
    return url


def answers(index: Index, **options: object) -> list[tuple[str, float]]:
    return [(hit.path.name, pytest.approx(hit.score, abs=1e-6)) for hit in index.search(SENTENCE, k=50, **options)]


def same(there: str, here) -> bool:
    with Index.open(there) as remote, Index.open(here) as local:
        assert answers(remote) == answers(local)
        assert answers(remote, where="width > 20", exact=True) == answers(local, where="width > 20", exact=True)
        photo = local.photos["path"][0].as_py()
        assert [hit.path.name for hit in remote.similar(remote.files(remote.named(photo))[0], k=5)] == [
            hit.path.name for hit in local.similar(local.files(local.named(photo))[0], k=5)
        ]
        summary, other = remote.describe(), local.describe()
        assert summary.bytes_a_photo > 0.9 * other.bytes_a_photo  # versions of before are kept there for a while
        assert (summary.photos, summary.files, summary.broken) == (other.photos, other.files, other.broken)
    return True


def counts(report) -> tuple[int, ...]:
    return report.photos, report.added, report.moved, report.removed, len(report.broken), len(report.unread)


def test_where_nothing_can_be_indexed_nothing_is_left(url, model, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "text.jpg").write_text("no photo")
    assert counts(update([tmp_path / "photos"], f"{url}/none", model)) == (0, 0, 0, 0, 1, 0)
    assert not list(to_path(f"{url}/none").walk_files())


def test_the_same_answers_as_in_a_folder_after_every_kind_of_change(url, model, tmp_path):
    photos, out, there = make_photos(tmp_path / "photos", 8), tmp_path / "index", f"{url}/index"
    make_picture(photos / "été à la mer" / "写真 100% #1?.jpg", 5, date="2024:01:31 12:00:00")
    source = send(photos, f"{url}/photos")
    assert counts(update([source], there, model)) == counts(update(photos, out, model)) == (9, 9, 0, 0, 0, 0)
    assert same(there, out)
    detector = FakeDetector()
    assert counts(update([], there, detector=detector)) == (9, 0, 0, 0, 0, 0)
    assert detector.seen == 0
    change_photos(photos, new=3)
    send(photos, source)
    with Index.open(there) as reader:
        before = answers(reader)
        update([], there)
        update([], out)
        assert answers(reader) == before  # of the version that it has read
        assert reader.refresh()
        assert not reader.refresh()
        assert answers(reader) != before
    assert same(there, out)
    assert check_index(there) == []
    assert repair_index(there) == []
    update([], there, rebuild=True)
    update([], out, rebuild=True)
    assert same(there, out)
    assert counts(update([], there, forget=[source]))[:4] == (0, 0, 0, 11)


def test_photos_of_a_folder_and_of_object_storage_are_in_one_index(url, model, tmp_path):
    here, there = make_photos(tmp_path / "here", 2), make_photos(tmp_path / "there", 2, first=10)
    source = send(there, f"{url}/photos")
    report = update([here, source], f"{url}/index", model)
    assert counts(report) == (4, 4, 0, 0, 0, 0)
    with Index.open(f"{url}/index") as index:
        assert {str(path) for row in range(4) for path in index.files(row)} == {
            *(str(file) for file in here.iterdir()),
            *(f"{source}/{file.name}" for file in there.iterdir()),
        }


def test_a_second_writer_is_told_and_the_index_stays(url, model, tmp_path):
    photos = make_photos(tmp_path / "photos", 3)
    update(photos, f"{url}/index", model)
    make_photos(photos, 2, first=5)
    with WriterLock(to_path(f"{url}/index")), pytest.raises(StoreError, match="is writing to it"):
        update([], f"{url}/index")
    with Index.open(f"{url}/index") as index:
        assert len(index) == 3


def test_a_replaced_table_is_deleted_when_nobody_can_read_it_any_more(url, model, tmp_path, monkeypatch):
    photos = make_photos(tmp_path / "photos", 3)
    update(photos, f"{url}/index", model)
    with Index.open(f"{url}/index") as reader:
        before = answers(reader)
        update([], f"{url}/index", rebuild=True)
        update([], f"{url}/index")
        assert answers(reader) == before
    monkeypatch.setattr(tables_module, "KEPT", -tables_module.KEPT)
    update([], f"{url}/index")
    assert not (to_path(url) / "index" / "photos-1").exists()
    with Index.open(f"{url}/index") as index:
        assert answers(index) == before


def test_regions_that_were_extracted_before_are_taken(url, model, tmp_path, capsys):
    from han_retrieval.data import read_dataset

    source = send(make_photos(tmp_path / "photos", 4), f"{url}/photos")
    extract(read_dataset(source), FakeDetector(), f"{url}/features")
    options = ["--features", f"{url}/features", "--model", model, "--json"]
    code, out, err = run_han(capsys, "index", source, "--out", f"{url}/index", *options)
    assert code == 0, err
    assert json.loads(out)["added"] == 4
    assert "4 photos had their regions in s3://" in err


def test_every_verb_reads_and_writes_there(url, model, tmp_path, capsys):
    source = send(make_photos(tmp_path / "photos", 4), f"{url}/photos")
    update([source], f"{url}/index", model)
    code, out, _ = run_han(capsys, "search", f"{url}/index", SENTENCE, "--paths")
    assert (code, sorted(out.split())) == (0, sorted(f"{source}/00{i}.png" for i in range(4)))
    code, out, _ = run_han(capsys, "similar", f"{url}/index", f"{source}/000.png", "--paths")
    assert (code, sorted(out.split())) == (0, sorted(f"{source}/00{i}.png" for i in range(1, 4)))
    code, out, _ = run_han(capsys, "info", f"{url}/index", "--json")
    assert (code, json.loads(out)["photos"]) == (0, 4)
    code, out, _ = run_han(capsys, "info", f"{source}/000.png", "--json")
    assert (code, json.loads(out)["width"]) == (0, 24)
    with Index.open(f"{url}/index") as index:
        (evidence,) = evidence_from_index(index, index.model, 0, [SENTENCE])
        assert evidence.photo == index.files(0)[0]
        evidence.draw(tmp_path / "evidence.png")
    code, out, _ = run_han(capsys, "doctor", f"{url}/index")
    assert (code, out.splitlines()[-1]) == (0, "sound")


def test_two_servers_give_the_same_answers_and_take_up_an_update(url, model, tmp_path, monkeypatch):
    monkeypatch.setattr(service_module, "_CHECK_SECONDS", 0.0)
    photos = make_photos(tmp_path / "photos", 4)
    source = send(photos, f"{url}/photos")
    update([source], f"{url}/index", model)
    services = [SearchService(f"{url}/index", detector=FakeDetector()) for _ in range(2)]
    clients = [client(service) for service in services]
    try:
        found = [each.get("/api/search", params={"q": SENTENCE}).json() for each in clients]
        assert found[0]["hits"] == found[1]["hits"]
        assert found[0]["total"] == 4
        photo = found[0]["hits"][0]
        for path in ("/thumbnails/{}.jpg", "/photos/{}.jpg"):
            answer = clients[1].get(path.format(photo["id"]))
            assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
        for limit in ("", "0"):  # with a cache, and without
            monkeypatch.setenv("HAN_CACHE_GB", limit)
            answer = clients[0].get(f"/originals/{photo['id']}")
            assert answer.content == (photos / photo["name"]).read_bytes()
            assert photo["name"] in answer.headers["content-disposition"]
        assert clients[0].get(f"/api/photos/{photo['id']}").json()["path"] == f"{source}/{photo['name']}"
        make_photos(photos, 1, first=9)
        send(photos, source)
        update([], f"{url}/index")
        for each in clients:
            assert each.get("/api/search", params={"q": SENTENCE}).json()["total"] == 5
        (to_path(source) / photo["name"]).unlink()
        assert clients[0].get(f"/photos/{photo['id']}.jpg").status_code == 410
    finally:
        for service in services:
            service.close()


@pytest.mark.slow
def test_a_vector_index_finds_what_it_finds_in_a_folder_and_is_kept_up(url, model, tmp_path):
    photos, out, there = make_photos(tmp_path / "photos", 300), tmp_path / "index", f"{url}/index"
    for place in (there, out):
        update(photos, place, model, exact_up_to=256)
    make_photos(photos, 5, first=400)
    for place in (there, out):
        update(photos, place)
        with Index.open(place) as index:
            assert isinstance(index.vectors, OnDisk)
            exact = {hit.path.name for hit in index.search(SENTENCE, k=40, exact=True)}
            near = {hit.path.name for hit in index.search(SENTENCE, k=40, candidates=200)}
            assert len(exact & near) >= 36  # eight bits a number
    assert check_index(there) == check_index(out) == []


def test_a_photo_of_a_list_that_is_replaced_while_it_is_read_is_noticed(url, model, tmp_path, monkeypatch):
    photos = make_photos(tmp_path / "photos", 3)
    copy_folder(photos, f"{url}/photos")
    listed = tmp_path / "photos.txt"
    listed.write_text("".join(f"{url}/photos/{each.name}\n" for each in sorted(photos.iterdir())))
    read, other, done = ObjectPath.read, make_picture(tmp_path / "other.png", 8).read_bytes(), []

    def replaced(self):
        found = read(self)
        if self.name == "001.png" and not done:
            done.append(True)
            time.sleep(1.1)  # the storage's clock may have whole seconds
            to_path(str(self)).write_bytes(other)
        return found

    monkeypatch.setattr(ObjectPath, "read", replaced)
    assert update(listed, tmp_path / "index", model).added == 3
    assert done
    again = update(listed, tmp_path / "index")
    assert (again.added, again.removed) == (1, 1)
