"""What killed processes leave makes no folder unusable, and the next writer deletes it."""

from __future__ import annotations

from pathlib import Path

import fake_detector
import pytest
import tiny_index

from han_retrieval.regions import RegionStore, extract
from han_retrieval.search import Index

TEMPORARY = (".link-from.16125", ".link-to.16125", ".skipped.jsonl.7", ".broken.jsonl.8", ".index.json.16206")
OF_LANCE = (
    "data/0123.lance",
    "data/.tmp0123",
    "_deletions/0-1-2.arrow",
    "_deletions/0-1-2.arrow#1",
    "_transactions/.tmpAbC",
    "_transactions/1-7bfe6d9c-6f0e-4b6c-9c38-aaaaaaaaaaaa.txn",
    "_versions/.tmp_18446744073709551613.manifest_0",
    "_versions/18446744073709551000.manifest#2",
    "_hashes/.9.json.77",
)


def leave(folder: Path, names: tuple[str, ...]) -> list[Path]:
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_bytes(b"half a file")
    return [folder / name for name in names]


def test_a_new_store_takes_a_folder_with_leftovers(tmp_path):
    left = leave(tmp_path / "features", TEMPORARY[:3])
    with RegionStore.resume(tmp_path / "features", fingerprint="f", feature_size=2) as store:
        assert len(store) == 0
    assert not any(file.exists() for file in left)


def test_a_new_index_takes_a_folder_with_leftovers(tmp_path):
    out = tmp_path / "index"
    left = leave(out, (TEMPORARY[-1], ".gone-photos-1/data/x.lance", "photos-1/.link-from.3"))
    photos, model = tiny_index.make_photos(tmp_path / "photos", 2), tiny_index.make_model(tmp_path / "model")
    assert tiny_index.update(photos, out, model).photos == 2
    assert not any(file.exists() for file in left)
    assert not (out / ".gone-photos-1").exists()


@pytest.mark.parametrize("more", [0, 2])
def test_a_run_cleans_a_store_whether_or_not_it_adds_photos(tmp_path, more):
    photos = fake_detector.make_photos(tmp_path / "photos", 3 + more)
    out = tmp_path / "features"
    extract(photos.only([photo.id for photo in photos.photos[:3]]), fake_detector.FakeDetector(), out)
    left = leave(out, TEMPORARY[:3] + OF_LANCE)
    assert extract(photos, fake_detector.FakeDetector(), out).done == more
    assert [file for file in left if file.exists()] == []
    assert len(RegionStore.open(out).read(RegionStore.open(out).ids)) == 3 + more


@pytest.mark.parametrize("more", [0, 2])
def test_a_run_cleans_an_index_whether_or_not_it_adds_photos(tmp_path, more):
    photos, model = tiny_index.make_photos(tmp_path / "photos", 3), tiny_index.make_model(tmp_path / "model")
    out = tmp_path / "index"
    tiny_index.update(photos, out, model)
    left = leave(out, TEMPORARY[-1:]) + leave(out / "photos-1", TEMPORARY[:2] + TEMPORARY[3:4] + OF_LANCE)
    tiny_index.make_photos(photos, more, first=20)
    with Index.open(out) as reader:
        assert tiny_index.update(photos, out).added == more
        assert len(reader.regions(range(3))) == 3  # what it reads is kept
    assert [file for file in left if file.exists()] == []


def test_what_others_put_into_a_folder_is_neither_taken_nor_deleted(tmp_path):
    out = tmp_path / "data"
    photos = fake_detector.make_photos(tmp_path / "photos", 1)
    extract(photos, fake_detector.FakeDetector(), out)
    kept = leave(out, (".hidden", "notes.txt", ".name.txt"))
    extract(photos, fake_detector.FakeDetector(), out)
    assert all(file.exists() for file in kept)
