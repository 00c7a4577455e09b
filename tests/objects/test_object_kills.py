"""Writers to object storage that are killed, and readers meanwhile: nothing is lost, nothing is there twice."""

from __future__ import annotations

import time

import fake_detector
import pytest
import tiny_index
from fake_detector import FakeDetector, contents, count, make_photos
from killing import KILLED, processes_with
from object_server import READER, has_seaweed, run_there

from han_retrieval.errors import StoreError
from han_retrieval.regions import RegionStore, extract
from han_retrieval.search import Index

PHOTOS = 30

processes = processes_with("han_retrieval.regions.store", "han_retrieval.regions.extraction", "lance", "torch")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return make_photos(tmp_path_factory.mktemp("photos"), PHOTOS)


@pytest.fixture(scope="module")
def unbroken(photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("unbroken") / "features"
    extract(photos, FakeDetector(), out)
    return contents(out)


def killed(server, function, *arguments) -> None:
    process = processes.Process(target=run_there, args=(server, function, *arguments))
    process.start()
    process.join(120)
    assert process.exitcode == KILLED


@pytest.mark.slow
@pytest.mark.parametrize(("call", "times"), [("write", 2), ("commit", 1), ("commit", 3), ("clean", 1)])
def test_an_extraction_that_is_killed_at_a_step_goes_on_where_it_was(call, times, url, server, photos, unbroken):
    killed(server, fake_detector.run_killed_at, photos, url, call, times)
    kept = count(url)
    assert kept < PHOTOS or call == "clean"
    assert kept % 4 == 0 or kept == PHOTOS
    report = extract(photos, FakeDetector(), url)
    assert report.already_there == kept
    assert contents(url) == unbroken


@pytest.mark.slow
@pytest.mark.parametrize(("call", "times"), [("write", 2), ("commit", 2), ("move", 1), ("delete", 1), ("clean", 1)])
def test_an_update_that_is_killed_at_a_step_goes_on_where_it_was(call, times, url, server, tmp_path):
    model = tiny_index.make_model(tmp_path / "model")
    folder = tiny_index.make_photos(tmp_path / "photos", 14)
    for out in (url, tmp_path / "index"):
        tiny_index.update(folder, out, model)
    tiny_index.change_photos(folder, new=6)
    killed(server, tiny_index.run_killed_at, folder, url, model, call, times)
    for out in (url, tmp_path / "index"):
        tiny_index.update([], out)
    assert tiny_index.files(url) == tiny_index.files(tmp_path / "index")
    with Index.open(url) as there, Index.open(tmp_path / "index") as here:
        assert there._dataset.count_rows() == len(set(there.photos["id"].to_pylist())) == len(here)
        found = [[(hit.path, round(hit.score, 6)) for hit in index.search("a dog", k=50)] for index in (there, here)]
        assert found[0] == found[1]


@pytest.mark.slow
def test_readers_see_whole_commits_while_a_writer_is_killed_again_and_again(url, server, photos, unbroken):
    sizes = [0]
    for _ in range(4):
        started = processes.Event()
        process = processes.Process(target=run_there, args=(server, fake_detector.run, photos, url, started))
        process.start()
        assert started.wait(60)
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            sizes.append(count(url))
        process.kill()
        process.join(60)
    assert sizes == sorted(sizes)
    assert all(size % 4 == 0 or size == PHOTOS for size in sizes)
    extract(photos, FakeDetector(), url)
    assert contents(url) == unbroken


@pytest.mark.skipif(not has_seaweed(), reason="only SeaweedFS checks credentials")
def test_who_may_only_read_reads_and_is_told_that_nothing_can_be_written(url, photos, monkeypatch):
    extract(photos.only([photos.photos[0].id]), FakeDetector(), url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", READER[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", READER[1])
    assert len(RegionStore.open(url)) == 1
    with pytest.raises(StoreError, match=r"the credentials do not allow this \(access denied\)"):
        extract(photos, FakeDetector(), url)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(StoreError, match=r"the credentials are refused \(SignatureDoesNotMatch\)"):
        RegionStore.open(url)
