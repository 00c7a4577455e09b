"""An index that is damaged is mended without losing what is sound; one that is old is read and extended."""

from __future__ import annotations

import json
from pathlib import Path

import lance
import pytest
from tiny_index import FakeDetector, files, make_photos, update

from han_retrieval.errors import HANError, StoreError
from han_retrieval.search import Index, rows
from han_retrieval.search.damage import check_index, repair_index, unchecked_index
from han_retrieval.search.settings import Settings
from han_retrieval.storage.table import Table


def tokens(out: Path) -> dict[str, bytes]:
    """What is stored of each photo, by its path."""
    with Index.open(out) as index:
        stored, mask = index.tokens(range(len(index)))
        paths = index.photos["path"].to_pylist()
        return {path: its[there].numpy().tobytes() for path, its, there in zip(paths, stored, mask, strict=True)}


@pytest.fixture
def out(tmp_path, model, photos) -> Path:
    """An index of eight photos in two files, of which one photo was deleted."""
    update(photos, tmp_path / "index", model)
    (photos / "000.png").unlink()
    make_photos(photos, 3, first=20)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Table, "compact", lambda table: None)
        update(photos, tmp_path / "index")
    assert check_index(tmp_path / "index") == []
    assert repair_index(tmp_path / "index") == []
    assert unchecked_index(tmp_path / "index") is None
    return tmp_path / "index"


def test_each_file_of_the_table_is_mended_and_its_photos_are_detected_again(out, photos):
    wanted = tokens(out)
    tried = 0
    for file in [*(out / "photos-1" / "data").iterdir(), *(out / "photos-1" / "_deletions").iterdir()]:
        if not file.exists():
            continue  # mended with the other
        tried += 1
        content = file.read_bytes()
        file.write_bytes(content[:300] + bytes([content[300] ^ 1]) + content[301:])
        assert check_index(out)[0].path == file
        lines = repair_index(out)
        assert str(file) in lines[0]
        assert "were damaged and left it" in lines[-1]
        assert check_index(out) == []
        kept = tokens(out)
        assert kept.items() <= wanted.items()
        detector = FakeDetector()
        assert update(photos, out, detector=detector).added == len(wanted) - len(kept) == detector.seen
        assert tokens(out).keys() == wanted.keys()
    assert tried


def test_settings_that_are_damaged_are_said_and_can_be_taken_by_hand(out):
    content = json.loads((out / "index.json").read_text())
    content["roots"] = {}
    (out / "index.json").write_text(json.dumps(content))
    for use in (Index.open, lambda path: update(None, path)):
        with pytest.raises(HANError, match=r"index.json: is not as it was written; if you changed it, delete"):
            use(out)
    assert [each.path for each in check_index(out)] == [out / "index.json"]
    del content["checksum"]
    (out / "index.json").write_text(json.dumps(content))
    assert Settings.read(out).roots == {}


def test_an_index_without_its_settings_is_not_begun_anew(out, photos, model):
    (out / "index.json").unlink()
    with pytest.raises(StoreError, match=r"its index.json is gone; put it back, or index the photos into another"):
        update(photos, out, model)


def test_damage_while_an_index_is_open_is_noticed(out):
    with Index.open(out) as index:
        wanted = index.filter("path > '003.png'").tolist()
        for file in (out / "photos-1" / "data").iterdir():
            file.write_bytes(bytes(len(file.read_bytes())))
        assert index.filter("path > '003.png'").tolist() == wanted  # what was read is in memory
        with pytest.raises(StoreError):
            index.tokens([0])


def test_an_index_of_before_is_read_and_extended_and_a_rebuild_gives_it_checksums(tmp_path, model, photos, monkeypatch):
    out = tmp_path / "index"
    with monkeypatch.context() as patch:
        patch.setattr(rows, "CHECKSUMS", {})
        patch.setattr(Table, "_record", lambda *_: None)
        patch.setattr("han_retrieval.search.settings.json_checksum", lambda _: None)
        update(photos, out, model)
    assert "places_checksum" not in lance.dataset(out / "photos-1").schema.names
    assert not (out / "photos-1" / "_hashes").exists()
    assert len(tokens(out)) == 6
    make_photos(photos, 2, first=20)
    (photos / "001.png").rename(photos / "moved.png")
    assert update(photos, out).photos == len(files(out)) == 8
    assert check_index(out) == []
    assert "han index --rebuild" in unchecked_index(out)
    before = tokens(out)
    update(photos, out, rebuild=True)
    assert tokens(out) == before
    assert unchecked_index(out) is None
